"""Settings in a `.env` file, changed in place."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

BYTE_ORDER_MARK = "\ufeff"


def names_in(path: Path) -> set[str]:
    """The names that the file sets, in upper case. Raises `OSError`."""
    text = path.read_bytes().decode("utf-8", "surrogateescape").removeprefix(BYTE_ORDER_MARK)
    return {each.key.upper() for each in parse_stream(io.StringIO(text)) if each.key is not None}


def rewrite(path: Path, values: Mapping[str, str]) -> None:
    """Gives settings new values, all or none, and keeps every other byte, mode and owner of the file, where
    it can. A crash leaves the old file or the new one. Raises `OSError`, and `ValueError` for a value that
    such a file cannot hold."""
    target = path.resolve(strict=True)  # a link stays one
    text = target.read_bytes().decode("utf-8", "surrogateescape")
    changed = replaced(text, values)
    read = dotenv_values(stream=io.StringIO(changed.removeprefix(BYTE_ORDER_MARK)))
    if any(read.get(name) != value for name, value in values.items()):
        raise ValueError(f"{path} cannot hold one of the values: it has quotes, ` #` or `${{` in it.")
    before = target.stat()
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, before.st_mode & 0o7777)
            with suppress(PermissionError):
                os.fchown(descriptor, before.st_uid, before.st_gid)
            file.write(changed.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(descriptor)
        os.replace(name, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def replaced(text: str, values: Mapping[str, str]) -> str:
    """The text with these settings; those that it lacks come at its end."""
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.removeprefix(BYTE_ORDER_MARK)  # which some versions of python-dotenv take for a part of them
    parts, missing = [text.removesuffix(lines)], dict(values)
    for binding in parse_stream(io.StringIO(lines, newline="")):
        original, key = binding.original.string, (binding.key or "").upper()
        if key not in values:
            parts.append(original)
            continue
        missing.pop(key, None)
        line = original.lstrip()
        export = "export " if line.startswith("export") else ""
        closed = end if line.endswith(("\n", "\r")) else ""
        parts.append(f"{original.removesuffix(line)}{export}{key}={values[key]}{closed}")
    kept = "".join(parts)
    if missing and kept and not kept.endswith(("\n", "\r", BYTE_ORDER_MARK)):
        kept += end
    return kept + "".join(f"{key}={value}{end}" for key, value in missing.items())
