"""An app in a folder of its own, under a real server, and the command line of its operator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .conftest import EMAIL, PASSWORD
from .test_keys import EC, pem_of

OPENID_APP = "openid_app:app"


@dataclass(frozen=True)
class Operated:
    """The `app`, as uvicorn names it, with its settings."""

    folder: Path
    environment: dict[str, str]
    app: str

    def command(self, *arguments: str, typed: str | None = None) -> str:
        """What the command line prints."""
        done = subprocess.run(
            [sys.executable, "-m", "fastapi_pluggable_auth", *arguments, "--app", self.app],
            cwd=self.folder,
            env=os.environ | self.environment,
            input=typed,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def add_user(self) -> None:
        """The one of the tests."""
        self.command("users", "create", EMAIL, "--verified", "--password-stdin", typed=PASSWORD)

    def client(self, *options: str) -> dict[str, str]:
        """A client that the operator makes, with its id and, where it has one, its secret."""
        create = ("oauth", "clients", "create", "Peer", "--json")
        said: dict[str, str] = json.loads(self.command(*create, *options))
        return {name: value for name, value in said.items() if value is not None}


def openid_environment(folder: Path, database_url: str, port: int) -> dict[str, str]:
    """The settings of `openid_app`, which is put into the folder with a key pair."""
    shutil.copy(Path(__file__).parent / "openid_app.py", folder)
    (folder / "key.pem").write_text(pem_of(EC))
    return {
        "DATABASE_URL": database_url,
        "AUTH_JWT_ALGORITHM": "ES256",
        "AUTH_JWT_PRIVATE_KEY": str(folder / "key.pem"),
        "AUTH_BCRYPT_ROUNDS": "4",
        "AUTH_EMAIL_PROVIDER": "memory",
        "AUTH_PUBLIC_BASE_URL": f"http://127.0.0.1:{port}",
        "AUTH_OAUTH_OPENID": "true",
        "AUTH_OAUTH_REGISTRATION": "true",
    }
