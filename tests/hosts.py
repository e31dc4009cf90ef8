"""Host projects and the examples, run as their owners run them: in a folder and a process of their own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"

STRICT = """
[pytest]
asyncio_default_fixture_loop_scope = function
filterwarnings =
    error
    ignore:'crypt' is deprecated:DeprecationWarning:passlib
    ignore:Accessing argon2.__version__:DeprecationWarning
"""


def copied(example: str, folder: Path) -> Path:
    """A copy of an example app inside a folder, to run it there."""
    kept_out = shutil.ignore_patterns("__pycache__", "*.sqlite3*", "*.pem", ".env")
    return Path(shutil.copytree(EXAMPLES / example, folder / example, ignore=kept_out))


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
