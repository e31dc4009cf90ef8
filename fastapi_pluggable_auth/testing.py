"""Fixtures for the tests of a host app (pytest, with pytest-asyncio or the plugin of anyio).

`pytest_plugins = ["fastapi_pluggable_auth.testing"]` in the host's `conftest.py`, and a fixture `auth_app`
that returns its app, give every test the app on empty tables, a client, users, the mails and the time.
Nothing of a test is left to the next one, nothing leaves the process, and no lifespan need run.

PYTEST_DONT_REWRITE: a conftest may import from here before it names the plugin.
"""

# No entry point `pytest11`: that would import the package, and read its settings from `.env`, in every run of
# pytest wherever it is installed, and put `mailbox` and `user_factory` in front of fixtures of other plugins.

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html.parser import HTMLParser
from itertools import count
from secrets import token_urlsafe
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI, WebSocketDisconnect
from tortoise.backends.base.config_generator import generate_config
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.context import TortoiseContext

from .auth import Auth, transactional
from .config import AuthSettings, origin_of
from .email import sender
from .email.local import KeptMail, MemoryProvider
from .errors import AuthError
from .features.bot_check.testing import FakeBotCheck
from .features.passkeys.credentials import encoded
from .features.passkeys.names import PasskeySettings
from .features.passkeys.testing import SoftwareAuthenticator
from .flows.session_tokens import TokenSet
from .flows.sessions import start_session
from .lookup import STATE_ATTRIBUTE
from .models import AbstractUser, every, stored_totp_secret
from .models.user import U
from .security.clock import Clock
from .security.rate_limits import RateLimiter
from .security.totp import code_at, generate_totp_secret

if TYPE_CHECKING:
    from .features.oauth_server.testing import OAuthClient
    from .features.social_login.testing import IdentityProvider

try:  # its strict mode, the default, runs no other async fixtures
    from pytest_asyncio import fixture as async_fixture
except ImportError:
    async_fixture = pytest.fixture  # type: ignore[assignment]  # for the plugin of anyio

Modules: TypeAlias = dict[str, Iterable[str | ModuleType]]
"""Where an app's models are, by its label: what Tortoise calls `modules`."""

PASSWORD: Final = "correct horse battery"  # noqa: S105
"""The password of users that are given none."""

IN_MEMORY: Final = "sqlite://:memory:"

LEAVING: Final = 5.0
"""Seconds that a WebSocket of the app has to end after its client has left."""

SETTINGS: Final = {
    "password_scheme": "bcrypt",
    "bcrypt_rounds": 4,
    "check_breaches": False,
    "deliver_mail": True,
    "rate_limit_storage": "memory://",
}
"""What tests need: cheap hashes, mails at once, and no network."""


_MAILED_CODE: Final = re.compile(r"(?m)^[0-9]{6}$")


class FakeClock:
    """The time of this machine plus what a test adds; never twice the same."""

    def __init__(self) -> None:
        self.offset = timedelta()
        self._last = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> datetime:
        """Now, in UTC."""
        self._last = max(datetime.now(UTC) + self.offset, self._last + timedelta(microseconds=1))
        return self._last

    def advance(self, **duration: float) -> None:
        """Moves the time; arguments as for `timedelta`."""
        self.offset += timedelta(**duration)
        self._last = datetime.min.replace(tzinfo=UTC)


class Mailbox(MemoryProvider):
    """The mails that the app has sent: `mails`, the newest last."""

    def newest(self, to: str) -> KeptMail:
        """The newest mail to this address. Raises `LookupError` where none has come."""
        for mail in reversed(self.mails):
            if mail.to == to:
                return mail
        others = ", ".join(mail.to for mail in self.mails) or "nobody"
        raise LookupError(f"No mail to {to} was sent; mails went to {others}.")

    def link(self, to: str) -> str:
        """The link in the newest mail to this address, for the client to open. Raises `LookupError` where
        none has come, `ValueError` where it has no link."""
        return self.newest(to).link

    def code(self, to: str) -> str:
        """The code of six digits in the newest mail to this address, which has a line of its own. Raises
        `LookupError` where no mail has come, `ValueError` where it has no code."""
        found = _MAILED_CODE.search(self.newest(to).body)
        if found is None:
            raise ValueError(f"The newest mail to {to} has no code.")
        return found[0]

    def clear(self) -> None:
        """Forgets all mails."""
        self.mails.clear()


@contextmanager
def under_test(app: FastAPI, clock: Clock, mailbox: MemoryProvider) -> Iterator[Auth]:
    """The app's `Auth` with this clock and mailbox, and with `SETTINGS`, until the end. Then all is as it
    was, also settings that were changed, those of features too, and hooks that were added meanwhile."""
    auth: Auth | None = getattr(getattr(app, "state", None), STATE_ATTRIBUTE, None)
    if auth is None:
        pytest.fail(
            "The fixture `auth_app` has to return an app that include_auth was called for.", pytrace=False
        )
    changeable = (auth.settings, *auth.features.settings)
    before = [each.model_copy(deep=True) for each in changeable]
    with pytest.MonkeyPatch.context() as patch:
        try:
            for name, value in SETTINGS.items():
                setattr(auth.settings, name, value)
            patch.setattr(auth, "clock", clock)
            patch.setattr(auth, "limiter", RateLimiter(auth.settings))
            patch.setattr(auth.events, "listeners", [*auth.events.listeners])
            patch.setattr(auth.hooks, "handlers", [*auth.hooks.handlers])
            patch.setattr(auth.measurements, "handlers", [*auth.measurements.handlers])
            patch.setattr(auth, "heard", [*auth.heard])
            patch.setattr(auth.mailer, "given_provider", mailbox)
            patch.setattr(auth.dispatcher, "send_email", None)
            patch.setattr(sender, "provider_for", lambda _: mailbox)  # for `send_email_async`
            yield auth
        finally:
            for each, former in zip(changeable, before, strict=True):
                vars(each).update(vars(former))
            auth.hasher.close()


class OpenWebSocket:
    """A WebSocket of the app, as its client has it."""

    def __init__(self, app: FastAPI, scope: dict[str, Any]) -> None:
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sent.put_nowait({"type": "websocket.connect"})
        self._app = asyncio.create_task(app(scope, self._sent.get, self._take))
        self._app.add_done_callback(lambda _: self._received.put_nowait({}))

    async def _take(self, message: MutableMapping[str, Any]) -> None:
        self._received.put_nowait({**message})

    async def _next(self) -> dict[str, Any]:
        message = await self._received.get()
        if not message:
            await self._app  # which may have raised
        if message.get("type") not in ("websocket.accept", "websocket.send"):
            raise WebSocketDisconnect(message.get("code", 1006), message.get("reason"))
        return message

    async def send_text(self, text: str) -> None:
        """Sends a message to the app."""
        self._sent.put_nowait({"type": "websocket.receive", "text": text})

    async def receive_text(self) -> str:
        """The next message of the app. Raises `WebSocketDisconnect` where it has closed instead."""
        return str((await self._next())["text"])

    async def leave(self) -> None:
        """Closes it from this end. Raises what the app has raised meanwhile."""
        self._sent.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait({self._app}, timeout=LEAVING)
        if not self._app.done():
            self._app.cancel()
            raise TimeoutError(
                f"The app goes on {LEAVING} s after its client has left: it has to receive, too."
            )
        await self._app


_BROWSER: Final = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


class _Forms(HTMLParser):
    """The forms of a page by the path that they post to: their fields, and what each sends as it is."""

    def __init__(self, page: httpx.Response) -> None:
        super().__init__()
        self.by_action: dict[str, dict[str, str | None]] = {}
        self._page, self._form = page.url, dict[str, str | None]()
        self.feed(page.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form":
            self._form = self.by_action.setdefault(self._page.join(found.get("action") or "").path, {})
        elif tag in ("input", "select", "textarea", "button") and (name := found.get("name")):
            typed = tag == "input" and found.get("type") not in ("checkbox", "radio", "submit", "file")
            self._form[name] = (found.get("value") or "") if typed else None


class AuthClient(httpx.AsyncClient):
    """A client of the app, which it reaches without a network, at its `public_base_url`. Mail that a request
    causes has come when its response has."""

    def __init__(self, app: FastAPI) -> None:
        self._tested = app
        self._services: Auth = getattr(app.state, STATE_ATTRIBUTE)
        address = self._services.settings.public_base_url
        self._root = urlsplit(address).path.rstrip("/")
        self._authenticator: SoftwareAuthenticator | None = None
        self._app_itself = httpx.ASGITransport(app, root_path=self._root)
        super().__init__(transport=self._app_itself, base_url=origin_of(address))

    async def sign_in(self, user: AbstractUser) -> TokenSet:
        """Starts a session of this user, whatever a login would ask for; all later requests are theirs."""
        tokens = await _start(self._services, user)
        self.headers["Authorization"] = f"Bearer {tokens.access_token}"
        return tokens

    async def use_token(self, user: AbstractUser, *scopes: str, resource: str | None = None) -> str:
        """Has all later requests carry an OAuth access token of this user, with these scopes, for the
        resource at this path; without them for all. Gives it. Raises `LookupError` for those that the app
        does not have."""
        require_oauth_server(self._services)
        from .features.oauth_server.testing import give_token  # here, as it loads what fetches documents

        token = await give_token(self._services, user, scopes, resource)
        self.headers["Authorization"] = f"Bearer {token}"
        return token

    @property
    def authenticator(self) -> SoftwareAuthenticator:
        """Where this client has its passkeys: `create` and `get` answer the options of the app, as the
        browser would. Raises `LookupError` where the app has no passkeys."""
        if self._authenticator is None:
            auth = self._services
            if "passkeys" not in auth.features:
                raise LookupError("The app has no passkeys: include_auth(app, features=[Passkeys()]).")
            named = auth.features.settings_of(PasskeySettings).passkey_origins
            here = origin_of(auth.settings.public_base_url)
            origins = [each for each in named if urlsplit(each).scheme in ("http", "https")]
            self._authenticator = SoftwareAuthenticator(origins[0] if origins else here)
        return self._authenticator

    async def add_passkey(self, user: AbstractUser, name: str | None = None) -> UUID:
        """Adds a passkey of this user, who need not be signed in, by the routes of the app; gives its id. Who
        is signed in stays so. Raises `LookupError` where the app has no passkeys, `AuthError` where it
        refuses."""
        authenticator, tokens = self.authenticator, await _start(self._services, user)
        theirs = {"Authorization": f"Bearer {tokens.access_token}"}
        try:
            options = await self._posted("/account/passkeys/options", {}, theirs)
            made = authenticator.create({**options, "excludeCredentials": []})  # as on a device of its own
            body = {"credential": made, "name": name}
            return UUID((await self._posted("/account/passkeys", body, theirs))["id"])
        finally:
            await self._services.tables.session.filter(id=tokens.session_id).delete()

    async def sign_in_with_passkey(self, user: AbstractUser) -> None:
        """Signs this user in by the newest passkey that `add_passkey` has made, by the routes of the app; all
        later requests are theirs. Raises `LookupError` where there is none, `AuthError` where the app
        refuses."""
        theirs = [
            {"id": encoded(each.id)}
            for each in self.authenticator.credentials.values()
            if each.user_handle == user.id.bytes
        ]
        if not theirs:
            raise LookupError(f"This client has no passkey of {user.email}: add_passkey(user) makes one.")
        options = await self._posted("/auth/passkey/options", {})
        credential = self.authenticator.get({**options, "allowCredentials": theirs})
        answer = await self._posted("/auth/passkey/login", {"credential": credential})
        self.headers.pop("Authorization", None)
        if "access_token" in answer:  # else the client has got cookies
            self.headers["Authorization"] = f"Bearer {answer['access_token']}"

    async def sign_in_at(self, provider: str, next: str | None = None) -> httpx.Response:
        """Signs in whom `identity_provider` names, by the routes of the app, as a browser does, and gives the
        last answer; in an app without cookies, that of the exchange. Later requests are of that user, where
        it is not a refusal. Raises `AuthError` where the app refuses to begin."""
        prefix = f"{self._services.settings.route_prefix}/auth/social"
        browser = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
        verifier = None if self._services.uses_cookies else token_urlsafe(48)
        challenge = None if verifier is None else _s256(verifier)
        begun = await self._posted(
            f"/auth/social/{provider}/start", {"next": next, "code_challenge": challenge}
        )
        async with httpx.AsyncClient() as away:
            there = await away.get(begun["url"])
        back = there.headers.get("location")
        if back is None:  # a page of the provider that posts
            ((path, fields),) = _Forms(there).by_action.items()
            posted = await self.post(path.removeprefix(self._root), data=fields, headers=browser)
            back = posted.headers["location"]
        self.headers.pop("Authorization", None)
        answer = await self.get(back, headers=browser)
        code = parse_qs(urlsplit(answer.headers.get("location", "")).query).get("social_code")
        if verifier is None or code is None:
            return answer
        body = {"social_code": code[0], "code_verifier": verifier}
        answer = await self.post(f"{prefix}/exchange", json=body)
        if answer.is_success:
            self.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return answer

    async def _posted(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """What a route of the package answers. Raises `AuthError` where it refuses."""
        prefix = self._services.settings.route_prefix
        response = await self.post(f"{prefix}{path}", json=body, headers=headers)
        if response.is_error and response.headers.get("content-type") == "application/json":
            refusal = response.json()
            if (code := self._services.features.errors.get(refusal.get("code", ""))) is not None:
                raise AuthError(code, detail=str(refusal["detail"]))
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    async def submit(self, path: str, fields: dict[str, str], *, page: str = "") -> httpx.Response:
        """Fills in the form that posts to this path, and sends it as a browser does; it is on `page`, or at
        the same path. Raises `LookupError` where no such form or field is there."""
        return await self._submit(await self.get(page or path, headers=_BROWSER), path, fields)

    async def _submit(self, shown: httpx.Response, path: str, fields: dict[str, str]) -> httpx.Response:
        there = _Forms(shown).by_action.get(self._root + path)
        if there is None:
            raise LookupError(f"{shown.url} has no form for {path}; its status is {shown.status_code}.")
        if unknown := fields.keys() - there.keys():
            raise LookupError(f"The form has no {', '.join(sorted(unknown))}; it has {', '.join(there)}.")
        filled = {name: value for name, value in there.items() if value is not None} | fields
        return await self.post(path, data=filled, headers=_BROWSER)

    @asynccontextmanager
    async def websocket(self, path: str) -> AsyncIterator[OpenWebSocket]:
        """Opens a WebSocket of the app, with the session of `sign_in` and the cookies that are there. Raises
        `WebSocketDisconnect` where the app refuses, with its code and reason."""
        request = self.build_request("GET", path, headers={"Origin": origin_of(str(self.base_url))})
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "wss" if request.url.scheme == "https" else "ws",
            "path": request.url.path,
            "raw_path": request.url.raw_path.split(b"?")[0],
            "query_string": request.url.query,
            "root_path": self._root,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": ("127.0.0.1", 123),
            "server": (request.url.host, request.url.port),
            "subprotocols": [],
            "state": {},
            "extensions": {},
        }
        socket = OpenWebSocket(self._tested, scope)
        await socket._next()
        try:
            yield socket
        finally:
            await socket.leave()

    def code(self, user: AbstractUser) -> str:
        """What the user's authenticator shows now. Each code works once, and the next comes after 30 s."""
        opened = self._services.totp_box.open(stored_totp_secret(user) or "", user.id)
        return code_at(opened.secret, self._services.clock())


def _s256(verifier: str) -> str:
    return encoded(sha256(verifier.encode()).digest())


@transactional
async def _start(auth: Auth, /, user: AbstractUser) -> TokenSet:
    return await start_session(auth, user)


def require_oauth_server(auth: Auth) -> None:
    """Raises `LookupError` where the app has none."""
    if "oauth_server" not in auth.features:
        raise LookupError("The app has no OAuth server: include_auth(app, features=[OAuthServer(...)]).")


class UserFactory(Generic[U]):
    """Makes users of the app's own model, `UserFactory[Member]` to a type checker; no mail is sent."""

    def __init__(self, auth: Auth[U]) -> None:
        self._auth = auth
        self._numbers = count(1)

    async def __call__(
        self,
        email: str | None = None,
        *,
        password: str = PASSWORD,
        verified: bool = True,
        two_factor: bool = False,
        **columns: Any,
    ) -> U:
        """Stores a user, with a new address and username where none is given; `columns` are any
        others, such as `is_active=False`. With `two_factor`, logins need the codes of `totp_secret`."""
        auth, users, number = self._auth, self._auth.tables.user, next(self._numbers)
        if auth.has_usernames:
            columns.setdefault("username", f"user{number}")
        user = await users.create(
            email=email or f"user{number}@example.com",
            hashed_password=await auth.hasher.hash(password),
            is_verified=verified,
            **columns,
        )
        if two_factor:  # as enrolling does: `create` would open what is sealed with the app's own key
            secret = auth.totp_box.seal(generate_totp_secret(), user.id)
            active = {"totp_secret": secret, "totp_confirmed": True, "totp_enrolled_at": auth.clock()}
            await every(users).filter(id=user.id).update(**active)
        return await every(users).get(id=user.id)  # as requests see it


def require_tables(auth: Auth, database: TortoiseContext) -> None:
    """Fails the test where the app's tables are not in its database."""
    there = {model for models in (database.apps or {}).values() for model in models.values()}
    user = auth.tables.user
    if user not in there:
        pytest.fail(
            f"The tables of {user.__name__} are not in the database of the test: override the fixture "
            f'`auth_models` so that it returns {{"models": ["{user.__module__}"]}}.',
            pytrace=False,
        )


@pytest.fixture
def auth_app() -> FastAPI:
    """The app under test: the host overrides this one."""
    pytest.fail("Override the fixture `auth_app`: it returns the app of `include_auth(app)`.", pytrace=False)


@pytest.fixture
def auth_models() -> Modules:
    """Where the models are, as Tortoise's `modules`: the host overrides this one to add its own."""
    return {"models": ["fastapi_pluggable_auth.models"]}


@pytest.fixture
def auth_database_url() -> str:
    """Where the tables are; the host overrides this one for tests on its own kind of database, by a URL with
    `{}` in the name: one is made for each test and deleted after it."""
    return IN_MEMORY


@async_fixture
async def auth_database(auth_models: Modules, auth_database_url: str) -> AsyncIterator[TortoiseContext]:
    """Tortoise on empty tables. Raises `ValueError` for a database that is not made for one test alone."""
    if auth_database_url != IN_MEMORY and "{}" not in auth_database_url:
        raise ValueError("`auth_database_url` needs {} in the name: the database is deleted after each test.")
    EXECUTOR_CACHE.clear()  # which takes the tables of two apps for one, where they have the same name
    config = generate_config(auth_database_url, app_modules=auth_models, testing=True)
    async with TortoiseContext() as context:
        await context.init(config, _create_db=True)
        try:
            await context.generate_schemas()
            yield context
        finally:
            await context.db().close()
            await context.db().db_delete()


@pytest.fixture
def auth_clock() -> FakeClock:
    """The clock of the app."""
    return FakeClock()


@pytest.fixture
def mailbox() -> Mailbox:
    """The mails of the app."""
    return Mailbox()


@pytest.fixture
def pluggable_auth(auth_app: FastAPI, auth_clock: FakeClock, mailbox: Mailbox) -> Iterator[Auth]:
    """The app's `Auth`, with the clock and the mailbox of the test."""
    with under_test(auth_app, auth_clock, mailbox) as auth:
        yield auth


@pytest.fixture
def auth_settings(pluggable_auth: Auth) -> AuthSettings:
    """The app's settings, which a test may change."""
    return pluggable_auth.settings


@async_fixture
async def auth_client(
    auth_app: FastAPI, pluggable_auth: Auth, auth_database: TortoiseContext
) -> AsyncIterator[AuthClient]:
    """A client of the app; nobody is signed in."""
    require_tables(pluggable_auth, auth_database)
    yield AuthClient(auth_app)
    await pluggable_auth.autonomous.close()  # PostgreSQL drops no database that somebody is connected to


@pytest.fixture
def identity_provider(pluggable_auth: Auth, auth_clock: FakeClock) -> Iterator[IdentityProvider]:
    """A server on this machine that stands in for every provider of the app (Google, GitHub ...): `user`
    says who signs in there, `fail` with which error they come back."""
    from .features.social_login.testing import standing_in  # here, as it needs the extra `social`

    with standing_in(pluggable_auth, auth_clock) as provider:
        yield provider


@async_fixture
async def oauth_client(
    auth_app: FastAPI, auth_client: AuthClient, pluggable_auth: Auth
) -> AsyncIterator[OAuthClient]:
    """A client of the app's OAuth server: `connect(user, "notes:read")` registers it, has the user consent on
    the page, and gets tokens, which later requests carry; it may `refresh` and `revoke` them."""
    require_oauth_server(pluggable_auth)
    from .features.oauth_server.testing import OAuthClient

    async def decided(user: AbstractUser, query: str, decision: str, user_code: str | None) -> httpx.Response:
        browser = AuthClient(auth_app)
        await browser.sign_in(user)
        if user_code is not None:
            place = f"{pluggable_auth.settings.route_prefix}/account/device"
            asked = await browser.submit(place, {"user_code": user_code})
            if asked.is_error:
                return asked
            return await browser._submit(asked, f"{place}/decide", {"decision": decision})
        path = f"{pluggable_auth.settings.route_prefix}/oauth/authorize"
        page = await browser.get(f"{path}?{query}", headers={"Accept": "text/html"})
        if f'value="{decision}"' not in page.text:
            return page
        return await browser.submit(path, {"decision": decision}, page=str(page.url))

    yield OAuthClient(pluggable_auth, auth_client._app_itself, str(auth_client.base_url), decided)


@pytest.fixture
def bot_check(pluggable_auth: Auth, monkeypatch: pytest.MonkeyPatch) -> FakeBotCheck:
    """Stands in for the `BotCheck` of the app: everybody passes, unless `passes` is False. Nothing leaves the
    process."""
    from .features.bot_check.checking import BotChecker

    fake = FakeBotCheck()
    monkeypatch.setattr(pluggable_auth.service(BotChecker), "require_human", fake.require_human)
    return fake


@pytest.fixture
def user_factory(pluggable_auth: Auth, auth_database: TortoiseContext) -> UserFactory[Any]:
    """Makes users."""
    require_tables(pluggable_auth, auth_database)
    return UserFactory(pluggable_auth)
