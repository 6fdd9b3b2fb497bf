"""Files that are written as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file so that every reader sees the old content or all of the new.

    Args:
        path: Where to; its folder must exist.
        text: What to write, in UTF-8.

    Raises:
        OSError: If it cannot be written, for instance on a full disk; the old content stays.
    """
    target = Path(path).resolve()  # a link stays one
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(target, part)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
