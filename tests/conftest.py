"""Fixtures: real data when it is there, one Ray session for all tests that need it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from cases import tiny_config

import mddes
from mddes import SearchResult
from mddes.threads import one_thread

hypothesis.settings.register_profile("mddes", deadline=None)  # a test's speed depends on who shares the machine
hypothesis.settings.load_profile("mddes")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background jobs; tests send it to children
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what shares fixtures in one process: a file's tests, and all that use Ray."""
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def data_dir() -> Path:
    """Return the folder with real data sets, or skip."""
    given = os.environ.get("MDDES_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: set MDDES_DATA to a folder with MNIST/raw (looked in {folder.name})")
    return folder


@pytest.fixture
def as_tasks_run() -> Iterator[None]:
    """Compute on one thread, as tasks do: two threads add in another order."""
    with one_thread():
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """Return a finished tiny search; tests that change its folder copy it."""
    return mddes.search(tiny_config(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Start Ray once, with two CPUs; its workers can import the tests' own task functions."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), before]))
    import mddes.tasks.ray_pool  # sets what must be set before ray is imported

    assert mddes.tasks.ray_pool
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
