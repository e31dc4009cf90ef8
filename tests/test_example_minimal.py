"""examples/minimal, by the commands of its README."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from .conftest import SECRET
from .hosts import EXAMPLES, copied
from .live import Process, served

README = (EXAMPLES / "minimal" / "README.md").read_text("utf-8")


def printed_link(process: Process) -> str:
    """The token of the link in the mail that the app prints."""
    deadline = time.monotonic() + 20
    while not (found := re.findall(r"http://localhost:8000/auth/verify/(\S+)", process.output)):
        assert time.monotonic() < deadline, process.output
        time.sleep(0.05)
    return str(found[-1])


def test_the_commands_of_the_readme_sign_up_and_in_and_out(tmp_path: Path) -> None:
    _, commands = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    environment = {"JWT_SECRET": SECRET, "EMAIL_PROVIDER": "console", "AUTH_BCRYPT_ROUNDS": "4"}
    variables: dict[str, str] = {}
    answers: list[tuple[int, Any]] = []
    with served(copied("minimal", tmp_path), environment, tmp_path / "app.log") as (base, process):
        for command in commands.splitlines():
            if "$TOKEN" in command:
                variables["TOKEN"] = printed_link(process)
            script = command.replace("localhost:8000", base).replace("curl", r"curl -sw '\n%{http_code}'", 1)
            result = subprocess.run(
                ["bash", "-c", script],
                env={"PATH": os.environ["PATH"], **variables},
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
            body, status = result.stdout.rsplit("\n", 1)
            answers.append((int(status), json.loads(body)))
            tokens = {
                name.upper(): value for name, value in answers[-1][1].items() if name.endswith("_token")
            }
            variables |= tokens
        bearer = {"Authorization": f"Bearer {variables['ACCESS_TOKEN']}"}
        assert httpx.get(f"{base}/auth/me", headers=bearer).status_code == 401
        assert httpx.get(f"{base}/hello").status_code == 401
        assert httpx.get(f"{base}/docs").status_code == 200
    assert [status for status, _ in answers] == [201, 200, 200, 200, 200, 200]
    assert answers[3][1] == {"message": "Hello ada@example.com!"}
