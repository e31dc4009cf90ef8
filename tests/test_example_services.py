"""examples/services: four processes; three of them know nothing of accounts but its public keys."""

from __future__ import annotations

import asyncio
import base64
import hmac
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import jwt as pyjwt
import pytest
from fastapi import FastAPI, HTTPException, Response
from joserfc import jwt
from joserfc.jwk import ECKey

from .conftest import EMAIL, PASSWORD, Mailbox
from .hosts import EXAMPLES, copied
from .live import free_port, served

ISSUER, AUDIENCE, BILLING = "https://accounts.example.com", "shop", "https://billing.example.com"
ACCOUNT = {"email": EMAIL, "password": PASSWORD}


@dataclass
class Shop:
    """The three services; accounts can be started anew, with other settings."""

    folder: Path
    environment: dict[str, str]
    orders: str
    payments: str
    billing: str
    mailbox: Mailbox
    accounts: str

    def tokens(self) -> dict[str, str]:
        """Those of a new login."""
        answer = httpx.post(f"{self.accounts}/auth/login", json=ACCOUNT)
        assert answer.status_code == 200, answer.text
        tokens: dict[str, str] = answer.json()
        return tokens

    def order(self, token: str) -> int:
        """What the service says that trusts the token alone."""
        answer = httpx.post(f"{self.orders}/orders", params={"item": "tea"}, headers=bearer(token))
        return answer.status_code

    def pay(self, token: str) -> int:
        """What the service says that asks accounts as well."""
        answer = httpx.post(f"{self.payments}/payments", params={"cents": 250}, headers=bearer(token))
        return answer.status_code

    def bills(self, token: str) -> httpx.Response:
        """What the service says that takes tokens of OAuth clients."""
        return httpx.get(f"{self.billing}/bills", headers=bearer(token))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def shop(tmp_path: Path, mailbox: Mailbox) -> Iterator[Shop]:
    folder, port = copied("services", tmp_path), free_port()
    accounts = f"http://127.0.0.1:{port}"
    environment = {
        "ACCOUNTS_URL": accounts,
        "AUTH_JWT_ISSUER": ISSUER,
        "AUTH_JWT_AUDIENCE": AUDIENCE,
        "AUTH_BCRYPT_ROUNDS": "4",
        "AUTH_THROTTLE_FREE_ATTEMPTS": "1000",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.server.port),
        "AUTH_PUBLIC_BASE_URL": accounts,
        "BILLING_URL": BILLING,
    }
    with ExitStack() as stack:
        orders, payments, billing = (
            stack.enter_context(served(folder, environment, tmp_path / f"{name}.log", f"{name}:app"))[0]
            for name in ("orders", "payments", "billing")
        )
        yield Shop(folder, environment, orders, payments, billing, mailbox, accounts)


def accounts(shop: Shop, **environment: str) -> AbstractContextManager[object]:
    """The accounts service, where the others look for it."""
    port = int(shop.accounts.rpartition(":")[2])
    log = shop.folder / "accounts.log"
    return served(shop.folder, shop.environment | environment, log, "accounts:app", port)


def sign_up(shop: Shop) -> str:
    """The token of the mailed link, which has been followed."""
    httpx.post(f"{shop.accounts}/auth/signup", json=ACCOUNT)
    shop.mailbox.server.wait_for(1, timeout=20)
    httpx.get(f"{shop.accounts}/auth/verify/{shop.mailbox.token()}")
    return shop.mailbox.token()


def published(shop: Shop) -> list[str]:
    """The ids of the public keys."""
    answer = httpx.get(f"{shop.accounts}/.well-known/jwks.json")
    return [key["kid"] for key in answer.json()["keys"]]


def signed_by_hand(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None) -> str:
    """What packages refuse to sign."""

    def encoded(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

    body = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    return f"{body}.{encoded(hmac.digest(secret, body.encode(), 'sha256')) if secret else ''}"


def test_services_believe_the_tokens_of_accounts_and_no_others(shop: Shop) -> None:
    with accounts(shop):
        link_token = sign_up(shop)
        tokens = shop.tokens()
        good = tokens["access_token"]
        assert (shop.order(good), shop.order(good), shop.pay(good)) == (201, 201, 201)
        answer = httpx.get(f"{shop.orders}/orders", headers=bearer(good))
        assert answer.json() == ["tea", "tea"]

        key = ECKey.import_key((shop.folder / "signing-key.pem").read_bytes())
        assert (shop.folder / "signing-key.pem").stat().st_mode & 0o777 == 0o600
        public = ECKey.import_key(key.as_dict(private=False))
        claims = jwt.decode(good, public, algorithms=["ES256"]).claims
        header = {"alg": "ES256", "typ": "at+jwt", "kid": published(shop)[0]}

        def signed(header: dict[str, Any] = header, signer: Any = key, **changed: Any) -> str:
            body = {name: value for name, value in (claims | changed).items() if value is not None}
            return jwt.encode(header, body, signer)

        def of_type(typ: Any) -> str:
            """With PyJWT, as joserfc refuses to sign for the wrong ones."""
            headers = {"kid": header["kid"], "typ": typ}
            return pyjwt.encode(claims, key.as_pem(private=True), "ES256", headers)

        assert shop.order(signed()) == 201
        assert shop.order(of_type("application/AT+JWT")) == 201
        forged = {
            "garbage": "a.b.c",
            "long": "a" * 9000,
            "deep": base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.e30",
            "refresh token": tokens["refresh_token"],
            "link token": link_token,
            "another audience": signed(aud="blog"),
            "another issuer": signed(iss="https://evil.example"),
            "no type": of_type(None),
            "the type of any token": of_type("JWT"),
            "the type of a refresh token": of_type("refresh+jwt"),
            "no text as type": of_type(["at+jwt"]),
            "a number as type": of_type(1),
            "other audiences too": signed(aud=[AUDIENCE, "blog"]),
            "an OAuth token": signed(client_id="an-app", scope="access"),
            "no end": signed(exp=None),
            "no audience": signed(aud=None),
            "no subject": signed(sub=None),
            "expired": signed(exp=int(time.time()) - 60),
            "not yet": signed(nbf=int(time.time()) + 600),
            "no key id": signed({"alg": "ES256", "typ": "at+jwt"}),
            "unknown key id": signed(header | {"kid": "junk"}),
            "another key": signed(signer=ECKey.generate_key("P-256")),
            "own key": signed({"alg": "ES256", "typ": "at+jwt", "kid": "x", "jwk": public.as_dict()}),
            "public key as secret": signed_by_hand(header | {"alg": "HS256"}, claims, public.as_pem()),
            "unsigned": signed_by_hand(header | {"alg": "none"}, claims, None),
        }
        assert {name: shop.order(token) for name, token in forged.items()} == dict.fromkeys(forged, 401)
        assert {name: shop.pay(token) for name, token in forged.items()} == dict.fromkeys(forged, 401)
        assert httpx.get(f"{shop.orders}/orders").status_code == 401


def test_a_changed_key_disturbs_nobody(shop: Shop) -> None:
    with accounts(shop):
        sign_up(shop)
        old = shop.tokens()
        (old_id,) = published(shop)
        assert shop.order(old["access_token"]) == 201
    (shop.folder / "signing-key.pem").rename(shop.folder / "previous-key.pem")
    with accounts(shop, AUTH_JWT_PREVIOUS_KEYS="previous-key.pem"):
        new = shop.tokens()["access_token"]
        assert published(shop)[1] == old_id
        deadline = time.monotonic() + 10  # the service asks for keys once a second at most
        while (status := shop.order(new)) == 401 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (status, shop.order(old["access_token"])) == (201, 201)
        assert [shop.pay(token) for token in (old["access_token"], new)] == [201, 201]
        refreshed = httpx.post(f"{shop.accounts}/auth/refresh", json={"token": old["refresh_token"]})
        assert shop.order(refreshed.json()["access_token"]) == 201
    assert shop.order(new) == 201  # accounts is down
    assert shop.pay(new) == 503


def test_a_logout_is_seen_by_those_who_ask_accounts_and_by_others_when_the_token_expires(shop: Shop) -> None:
    with accounts(shop):
        sign_up(shop)
        token = shop.tokens()["access_token"]
        assert (shop.order(token), shop.pay(token)) == (201, 201)
        assert httpx.post(f"{shop.accounts}/auth/logout", headers=bearer(token)).status_code == 200
        assert (shop.order(token), shop.pay(token)) == (201, 401)


def registered(shop: Shop) -> tuple[str, str]:
    """The id and the secret of a client that acts for itself."""
    command = [sys.executable, "-m", "fastapi_pluggable_auth", "oauth", "clients", "create", "Nightly"]
    options = ["--confidential", "--grant", "client-credentials"]
    database = ["--database-url", "sqlite://accounts.sqlite3"]
    environment = os.environ | shop.environment
    made = subprocess.run(
        [*command, *options, *database], cwd=shop.folder, env=environment, capture_output=True, text=True
    )
    found = re.search(r"(c_\S+)\s+client_secret\s+(ocs_\S+)", made.stdout)
    assert found, made.stdout + made.stderr
    return found[1], found[2]


def test_a_service_believes_the_tokens_that_were_given_for_it_and_no_others(shop: Shop) -> None:
    """RFC 9068 section 4, RFC 8725; ASVS V10.3.1."""
    with accounts(shop):
        sign_up(shop)
        session = shop.tokens()
        client = registered(shop)
        asked = {"grant_type": "client_credentials", "resource": BILLING}
        answer = httpx.post(f"{shop.accounts}/oauth/token", data=asked, auth=client)
        assert answer.status_code == 200, answer.text
        good = answer.json()["access_token"]
        assert shop.bills(good).json() == {"of": "everybody", "to": client[0]}

        # It is good there alone: no session, and no OAuth token of the app itself.
        assert (shop.order(good), shop.pay(good)) == (401, 401)
        for path in ("/auth/me", "/account", "/account/applications"):
            assert httpx.get(f"{shop.accounts}{path}", headers=bearer(good)).status_code == 401
        renewal = httpx.post(f"{shop.accounts}/auth/refresh", json={"token": good})
        assert renewal.status_code == 401

        key = ECKey.import_key((shop.folder / "signing-key.pem").read_bytes())
        public = ECKey.import_key(key.as_dict(private=False))
        claims = jwt.decode(good, public, algorithms=["ES256"]).claims
        header = {"alg": "ES256", "typ": "at+jwt", "kid": published(shop)[0]}

        def signed(header: dict[str, Any] = header, signer: Any = key, **changed: Any) -> str:
            body = {name: value for name, value in (claims | changed).items() if value is not None}
            return jwt.encode(header, body, signer)

        assert shop.bills(signed(sub="ada")).json() == {"of": "ada", "to": client[0]}
        for scope in ("bills:write", "", "bills:reader bills"):
            lacking = shop.bills(signed(scope=scope))
            assert (lacking.status_code, "insufficient_scope" in str(lacking.headers)) == (403, True), scope
        forged = {
            "session": session["access_token"],
            "session refresh": session["refresh_token"],
            "garbage": "a.b.c",
            "opaque": "oct_" + "a" * 43,
            "the app": signed(aud=AUDIENCE),
            "another service": signed(aud="https://shop.example.com"),
            "other services too": signed(aud=[BILLING, "https://shop.example.com"]),
            "another issuer": signed(iss="https://evil.example"),
            "the issuer of sessions": signed(iss=ISSUER),
            "an id_token": signed({**header, "typ": "JWT"}, client_id=None, nonce="n"),
            "no client": signed(client_id=None),
            "no name as client": signed(client_id=["x"]),
            "no scope": signed(scope=None),
            "no subject": signed(sub=None),
            "no end": signed(exp=None),
            "expired": signed(exp=int(time.time()) - 60),
            "another key": signed(signer=ECKey.generate_key("P-256")),
            "unknown key id": signed({**header, "kid": "junk"}),
            "public key as secret": signed_by_hand(header | {"alg": "HS256"}, claims, public.as_pem()),
            "unsigned": signed_by_hand(header | {"alg": "none"}, claims, None),
        }
        refused = {name: shop.bills(token).status_code for name, token in forged.items()}
        assert refused == dict.fromkeys(forged, 401)
        assert httpx.get(f"{shop.billing}/bills").status_code == 401


# The rest in this process, where the test moves the clock.


@pytest.fixture(scope="module")
def access_tokens() -> Iterator[ModuleType]:
    """The module of the services."""
    path = EXAMPLES / "services" / "access_tokens.py"
    spec = importlib.util.spec_from_file_location("access_tokens", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["access_tokens"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["access_tokens"]


class Accounts:
    """Publishes keys, and counts how often they are asked for."""

    def __init__(self, module: ModuleType) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "first"})
        self.asked, self.now, self.status = 0, 0.0, 200
        app = FastAPI()

        @app.get("/keys")
        async def keys(response: Response) -> dict[str, Any]:
            self.asked += 1
            await asyncio.sleep(0)
            response.status_code = self.status
            return {"keys": [self.key.as_dict(private=False)]}

        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://accounts")
        public_keys = module.PublicKeys("/keys", client, lambda: self.now)
        self._verifier = module.TokenVerifier(public_keys, ISSUER, AUDIENCE)

    def token(self, key_id: str | None = None) -> str:
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u", "exp": time.time() + 900}
        header = {"alg": "ES256", "typ": "at+jwt", "kid": key_id or self.key.kid}
        return jwt.encode(header, claims, self.key)

    async def status_of(self, token: str) -> int:
        try:
            await self._verifier.verify(token)
        except HTTPException as error:
            return error.status_code
        return 200


@pytest.fixture
def service(access_tokens: ModuleType) -> Accounts:
    return Accounts(access_tokens)


async def test_keys_are_fetched_once_for_all_who_wait(service: Accounts) -> None:
    answers = await asyncio.gather(*(service.status_of(service.token()) for _ in range(50)))
    assert (set(answers), service.asked) == ({200}, 1)
    service.now += 299
    assert (await service.status_of(service.token()), service.asked) == (200, 1)
    service.now += 2
    answers = await asyncio.gather(*(service.status_of(service.token()) for _ in range(50)))
    assert (set(answers), service.asked) == ({200}, 2)


async def test_made_up_key_ids_cause_no_flood(service: Accounts) -> None:
    assert await service.status_of(service.token()) == 200
    for second in range(1, 4):
        service.now += 1
        junk = [service.status_of(service.token(f"junk {number}")) for number in range(100)]
        assert set(await asyncio.gather(*junk)) == {401}
        assert service.asked == 1 + second
        assert await service.status_of(service.token()) == 200


async def test_a_new_key_is_found_at_once_and_a_withdrawn_one_forgotten_after_five_minutes(
    service: Accounts,
) -> None:
    old = service.token()
    assert await service.status_of(old) == 200
    service.key = ECKey.generate_key("P-256", {"kid": "second"})
    service.now += 299
    assert await service.status_of(old) == 200
    service.now += 2
    assert await service.status_of(old) == 401
    assert (await service.status_of(service.token()), service.asked) == (200, 2)
    service.key = ECKey.generate_key("P-256", {"kid": "third"})
    service.now += 2
    assert (await service.status_of(service.token()), service.asked) == (200, 3)


async def test_keys_serve_for_a_day_without_accounts_and_not_longer(service: Accounts) -> None:
    token = service.token()
    service.status = 500
    assert await service.status_of(token) == 503
    service.status, service.now = 200, 2
    assert await service.status_of(token) == 200
    service.status = 500
    for hours, status in ((1, 200), (22, 200), (2, 503)):
        service.now += 3600 * hours
        assert await service.status_of(token) == status
    service.status = 200
    service.now += 2
    assert await service.status_of(token) == 200
