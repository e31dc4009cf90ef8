"""Hosts that are checked by mypy or pyright get the types of their own user model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .snippets import blocks

ROOT = Path(__file__).parent.parent
HOST = ROOT / "tests" / "typed_host.py"


README = (ROOT / "README.md").read_text("utf-8")

Errors = dict[str, set[int]]
"""Lines with an error, by the name of the file."""


def by_mypy(cache: Path, *files: Path) -> tuple[Errors, str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}"]
    done = subprocess.run(
        [*command, *map(str, files)],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr  # of 2 it has checked nothing
    lines = [line.split(":") for line in done.stdout.splitlines() if ": error: " in line]
    found: Errors = {
        file.name: {int(line[1]) for line in lines if (ROOT / line[0]).resolve() == file.resolve()}
        for file in files
    }
    return found, done.stdout + done.stderr


def by_pyright(_: Path, *files: Path) -> tuple[Errors, str]:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        pytest.skip(f"pyright does not run here: {(done.stdout + done.stderr)[-300:]}")
    assert told["summary"]["filesAnalyzed"] == len(files), done.stdout
    errors = [each for each in told["generalDiagnostics"] if each["severity"] == "error"]
    found: Errors = {
        file.name: {
            each["range"]["start"]["line"] + 1 for each in errors if Path(each["file"]).name == file.name
        }
        for file in files
    }
    return found, done.stdout


CHECKERS = pytest.mark.parametrize(("module", "check"), [("mypy", by_mypy), ("pyright", by_pyright)])
Check = Callable[..., tuple[Errors, str]]


@pytest.mark.full  # both read the package and FastAPI anew
@CHECKERS
def test_a_user_is_the_hosts_wherever_the_library_gives_one_and_the_readme_has_no_error(
    tmp_path: Path, module: str, check: Check
) -> None:
    pytest.importorskip(module)
    app = tmp_path / "main.py"  # as one pastes it, with the snippets that follow
    parts = [
        block for block in blocks("python", README) if "pytest" not in block and "tables_for" not in block
    ]
    app.write_text("\n\n".join(parts), "utf-8")
    assert len(parts) == 3
    found, told = check(tmp_path / "cache", HOST, app)
    lines = HOST.read_text("utf-8").splitlines()
    refused = {number for number, line in enumerate(lines, 1) if line.endswith("# error")}
    assert found == {HOST.name: refused, app.name: set()}, told
