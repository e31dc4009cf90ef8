"""The rules of social login that no attack of its own is known for: what is good once, for how long and for
whom, and what a provider is believed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import Oidc, Provider, SocialLogin
from fastapi_pluggable_auth.features.social_login import id_tokens
from fastapi_pluggable_auth.features.social_login.states import s256
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from fastapi_pluggable_auth.hooks import BeforeLogin
from fastapi_pluggable_auth.models import Identity, Session, User

from .conftest import EMAIL, Account, Clock
from .test_social_attacks import FETCH, begun, browser_of, by_token
from .test_social_login import KIM, at_provider, come_back, provider

__all__ = ["provider"]

DIALECTS = ("sqlite",)
VERIFIER = "v" * 43


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, provider: IdentityProvider) -> FastAPI:
    provider.clock = lambda: clock().timestamp()
    keys: dict[str, Any] = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}

    def named(name: str, **options: Any) -> Any:
        return Oidc(name, issuer=provider.issuer, **keys, **options)

    async def claims(fetch: Any) -> Any:
        return await fetch(f"{provider.issuer}/userinfo")

    by_tenant = named("tenants", issuer_of=lambda claims: f"{provider.issuer}/{claims['tid']}")
    app = FastAPI()
    social = SocialLogin(
        named("acme"),
        named("trusted", trusted_for_two_factor=True),
        named("staff", signup=False),
        named("corp", allowed_domains=["acme.example"]),
        by_tenant,
        Provider(
            name="boats",
            label="Boats",
            authorization_endpoint=f"{provider.issuer}/authorize",
            token_endpoint=f"{provider.issuer}/token",
            claims=claims,
            **keys,
        ),
    )
    include_auth(app, settings=settings, clock=clock, pages=True, features=[social])
    return app


@pytest.fixture
async def browser(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    async with browser_of(app) as browser:
        yield browser


async def at(client: httpx.AsyncClient, provider: IdentityProvider, name: str) -> httpx.Response:
    """Signs in with a token of this provider."""
    nonce = (await client.post(f"/auth/social/{name}/nonce")).json()["nonce"]
    body = {"id_token": provider.id_token(nonce), "nonce": nonce}
    return await client.post(f"/auth/social/{name}/token", json=body)


async def begin(browser: httpx.AsyncClient, path: str = "acme") -> str:
    """Where a user who is signed in is sent."""
    answer = await browser.post(f"/account/identities/{path}", json={}, headers=FETCH)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["url"])


# What a provider is asked, and what it is believed


async def test_a_browser_takes_a_challenge_and_a_nonce_to_the_provider(
    browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """RFC 7636 section 4.3: without a method, the challenge would be the verifier itself."""
    seen = []
    for _ in range(2):
        url = (await browser.get("/auth/social/acme/start")).headers["location"]
        assert url.startswith(f"{provider.issuer}/authorize?")
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        seen.append([asked.pop(name) for name in ("state", "nonce", "code_challenge")])
        assert asked == {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": "http://localhost:8000/auth/social/acme/callback",
            "scope": "openid email profile",
            "code_challenge_method": "S256",
        }
    assert all(len(each) == 43 for values in seen for each in values)
    assert len({*seen[0], *seen[1]}) == 6


@pytest.mark.parametrize(
    ("sub", "subject"),
    [
        (7, "7"),
        ("7", "7"),
        ("", None),
        ("x" * 255, "x" * 255),
        ("x" * 256, None),
        ("a\0", None),
        (None, None),
    ],
)
async def test_a_provider_without_openid_connect_names_a_subject_that_a_table_holds(
    sub: object, subject: str | None, browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    provider.user(KIM, sub=sub)
    answer = await browser.get(await begun(browser, "boats"))
    assert answer.status_code == (400 if subject is None else 303)
    found = await Identity.all()
    assert [(each.issuer, each.subject) for each in found] == (
        [("https://127.0.0.1", subject)] if subject else []
    )


async def test_a_second_factor_at_a_provider_counts_where_it_is_trusted_alone(
    client: httpx.AsyncClient, provider: IdentityProvider, clock: Clock
) -> None:
    headers = {"Authorization": f"Bearer {(await at(client, provider, 'acme')).json()['access_token']}"}
    uri = (await client.post("/auth/2fa/enable", headers=headers)).json()["otpauth_uri"]
    totp = pyotp.parse_uri(uri)
    assert isinstance(totp, pyotp.TOTP)
    await client.post("/auth/2fa/verify", json={"code": totp.at(clock())}, headers=headers)
    for name, methods, status in (
        ("acme", ["pwd", "mfa"], 401),
        ("trusted", None, 401),
        ("trusted", ["pwd"], 401),
        ("trusted", "mfa", 401),
        ("trusted", ["pwd", "mfa"], 200),
    ):
        provider.extra = {"amr": methods}
        assert (await at(client, provider, name)).status_code == status, (name, methods)


async def test_what_the_userinfo_says_is_of_the_same_user_and_never_instead_of_the_token(
    browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """OpenID Connect Core section 5.3.2."""
    provider.user(KIM, name="By userinfo")
    without = {"email": None, "email_verified": None}
    provider.extra = {**without, "sub": "somebody-else"}
    assert (await come_back(browser)).status_code == 400
    provider.extra = {**without, "name": "By the token"}
    assert (await come_back(browser)).status_code == 303
    assert (await User.get()).display_name == "By the token"


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ({"exp": -45}, 200),
        ({"exp": -75}, 400),
        ({"iat": 45}, 200),
        ({"iat": 75}, 400),
        ({"nbf": 45}, 200),
        ({"nbf": 75}, 400),
        ({"exp": True}, 400),
    ],
)
async def test_two_clocks_may_differ_by_a_minute(
    extra: dict[str, Any], status: int, client: httpx.AsyncClient, provider: IdentityProvider, clock: Clock
) -> None:
    now = int(clock().timestamp())
    provider.extra = {name: value if value is True else now + value for name, value in extra.items()}
    assert (await by_token(client, provider)).status_code == status


@pytest.mark.parametrize("change", [{"use": "enc"}, {"kid": "another"}])
async def test_a_key_that_is_for_something_else_signs_no_token(
    change: dict[str, str], client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    provider.keys = [{**id_tokens.public_half(provider.key), **change}]
    assert (await by_token(client, provider)).status_code == 400


async def test_a_key_of_an_unknown_kind_is_in_nobodys_way(
    client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "1", "use": "sig"}
    provider.keys = [{"kty": "unheard of"}, secret, id_tokens.public_half(provider.key)]
    assert (await by_token(client, provider)).status_code == 200


async def test_a_provider_that_says_to_be_another_one_signs_in_nobody(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """OpenID Connect Discovery section 4.3, ASVS 10.5.3."""
    provider.published = {"issuer": f"{provider.issuer}/"}
    assert (await browser.get("/auth/social/acme/start")).status_code == 400
    begun = await client.post("/auth/social/acme/start", json={"code_challenge": s256(VERIFIER)})
    assert (begun.status_code, begun.json()["code"]) == (400, "social_refused")
    assert (await by_token(client, provider)).json()["code"] == "social_refused"


async def test_of_a_provider_with_many_issuers_each_answers_for_itself(
    browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """RFC 9207: `iss` in the answer and in the token are the same."""
    provider.extra = {"tid": "one", "iss": f"{provider.issuer}/one"}
    refused = await browser.get(await begun(browser, "tenants"))
    assert refused.status_code == 400, "the answer names the issuer without a tenant"
    back = (await begun(browser, "tenants")).replace("&iss=", "&was=")
    tenant = httpx.QueryParams({"iss": f"{provider.issuer}/one"})
    assert (await browser.get(f"{back}&{tenant}")).status_code == 303
    assert (await Identity.get()).issuer == f"{provider.issuer}/one"


async def test_a_client_authenticates_in_the_way_that_the_provider_takes(
    browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    sent: list[dict[str, str]] = []
    token = provider.token

    def noting(fields: dict[str, str]) -> dict[str, Any]:
        sent.append(fields)
        return token(fields)

    provider.token, provider.secret = noting, CLIENT_SECRET  # type: ignore[method-assign]
    assert (await come_back(browser)).status_code == 303
    assert "client_secret" not in sent[0], "RFC 6749 section 2.3.1: in the header where that is supported"
    assert sent[0]["code_verifier"]


async def test_a_client_sends_its_secret_in_the_body_where_only_that_is_taken(
    browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    provider.published = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    sent: list[dict[str, str]] = []
    token = provider.token

    def noting(fields: dict[str, str]) -> dict[str, Any]:
        sent.append(fields)
        return token(fields)

    provider.token = noting  # type: ignore[method-assign]
    assert (await come_back(browser)).status_code == 303
    assert sent[0]["client_secret"] == CLIENT_SECRET


async def test_no_token_of_the_provider_leaves_the_server_or_is_stored(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """ASVS 10.1.1."""
    given: list[str] = []
    token = provider.token

    def noting(fields: dict[str, str]) -> dict[str, Any]:
        answer = token(fields)
        given.extend(str(answer[name]) for name in ("access_token", "id_token"))
        return answer

    provider.token = noting  # type: ignore[method-assign]
    back = await come_back(browser, next="/notes")
    shown = await browser.get("/account/security")
    own = await browser.get("/account/identities", headers=FETCH)
    said = "".join(f"{each.headers}{each.text}" for each in (back, shown, own))
    said += str([dict(each) for each in (await Identity.get(), await Session.get(), await User.get())])
    assert len(given) == 2
    assert not [each for each in given if each in said]


# Who gets an account


@pytest.mark.parametrize(
    ("name", "email", "status"),
    [
        ("staff", KIM, 403),
        ("corp", KIM, 403),
        ("corp", "kim@evil-acme.example", 403),
        ("corp", "kim@acme.example", 200),
        ("acme", KIM, 200),
    ],
)
async def test_a_provider_makes_accounts_for_those_it_is_to(
    name: str, email: str, status: int, client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    provider.user(email)
    answer = await at(client, provider, name)
    assert answer.status_code == status
    assert status == 200 or answer.json()["code"] == "no_account"
    assert await User.all().count() == (1 if status == 200 else 0)


# Good once, and for a while


async def test_a_state_signs_in_once_whatever_codes_the_provider_has_given(
    app: FastAPI, browser: httpx.AsyncClient
) -> None:
    url = (await browser.get("/auth/social/acme/start")).headers["location"]
    cookies = dict(browser.cookies)
    first, second = await at_provider(url), await at_provider(url)
    assert (await browser.get(first)).status_code == 303
    async with browser_of(app) as again:
        again.cookies.update(cookies)
        assert (await again.get(second)).status_code in (400, 401)
    assert await Session.all().count() == 1


async def test_a_state_gives_one_code_for_the_front_end(app: FastAPI, browser: httpx.AsyncClient) -> None:
    start = await browser.get("/auth/social/acme/start", params={"code_challenge": s256(VERIFIER)})
    url, cookies = start.headers["location"], dict(browser.cookies)
    first, second = await at_provider(url), await at_provider(url)
    assert "social_code=" in (await browser.get(first)).headers["location"]
    async with browser_of(app) as again:
        again.cookies.update(cookies)
        assert (await again.get(second)).status_code == 400


async def front_end_code(browser: httpx.AsyncClient) -> str:
    back = await come_back(browser, code_challenge=s256(VERIFIER))
    return parse_qs(urlsplit(back.headers["location"]).query)["social_code"][0]


async def test_a_code_for_the_front_end_is_good_for_a_minute(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, clock: Clock
) -> None:
    for seconds, status in ((45, 200), (61, 400)):
        body = {"social_code": await front_end_code(browser), "code_verifier": VERIFIER}
        clock.advance(seconds=seconds)
        assert (await client.post("/auth/social/exchange", json=body)).status_code == status, seconds


async def test_a_code_for_the_front_end_ends_with_all_access(
    browser: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    body = {"social_code": await front_end_code(browser), "code_verifier": VERIFIER}
    user = await User.get()
    await User.filter(id=user.id).update(access_epoch=user.access_epoch + 1)
    answer = await client.post("/auth/social/exchange", json=body)
    assert (answer.status_code, await Session.all().count()) == (400, 0)


async def test_all_access_that_ends_during_the_exchange_gives_no_session(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, auth: Auth
) -> None:
    body = {"social_code": await front_end_code(browser), "code_verifier": VERIFIER}

    @auth.on(BeforeLogin)
    async def end(event: BeforeLogin[User]) -> None:
        await User.filter(id=event.user.id).update(access_epoch=event.user.access_epoch + 1)

    answer = await client.post("/auth/social/exchange", json=body)
    assert (answer.status_code, await Session.all().count()) == (401, 0)


@pytest.mark.parametrize("gone", ["removed", "held", "moved"])
async def test_a_code_for_the_front_end_is_good_while_its_identity_is(
    gone: str, browser: httpx.AsyncClient, client: httpx.AsyncClient, account: Account, clock: Clock
) -> None:
    body = {"social_code": await front_end_code(browser), "code_verifier": VERIFIER}
    if gone == "removed":
        await Identity.all().delete()
    elif gone == "held":
        await Identity.all().update(held_since=clock())
    else:
        await Identity.all().update(user_id=(await User.get(email=EMAIL)).id)
    assert (await client.post("/auth/social/exchange", json=body)).status_code in (400, 401)


async def test_a_nonce_is_for_one_provider_and_ten_minutes(
    client: httpx.AsyncClient, provider: IdentityProvider, clock: Clock
) -> None:
    for name, seconds, status in (("acme", 570, 200), ("acme", 601, 400), ("trusted", 0, 400)):
        nonce = (await client.post("/auth/social/acme/nonce")).json()["nonce"]
        clock.advance(seconds=seconds)
        body = {"id_token": provider.id_token(nonce), "nonce": nonce}
        answer = await client.post(f"/auth/social/{name}/token", json=body)
        assert answer.status_code == status, (name, seconds)


async def test_where_a_browser_goes_on_is_forgotten_where_it_is_too_long_for_a_cookie(
    browser: httpx.AsyncClient,
) -> None:
    """RFC 6265 section 6.1: browsers drop cookies over 4096 bytes, and the sign-in would be lost."""
    for length, kept in ((1500, True), (4000, False)):
        next = "/" + "x" * length
        start = await browser.get("/auth/social/acme/start", params={"next": next})
        assert len(start.headers["set-cookie"]) < 4096
        back = await browser.get(await at_provider(start.headers["location"]))
        assert (back.status_code, back.headers["location"] == next) == (303, kept)


# Of a user who is signed in


async def test_only_a_fresh_sign_in_at_the_provider_confirms(
    browser: httpx.AsyncClient, provider: IdentityProvider, clock: Clock
) -> None:
    """OpenID Connect Core section 3.1.2.1: `max_age` is checked by `auth_time`."""
    await come_back(browser)
    (own,) = (await browser.get("/account/identities", headers=FETCH)).json()

    async def remove() -> str:
        answer = await browser.delete(f"/account/identities/{own['id']}", headers=FETCH)
        return str(answer.json()["code"])

    clock.advance(minutes=14)
    await browser.post("/auth/refresh", headers=FETCH)
    clock.advance(minutes=2)
    now = int(clock().timestamp())
    for extra in ({"auth_time": now - 130}, {"auth_time": None}, {"sub": "somebody-else"}):
        provider.extra = extra
        url = await begin(browser, "acme/reauthenticate")
        asked = parse_qs(urlsplit(url).query)
        assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])
        await browser.get(await at_provider(url))
        assert await remove() == "reauthentication_required", extra
    provider.extra = {}
    await Identity.all().update(held_since=clock())
    await browser.get(await at_provider(await begin(browser, "acme/reauthenticate")))
    assert await remove() == "reauthentication_required", "while it is held"
    await Identity.all().update(held_since=None)
    await browser.get(await at_provider(await begin(browser, "acme/reauthenticate")))
    assert await remove() == "last_way_in"


async def test_an_identity_of_somebody_else_confirms_nothing(
    app: FastAPI, browser: httpx.AsyncClient, provider: IdentityProvider, clock: Clock
) -> None:
    await come_back(browser)
    (own,) = (await browser.get("/account/identities", headers=FETCH)).json()
    provider.user("eve@example.com")
    async with browser_of(app) as eve:
        await come_back(eve)
    clock.advance(minutes=14)
    await browser.post("/auth/refresh", headers=FETCH)
    clock.advance(minutes=2)
    await browser.get(await at_provider(await begin(browser, "acme/reauthenticate")))
    answer = await browser.delete(f"/account/identities/{own['id']}", headers=FETCH)
    assert answer.json()["code"] == "reauthentication_required"


async def test_a_provider_confirms_nothing_in_the_place_of_a_second_factor(
    browser: httpx.AsyncClient, clock: Clock
) -> None:
    await come_back(browser)
    (own,) = (await browser.get("/account/identities", headers=FETCH)).json()
    uri = (await browser.post("/auth/2fa/enable", headers=FETCH)).json()["otpauth_uri"]
    totp = pyotp.parse_uri(uri)
    assert isinstance(totp, pyotp.TOTP)
    await browser.post("/auth/2fa/verify", json={"code": totp.at(clock())}, headers=FETCH)
    clock.advance(minutes=14)
    await browser.post("/auth/refresh", headers=FETCH)
    clock.advance(minutes=2)
    await browser.get(await at_provider(await begin(browser, "acme/reauthenticate")))
    answer = await browser.delete(f"/account/identities/{own['id']}", headers=FETCH)
    assert answer.json()["code"] == "reauthentication_required"


async def test_a_login_has_to_be_recent_when_the_identity_is_connected(
    browser: httpx.AsyncClient, provider: IdentityProvider, clock: Clock
) -> None:
    await come_back(browser)
    provider.user("another@example.com")
    clock.advance(minutes=14)
    await browser.post("/auth/refresh", headers=FETCH)
    url = await begin(browser)
    clock.advance(minutes=2)
    await browser.get(await at_provider(url))
    assert await Identity.all().count() == 1


async def test_an_identity_stays_with_the_account_that_has_it(
    app: FastAPI, browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    await come_back(browser)
    kim = await User.get()
    provider.user("eve@example.com", sub="eve")
    async with browser_of(app) as eve:
        await come_back(eve)
        provider.user(KIM)
        back = await eve.get(await at_provider(await begin(eve)))
        assert "refused=identity_taken" in back.headers["location"]
    assert (await Identity.get(email=KIM)).user_id == kim.id
    assert await Identity.all().count() == 2


async def test_a_state_connects_one_identity(browser: httpx.AsyncClient, provider: IdentityProvider) -> None:
    await come_back(browser)
    url = await begin(browser)
    cookies = dict(browser.cookies)
    first, second = await at_provider(url), await at_provider(url)
    provider.user("first@example.com")
    await browser.get(first)
    browser.cookies.update({name: value for name, value in cookies.items() if "social" in name})
    provider.user("second@example.com")
    await browser.get(second)
    assert await Identity.all().count() == 2, "that of the sign-in, and one more"


async def test_all_access_that_ended_meanwhile_connects_nothing(
    browser: httpx.AsyncClient, provider: IdentityProvider, auth: Auth
) -> None:
    from fastapi_pluggable_auth.features.administration.users import end_sessions

    await come_back(browser)
    provider.user("another@example.com")
    back = await at_provider(await begin(browser))
    await end_sessions(auth, (await User.get()).id)
    await browser.get(back)
    assert await Identity.all().count() == 1


async def test_what_is_held_is_kept_by_its_owner_after_a_recent_login(
    app: FastAPI, browser: httpx.AsyncClient, provider: IdentityProvider, clock: Clock
) -> None:
    await come_back(browser)
    held = await Identity.get()
    await Identity.filter(id=held.id).update(held_since=clock())
    provider.user("eve@example.com")
    async with browser_of(app) as eve:
        await come_back(eve)
        path = f"/account/identities/{held.id}"
        answers = [await eve.patch(path, json={"keep": keep}, headers=FETCH) for keep in (True, False)]
        answers.append(await eve.delete(path, headers=FETCH))
    assert [each.json()["code"] for each in answers] == ["identity_not_found"] * 3
    provider.user(KIM)
    async with browser_of(app) as again:
        assert (await come_back(again)).status_code == 403
    clock.advance(minutes=14)
    await browser.post("/auth/refresh", headers=FETCH)
    clock.advance(minutes=2)
    refused = await browser.patch(path, json={"keep": True}, headers=FETCH)
    assert refused.json()["code"] == "reauthentication_required"
    assert (await Identity.get(id=held.id)).held_since is not None


async def test_a_way_in_that_is_held_is_none(
    browser: httpx.AsyncClient, provider: IdentityProvider, clock: Clock
) -> None:
    await come_back(browser)
    first = await Identity.get()
    provider.user("another@example.com")
    await browser.get(await at_provider(await begin(browser)))
    assert await Identity.all().count() == 2
    await Identity.exclude(id=first.id).update(held_since=clock())
    refused = await browser.delete(f"/account/identities/{first.id}", headers=FETCH)
    assert (refused.status_code, refused.json()["code"]) == (409, "last_way_in")


async def test_an_identity_notes_when_it_was_used_and_no_other_does(
    browser: httpx.AsyncClient, provider: IdentityProvider, clock: Clock
) -> None:
    await come_back(browser)
    first = await Identity.get()
    provider.user("another@example.com")
    await browser.get(await at_provider(await begin(browser)))
    before = {each.id: each.last_used_at for each in await Identity.all()}
    clock.advance(minutes=5)
    provider.user(KIM)
    await come_back(browser)
    after = {each.id: each.last_used_at for each in await Identity.all()}
    assert [each for each in after if after[each] != before[each]] == [first.id]
    assert sorted(await Identity.all().values_list("email", flat=True)) == ["another@example.com", KIM]
