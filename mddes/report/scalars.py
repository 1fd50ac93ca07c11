"""A run's generations as TensorBoard scalars, for those who watch many runs at once. An extra: `mddes[tensorboard]`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mddes.tasks import Record

NO_CURVES = ("event", "generation")


@contextmanager
def scalars(run_dir: Path, *, wanted: bool) -> Iterator[Callable[[Record], None]]:
    """Yield a function that takes a generation's event line; where it is not wanted, it does nothing.

    The curves lie in `run_dir/tensorboard`, by generation. What was written before is written anew, so that a run
    that was resumed, or that asks for them late, has them whole.
    """
    if not wanted:
        yield lambda _: None
        return
    from torch.utils.tensorboard import SummaryWriter

    folder = run_dir / "tensorboard"
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(folder)) as writer:

        def tell(event: Record) -> None:
            for name, value in event.items():
                if name not in NO_CURVES and value is not None:
                    writer.add_scalar(name, value, event["generation"])
            writer.flush()

        yield tell
