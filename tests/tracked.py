"""An app that is watched by Sentry, with its defaults, while the database fails at one statement after the
other: `python -m tests.tracked` prints what became known of which secret, as JSON. `ninth` leaves out eight
of nine statements; `scrubbed` has the scrubber of the docs.

A process of its own, as the integrations patch FastAPI for good.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import sentry_sdk
from fastapi import FastAPI
from sentry_sdk.scrubber import EventScrubber
from sentry_sdk.transport import Transport
from tortoise.backends.sqlite.client import SqliteClient, SqliteTransactionWrapper
from tortoise.context import TortoiseContext
from tortoise.exceptions import OperationalError

from fastapi_pluggable_auth import Auth, AuthSettings, failures, include_auth
from fastapi_pluggable_auth.email.local import MemoryProvider
from fastapi_pluggable_auth.features import AuditLog, OAuthServer, Oidc, PersonalTokens, SocialLogin
from fastapi_pluggable_auth.features.administration.users import create_user
from fastapi_pluggable_auth.features.oauth_server.models import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    DEVICE_CODE,
)
from fastapi_pluggable_auth.features.oauth_server.settings import OAuthSettings
from fastapi_pluggable_auth.features.social_login.states import s256
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from fastapi_pluggable_auth.security.totp import code_at

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET, Clock
from .oauth_program import REDIRECT, RESOURCES, SCOPES, VERIFIER, add_notes, code_for, registered
from .snippets import blocks

NEW_PASSWORD = "another horse staple"
PAGE = Path(__file__).parent.parent / "docs" / "production.md"
MOST_STATEMENTS = 60
FRAMEWORK = ("request", "scope", "websocket")
"""Variables that are objects of the framework, which shows all headers of them."""
GENERATED = {
    "new personal token": r"pat_[\w-]{43}",
    "new OAuth token": r"(?:oa[ct]|odc|ort|oc[rst])_[\w-]{43}",
    "new recovery code": r"(?:[a-z2-7]{4}-){5}[a-z2-7]{4}",
    "new TOTP secret": "[A-Z2-7]{32}",
}
"""Secrets that the library makes in the step: no test knows them before."""
STATEMENTS = ("execute_query", "execute_query_dict", "execute_insert", "execute_many")

Step = Callable[["TrackedUser"], Awaitable[object]]


class Captured(Transport):
    """What would be sent."""

    events: list[dict[str, Any]]

    def __init__(self) -> None:
        super().__init__()
        self.events = []

    def capture_envelope(self, envelope: Any) -> None:
        event = envelope.get_event()
        if event is not None:
            self.events.append(json.loads(json.dumps(event, default=str)))


class TrackedUser:
    """One user with two factors, and a client that is signed in."""

    def __init__(
        self, auth: Auth, client: httpx.AsyncClient, clock: Clock, identities: IdentityProvider
    ) -> None:
        self.auth, self.client, self.clock, self.identities = auth, client, clock, identities
        self.provider = auth.mailer.provider
        self.secrets: dict[str, str] = {
            "password": PASSWORD,
            "new password": NEW_PASSWORD,
            "client secret": CLIENT_SECRET,
        }
        self.totp = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets['access token']}"}

    @property
    def coded(self) -> dict[str, str]:
        return {"challenge": self.secrets["challenge"], "code": self.secrets["mailed code"]}

    def code(self) -> str:
        """The next code that was not used."""
        self.clock.advance(seconds=30)
        self.secrets["code"] = code_at(self.totp, self.clock())
        return self.secrets["code"]

    def link(self) -> str:
        assert isinstance(self.provider, MemoryProvider)
        path = self.provider.mails[-1].link.removeprefix("http://localhost:8000")
        self.secrets["link"] = path.rpartition("/")[2]
        return path

    def has_code(self, asked: httpx.Response, to: str = "kim@example.com") -> bool:
        """Whether the answer came, and the mail with the code."""
        assert isinstance(self.provider, MemoryProvider)
        mails = "\n".join(mail.body for mail in self.provider.mails if mail.to == to)
        found = re.findall(r"^([0-9]{6})\s*$", mails, re.MULTILINE)
        if not asked.is_success or not found:
            return False
        self.secrets |= {"mailed code": found[0], "challenge": asked.json().get("challenge", found[0])}
        return True

    async def post(self, path: str, headers: dict[str, str] | None = None, **body: object) -> httpx.Response:
        return await self.client.post(path, json=body, headers=headers or {})

    async def form(self, path: str, **fields: str) -> httpx.Response:
        headers = {"Origin": "http://localhost:8000", "Accept": "text/html"}
        if path in ("/account/sign-in", "/account/sign-up"):
            page = (await self.client.get(path, headers=headers)).text
            fields["csrf_token"] = re.findall('name="csrf_token" value="([^"]+)"', page)[0]
        else:
            headers |= self.headers
        return await self.client.post(path, data=fields, headers=headers)

    async def prepare(self) -> None:
        await self.post("/auth/signup", email=EMAIL, password=PASSWORD)
        await self.post(self.link())
        signed_in = (await self.post("/auth/login", email=EMAIL, password=PASSWORD)).json()
        self.secrets |= {
            "access token": signed_in["access_token"],
            "refresh token": signed_in["refresh_token"],
        }
        enrolment = (await self.post("/auth/2fa/enable", self.headers)).json()
        self.totp = re.findall("secret=([A-Z2-7]+)", enrolment["otpauth_uri"])[0]
        assert (await self.post("/auth/2fa/verify", self.headers, code=self.code())).status_code == 200
        asked = await self.post("/auth/forgot-password", email=EMAIL, mailed_code=True)
        self.link()
        assert self.has_code(asked, EMAIL)

    async def connect(self) -> None:
        """A client of the OAuth server, with tokens and one more code."""
        self.program = await registered(
            self.auth,
            self.client,
            confidential=True,
            grant_types=[AUTHORIZATION_CODE, CLIENT_CREDENTIALS, DEVICE_CODE],
        )
        assert self.program.secret is not None
        self.secrets |= {"secret of the client": self.program.secret, "verifier": VERIFIER}
        assert (await self.program.exchange(await code_for(self.auth, self.program))).status_code == 200
        self.secrets["OAuth code"] = await code_for(self.auth, self.program)
        for kind in ("access_token", "refresh_token"):
            self.secrets[f"OAuth {kind}"] = self.program.tokens[kind]

    async def begin_device(self) -> None:
        """One whose code the user has typed."""
        codes = (await self.program.begin()).json()
        self.secrets["device code"] = codes["device_code"]
        page = await self.form("/account/device", user_code=codes["user_code"])
        (self.device,) = re.findall('name="device" value="([^"]+)"', page.text)


async def users_create(tracked: TrackedUser) -> None:
    try:
        await create_user(tracked.auth, "eve@example.com", PASSWORD, verified=True)
    except Exception as error:
        sentry_sdk.capture_exception(error)


async def cookies(tracked: TrackedUser) -> None:
    """Signs in as a browser, and opens a page once its access token is no longer good."""
    headers = {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin", "X-Requested-With": "x"}
    body = {"email": EMAIL, "password": PASSWORD, "code": tracked.code()}
    await tracked.client.post("/auth/login", json=body, headers=headers)
    for name, value in tracked.client.cookies.items():
        tracked.secrets[name] = value
    await tracked.client.get("/account/profile", headers=headers)
    tracked.clock.advance(seconds=1000)
    await tracked.client.get("/account/profile", headers=headers)


async def back_from_provider(tracked: TrackedUser, **asked: str) -> httpx.Response:
    """Signs in at the provider in a browser, and comes back with what is a secret then."""
    given, give = list[dict[str, Any]](), tracked.identities.token

    def token(sent: dict[str, str]) -> dict[str, Any]:
        given.append(give(sent))
        return given[-1]

    headers = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
    start = await tracked.client.get("/auth/social/acme/start", params=asked, headers=headers)
    async with httpx.AsyncClient() as away:
        there = (await away.get(start.headers["location"])).headers["location"]
    tracked.secrets["code of the provider"] = parse_qs(urlsplit(there).query)["code"][0]
    (cookie,) = [each for each in tracked.client.cookies.jar if "social_" in each.name]
    tracked.secrets["what the browser keeps"] = str(cookie.value)
    state = json.loads(base64.urlsafe_b64decode(f"{str(cookie.value).partition('.')[0]}=="))
    tracked.secrets["verifier of the provider"] = state["verifier"]
    tracked.identities.token = token  # type: ignore[method-assign]
    try:
        back = await tracked.client.get(there.removeprefix("http://localhost:8000"), headers=headers)
    finally:
        tracked.identities.token = give  # type: ignore[method-assign]
    for said in given:
        tracked.secrets["access token of the provider"] = said["access_token"]
        tracked.secrets["id token"] = said["id_token"]
    return back


async def social_exchange(tracked: TrackedUser) -> None:
    """As a front end, whose user is asked for a second factor."""
    tracked.identities.user(EMAIL)
    tracked.secrets["verifier"] = "v" * 43
    back = await back_from_provider(tracked, code_challenge=s256("v" * 43))
    code = parse_qs(urlsplit(back.headers.get("location", "")).query).get("social_code")
    if code is not None:
        tracked.secrets["one-time code"] = code[0]
        body = {"social_code": code[0], "code_verifier": "v" * 43, "code": tracked.code()}
        await tracked.post("/auth/social/exchange", **body)


async def social_token(tracked: TrackedUser) -> None:
    """As a native app."""
    tracked.identities.user("kim@example.com")
    nonce = (await tracked.post("/auth/social/acme/nonce")).json()["nonce"]
    tracked.secrets["id token"] = tracked.identities.id_token(nonce)
    await tracked.post("/auth/social/acme/token", nonce=nonce, id_token=tracked.secrets["id token"])


async def social_address(tracked: TrackedUser) -> None:
    """Somebody whose address nobody vouches for."""
    tracked.identities.user(None, sub="kim")
    tracked.secrets["verifier"] = "v" * 43
    back = await back_from_provider(tracked, code_challenge=s256("v" * 43))
    token = parse_qs(urlsplit(back.headers.get("location", "")).query).get("social_address")
    if token is None:
        return
    tracked.secrets["address token"] = token[0]
    sent = await tracked.post("/auth/social/address", social_address=token[0], email="kim@example.com")
    if tracked.has_code(sent):
        await tracked.post("/auth/social/address/code", **tracked.coded, code_verifier="v" * 43)


async def verify_by_code(tracked: TrackedUser) -> None:
    """As the client that signed up."""
    body = {"email": "kim@example.com", "password": PASSWORD, "mailed_code": True}
    if tracked.has_code(await tracked.post("/auth/signup", **body)):
        await tracked.post("/auth/verify/code", **tracked.coded)


async def change_by_code(tracked: TrackedUser) -> None:
    """Of the address."""
    body = {"email": "kim@example.com", "mailed_code": True}
    if tracked.has_code(await tracked.client.patch("/account", json=body, headers=tracked.headers)):
        code = tracked.secrets["mailed code"]
        await tracked.post("/auth/email-change/code", tracked.headers, code=code)


async def oauth_replay(tracked: TrackedUser) -> None:
    """Of a code that was used."""
    for _ in range(2):
        await tracked.program.exchange(tracked.secrets["OAuth code"])


async def oauth_registration(tracked: TrackedUser) -> None:
    """Of a client, which then changes to a public one and back."""
    said: dict[str, Any] = {"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "client_secret_post"}
    made = await tracked.client.post("/oauth/register", json=said)
    if made.status_code != 201:
        return
    told = made.json()
    path, headers = (
        f"/oauth/register/{told['client_id']}",
        {"Authorization": f"Bearer {told['registration_access_token']}"},
    )
    said["client_id"] = told["client_id"]
    for method in ("none", "client_secret_basic"):
        body = {**said, "token_endpoint_auth_method": method}
        await tracked.client.put(path, json=body, headers=headers)
    await tracked.client.delete(path, headers=headers)


async def oauth_client(tracked: TrackedUser) -> None:
    """Acts for itself, and gives its token back."""
    answer = await tracked.program.post("/oauth/token", grant_type="client_credentials")
    if answer.status_code == 200:
        tracked.secrets["OAuth token of the client"] = token = answer.json()["access_token"]
        await tracked.program.post("/oauth/introspect", token=token)
        await tracked.program.revoke(token)


async def oauth_device(tracked: TrackedUser) -> None:
    """That begins, and whose code its user types."""
    begun = await tracked.program.begin()
    if begun.status_code == 200:
        tracked.secrets["device code"] = begun.json()["device_code"]
        tracked.secrets["user code"] = begun.json()["user_code"]
        await tracked.form("/account/device", user_code=tracked.secrets["user code"])


async def oauth_device_code(tracked: TrackedUser) -> None:
    """Of a device that waits, and is let in."""
    await tracked.program.poll(tracked.secrets["device code"])
    await tracked.form("/account/device/decide", device=tracked.device, decision="allow")
    await tracked.program.poll(tracked.secrets["device code"])
    for kind in ("access_token", "refresh_token"):
        tracked.secrets[f"new {kind}"] = tracked.program.tokens[kind]


STEPS: dict[str, Step] = {
    "social exchange": social_exchange,
    "social token": social_token,
    "social address": social_address,
    "cookies": cookies,
    "signup": lambda s: s.post("/auth/signup", email="new@example.com", password=PASSWORD),
    "login": lambda s: s.post("/auth/login", email=EMAIL, password=PASSWORD, code=s.code()),
    "refresh": lambda s: s.post("/auth/refresh", token=s.secrets["refresh token"]),
    "reauthenticate": lambda s: s.post("/auth/reauthenticate", s.headers, password=PASSWORD, code=s.code()),
    "verify a code": lambda s: s.post("/auth/2fa/verify", s.headers, code=s.code()),
    "change password": lambda s: s.post(
        "/account/change-password", s.headers, old_password=PASSWORD, new_password=NEW_PASSWORD
    ),
    "reset": lambda s: s.post(f"/auth/reset-password/{s.secrets['link']}", new_password=NEW_PASSWORD),
    "reset by code": lambda s: s.post("/auth/reset-password/code", **s.coded, new_password=NEW_PASSWORD),
    "verify by code": verify_by_code,
    "change by code": change_by_code,
    "sign-up page": lambda s: s.form("/account/sign-up", email="new@example.com", new_password=PASSWORD),
    "sign-in page": lambda s: s.form("/account/sign-in", email=EMAIL, password=PASSWORD),
    "confirm page": lambda s: s.form("/account/confirm-password", password=PASSWORD, code=s.code()),
    "profile page": lambda s: s.form(
        "/account/profile/password", password=PASSWORD, new_password=NEW_PASSWORD
    ),
    "reset page": lambda s: s.form(
        f"/auth/reset-password/{s.secrets['link']}/form", new_password=NEW_PASSWORD
    ),
    "users create": users_create,
    "two-factor": lambda s: s.post("/auth/2fa/enable", s.headers),
    "recovery codes": lambda s: s.post("/auth/2fa/recovery-codes", s.headers),
    "OAuth refresh": lambda s: s.program.refresh(s.secrets["OAuth refresh_token"]),
    "OAuth replay": oauth_replay,
    "OAuth access": lambda s: s.program.get(token=s.secrets["OAuth access_token"]),
    "OAuth revocation": lambda s: s.program.revoke(s.secrets["OAuth refresh_token"]),
    "OAuth registration": oauth_registration,
    "OAuth introspection": lambda s: s.program.post(
        "/oauth/introspect", token=s.secrets["OAuth access_token"]
    ),
    "OAuth client": oauth_client,
    "OAuth device": oauth_device,
    "OAuth device code": oauth_device_code,
    "personal token": lambda s: s.post("/account/tokens", s.headers, name="ci", scopes=["read"]),
}


@contextmanager
def failing_at(number: int, error: type[Exception]) -> Iterator[list[int]]:
    """The database raises this at its statement of this number; the list counts them."""
    count = [0]
    kept = {
        (kind, name): getattr(kind, name)
        for kind in (SqliteClient, SqliteTransactionWrapper)
        for name in STATEMENTS
    }

    def failing(run: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def statement(*args: Any, **kwargs: Any) -> Any:
            count[0] += 1
            if count[0] == number:
                raise error("the database is down")
            return await run(*args, **kwargs)

        return statement

    for (kind, name), run in kept.items():
        setattr(kind, name, failing(run))
    try:
        yield count
    finally:
        for (kind, name), run in kept.items():
            setattr(kind, name, run)


@dataclass(frozen=True)
class Host:
    """One app for all steps, which is most of what they would take; each has a database of its own."""

    app: FastAPI
    auth: Auth
    clock: Clock
    identities: IdentityProvider

    @classmethod
    def of(cls, identities: IdentityProvider) -> Host:
        settings = AuthSettings(
            _env_file=None,
            jwt_secret=SECRET,
            totp_encryption_key=SECRET,
            bcrypt_rounds=4,
            email_provider="memory",
        )
        app, clock = FastAPI(), Clock()
        identities.clock = lambda: clock().timestamp()
        acme = Oidc("acme", issuer=identities.issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
        features = [
            PersonalTokens(scopes={"read": "Reads"}),
            AuditLog(),
            SocialLogin(acme),
            OAuthServer(
                resources=RESOURCES,
                scopes=SCOPES,
                settings=OAuthSettings(_env_file=None, oauth_registration=True),  # type: ignore[call-arg]
            ),
        ]
        auth = include_auth(app, settings=settings, clock=clock, pages=True, features=features)
        add_notes(app)
        return cls(app, auth, clock, identities)

    @asynccontextmanager
    async def tracked(self, *, connected: bool, device: bool) -> AsyncIterator[TrackedUser]:
        provider = self.auth.mailer.provider
        assert isinstance(provider, MemoryProvider)
        provider.mails.clear()
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with (
            TortoiseContext() as context,
            httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client,
        ):
            await context.init(databases.config("sqlite://:memory:", "sqlite"))
            await context.generate_schemas()
            made = TrackedUser(self.auth, client, self.clock, self.identities)
            await made.prepare()
            if connected:
                await made.connect()
            if device:
                await made.begin_device()
            yield made
            await self.auth.close()


def frames(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for exception in event.get("exception", {}).get("values", []):
        yield from (exception.get("stacktrace") or {}).get("frames", [])


def shown(secrets: dict[str, str], where: object) -> list[str]:
    """The secrets in it; a code of six digits only where it stands alone."""
    text = json.dumps(where)
    patterns = {name: re.escape(secret) for name, secret in secrets.items()} | GENERATED
    return [name for name, pattern in patterns.items() if re.search(rf"(?<!\w){pattern}(?!\w)", text)]


async def watched(name: str, captured: Captured, host: Host, every: int) -> dict[str, Any]:
    """What became known in one step, wherever the database failed, of so many statements at one."""
    ours: set[str] = set()
    anywhere: set[str] = set()
    events = 0
    for number in range(1, MOST_STATEMENTS, every):
        waits = name == "OAuth device code"
        async with host.tracked(connected=name.startswith("OAuth"), device=waits) as made:
            captured.events.clear()
            error = (OperationalError, ZeroDivisionError)[number % 2]  # answered as 503, and as 500
            with failing_at(number, error) as count:
                await STEPS[name](made)
            for event in captured.events:
                events += 1
                own = [each for each in frames(event) if each.get("module", "").startswith("fastapi_plug")]
                ours |= {
                    f"{secret} in {each['module']}.{each['function']}"
                    for each in own
                    for secret in shown(made.secrets, {**each.get("vars", {}), **dict.fromkeys(FRAMEWORK)})
                }
                anywhere |= {*shown(made.secrets, event)}
        if count[0] < number:
            break
    else:
        raise AssertionError(f"{name} takes more statements")
    return {"events": events, "ours": sorted(ours), "anywhere": sorted(anywhere)}


def main() -> None:
    captured = Captured()
    failures.QUIET_SECONDS = 0.0  # type: ignore[misc]  # every failure, with its traceback
    logging.getLogger("fastapi_pluggable_auth").setLevel(logging.DEBUG)
    options: dict[str, Any] = {"event_scrubber": EventScrubber(denylist=[], pii_denylist=[])}
    if "scrubbed" in sys.argv:
        (code,) = [
            each for each in blocks("python", PAGE.read_text("utf-8")) if "def without_secrets" in each
        ]
        names: dict[str, Any] = {}
        exec(code, names)
        options = {"before_send": names["without_secrets"]}
    sentry_sdk.init(dsn="http://key@127.0.0.1/1", transport=captured, send_default_pii=True, **options)
    with IdentityProvider().serving() as identities:
        host = Host.of(identities)
        every = 9 if "ninth" in sys.argv else 1  # an odd number, for errors of both kinds
        steps = {name: asyncio.run(watched(name, captured, host, every)) for name in STEPS}
    sys.stdout.write(json.dumps(steps))


if __name__ == "__main__":
    main()
