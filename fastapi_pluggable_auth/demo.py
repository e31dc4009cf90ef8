"""The demo: the whole product on a SQLite file, with a mailbox to read in the browser."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse
from tortoise.contrib.fastapi import RegisterTortoise

from .auth import Auth
from .authorization import OptionalUser, require
from .config import AuthSettings, is_local
from .dependencies import CurrentUser
from .errors import AuthError, ErrorCode
from .features.administration.feature import Administration
from .features.administration.users import create_user, find_user
from .features.audit_log.feature import AuditLog
from .features.email_sign_in.feature import EmailSignIn
from .features.feature import Feature
from .features.oauth_server.feature import OAuthServer
from .features.passkeys.feature import Passkeys
from .features.personal_tokens.feature import PersonalTokens
from .flows.authorization import grant
from .models import User
from .plugin import include_auth

FEATURES: Final[tuple[Feature, ...]] = (
    Administration(),
    AuditLog(),
    PersonalTokens(scopes={"notes:read": "Read your notes"}),
    Passkeys(),
    EmailSignIn(),
    OAuthServer(resources=["/notes"]),
)
"""All that the package has, beside two-factor, which is there anyway, and what needs other sites."""

ROLES: Final = {"editor": "reports:write", "support": "accounts:read"}

ADMINISTRATOR: Final = "admin@example.com"

HOME: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>fastapi-pluggable-auth demo</title>
<style>
  :root {{ color-scheme: light dark; font: 1rem/1.6 system-ui, sans-serif }}
  main {{ max-width: 42rem; margin: 0 auto; padding: 2rem 1rem }}
  h2 {{ margin: 2rem 0 0; font-size: 1.1rem }}
  ul {{ margin: .5rem 0; padding-left: 1.25rem }}
</style>
<main>
<h1>fastapi-pluggable-auth demo</h1>
<p>{user}</p>
<h2>Pages</h2>
<ul>
  <li><a href="/account/sign-up">Create an account</a>{mails}</li>
  <li><a href="/account/sign-in">Sign in</a>, <a href="/account/sign-in/mail">by mail</a>,
    <a href="/account/forgot-password">or reset a password</a></li>
  <li><a href="/account/profile">Profile</a>: name, address, password, all that is kept of you as a file</li>
  <li><a href="/account/security">Security</a>: passkeys, two-factor, devices</li>
  <li><a href="/account/security/activity">Activity</a>: what was done to your account</li>
  <li><a href="/account/security/tokens">Access tokens</a> for programs</li>
</ul>
<h2>Routes</h2>
<ul>
  <li><a href="/docs">All of them</a>, as JSON</li>
  <li><a href="/hello">/hello</a>, for anyone who is signed in</li>
  <li><a href="/reports">/reports</a>, for the role <code>editor</code></li>
  <li><a href="/notes">/notes</a>, also for a personal token with the scope <code>notes:read</code></li>
</ul>
<h2>Administration</h2>
<p>Sign in as <code>{administrator}</code>. The password stands in the terminal that runs the demo.</p>
<ul>
  <li><a href="/account/invite">Invite somebody</a></li>
  <li><a href="/admin/users">/admin/users</a>, every account</li>
  <li><a href="/admin/activity">/admin/activity</a>, the audit log</li>
  <li><a href="/docs">All that administrators may do</a>: disable, unlock, give roles, act as a user</li>
</ul>
</main>
"""


def demo_app(database: Path, base_url: str) -> FastAPI:
    """The app that `fastapi-pluggable-auth demo` serves. Its secret, and so each session, lasts one start,
    and so does the password of its administrator, `app.state.administrator_password`. Raises `ImportError`
    where fido2 is not installed.

    Where others reach it, mails are printed to the terminal instead of being shown in a mailbox.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with RegisterTortoise(
            app,
            db_url=f"sqlite://{database}",
            modules={"models": ["fastapi_pluggable_auth.models"]},
            generate_schemas=True,
        ):
            await _make_administrator(auth, app.state.administrator_password)
            yield

    local = is_local(base_url)
    features = [each for each in FEATURES if each.name != "passkeys" or not _is_address(base_url)]
    app = FastAPI(title="fastapi-pluggable-auth demo", lifespan=lifespan)
    app.state.administrator_password = secrets.token_urlsafe(12)
    auth = include_auth(
        app,
        settings=AuthSettings(
            jwt_secret=secrets.token_urlsafe(48),
            public_base_url=base_url,
            allow_http=True,
            route_prefix="",
            email_provider="memory" if local else "console",
            dev_mailbox=local,
            app_name="Demo",
        ),
        pages=True,
        roles=ROLES,
        features=features,
    )

    @app.get("/", include_in_schema=False)
    async def index(user: OptionalUser) -> HTMLResponse:
        known = "Nobody is signed in." if user is None else f"Signed in as {escape(user.email)}."
        mails = '; its mails are <a href="/dev/mailbox">here</a>' if local else ""
        return HTMLResponse(HOME.format(user=known, mails=mails, administrator=ADMINISTRATOR))

    @app.get("/hello", tags=["example"])
    async def hello(user: CurrentUser) -> dict[str, str]:
        """A route of the host app that only signed-in users reach."""
        return {"message": f"Hello {user.display_name or user.email}!"}

    @app.get("/reports", tags=["example"])
    async def reports(user: Annotated[User, Depends(require(role="editor"))]) -> dict[str, str]:
        """A route of the host app for users with a role."""
        return {"message": f"Reports for {user.email}"}

    @app.get("/notes", tags=["example"])
    async def notes(user: Annotated[User, Depends(require(scope="notes:read"))]) -> dict[str, str]:
        """A route of the host app that takes personal access tokens, and OAuth tokens, as well."""
        return {"message": f"Notes of {user.email}"}

    return app


def _is_address(url: str) -> bool:
    """Whether it has an address in the place of a name, where no browser has passkeys."""
    try:
        ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return True


async def _make_administrator(auth: Auth, password: str) -> None:
    """With this password, whatever it was before."""
    try:
        user = await find_user(auth, ADMINISTRATOR)
    except AuthError as error:
        if error.code is not ErrorCode.USER_NOT_FOUND:
            raise
        user = await create_user(auth, ADMINISTRATOR, password, verified=True)
    else:
        user.hashed_password = await auth.hasher.hash(password)
        user.is_active = user.is_verified = True
        await user.save()
    await grant(auth, user.id, roles=ROLES, superuser=True)
