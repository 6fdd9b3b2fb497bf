"""Files whose content is whole at any time."""

from __future__ import annotations

import errno
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


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Add a line to a file, all of it or nothing, so that the lines before stay readable.

    Args:
        path: The file; made if there is none.
        line: A text without line ends, to be written in UTF-8.

    Raises:
        OSError: If it cannot be written, for instance on a full disk; nothing was added.
    """
    data = f"{line}\n".encode()
    with Path(path).open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            if file.write(data) != len(data):  # the disk is full, and the rest would fail
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(before)
            raise
