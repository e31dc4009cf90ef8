"""Node and packages of npm: what others make of the OpenAPI document, and a provider of OpenID Connect."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .live import asked

PACKAGES = {
    "@modelcontextprotocol/client": "2.4.0",
    "@modelcontextprotocol/sdk": "1.32.2",
    "oidc-provider": "9.13.3",
    "openapi-fetch": "0.17.0",
    "openapi-typescript": "7.13.0",
    "openid-client": "6.9.0",
    "swagger-ui-dist": "5.35.0",
    "typescript": "5.9.3",
}


def missing() -> str | None:
    """What there is to install first."""
    return next((f"{name} is not installed" for name in ("node", "npm") if shutil.which(name) is None), None)


def install(folder: Path, *names: str) -> None:
    """Installs packages in a folder. Skips the test where that fails, as without a network, unless Node is
    required."""
    dependencies = {name: PACKAGES[name] for name in names}
    package = {"private": True, "type": "module", "dependencies": dependencies}
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


@contextmanager
def serving(folder: Path, url: str, *arguments: str) -> Iterator[None]:
    """While a script runs, by Node, from when it answers there."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(["node", *arguments], cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 30
        while asked(url) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()
