"""Files with secrets or addresses in them, which nobody else may read."""

from __future__ import annotations

import os
import stat
import tempfile
from errno import ELOOP
from pathlib import Path
from typing import TextIO


def new_private_file(path: Path) -> TextIO:
    """A new file of mode 0600 in the place of what was there: who may read an earlier one, or has it open,
    reads nothing of this. What is not a file, such as a pipe, is written to as it is. Raises `OSError`, for a
    link to a file too: somebody else may have put it there."""
    try:
        there = path.stat().st_mode
    except FileNotFoundError:
        there = stat.S_IFREG
    if not stat.S_ISREG(there):
        return path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    if path.is_symlink():
        raise OSError(ELOOP, os.strerror(ELOOP), str(path))
    if not path.parent.is_dir():
        path.open("w")  # which says what is wrong, of this path rather than of a name of ours
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        os.replace(name, path)
    except BaseException:
        os.close(descriptor)
        os.unlink(name)
        raise
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="")
