"""Node and packages of npm, for what others make of the OpenAPI document."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = {
    "openapi-fetch": "0.17.0",
    "openapi-typescript": "7.13.0",
    "swagger-ui-dist": "5.35.0",
    "typescript": "5.9.3",
}


def missing() -> str | None:
    """What there is to install first."""
    return next((f"{name} is not installed" for name in ("node", "npm") if shutil.which(name) is None), None)


def install(folder: Path) -> None:
    """Installs the packages in a folder. Skips the test where that fails, as without a network, unless Node
    is required."""
    package = {"private": True, "type": "module", "dependencies": PACKAGES}
    (folder / "package.json").write_text(json.dumps(package))
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        say = pytest.fail if os.environ.get("TEST_REQUIRE_NODE") else pytest.skip
        say(f"npm install failed: {done.stderr[-500:]}")


def run(folder: Path, *arguments: str) -> str:
    """What a script prints, by Node."""
    done = subprocess.run(["node", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
