"""Write a file whole or not at all: a crash or a full disk leaves the previous version in place."""

import os
from pathlib import Path


def replace_file(path: str | Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) next to `path`, flush it to the disk, and put it in the place of `path`."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
