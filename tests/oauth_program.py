"""A program that users let in, as tests drive it: it asks for tokens over HTTP, with PKCE, and its user has a
browser without JavaScript."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
from fastapi import Depends, FastAPI
from pydantic import BaseModel

from fastapi_pluggable_auth import Auth
from fastapi_pluggable_auth.authorization import require
from fastapi_pluggable_auth.features.oauth_server.clients import create_client
from fastapi_pluggable_auth.features.oauth_server.models import CODE, DEVICE_CODE, digest_of
from fastapi_pluggable_auth.features.oauth_server.resources import resources_of, scopes_of
from fastapi_pluggable_auth.features.oauth_server.tokens import new_secret
from fastapi_pluggable_auth.models import OAuthClient, OAuthGrant, OAuthToken

from .conftest import EMAIL, PASSWORD, Account
from .form_browser import BROWSER, FormBrowser, Page

SCOPES = {"notes:read": "Read your notes", "notes:write": "Change your notes"}
RESOURCES = ("/api", "/mcp")
ISSUER = "http://localhost:8000"
REDIRECT = "https://app.example.com/callback"
VERIFIER = "v" * 43


Reader = Annotated[Any, Depends(require(scope="notes:read"))]
Writer = Annotated[Any, Depends(require(scope="notes:write"))]


class Who(BaseModel):
    email: str


def add_notes(app: FastAPI) -> None:
    """Routes of a host that ask for scopes."""

    @app.get("/api/notes")
    async def read(user: Reader) -> Who:
        return Who(email=user.email)

    @app.post("/api/notes")
    async def write(user: Writer) -> Who:
        return Who(email=user.email)

    @app.get("/mcp/notes")
    async def read_there(user: Reader) -> Who:
        return Who(email=user.email)

    @app.get("/apiary")
    async def beside(user: Reader) -> Who:
        return Who(email=user.email)

    @app.get("/elsewhere")
    async def elsewhere(user: Reader) -> Who:
        return Who(email=user.email)


def challenge_of(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def answer_in(location: str) -> dict[str, str]:
    """The parameters that a redirect brings to the client."""
    return dict(parse_qsl(urlsplit(location).query))


def location_in(page: Page) -> str:
    """Where a page leads on to by itself."""
    refresh = page.one("meta", **{"http-equiv": "refresh"})
    return refresh["content"].partition("url=")[2]


@dataclass
class Program:
    """A client of the app, whose requests never carry the cookies of its user."""

    http: httpx.AsyncClient
    client_id: str
    secret: str | None = None
    redirect_uri: str = REDIRECT
    tokens: dict[str, Any] = field(default_factory=dict)

    def address(self, **changed: str | None) -> str:
        """Where it sends its user. What is None is left out."""
        asked: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": "notes:read",
            "resource": f"{ISSUER}/api",
            "state": "s123",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            **changed,
        }
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return f"/oauth/authorize?{query}"

    async def ask(self, user: FormBrowser, **changed: str | None) -> Page:
        """The page to which it sends its user."""
        return await user.open(self.address(**changed))

    async def authorize(self, user: FormBrowser, decision: str = "allow", **changed: str | None) -> str:
        """Where the user is led by the decision, at once where that is remembered."""
        page = await self.ask(user, **changed)
        assert page.status == 200, page.text
        if any("http-equiv" in attributes for tag, attributes in page.tags if tag == "meta"):
            return location_in(page)
        decided = await user.submit("authorize", decision=decision)
        assert decided.status == 200, decided.text
        return location_in(decided)

    async def code(self, user: FormBrowser, **changed: str | None) -> str:
        return answer_in(await self.authorize(user, **changed))["code"]

    async def post(self, path: str, **form: Any) -> httpx.Response:
        """What it sends by itself, authenticated as it was registered."""
        named: dict[str, Any] = {"client_id": self.client_id, **form}
        if self.secret is not None:
            named["client_secret"] = self.secret
        sent = {name: value for name, value in named.items() if value is not None}
        return await self.http.post(path, data=sent)

    async def exchange(self, code: str | None, **changed: Any) -> httpx.Response:
        """Asks for tokens by a code; keeps them."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": VERIFIER,
            **changed,
        }
        return self._kept(await self.post("/oauth/token", **form))

    async def refresh(self, token: str | None = None, **changed: Any) -> httpx.Response:
        """Spends a refresh token, its newest by default; keeps what it gets."""
        token = token or self.tokens["refresh_token"]
        return self._kept(
            await self.post("/oauth/token", grant_type="refresh_token", refresh_token=token, **changed)
        )

    async def begin(self, **changed: Any) -> httpx.Response:
        """Asks for the codes of a device without a browser."""
        asked = {"scope": "notes:read", "resource": f"{ISSUER}/api", **changed}
        return await self.post("/oauth/device_authorization", **asked)

    async def poll(self, device_code: str, **changed: Any) -> httpx.Response:
        """Asks for tokens by a device code; keeps them."""
        form = {"grant_type": DEVICE_CODE, "device_code": device_code, **changed}
        return self._kept(await self.post("/oauth/token", **form))

    async def revoke(self, token: str) -> httpx.Response:
        return await self.post("/oauth/revoke", token=token)

    async def get(self, path: str = "/api/notes", token: str | None = None) -> httpx.Response:
        token = token or self.tokens["access_token"]
        return await self.http.get(path, headers={"Authorization": f"Bearer {token}"})

    async def connect(self, user: FormBrowser, **changed: str | None) -> dict[str, Any]:
        """The tokens that it gets after its user allows it."""
        answer = await self.exchange(await self.code(user, **changed))
        assert answer.status_code == 200, answer.text
        return self.tokens

    def _kept(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code == 200:
            self.tokens = answer.json()
        return answer


async def registered(
    auth: Auth, http: httpx.AsyncClient, *redirects: str, confidential: bool = False, **more: Any
) -> Program:
    """A client that the operator has registered."""
    addresses = list(redirects) or [REDIRECT]
    made = await create_client(auth, "Desk", addresses, confidential=confidential, **more)
    return Program(http, made.client.client_id, made.secret, addresses[0])


async def code_for(auth: Auth, program: Program) -> str:
    """A code, as the consent of the one user with the address of the tests gives it."""
    tables, now, code = auth.tables, auth.clock(), new_secret(CODE)
    user, _ = await tables.user.get_or_create(
        email=EMAIL, defaults={"hashed_password": "!", "is_verified": True}
    )
    client = await tables.of(OAuthClient).get(client_id=program.client_id)
    same = {
        "user_id": user.id,
        "scopes": [*scopes_of(auth)],
        "resources": [*resources_of(auth).values()],
        "expires_at": now + timedelta(seconds=60),
    }
    grant = await tables.of(OAuthGrant).create(client_id=client.id, authorized_at=now, **same)
    bound = {"redirect_uri": REDIRECT, "code_challenge": challenge_of(VERIFIER)}
    await tables.of(OAuthToken).create(
        grant_id=grant.id, kind=CODE, digest=digest_of(code), details=json.dumps(bound), **same
    )
    return code


def browser_of(app: FastAPI, base: str = "http://testserver") -> FormBrowser:
    """A browser of somebody, with cookies of its own."""
    transport = httpx.ASGITransport(app, client=("192.0.2.9", 4321))
    return FormBrowser(httpx.AsyncClient(transport=transport, base_url=base, headers=BROWSER))


async def signed_in(app: FastAPI, account: Account) -> FormBrowser:
    """A browser in which the user has signed in."""
    browser = browser_of(app)
    await browser.open("/account/sign-in")
    page = await browser.submit("sign-in", email=account.email, password=PASSWORD)
    assert page.status == 200, page.text
    return browser
