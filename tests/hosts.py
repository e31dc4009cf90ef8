"""The tests of a host project, run as the host runs them: in a folder and a process of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

STRICT = """
[pytest]
asyncio_default_fixture_loop_scope = function
filterwarnings =
    error
    ignore:'crypt' is deprecated:DeprecationWarning:passlib
    ignore:Accessing argon2.__version__:DeprecationWarning
"""


def run_pytest(folder: Path, *options: str) -> str:
    """What pytest says of the tests in a folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return result.stdout + result.stderr


def assert_passing(folder: Path, count: int, files: Mapping[str, str], *options: str) -> None:
    """The tests of a project with these files pass, every one of them and none besides."""
    for name, text in {"pytest.ini": STRICT, **files}.items():
        (folder / name).write_text(text)
    told = run_pytest(folder, *options)
    assert re.search(rf"^{count} passed in ", told, re.MULTILINE), told
