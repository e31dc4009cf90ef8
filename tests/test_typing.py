"""Hosts that are checked by mypy or pyright get the types of their own user model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOST = ROOT / "tests" / "typed_host.py"


def by_mypy(cache: Path) -> tuple[set[int], str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", str(HOST)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    return {int(line.split(":")[1]) for line in lines if line.startswith(str(HOST.relative_to(ROOT)))}, (
        done.stdout + done.stderr
    )


def by_pyright(_: Path) -> tuple[set[int], str]:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(HOST)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        pytest.skip(f"pyright does not run here: {(done.stdout + done.stderr)[-300:]}")
    found = [each for each in told["generalDiagnostics"] if each["severity"] == "error"]
    return {each["range"]["start"]["line"] + 1 for each in found}, done.stdout


@pytest.mark.full  # both read the package and FastAPI anew
@pytest.mark.parametrize(("module", "check"), [("mypy", by_mypy), ("pyright", by_pyright)])
def test_a_user_is_the_hosts_wherever_the_library_gives_one(
    tmp_path: Path, module: str, check: Callable[[Path], tuple[set[int], str]]
) -> None:
    pytest.importorskip(module)
    refused, told = check(tmp_path)
    lines = HOST.read_text("utf-8").splitlines()
    assert refused == {number for number, line in enumerate(lines, 1) if line.endswith("# error")}, told
