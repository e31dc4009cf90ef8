"""A served app, for the curl commands of the docs."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pyotp

from fastapi_pluggable_auth.features.passkeys.testing import SoftwareAuthenticator
from fastapi_pluggable_auth.security.hashing import unusable_hash

from .conftest import EMAIL, PASSWORD, Mailbox

ORIGIN = "http://localhost:8000"
"""Of the pages, as the settings have it."""

SHARED = """
JSON='Content-Type: application/json'
AUTH="Authorization: Bearer $ACCESS_TOKEN"
"""
"""What the commands share: the pages say the same."""


@dataclass
class DocsServer:
    """A served app, and the shell variables that the commands of the docs use."""

    base: str
    database: Path
    mailbox: Mailbox
    variables: dict[str, str] = field(default_factory=dict)
    phone: SoftwareAuthenticator = field(default_factory=lambda: SoftwareAuthenticator(ORIGIN))

    def prepare(self, commands: str) -> None:
        """A fresh account in the state that the commands expect."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            waiting = "SELECT count(*) FROM auth_mail WHERE sent_at IS NULL"
            while connection.execute(waiting).fetchone() != (0,):
                time.sleep(0.01)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("DELETE FROM user")
        self.mailbox.clear()
        self.phone = SoftwareAuthenticator(ORIGIN)
        if "/auth/signup" in commands:
            return
        if "/auth/passkey/verify" in commands:
            with httpx.Client(base_url=self.base, timeout=30) as client:
                self._sign_up_with_passkey(client, EMAIL)
                self._link()
                options = client.post("/auth/passkey/verify/options", json={"token": self.variables["TOKEN"]})
                self._has(self.phone.get(options.json()))
            return
        with httpx.Client(base_url=self.base, timeout=30) as client:
            signup = {"email": EMAIL, "password": PASSWORD, "mailed_code": True}
            self.variables["CHALLENGE"] = client.post("/auth/signup", json=signup).json()["challenge"]
            self._link()
            if "/auth/verify/" in commands and "/auth/verify/resend" not in commands:
                return
            client.get(f"/auth/verify/{self.variables['TOKEN']}")
            tokens = client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD}).json()
            client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
            self.variables |= {
                "ACCESS_TOKEN": tokens["access_token"],
                "REFRESH_TOKEN": tokens["refresh_token"],
            }
            self.variables["SESSION_ID"] = client.get("/account/sessions").json()[0]["id"]
            if "passkey" in commands:
                self._prepare_passkey(client, commands)
            if "/admin/" in commands:
                self._sign_up_with_passkey(client, "bob@example.com")
                self.variables["USER_ID"] = self._appoint()
            if "/oauth/clients" in commands or "/applications" in commands:
                self._register_client(client)
            if "/auth/invite/" in commands:
                client.post("/auth/signup", json={"email": "bob@example.com", "password": PASSWORD})
                self._appoint()
                client.post("/admin/invitations", json={"email": "grace@example.com"})
                self._link(3, "grace@example.com")
            if "/account/tokens/" in commands:
                token = {"name": "backup script", "scopes": ["notes:read"]}
                self.variables["TOKEN_ID"] = client.post("/account/tokens", json=token).json()["id"]
            if "/account/devices/" in commands:
                client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD, "device": None})
                self.variables["DEVICE_ID"] = client.get("/account/devices").json()[0]["id"]
            if "/account/set-password" in commands or "/reauthenticate/mail" in commands:
                self._forget_password()
            if "/reauthenticate/mail/code" in commands:
                self.variables["CHALLENGE"] = client.post("/auth/reauthenticate/mail").json()["challenge"]
                self._link(2)
            if "reset-password" in commands:
                asked = client.post("/auth/forgot-password", json={"email": EMAIL, "mailed_code": True})
                self.variables["CHALLENGE"] = asked.json()["challenge"]
                self._link(2)
            if "email-change" in commands:
                client.patch("/account", json={"email": "ada@example.org", "mailed_code": True})
                self._link(3, EMAIL if "stop-email-change" in commands else "ada@example.org")
            if "2fa/verify" in commands or "recovery-codes" in commands:
                uri = client.post("/auth/2fa/enable").json()["otpauth_uri"]
                self.variables["CODE"] = pyotp.parse_uri(uri).now()  # type: ignore[attr-defined]
            if "recovery-codes" in commands:
                client.post("/auth/2fa/verify", json={"code": self.variables["CODE"]})

    def _prepare_passkey(self, client: httpx.Client, commands: str) -> None:
        begun = client.post("/account/passkeys/options").json()
        self._has(self.phone.create(begun))
        if "/account/passkeys -H" in commands and "CREDENTIAL" in commands:
            return
        body = {"credential": json.loads(self.variables["CREDENTIAL"])}
        self.variables["PASSKEY_ID"] = client.post("/account/passkeys", json=body).json()["id"]
        purpose = "reauthenticate/options" if "reauthenticate" in commands else "options"
        self._has(self.phone.get(client.post(f"/auth/passkey/{purpose}").json()))

    def _sign_up_with_passkey(self, client: httpx.Client, email: str) -> None:
        begun = client.post("/auth/passkey/sign-up/options", json={"email": email}).json()
        client.post("/auth/signup", json={"email": email, "credential": self.phone.create(begun)})

    def _has(self, credential: object) -> None:
        self.variables["CREDENTIAL"] = json.dumps(credential)

    def _appoint(self) -> str:
        """Makes the account an administrator; gives the id of the other one."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute("UPDATE user SET is_superuser = 1 WHERE email = ?", (EMAIL,))
            (other,) = connection.execute("SELECT id FROM user WHERE email <> ?", (EMAIL,)).fetchone()
            for (passkey,) in connection.execute("SELECT id FROM auth_passkey WHERE user_id = ?", (other,)):
                self.variables["PASSKEY_ID"] = passkey
            return str(other)

    def _register_client(self, client: httpx.Client) -> None:
        """A client with a secret, which everybody has let in."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute("UPDATE user SET is_superuser = 1 WHERE email = ?", (EMAIL,))
        body = {"name": "Desk", "redirect_uris": ["https://desk.example/callback"], "confidential": True}
        made = client.post("/admin/oauth/clients", json=body).json()
        self.variables |= {"CLIENT_ID": made["id"], "APPLICATION_ID": made["id"]}
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute(
                "INSERT INTO auth_oauth_grant (id, user_id, client_id, scopes, resources, expires_at,"
                " authorized_at, last_used_at, created_at)"
                " SELECT id, id, ?1, 'notes:read', '', ?2, ?2, ?2, ?2 FROM user",
                (made["id"], "2999-01-01 00:00:00.000000+00:00"),
            )

    def _forget_password(self) -> None:
        """Makes the account one that never had a password, as another way of signing in does."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute("UPDATE user SET hashed_password = ?", (unusable_hash(),))

    def _link(self, count: int = 1, recipient: str = EMAIL) -> None:
        self.mailbox.server.wait_for(count)
        newest = [mail for mail in self.mailbox.messages if mail["To"] == recipient][-1]
        if "/" in newest.get_body(("plain",)).get_content():
            self.variables["TOKEN"] = self.mailbox.token(recipient)
        self.variables["CODE"] = "".join(re.findall(r"(?m)^(\d{6})\r?$", str(newest.get_body(("plain",)))))

    def run(self, command: str) -> int:
        """The HTTP status that one curl command ends with."""
        script = f"{SHARED}\nBASE={self.base}\n" + command.replace(
            "curl ", "curl -s -o /dev/null -w '%{http_code}' ", 1
        ).replace("123456", self.variables.get("CODE", ""))
        environment = {"PATH": os.environ["PATH"], **self.variables}
        result = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, env=environment, check=True
        )
        return int(result.stdout)
