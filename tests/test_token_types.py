"""Every token has one purpose, which its type says (RFC 8725 section 3.11), and is good nowhere else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import uuid4

import httpx
import jwt as pyjwt
import pyotp
import pytest
from fastapi import Depends, FastAPI, WebSocket
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from fastapi_pluggable_auth import (
    Auth,
    AuthError,
    AuthSettings,
    CurrentWebSocketUser,
    config,
    include_auth,
    require,
)
from fastapi_pluggable_auth.email.tokens import (
    generate_reset_token,
    generate_verify_token,
    verify_and_get_user_id,
    verify_reset_token,
)
from fastapi_pluggable_auth.features import PersonalTokens
from fastapi_pluggable_auth.flows.login import CHALLENGE
from fastapi_pluggable_auth.models import RefreshToken, User
from fastapi_pluggable_auth.security import jwt as plain_helpers
from fastapi_pluggable_auth.security.jwt import ACCESS, REFRESH

from .conftest import EMAIL, PASSWORD, SECRET, Account, Clock, claims_of
from .form_browser import Page
from .test_keys import EC, RSA, header_of, pem_of, public_pem_of
from .test_links import DEAD_LINK, of_0_1
from .test_mounted import opened
from .test_twofa import totp

__all__ = ["totp"]

# What is tested here is the same on every database.
DIALECTS = ("sqlite",)

ORIGIN = "http://localhost:8000"
NEW_EMAIL, BOB = "ada@example.org", "bob@example.com"
DAY = timedelta(days=1)

KEYS = {"HS256": SECRET, "RS256": pem_of(RSA), "ES256": pem_of(EC)}
SIGNERS = {
    "HS256": OctKey.import_key(SECRET),
    "RS256": RSAKey.import_key(pem_of(RSA)),
    "ES256": ECKey.import_key(pem_of(EC)),
}
Algorithm = Literal["HS256", "RS256", "ES256"]


@pytest.fixture(params=KEYS)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    """What signs all tokens of the app."""
    algorithm: Algorithm = request.param
    return algorithm


@pytest.fixture
def settings(settings: AuthSettings, algorithm: Algorithm) -> AuthSettings:
    settings.cookies = True
    settings.jwt_algorithm = algorithm
    settings.jwt_private_key = None if algorithm == "HS256" else KEYS[algorithm]
    return settings


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """A host app with all kinds of places that take tokens."""
    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        clock=clock,
        pages=True,
        features=[PersonalTokens(scopes={"notes:read": "Read"})],
    )

    @app.get("/notes")
    async def notes(user: Annotated[User, Depends(require(scope="notes:read"))]) -> str:
        return user.email

    @app.websocket("/feed")
    async def feed(websocket: WebSocket, user: CurrentWebSocketUser) -> None:
        await websocket.accept()
        await websocket.close()

    return app


async def opens(app: FastAPI, headers: dict[str, str], *subprotocols: str) -> bool:
    """Whether a WebSocket opens."""
    return (await opened(app, "/feed", headers, *subprotocols))[0]["type"] == "websocket.accept"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass
class Places:
    """Everything that takes a token: each says whether it took one, and fails where that was an error."""

    app: FastAPI
    client: httpx.AsyncClient
    totp: pyotp.TOTP
    clock: Clock
    visitor: str = ""
    form_token: str = ""

    def __post_init__(self) -> None:
        self.client.cookies.clear()

    def all(self) -> dict[str, Callable[[str], Awaitable[bool]]]:
        """By name. Links are probed first, which spends none; what spends a token comes last."""
        return {
            "header": lambda token: self._get("/auth/me", bearer(token)),
            "header, for a scope": lambda token: self._get("/notes", bearer(token)),
            "websocket header": lambda token: opens(self.app, bearer(token)),
            "websocket subprotocol": lambda token: opens(self.app, {}, "bearer", token),
            "websocket cookie": lambda token: opens(
                self.app, {"Cookie": f"access_token={token}", "Origin": ORIGIN}
            ),
            "access cookie": lambda token: self._get("/auth/me", {"Cookie": f"access_token={token}"}),
            "form field": self._form,
            "verify probe": lambda token: self._probe("verify", token),
            "reset probe": lambda token: self._probe("reset-password", token),
            "email change probe": lambda token: self._probe("email-change", token),
            "stop probe": lambda token: self._probe("stop-email-change", token),
            "challenge": self._challenge,
            "refresh": self._refresh,
            "refresh cookie": lambda token: self._get("/auth/me", {"Cookie": f"refresh_token={token}"}),
            "verify": lambda token: self._post_link("verify", token),
            "stop": lambda token: self._post_link("stop-email-change", token),
            "email change": lambda token: self._post_link("email-change", token),
            "reset": lambda token: self._post_link("reset-password", token, new_password="a new horse"),
        }

    async def _get(self, path: str, headers: dict[str, str]) -> bool:
        answer = await self.client.get(path, headers=headers)
        assert (answer.status_code, answer.json().get("code") if answer.is_error else None) in {
            (200, None),
            (401, "invalid_token"),
            (403, "insufficient_scope"),
        }
        return answer.is_success

    async def _refresh(self, token: str) -> bool:
        answer = await self.client.post("/auth/refresh", json={"token": token})
        assert answer.status_code in {200, 401}
        return answer.is_success

    async def _probe(self, kind: str, token: str) -> bool:
        answer = await self.client.head(f"/auth/{kind}/{token}")
        assert answer.status_code in {200, 404}
        return answer.is_success

    async def _post_link(self, kind: str, token: str, **body: str) -> bool:
        answer = await self.client.post(f"/auth/{kind}/{token}", json=body or None)
        assert answer.is_success or answer.content == DEAD_LINK
        return answer.is_success

    async def _challenge(self, token: str) -> bool:
        typed = {"challenge": token, "code": self.totp.at(self.clock()), "csrf_token": self.form_token}
        headers = {"Origin": ORIGIN, "Cookie": f"visitor={self.visitor}"}
        answer = await self.client.post("/account/sign-in/code", data=typed, headers=headers)
        assert answer.status_code == 303
        self.client.cookies.clear()
        return answer.headers["location"].endswith("/account/profile")

    async def _form(self, token: str) -> bool:
        headers = {"Origin": ORIGIN, "Cookie": f"visitor={self.visitor}"}
        answer = await self.client.post("/account/sign-in", data={"csrf_token": token}, headers=headers)
        assert answer.status_code in {200, 403, 422}
        self.client.cookies.clear()
        return answer.status_code != 403


async def every_token(places: Places, account: Account, auth: Auth, algorithm: Algorithm) -> dict[str, str]:
    """One of each kind, all good at their places."""
    client, mailbox, clock, totp = account.client, account.mailbox, places.clock, places.totp
    ada = await User.get(email=EMAIL)
    page = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
    body = {"email": EMAIL, "password": PASSWORD}
    found: dict[str, str] = {}

    clock.advance(minutes=1)
    assert (await account.login(totp.at(clock()))).status_code == 200
    found["access"], found["refresh"] = account.access_token, account.refresh_token
    clock.advance(minutes=1)
    with_device = {**body, "code": totp.at(clock()), "device": None}
    found["device"] = (await client.post("/auth/login", json=with_device)).json()["device"]
    clock.advance(minutes=1)
    answer = await client.post("/auth/login", json={**body, "code": totp.at(clock())}, headers=page)
    found["access cookie"], found["refresh cookie"] = (
        answer.cookies["access_token"],
        answer.cookies["refresh_token"],
    )
    client.cookies.clear()
    form = Page(await client.get("/account/sign-in", headers={"Accept": "text/html"})).form("email").hidden
    found["form token"] = places.form_token = form["csrf_token"]
    places.visitor = client.cookies["visitor"]
    sign_in = {**body, "csrf_token": form["csrf_token"]}
    second = Page(await client.post("/account/sign-in", data=sign_in, headers=page))
    found["challenge"] = second.form("code").hidden["challenge"]

    answer = await client.post("/auth/signup", json={"email": BOB, "password": PASSWORD}, headers=page)
    found["verify"], found["signup binding"] = mailbox.token(BOB), answer.cookies["signup_binding"]
    client.cookies.clear()
    await client.post("/auth/forgot-password", json={"email": EMAIL})
    found["reset"] = mailbox.token()
    scopes = {"name": "mine", "scopes": ["notes:read"]}
    answer = await client.post("/account/tokens", json=scopes, headers=account.headers)
    found["personal"] = answer.json()["token"]
    answer = await client.post("/auth/2fa/recovery-codes", headers=account.headers)
    found["recovery code"] = answer.json()["codes"][0]
    answer = await client.patch("/account", json={"email": NEW_EMAIL}, headers=account.headers)
    assert answer.status_code == 200, answer.text
    found["email change"], found["stop"] = mailbox.token(NEW_EMAIL), mailbox.token()

    clock.advance(minutes=1)  # to another code
    found["access without session"] = auth.signer.access_token(ada.id)
    now, key = auth.clock(), (KEYS[algorithm], algorithm)
    found["refresh of the host"] = auth.signer.sign(REFRESH, ada.id, issued_at=now, expires_at=now + DAY)
    found["refresh of 0.1"] = of_0_1(ada, "refresh", now, *key, jti=str(uuid4()))
    for name in ("refresh of the host", "refresh of 0.1"):
        await RefreshToken.create_for(ada.id, found[name], DAY)
    found["access of 0.1"] = of_0_1(ada, "access", now, *key, jti=str(uuid4()))
    found["verify of 0.1"] = of_0_1(await User.get(email=BOB), "verify", now, *key)
    found["reset of 0.1"] = of_0_1(ada, "reset", now, *key)
    return found


GOOD_AT = {
    "header": {"access", "access without session"},
    "header, for a scope": {"access", "access without session", "personal"},
    "websocket header": {"access", "access without session"},
    "websocket subprotocol": {"access", "access without session"},
    "websocket cookie": {"access cookie", "access without session"},
    "access cookie": {"access cookie", "access without session"},
    "form field": {"form token"},
    "verify probe": {"verify", "verify of 0.1"},
    "reset probe": {"reset", "reset of 0.1"},
    "email change probe": {"email change"},
    "stop probe": {"stop"},
    "challenge": {"challenge"},
    "refresh": {"refresh", "refresh of the host", "refresh of 0.1"},
    "refresh cookie": {"refresh cookie"},
    "verify": {"verify"},
    "stop": {"stop"},
    "email change": set(),  # the change was stopped
    "reset": {"reset"},
}
SPENT_ELSEWHERE = {
    "refresh cookie": {"refresh of the host", "refresh of 0.1"},  # which name no transport
    "verify": {"verify of 0.1"},
    "email change": {"email change"},
    "reset": {"reset of 0.1"},
}
"""What a place takes as well, where it was not spent at another one."""


async def test_every_token_is_refused_everywhere_but_at_its_own_places(
    app: FastAPI, auth: Auth, totp: pyotp.TOTP, account: Account, clock: Clock, algorithm: Algorithm
) -> None:
    """A-56, V9.2.2: each kind of token is shown at each place that takes one; no server error either."""
    places = Places(app, account.client, totp, clock)
    tokens = await every_token(places, account, auth, algorithm)
    asked = places.all()
    assert asked.keys() == GOOD_AT.keys()
    for place, ask in asked.items():
        others = tokens.keys() - GOOD_AT[place] - SPENT_ELSEWHERE.get(place, set())
        assert [name for name in sorted(others) if await ask(tokens[name])] == [], place
    for place, ask in asked.items():
        assert [name for name in sorted(GOOD_AT[place]) if not await ask(tokens[name])] == [], place


# --- tokens that a peer signs with our key ----------------------------------------------------------------


def signed(algorithm: Algorithm, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """With the app's own key and these headers, by hand where joserfc refuses to."""
    registered = {name: value for name, value in header.items() if name != "typ"}
    token = joserfc_jwt.encode({"alg": algorithm, **registered}, claims, SIGNERS[algorithm])
    payload = token.split(".")[1]
    head = _encoded(json.dumps({"alg": algorithm, **header}).encode())
    message = f"{head}.{payload}".encode()
    signer: Any = pyjwt.get_algorithm_by_name(algorithm)
    return f"{head}.{payload}.{_encoded(signer.sign(message, signer.prepare_key(KEYS[algorithm])))}"


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


OTHER_TYPES: tuple[Any, ...] = (
    *("", "JWT", "jwt", "at", "at+jwt ", " at+jwt", "at+jwt;x=y", "at+jwt\0", "at-jwt", "\uff41t+jwt"),
    *("text/at+jwt", "application/", "application/application/at+jwt", "/at+jwt", "rt+jwt", CHALLENGE),
    *(None, True, 0, 1, 1.5, [], ["at+jwt"], {}, {"at+jwt": "at+jwt"}),
)


async def shown(app: FastAPI, client: httpx.AsyncClient, token: str) -> set[bool]:
    """Whether an access token is taken, by a header, a cookie and a WebSocket."""
    client.cookies.clear()
    answers = [
        await client.get("/auth/me", headers=headers)
        for headers in (bearer(token), {"Cookie": f"access_token={token}"})
    ]
    assert {answer.status_code for answer in answers} <= {200, 401}
    return {*(answer.is_success for answer in answers), await opens(app, bearer(token))}


async def test_an_access_token_is_of_its_type_in_any_spelling(
    app: FastAPI, account: Account, algorithm: Algorithm
) -> None:
    """RFC 9068 section 4, RFC 7515 section 4.1.9: case does not count, nor does `application/`."""
    claims = claims_of(account.access_token)
    del claims["transport"]  # good by header and by cookie
    assert header_of(account.access_token)["typ"] == "at+jwt"
    for typ in ("at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"):
        assert await shown(app, account.client, signed(algorithm, {"typ": typ}, claims)) == {True}, typ
    refused = [signed(algorithm, {"typ": typ}, claims) for typ in (*OTHER_TYPES, REFRESH)]
    for token in (signed(algorithm, {}, claims), *refused):
        assert await shown(app, account.client, token) == {False}, header_of(token)


async def test_a_refresh_token_is_of_its_type_in_any_spelling(account: Account, algorithm: Algorithm) -> None:
    """That of 0.1 is for tokens that say no more than 0.1 said."""
    user, claims = await User.get(), claims_of(account.refresh_token)
    assert header_of(account.refresh_token)["typ"] == "refresh+jwt"

    async def status(header: dict[str, Any], **changed: Any) -> int:
        every = {**claims, "jti": str(uuid4()), **changed}
        token = signed(algorithm, header, {name: every[name] for name in every if every[name] is not ...})
        await RefreshToken.create_for(user.id, token, DAY)
        return (await account.refresh(token)).status_code

    for typ in ("refresh+jwt", "REFRESH+JWT", "application/refresh+jwt"):
        assert await status({"typ": typ}) == 200, typ
    for header in ({}, *({"typ": typ} for typ in (*OTHER_TYPES, ACCESS))):
        assert await status(header) == 401, header
        assert await status(header, scope="refresh") == 401, header
    assert await status({"typ": "refresh+jwt"}, client_id="an-app") == 401
    old = dict.fromkeys(claims, ...) | {"sub": str(user.id), "scope": "refresh", "exp": claims["exp"]}
    old["jti"] = str(uuid4())
    assert await status({"typ": "JWT"}, **old) == 200
    for changed in ({"client_id": "an-app"}, {"scope": "access"}, {"scope": ["refresh"]}, {"iat": 1}):
        assert await status({"typ": "JWT"}, **old | {"jti": str(uuid4())} | changed) == 401, changed
    for header in ({}, {"typ": "refresh+jwt"}, {"typ": "at+jwt"}):
        assert await status(header, **old | {"jti": str(uuid4())}) == 401, header


async def test_what_an_oauth_client_has_is_no_session_and_what_is_for_others_neither(
    app: FastAPI, account: Account, settings: AuthSettings, algorithm: Algorithm
) -> None:
    """RFC 9068: OAuth access tokens are of the same type, with a `client_id` and the `aud` of a resource."""
    claims = claims_of(account.access_token)
    del claims["transport"]
    ours, other = settings.audience, "https://notes.example.com"
    assert await shown(app, account.client, signed(algorithm, {"typ": ACCESS}, claims)) == {True}
    for changed in (
        {"client_id": "an-app"},
        {"client_id": None},
        {"client_id": "", "scope": "access"},
        {"client_id": "an-app", "aud": other},
        {"aud": other},
        {"aud": [ours]},
        {"aud": [ours, other]},
        {"aud": [other, ours]},
        {"aud": {ours: ours}},
        {"aud": None},
    ):
        token = signed(algorithm, {"typ": ACCESS}, claims | changed)
        assert await shown(app, account.client, token) == {False}, changed


async def test_no_token_is_good_by_another_algorithm(
    app: FastAPI, account: Account, algorithm: Algorithm
) -> None:
    """A-53, A-54: nor by a key that is published, or that it brings itself."""
    _, payload, signature = account.access_token.split(".")
    good = header_of(account.access_token)
    public = {"RS256": public_pem_of(RSA), "ES256": public_pem_of(EC)}.get(algorithm, "")
    hashes = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
    forged = []
    for header in (good, {name: good[name] for name in ("alg", "typ")}):
        for name in ("none", "None", "RS256", "ES256", "PS256", "EdDSA", "HS512", "", None, 1, ["HS256"]):
            if name != algorithm:
                head = _encoded(json.dumps({**header, "alg": name}).encode())
                forged += [f"{head}.{payload}.", f"{head}.{payload}.{signature}"]
        for name, digest in hashes.items():
            for key in (public, public.strip(), "", "CHANGE_ME"):
                own = {"alg": name, "jwk": {"kty": "oct", "k": _encoded(key.encode())}}
                head = _encoded(json.dumps(header | own).encode())
                mac = hmac.digest(key.encode(), f"{head}.{payload}".encode(), digest)
                forged.append(f"{head}.{payload}.{_encoded(mac)}")
    account.access_token = f"{_encoded(json.dumps(good).encode())}.{payload}.{signature}"
    for token in forged:
        assert await shown(app, account.client, token) == {False}, header_of(token)


# --- our tokens as a peer checks them ---------------------------------------------------------------------


async def test_peers_verify_our_access_tokens_by_signature_type_and_claims(
    account: Account, settings: AuthSettings, algorithm: Algorithm
) -> None:
    """With joserfc and PyJWT; and by `typ` alone they tell a refresh token from it."""
    published = (await account.client.get("/.well-known/jwks.json")).json()
    secret = OctKey.import_key(SECRET)
    keys = KeySet.import_key_set(published) if published["keys"] else secret
    for token, typ in ((account.access_token, "at+jwt"), (account.refresh_token, "refresh+jwt")):
        decoded = joserfc_jwt.decode(token, keys, algorithms=[algorithm])
        assert decoded.header["typ"] == typ
        wanted = {"iss": settings.issuer, "aud": settings.audience}
        registry = joserfc_jwt.JWTClaimsRegistry(
            **{name: {"essential": True, "value": value} for name, value in wanted.items()},  # type: ignore[arg-type]
            exp={"essential": True},
        )
        registry.validate(decoded.claims)
        key = pyjwt.PyJWKSet.from_dict(published)[decoded.header["kid"]].key if published["keys"] else SECRET
        claims = pyjwt.decode(
            token, key, algorithms=[algorithm], issuer=settings.issuer, audience=settings.audience
        )
        assert claims == decoded.claims
        assert "scope" not in claims  # which are those of OAuth
        assert "client_id" not in claims


# --- the plain helpers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["HS256"], indirect=True)
async def test_the_plain_helpers_take_each_token_for_its_purpose_alone(
    app: FastAPI, auth: Auth, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documented names of 0.1, on the default settings."""
    for name in ("jwt_secret", "jwt_algorithm", "public_base_url"):
        monkeypatch.setattr(config.settings, name, getattr(auth.settings, name))
    user = await User.get()
    access, refresh = (
        plain_helpers.create_access_token(user.id),
        plain_helpers.create_refresh_token(user.id),
    )
    verify, reset = generate_verify_token(user.id), generate_reset_token(user.id)
    takers: dict[str, Callable[[str], Any]] = {
        access: lambda token: plain_helpers.decode_token(token, "access")["sub"],
        refresh: lambda token: plain_helpers.decode_token(token, scope="refresh")["sub"],
        verify: verify_and_get_user_id,
        reset: verify_reset_token,
    }
    for own, take in takers.items():
        assert str(take(own)) == str(user.id)
        for other in takers.keys() - {own}:
            with pytest.raises(AuthError):
                take(other)
    for scope in ("", "verify", "reset", "at+jwt", "refresh+jwt"):
        with pytest.raises(AuthError):
            plain_helpers.decode_token(access, scope)
    await RefreshToken.create_for(user.id, refresh, DAY)
    assert (await account.me(access)).status_code == 200
    assert (await account.refresh(refresh)).status_code == 200
