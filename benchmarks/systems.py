"""What is measured: each system with its app, its tables and how it wants to be asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from authx import AuthX, AuthXConfig
from fastapi_users.jwt import generate_jwt

from . import better_auth, databases
from .databases import PASSWORD, SECRET, Accounts
from .load import Load

LIFETIME_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class System:
    """One app under test."""

    name: str
    label: str
    app: str
    fill: Callable[[str, int], Awaitable[Accounts]]
    me_path: str = "/auth/me"
    environment: dict[str, str] = field(default_factory=dict, hash=False)
    form_login: bool = False
    logs_in: bool = True
    refreshes: bool = False
    credential: str = Load.credential
    dialects: tuple[str, ...] = databases.DIALECTS
    workers: tuple[int, ...] = (1, 2)

    def me(self, port: int, accounts: Accounts, *, connections: int, seconds: float, **more: float) -> Load:
        """Users that ask who they are."""
        tokens = accounts.access_tokens
        return Load(
            port, "GET", self.me_path, connections, seconds, tokens, credential=self.credential, **more
        )

    def logins(self, port: int, accounts: Accounts, *, connections: int, seconds: float) -> Load:
        """Users that sign in."""
        name = "username" if self.form_login else "email"
        bodies = [{name: email, "password": PASSWORD} for email in accounts.emails]
        return Load(port, "POST", "/auth/login", connections, seconds, bodies=bodies, form=self.form_login)

    def refreshes_of(self, port: int, tokens: list[str], *, seconds: float) -> Load:
        """Sessions that refresh, one after the other."""
        return Load(port, "POST", "/auth/refresh", len(tokens), seconds, tokens=tokens, follow=True)


def _jwt_of_fastapi_users(user: UUID) -> str:
    claims = {"sub": str(user), "aud": ["fastapi-users:auth"]}
    return generate_jwt(claims, SECRET, LIFETIME_SECONDS)


def _jwt_of_authx(user: UUID) -> str:
    auth = AuthX(config=AuthXConfig(JWT_ALGORITHM="HS256", JWT_SECRET_KEY=SECRET))
    return auth.create_access_token(uid=str(user), expiry=timedelta(seconds=LIFETIME_SECONDS))


def _peers(access_token: Callable[[UUID], str | None]) -> Callable[[str, int], Awaitable[Accounts]]:
    return lambda url, users: databases.of_peers(url, users, access_token)


PLUGGABLE = System(
    "pluggable", "fastapi-pluggable-auth", "pluggable", databases.with_sessions, refreshes=True
)
FLOOR = System("floor", "floor", "floor", databases.with_sessions, logs_in=False, refreshes=True)
USERS_DATABASE = System(
    "users_database",
    "fastapi-users, database",
    "users",
    _peers(lambda _: None),
    "/users/me",
    {"STRATEGY": "database"},
    form_login=True,
)
USERS_JWT = System(
    "users_jwt",
    "fastapi-users, JWT",
    "users",
    _peers(_jwt_of_fastapi_users),
    "/users/me",
    {"STRATEGY": "jwt"},
    form_login=True,
)
AUTHX = System("authx", "authx", "authx", _peers(_jwt_of_authx), "/users/me")

BETTER_AUTH = System(
    "better_auth",
    "better-auth, Node",
    better_auth.NAME,
    better_auth.with_sessions,
    "/api/auth/get-session",
    logs_in=False,
    credential="Cookie: better-auth.session_token=",
    dialects=("postgres",),
    workers=(1,),
)
UNRESET = System(
    "unreset",
    "fastapi-pluggable-auth, no resets",
    "pluggable",
    databases.with_sessions,
    environment={"RESET": "left out"},
    dialects=("postgres",),
)
"""Where asyncpg's pool does not reset connections (docs/production.md)."""
COMPLETE = System(
    "complete",
    "fastapi-pluggable-auth",
    "pluggable",
    databases.with_sessions,
    environment={"FEATURES": "every", "AUTH_BCRYPT_ROUNDS": "4", "AUTH_DELIVER_MAIL": "false"},
)
"""With the features of the demo, and a database of its own: its mails wait for ever."""

SYSTEMS = (
    PLUGGABLE,
    FLOOR,
    USERS_DATABASE,
    USERS_JWT,
    AUTHX,
    *((BETTER_AUTH,) if better_auth.missing() is None else ()),
)
