"""Prometheus' own tool, which reads what is written for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

BINARY = shutil.which("promtool")


def missing() -> str | None:
    """Why there is none; None where there is one."""
    return None if BINARY else "no promtool: apt install prometheus"


def check(*arguments: str | Path, text: str = "") -> str:
    """What it says of what it gets on standard input. Raises `AssertionError` for what it refuses."""
    assert BINARY
    done = subprocess.run(
        [BINARY, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
