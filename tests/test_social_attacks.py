"""Attacks on social login over HTTP, each with the report or the requirement that names it."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import Microsoft, Oidc, PersonalTokens, SocialLogin
from fastapi_pluggable_auth.features.social_login import id_tokens, remote
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from fastapi_pluggable_auth.models import Device, Identity, Passkey, PersonalToken, Session, User
from fastapi_pluggable_auth.security.hashing import is_usable

from .conftest import EMAIL, PASSWORD, Account, Clock, Mailbox, on_each_database, on_one_database
from .test_social_login import BROWSER, KIM, at_provider, come_back, provider

__all__ = ["provider"]

DIALECTS = ("sqlite",)
BASE = "http://localhost:8000"
OWN = "/account/identities"
FETCH = {"Accept": "application/json", "X-Requested-With": "fetch"}
NATIVE = "com.example.app"


@pytest.fixture
def other() -> Iterator[IdentityProvider]:
    """One that an attacker runs, or has a say in."""
    with IdentityProvider().serving() as other:
        other.user("mallory@example.com")
        yield other


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, provider: IdentityProvider, other: IdentityProvider) -> FastAPI:
    app = FastAPI()
    keys: dict[str, Any] = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    acme = Oidc("acme", issuer=provider.issuer, native_client_ids=frozenset({NATIVE}), **keys)
    evil = Oidc("evil", issuer=other.issuer, **keys)
    features = [SocialLogin(acme, evil), PersonalTokens(scopes={"notes:read": "Read"})]
    include_auth(app, settings=settings, clock=clock, pages=True, features=features)
    return app


@asynccontextmanager
async def browser_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as browser:
        yield browser


@pytest.fixture
async def browser(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    async with browser_of(app) as browser:
        yield browser


async def begun(browser: httpx.AsyncClient, name: str = "acme", **asked: str) -> str:
    """Where the provider sends the browser back to."""
    start = await browser.get(f"/auth/social/{name}/start", params=asked)
    return await at_provider(start.headers["location"])


def changed(back: str, **fields: str | None) -> str:
    """The same with other parameters."""
    url = urlsplit(back)
    said = {name: values[0] for name, values in parse_qs(url.query).items()} | fields
    return f"{url.path}?{urlencode({name: value for name, value in said.items() if value is not None})}"


@on_each_database
async def test_ten_first_logins_at_once_make_one_account_and_are_all_signed_in(
    app: FastAPI, browser: httpx.AsyncClient
) -> None:
    async def arrives() -> str:
        async with browser_of(app) as own:
            answer = await come_back(own)
            assert answer.status_code == 303, answer.text
            return str((await own.get("/auth/me", headers=FETCH)).json()["email"])

    assert await asyncio.gather(*(arrives() for _ in range(10))) == [KIM] * 10
    assert (await User.all().count(), await Identity.all().count()) == (1, 1)


@on_each_database
async def test_what_a_stranger_put_on_an_account_is_gone_once_the_provider_names_its_owner(
    browser: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    """A-95: Classic-federated merge (https://arxiv.org/abs/2205.10174)."""
    body = {"email": KIM, "password": PASSWORD}
    assert (await client.post("/auth/signup", json=body)).status_code == 201
    assert (await come_back(browser)).status_code == 303
    user = await User.get()
    assert (user.is_verified, is_usable(user.hashed_password)) == (True, False)
    assert (await client.post("/auth/login", json=body)).status_code == 401


async def connecting(
    client: httpx.AsyncClient, name: str, headers: dict[str, str]
) -> tuple[httpx.AsyncClient, str]:
    """The client that has begun to connect an identity, and where the provider sends it back to."""
    asked = await client.post(f"{OWN}/{name}", json={}, headers=headers)
    assert asked.status_code == 200, asked.text
    return client, await at_provider(asked.json()["url"])


async def passkey_of(user: User) -> Passkey:
    return await Passkey.create(
        user=user,
        digest="d",
        credential_id="c",
        public_key="k",
        transports=[],
        aaguid=user.id,
        backup_eligible=False,
        backed_up=False,
        verifies_user=True,
        name="Phone",
        created_at=user.created_at,
    )


@on_one_database
@pytest.mark.parametrize("way", ["the provider", "the mailed link", "a reset"])
async def test_a_stranger_who_is_signed_in_keeps_nothing_once_the_owner_of_the_mailbox_comes(
    way: str,
    app: FastAPI,
    browser: httpx.AsyncClient,
    client: httpx.AsyncClient,
    settings: AuthSettings,
    mailbox: Mailbox,
    other: IdentityProvider,
) -> None:
    """Trojan identifier and unexpired session (https://arxiv.org/abs/2205.10174): a session, an identity, a
    passkey, a personal token and a known device on an account whose address was never verified."""
    settings.require_verified_email = False
    body = {"email": KIM, "password": PASSWORD}
    assert (await client.post("/auth/signup", json=body)).status_code == 201
    link = mailbox.link(KIM)
    tokens = (await client.post("/auth/login", json=body | {"device": None})).json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    made = await client.post("/account/tokens", json={"name": "x", "scopes": ["notes:read"]}, headers=headers)
    assert made.status_code == 201, made.text
    _, back = await connecting(client, "evil", headers)
    assert (await client.get(back)).status_code == 303
    begun_before, later = await connecting(client, "acme", headers)
    await passkey_of(await User.get())
    assert (await Identity.get()).provider == "evil"
    device = await Device.get()

    if way == "the provider":
        assert (await come_back(browser)).status_code == 303
    elif way == "the mailed link":
        answer = await browser.post(link, json={"new_password": "another horse battery"}, headers=FETCH)
        assert answer.status_code == 200, answer.text
    else:
        await client.post("/auth/forgot-password", json={"email": KIM})
        answer = await browser.post(mailbox.link(KIM), json={"new_password": "another horse battery"})
        assert answer.status_code == 200, answer.text

    assert (await client.post("/auth/login", json=body)).status_code == 401
    for token in (tokens["access_token"], made.json()["token"]):
        answer = await client.get("/account/identities", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
    assert (await client.post("/auth/refresh", json={"token": tokens["refresh_token"]})).status_code == 401
    for table in (Passkey, PersonalToken):
        assert await table.all().count() == 0
    kept = {each.provider for each in await Identity.all()}
    assert kept == ({"acme"} if way == "the provider" else set())
    assert not await Device.exists(id=device.id)
    await begun_before.get(later)  # what the stranger has begun connects nothing
    assert {each.provider for each in await Identity.all()} == kept
    async with browser_of(app) as stranger:
        await stranger.get(await begun(stranger, "evil"))
        assert (await stranger.get("/auth/me", headers=FETCH)).json()["email"] == "mallory@example.com"


@on_one_database
async def test_who_came_first_with_an_address_that_nobody_vouches_for_has_no_part_in_the_account(
    app: FastAPI, browser: httpx.AsyncClient, provider: IdentityProvider, other: IdentityProvider
) -> None:
    """Non-verifying provider (https://arxiv.org/abs/2205.10174)."""
    other.user(KIM, email_verified=False, sub="stranger")
    async with browser_of(app) as stranger:
        asked = await stranger.get(await begun(stranger, "evil"))
        assert "Your e-mail address" in asked.text
        assert (await User.all().count(), await Identity.all().count()) == (0, 0)
        assert (await come_back(browser)).status_code == 303
        assert "Your e-mail address" in (await stranger.get(await begun(stranger, "evil"))).text
        assert (await stranger.get("/auth/me", headers=FETCH)).status_code == 401
    assert [each.provider for each in await Identity.all()] == ["acme"]


@on_each_database
async def test_of_two_users_who_connect_one_identity_at_once_one_has_it(
    app: FastAPI, browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    async with browser_of(app) as second, browser_of(app) as third:
        ways = []
        for number, own in enumerate((browser, second, third)):
            provider.user(f"user{number}@example.com")
            assert (await come_back(own)).status_code == 303
        provider.user("shared@example.com")
        for own in (browser, second, third):
            ways.append(await connecting(own, "acme", FETCH))
        answers = await asyncio.gather(*(own.get(back) for own, back in ways for _ in range(2)))
    said = [answer.headers["location"] for answer in answers if answer.status_code == 303]
    assert sum("notice=identity_linked" in each for each in said) == 1, said
    shared = await Identity.filter(subject="sub-of-shared@example.com")
    assert (len(shared), await Identity.all().count(), await User.all().count()) == (1, 4, 3)


@on_each_database
async def test_what_a_stranger_connects_while_the_owner_of_the_mailbox_comes_is_not_kept(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, settings: AuthSettings, other: IdentityProvider
) -> None:
    settings.require_verified_email = False
    body = {"email": KIM, "password": PASSWORD}
    await client.post("/auth/signup", json=body)
    headers = {
        "Authorization": f"Bearer {(await client.post('/auth/login', json=body)).json()['access_token']}"
    }
    _, back = await connecting(client, "evil", headers)
    there = await begun(browser)
    answers = await asyncio.gather(*(client.get(back) for _ in range(3)), browser.get(there))
    assert answers[-1].status_code == 303, answers[-1].text
    assert [each.provider for each in await Identity.all()] == ["acme"]
    assert (await client.get("/auth/me", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    "email",
    [
        *("\u212aim@example.com", "k\u0131m@example.com", "\uff4bim@example.com", "\u202ekim@example.com"),
        *(
            "kim\u200b@example.com",
            " kim@example.com",
            "kim@ex\u0430mple.com",
            "kim@example.com.evil.example",
        ),
        *(
            "kim@example.com\0",
            "kim@example.com\n",
            "kim\ud800@example.com",
            "\ud800",
            "k" * 400 + "@example.com",
        ),
        *('"kim"@example.com', "<kim@example.com>", "kim@[127.0.0.1]", "kim@example.com,mallory@example.com"),
        *(["kim@example.com"], {"kim@example.com": True}, 7, 1.5, True, "", None),
    ],
)
async def test_an_address_that_only_looks_the_same_takes_over_nothing(
    email: object, browser: httpx.AsyncClient, client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """CVE-2019-19844: addresses that a mapping or the eye takes for those of somebody else. What is no
    address, or not the kept one letter by letter, is asked for with a code by mail."""
    await client.post("/auth/signup", json={"email": KIM, "password": PASSWORD})
    kim = await User.get()
    provider.user(sub="another")
    provider.claims["email"] = email
    answer = await come_back(browser)
    assert answer.status_code in (200, 303), answer.text
    assert not await Identity.filter(user_id=kim.id).exists()
    assert (await User.get(email=KIM)).hashed_password == kim.hashed_password
    if answer.status_code == 200:
        assert "Your e-mail address" in answer.text


@pytest.mark.parametrize(
    ("kept", "email"),
    [
        (KIM, "KIM@Example.COM"),
        ("kim@\u0430\u0440\u0440\u04cf\u0435.com", "kim@xn--80ak6aa92e.com"),
        ("\u00e9ve@example.com", "\u00e9ve@EXAMPLE.com"),
        ("\u00e9ve@example.com", "e\u0301ve@example.com"),
        ("\u00e9ve@example.com", "\u00c9VE@example.com"),
    ],
)
async def test_the_case_of_ascii_and_the_form_of_a_domain_are_the_same_address(
    kept: str, email: str, browser: httpx.AsyncClient, account: Account, provider: IdentityProvider
) -> None:
    """Other mappings of Unicode may lie between two mailboxes (RFC 6532 section 3.1)."""
    await User.all().update(email=kept)
    provider.user(email)
    answer = await come_back(browser)
    same = email.isascii() or "\u00e9ve" in email
    assert (answer.status_code == 303, await Identity.exists()) == (same, same)


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "a\nb", "x" * 10_000, 7, ["a"], {}, "", None])
async def test_a_name_that_no_table_holds_is_no_name(
    name: object, browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    provider.user(KIM, name=name)
    assert (await come_back(browser)).status_code == 303
    assert (await User.get()).display_name is None
    await browser.post("/auth/logout", headers=FETCH)
    provider.user(None, sub="another", name=name)
    assert "Your e-mail address" in (await come_back(browser)).text


@pytest.mark.parametrize("sub", ["\0", "a\0b", "\ud800", "a\udfff", "x" * 256, 7, True, [], {}, None])
async def test_a_subject_that_no_table_holds_is_refused(
    sub: object, browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    provider.user(KIM, sub=sub)
    answer = await come_back(browser)
    assert answer.status_code == 400, answer.text
    assert await User.all().count() == 0


async def test_a_code_that_was_injected_is_refused(app: FastAPI, browser: httpx.AsyncClient) -> None:
    """A-94: RFC 9700 section 4.5: PKCE and the nonce tie a code to the sign-in that it is of."""
    stolen = parse_qs(urlsplit(await begun(browser)).query)["code"][0]
    async with browser_of(app) as attacker:
        answer = await attacker.get(changed(await begun(attacker), code=stolen))
    assert answer.status_code == 400
    assert await User.all().count() == 0


async def test_a_state_counts_to_its_last_character(browser: httpx.AsyncClient) -> None:
    """The beginning only names the cookie (RFC 6749 section 10.12)."""
    back = await begun(browser)
    state = parse_qs(urlsplit(back).query)["state"][0]
    for wrong in (state[:-1], state[:12], state[:12] + state[:11:-1], f"{state}x"):
        assert (await browser.get(changed(back, state=wrong))).status_code == 400
    assert (await browser.get(back)).status_code == 303


async def test_what_was_begun_once_connects_once(
    browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """Also with another code, and in a browser that has kept its cookie."""
    await come_back(browser)
    provider.user("elsewhere@example.com")
    asked = await browser.post(f"{OWN}/acme", json={}, headers=FETCH)
    first, again = [await at_provider(asked.json()["url"]) for _ in range(2)]
    cookie = {"Cookie": "; ".join(f"{each.name}={each.value}" for each in browser.cookies.jar)}
    assert (await browser.get(first)).status_code == 303
    gone = await Identity.get(subject="sub-of-elsewhere@example.com")
    assert (await browser.delete(f"{OWN}/{gone.id}", headers=FETCH)).status_code == 204
    browser.cookies.clear()
    answer = await browser.get(again, headers=cookie)
    assert "refused=social_expired" in answer.headers["location"]
    assert await Identity.all().count() == 1


@pytest.mark.parametrize("issuer", [None, "https://evil.example", "{issuer}/", "{issuer}.evil.example"])
async def test_an_answer_of_another_issuer_is_refused(
    issuer: str | None, browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """A-94: Mix-up (RFC 9207): the provider announces `iss`."""
    said = issuer and issuer.format(issuer=provider.issuer)
    assert (await browser.get(changed(await begun(browser), iss=said))).status_code == 400


async def test_the_answer_of_one_provider_is_not_taken_for_that_of_another(
    browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """A-94: Mix-up (RFC 9700 section 4.4): each has its own redirect address and its own state."""
    back = (await begun(browser)).replace("/acme/", "/evil/")
    assert (await browser.get(back)).status_code == 400


@pytest.mark.parametrize("extra", [{}, {"email": KIM}, {"iss": "{acme}"}])
async def test_a_provider_speaks_for_nobody_of_another_one(
    extra: dict[str, str], browser: httpx.AsyncClient, provider: IdentityProvider, other: IdentityProvider
) -> None:
    """A-93: The subject of one is not that of the other (OpenID Connect Core section 5.7)."""
    await come_back(browser)
    kim = await Identity.get()
    other.user("mallory@example.com", sub=kim.subject)
    other.extra = {name: value.format(acme=provider.issuer) for name, value in extra.items() if name == "iss"}
    await browser.get(await begun(browser, "evil"))
    found = await Identity.filter(provider="evil")
    assert all(each.user_id != kim.user_id for each in found)
    assert len(found) == (0 if "iss" in extra else 1)


def b64(value: object) -> str:

    said = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(said).rstrip(b"=").decode()


def forged(provider: IdentityProvider, nonce: str, kind: str) -> str:
    """A token that nobody has signed, or not with that key."""

    right = provider.id_token(nonce)
    header, payload, signature = right.split(".")
    kid = id_tokens.public_half(provider.key)["kid"]
    if kind == "none":
        return f"{b64({'alg': 'none', 'kid': kid})}.{payload}."
    if kind == "HS256 with the public key":
        header = b64({"alg": "HS256", "kid": kid})
        key = json.dumps(id_tokens.public_half(provider.key)).encode()
        return f"{header}.{payload}.{b64(hmac.digest(key, f'{header}.{payload}'.encode(), 'sha256'))}"
    if kind == "another key":
        header = b64({"alg": "ES256", "kid": kid})
        other = id_tokens.new_key().as_dict(private=True) | {"kid": kid}
        from joserfc.jwk import ECKey

        return id_tokens.signed_by(ECKey.import_key(other), json.loads(_decoded(payload)))
    if kind == "another payload":
        said = json.loads(_decoded(payload)) | {"sub": "another"}
        return f"{header}.{b64(said)}.{signature}"
    if kind == "a key in the header":
        key = id_tokens.new_key()
        from joserfc import jwt

        public = id_tokens.public_half(key)
        return jwt.encode({"alg": "ES256", "jwk": public}, json.loads(_decoded(payload)), key)
    assert kind == "long"
    return right + hashlib.sha256(b"").hexdigest() * 1000


def _decoded(part: str) -> bytes:

    return base64.urlsafe_b64decode(part + "==")


async def by_token(client: httpx.AsyncClient, provider: IdentityProvider, **body: Any) -> httpx.Response:
    nonce = (await client.post("/auth/social/acme/nonce")).json()["nonce"]
    said = {"id_token": provider.id_token(nonce), "nonce": nonce, **body}
    return await client.post("/auth/social/acme/token", json=said)


@pytest.mark.parametrize(
    "kind",
    ["none", "HS256 with the public key", "another key", "another payload", "a key in the header", "long"],
)
async def test_a_token_that_the_provider_has_not_signed_is_refused(
    kind: str, client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """A-93: CVE-2015-9235 and CVE-2026-28802 (none), CVE-2016-10555 (HS256 with the public key),
    CVE-2026-27962 (a key in the header), RFC 8725 section 3.1."""
    nonce = (await client.post("/auth/social/acme/nonce")).json()["nonce"]
    body = {"id_token": forged(provider, nonce, kind), "nonce": nonce}
    answer = await client.post("/auth/social/acme/token", json=body)
    assert answer.status_code in (400, 422), answer.text
    right = {"id_token": provider.id_token(nonce), "nonce": nonce}
    assert (await client.post("/auth/social/acme/token", json=right)).status_code == 200


async def test_headers_that_nobody_knows_are_ignored_unless_they_are_critical(
    client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """RFC 7515 section 4 and 4.1.11; some providers send their certificates along."""
    from joserfc import jws, jwt

    registry = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
    for more, status in (({"x-tenant": "1", "x5c": ["A" * 2000]}, 200), ({"crit": ["x-tenant"]}, 400)):
        nonce = (await client.post("/auth/social/acme/nonce")).json()["nonce"]
        claims = json.loads(_decoded(provider.id_token(nonce).split(".")[1]))
        header = {"alg": "ES256", "kid": provider.key.kid, **more}
        registry.check_header = lambda header: None  # type: ignore[method-assign]
        body = {"id_token": jwt.encode(header, claims, provider.key, registry=registry), "nonce": nonce}
        assert (await client.post("/auth/social/acme/token", json=body)).status_code == status


@on_each_database
async def test_a_token_of_a_native_app_is_good_once(
    client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    nonce = (await client.post("/auth/social/acme/nonce")).json()["nonce"]
    body = {"id_token": provider.id_token(nonce), "nonce": nonce}
    answers = await asyncio.gather(*(client.post("/auth/social/acme/token", json=body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]
    assert await Session.all().count() == 1


async def test_only_client_ids_of_the_app_are_an_audience_and_those_of_native_apps_for_tokens_alone(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """A-93."""
    for extra, status in (
        ({"aud": NATIVE}, 200),
        ({"aud": CLIENT_ID, "azp": NATIVE}, 200),
        ({"aud": f"{CLIENT_ID}x"}, 400),
        ({"aud": [CLIENT_ID, "another"]}, 400),
        ({"aud": [CLIENT_ID, "another"], "azp": "another"}, 400),
        ({"aud": []}, 400),
        ({"aud": None}, 400),
    ):
        provider.extra = extra
        assert (await by_token(client, provider)).status_code == status, extra
    provider.extra = {"aud": NATIVE}
    assert (await come_back(browser)).status_code == 400


async def test_a_second_factor_is_asked_for_with_a_token_and_spends_nothing_before(
    client: httpx.AsyncClient, provider: IdentityProvider, clock: Clock
) -> None:
    """A-95."""
    import pyotp

    tokens = (await by_token(client, provider)).json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    uri = (await client.post("/auth/2fa/enable", headers=headers)).json()["otpauth_uri"]
    totp = pyotp.parse_uri(uri)
    assert isinstance(totp, pyotp.TOTP)
    await client.post("/auth/2fa/verify", json={"code": totp.at(clock())}, headers=headers)
    clock.advance(seconds=31)
    nonce = (await client.post("/auth/social/acme/nonce")).json()["nonce"]
    body = {"id_token": provider.id_token(nonce), "nonce": nonce}
    for code, status in ((None, 401), ("000000", 401), (totp.at(clock()), 200)):
        answer = await client.post("/auth/social/acme/token", json=body | ({"code": code} if code else {}))
        assert answer.status_code == status, answer.text


async def test_unknown_keys_are_looked_for_once_a_minute(
    client: httpx.AsyncClient, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    half = id_tokens.public_half

    def counting(key: Any) -> dict[str, Any]:
        nonlocal looked
        looked += 1
        return half(key)

    monkeypatch.setattr("fastapi_pluggable_auth.features.social_login.testing.public_half", counting)
    right = provider.key
    assert (await by_token(client, provider)).status_code == 200
    answers = []
    for _ in range(5):
        provider.key = id_tokens.new_key()
        nonce = (await client.post("/auth/social/acme/nonce")).json()["nonce"]
        body = {"id_token": provider.id_token(nonce), "nonce": nonce}
        provider.key = right
        answers.append((await client.post("/auth/social/acme/token", json=body)).status_code)
    assert (answers, looked) == ([400] * 5, 1)


async def test_a_provider_that_does_not_answer_delays_each_visitor_once(
    app: FastAPI, browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, provider: IdentityProvider
) -> None:
    monkeypatch.setattr(remote, "TIMEOUT", 1.0)
    document = provider.document
    monkeypatch.setattr(provider, "document", lambda place="": time.sleep(2) or document(place))
    before = time.monotonic()
    answers = await asyncio.gather(*(browser.get("/auth/social/acme/start") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {503}
    assert time.monotonic() - before < 8  # the others do not wait for a second each


@pytest.mark.parametrize("kind", ["huge", "packed", "deep", "no object", "led on"])
async def test_an_answer_that_is_not_one_is_given_up(
    kind: str, browser: httpx.AsyncClient, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A-94."""
    body = {
        "huge": b'"' + b"x" * 2_000_000 + b'"',
        "packed": gzip.compress(b'{"access_token": "' + b"x" * 50_000_000 + b'"}'),
        "deep": b"[" * 100_000,
        "no object": b"7",
        "led on": b"",
    }[kind]
    back = await begun(browser)

    def answer(handler: Any) -> None:
        handler.send_response(307 if kind == "led on" else 200)
        if kind == "packed":
            handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Location", f"{provider.issuer}/token")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    monkeypatch.setattr(provider, "token", lambda sent: {"error": "x"})
    provider.raw = answer
    got = await browser.get(back)
    assert got.status_code in (400, 503)
    assert "Sign in" in got.text
    assert await User.all().count() == 0


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), float("nan"), "1", True, [], None])
@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
async def test_a_moment_that_is_none_is_refused(
    name: str, value: object, client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """JSON in Python has more than numbers; a token that never expires would be one of them."""
    provider.extra = {name: value}
    absent = value is None and name == "nbf"
    assert (await by_token(client, provider)).status_code == (200 if absent else 400)


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), "1", True, None])
async def test_a_user_who_is_to_sign_in_again_has_a_moment_of_doing_so(
    value: object, browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    await come_back(browser)
    asked = await browser.post(f"{OWN}/acme/reauthenticate", json={}, headers=FETCH)
    provider.extra = {"auth_time": value}
    answer = await browser.get(await at_provider(asked.json()["url"]))
    assert "refused=social_refused" in answer.headers["location"]


DAMAGED: list[dict[str, object]] = [
    *({"token_endpoint": each} for each in ("http://[::1", "https://", "\ud800", 7, None)),
    *({"jwks_uri": each} for each in ("http://127.0.0.1:99999/x", "ftp://127.0.0.1/x", "/jwks", {})),
    *(
        {"authorization_endpoint": each}
        for each in ("https://[x", "https://a\ud800b.example", "https://a b/")
    ),
    {"authorization_endpoint": "javascript:alert(1)"},
    {"authorization_endpoint": "https://\u0430cme.example"},
    {"issuer": "https://evil.example"},
    {"issuer": None},
]


@pytest.mark.parametrize("damage", DAMAGED, ids=repr)
async def test_a_provider_that_publishes_no_addresses_gets_nobody(
    damage: dict[str, object],
    browser: httpx.AsyncClient,
    provider: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document = provider.document
    monkeypatch.setattr(provider, "document", lambda place="": document(place) | damage)
    answer = await browser.get("/auth/social/acme/start")
    if answer.status_code == 303:
        assert answer.headers["location"].startswith(provider.issuer)
        answer = await browser.get(await at_provider(answer.headers["location"]))
    assert (answer.status_code, "Sign in" in answer.text) == (400, True), answer.text
    assert await User.all().count() == 0


@pytest.mark.parametrize("methods", [None, 7, "x", ["client_secret_post"], ["client_secret_basic"], []])
async def test_ways_to_show_the_secret_may_be_missing(
    methods: object,
    browser: httpx.AsyncClient,
    provider: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document = provider.document
    said = {"token_endpoint_auth_methods_supported": methods}
    monkeypatch.setattr(provider, "document", lambda place="": document(place) | said)
    assert (await come_back(browser)).status_code == 303


@pytest.mark.parametrize("keys", [7, "x", ["x"], [None], [{"kid": []}], [{"kty": "\ud800"}], [{}], {}])
async def test_keys_that_are_none_open_nothing(
    keys: object, client: httpx.AsyncClient, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "AGAIN", -1.0)
    provider.keys = keys
    for _ in range(2):  # the second one is looked for among those that are there
        assert (await by_token(client, provider)).status_code == 400


@pytest.mark.parametrize(("status", "answered"), [(200, 303), (302, 400), (307, 400), (400, 400), (401, 400)])
async def test_an_answer_that_leads_on_or_refuses_gives_no_token(
    status: int, answered: int, browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """RFC 6749 sections 5.1 and 5.2: whatever else is in it."""
    back = await begun(browser)
    (asked,) = provider._codes.values()

    def answer(handler: Any) -> None:
        token = provider.id_token(asked["nonce"], asked["client_id"], asked["iss"])
        handler._json({"access_token": "x", "token_type": "Bearer", "id_token": token}, status)

    provider.raw = answer
    assert (await browser.get(back)).status_code == answered
    assert await User.all().count() == (1 if answered == 303 else 0)


@pytest.mark.parametrize("purpose", ["sign in", "connect"])
@pytest.mark.parametrize("victim", ["began nothing", "began another one", "began at another provider"])
async def test_a_link_with_the_state_and_code_of_an_attacker_signs_in_and_connects_nobody(
    victim: str, purpose: str, app: FastAPI, browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """Login CSRF (RFC 6749 section 10.12): CVE-2025-68481 (a state that fits anybody, in fastapi-users),
    CVE-2025-14546 (a state that is not compared, in fastapi-sso), CVE-2025-68158 and CVE-2026-41425 (one that
    is kept for all browsers, in Authlib)."""
    await come_back(browser)  # Kim
    if victim != "began nothing":
        await begun(browser, "acme" if victim == "began another one" else "evil")
    provider.user("mallory@example.com")
    async with browser_of(app) as attacker:
        if purpose == "connect":
            await come_back(attacker)
            provider.user("mallory@elsewhere.example.com")
            asked = await attacker.post(f"{OWN}/acme", json={}, headers=FETCH)
            back = await at_provider(asked.json()["url"])
        else:
            back = await begun(attacker)
        states = [cookie.value for cookie in browser.cookies.jar if "social_" in cookie.name]
        assert bool(states) == (victim != "began nothing")
        for link in (back, changed(back, state=None), changed(back, state="x" * 43)):
            assert (await browser.get(link)).status_code == 400
        name = f"social_{parse_qs(urlsplit(back).query)['state'][0][:12]}"
        for value in states:  # not by what the browser has for its own under another name either
            assert (await browser.get(back, headers={"Cookie": f"{name}={value}"})).status_code == 400
    kim = await User.get(email=KIM)
    assert await Identity.filter(user_id=kim.id).count() == 1
    assert (await browser.get("/auth/me", headers=FETCH)).json()["email"] == KIM
    assert await Session.filter(user_id=kim.id).count() == 1


async def test_a_state_expires_and_a_browser_keeps_only_a_few(
    browser: httpx.AsyncClient, clock: Clock
) -> None:
    """A-94."""
    backs = [await begun(browser) for _ in range(20)]
    assert sum("social_" in name for name in browser.cookies) <= 3
    assert (await browser.get(backs[0])).status_code == 400
    clock.advance(minutes=10)
    assert (await browser.get(backs[-1])).status_code == 400


async def test_a_refusal_keeps_where_the_browser_was_going(
    browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    provider.fail()
    answer = await come_back(browser, next="/notes")
    assert answer.status_code == 400
    assert "/notes" in answer.text


@pytest.mark.parametrize("field", ["code", "state", "iss", "error", "name"])
async def test_whatever_is_sent_to_the_callback_a_browser_gets_a_page(
    field: str, browser: httpx.AsyncClient
) -> None:
    for value in ("", "x" * 10_000, "\0", "\u0430", "%00", "'\"><script>"):
        answer = await browser.get(changed(await begun(browser), **{field: value}))
        assert answer.status_code in (303, 400, 409), answer.text
        assert answer.status_code == 303 or "<html" in answer.text
        assert "><script>" not in answer.text.replace("></script><script>", "").split("</title>")[0]


async def test_a_page_of_the_provider_posts_and_the_cookie_comes_back_with_a_get(
    browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """OAuth 2.0 Form Post Response Mode, as Apple has it, which says the name of a user there alone."""
    fields = {name: values[0] for name, values in parse_qs(urlsplit(await begun(browser)).query).items()}
    provider.user(KIM)
    fields["user"] = json.dumps({"name": {"firstName": "Kim", "lastName": "Lee"}, "email": "x@example.com"})
    away = {"Origin": "https://appleid.apple.com", "Sec-Fetch-Site": "cross-site"}
    transport = browser._transport
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers={**BROWSER, **away}) as without:
        posted = await without.post("/auth/social/acme/callback", data=fields)
    assert posted.status_code == 303
    assert posted.headers["location"].startswith(f"{BASE}/auth/social/acme/callback?")
    assert (await browser.get(posted.headers["location"])).status_code == 303
    assert (await User.get()).display_name == "Kim Lee"


async def test_nobody_learns_by_a_provider_that_vouches_for_nothing_whether_there_is_an_account(
    browser: httpx.AsyncClient, account: Account, provider: IdentityProvider, settings: AuthSettings
) -> None:
    settings.prevent_enumeration = True
    said = []
    for email in (EMAIL, "nobody@example.com"):
        provider.user(email, email_verified=False)
        answer = await come_back(browser)
        said.append((answer.status_code, len(answer.text.replace(email, ""))))
    assert said[0][0] == said[1][0]


async def test_an_identity_that_was_removed_meanwhile_signs_in_nobody(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, auth: Auth, provider: IdentityProvider
) -> None:
    from fastapi_pluggable_auth.hooks import BeforeLogin

    await come_back(browser)
    await browser.post("/auth/logout", headers=FETCH)

    async def remove(event: BeforeLogin[User]) -> None:
        await Identity.all().delete()

    auth.on(BeforeLogin)(remove)
    answer = await come_back(browser)
    assert answer.status_code in (400, 401)


def test_a_tenant_of_microsoft_is_named_by_its_id() -> None:
    """https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc"""
    with pytest.raises(ValueError, match="by its id"):
        Microsoft(tenant="contoso.onmicrosoft.com")
    consumers = Microsoft(tenant="consumers").issuer
    assert consumers == "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"


async def test_a_sign_in_of_one_browser_connects_nothing_in_the_session_of_somebody_else(
    app: FastAPI, browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    await come_back(browser)
    provider.user("another@example.com")
    connecting = await browser.post("/account/identities/acme", json={}, headers=FETCH)
    back = await at_provider(connecting.json()["url"])
    provider.user("somebody@example.com")
    assert (await come_back(browser)).status_code == 303  # somebody else, in the same browser
    await browser.get(back)
    assert await Identity.all().count() == 2


async def test_a_connection_that_was_begun_in_a_session_that_has_ended_connects_nothing(
    browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    await come_back(browser)
    provider.user("another@example.com")
    connecting = await browser.post("/account/identities/acme", json={}, headers=FETCH)
    back = await at_provider(connecting.json()["url"])
    assert (await browser.post("/auth/logout", headers=FETCH)).status_code == 200
    await browser.get(back)
    assert await Identity.all().count() == 1
