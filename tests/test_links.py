"""The tokens of mailed links: good for one thing, through a change of keys; and those that 0.1 mailed."""

from __future__ import annotations

import asyncio
import string
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from jose import jwt
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.email.tokens import (
    LinkSigner,
    Purpose,
    verify_and_get_user_id,
    verify_reset_token,
)
from fastapi_pluggable_auth.errors import AuthError
from fastapi_pluggable_auth.models import RefreshToken, User

from .conftest import EMAIL, PASSWORD, SECRET, Account, Clock, Mailbox
from .test_keys import EC, OTHER_EC, RSA, pem_of, public_pem_of
from .test_password import DEAD_LINK, NEW, login_status, reset

OLD_SECRET = "an old secret of 32 characters or more"
NEW_EMAIL = "ada@example.org"
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def signer(**values: Any) -> LinkSigner:
    return LinkSigner(AuthSettings(_env_file=None, **{"jwt_secret": SECRET, **values}))


def test_no_link_of_another_deployment_or_key_is_good() -> None:
    token = signer().generate(Purpose.RESET, uuid4())
    signer().read(Purpose.RESET, token)
    for other in (
        {"jwt_secret": OLD_SECRET},
        {"public_base_url": "http://127.0.0.1:8000"},
        {"jwt_issuer": "http://localhost:8000", "jwt_audience": "another"},
    ):
        with pytest.raises(AuthError):
            signer(**other).read(Purpose.RESET, token)


@pytest.mark.parametrize(
    ("algorithm", "before", "after", "keeps"),
    [
        ("HS256", {"jwt_secret": OLD_SECRET}, {"jwt_previous_keys": [OLD_SECRET]}, True),
        ("HS512", {"jwt_secret": OLD_SECRET}, {"jwt_previous_keys": []}, False),
        (
            "ES256",
            {"jwt_private_key": pem_of(EC)},
            {"jwt_private_key": pem_of(OTHER_EC), "jwt_previous_keys": [pem_of(EC).replace("\n", "\\n")]},
            True,
        ),
        (
            "RS256",
            {"jwt_private_key": pem_of(RSA)},
            {"jwt_private_key": pem_of(RSA) + "\n"},
            True,
        ),
        (
            "ES256",
            {"jwt_private_key": pem_of(EC)},
            {"jwt_private_key": pem_of(OTHER_EC), "jwt_previous_keys": [public_pem_of(EC)]},
            False,
        ),
    ],
)
def test_links_outlive_a_change_of_keys_where_the_earlier_key_is_kept(
    algorithm: str, before: dict[str, Any], after: dict[str, Any], keeps: bool
) -> None:
    """Nobody can make one with what is published."""
    user_id = uuid4()
    token = signer(jwt_algorithm=algorithm, **before).generate(Purpose.VERIFY, user_id)
    later = signer(jwt_algorithm=algorithm, **after)
    if keeps:
        assert later.read(Purpose.VERIFY, token).user_id == user_id
    else:
        with pytest.raises(AuthError):
            later.read(Purpose.VERIFY, token)


def test_a_link_ends_to_the_millisecond(clock: Clock) -> None:
    links = LinkSigner(AuthSettings(_env_file=None, jwt_secret=SECRET), clock)
    token = links.generate(Purpose.RESET, uuid4())
    clock.advance(seconds=3599.99)
    links.read(Purpose.RESET, token)
    clock.advance(seconds=0.02)
    with pytest.raises(AuthError):
        links.read(Purpose.RESET, token)


# --- of 0.1 ----------------------------------------------------------------------------------------------


def of_0_1(
    user: User, scope: str, made: datetime, key: str = SECRET, algorithm: str = "HS256", **claims: Any
) -> str:
    """A token as 0.1 put it into its mails."""
    lifetime = DAY if scope == "verify" else HOUR
    every = {"sub": str(user.id), "scope": scope, "exp": made + lifetime, **claims}
    return jwt.encode(every, key, algorithm=algorithm)


@pytest.fixture
async def user(tortoise: TortoiseContext, client: httpx.AsyncClient, mailbox: Mailbox) -> User:
    """An account of before: not verified, and never changed since."""
    await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    mailbox.clear()
    return await User.get()


async def verify(client: httpx.AsyncClient, token: str) -> bytes:
    return (await client.get(f"/auth/verify/{token}")).content


async def test_a_verification_link_of_0_1_works_once(
    user: User, client: httpx.AsyncClient, clock: Clock
) -> None:
    token = of_0_1(user, "verify", clock() - HOUR)
    answers = await asyncio.gather(*(client.get(f"/auth/verify/{token}") for _ in range(10)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 9}
    assert await login_status(client, PASSWORD) == 200
    await User.all().update(is_verified=False)  # however that came about
    assert await verify(client, token) == DEAD_LINK


async def test_a_reset_link_of_0_1_works_once(account: Account, clock: Clock) -> None:
    await User.all().update(verified_at=None)  # as 0.1 left it
    link = f"/auth/reset-password/{of_0_1(await User.get(), 'reset', clock() - HOUR / 2)}"
    assert (await account.client.get(link)).status_code == 200
    passwords = [f"password of number {n}" for n in range(10)]
    answers = await asyncio.gather(*(reset(account.client, link, password) for password in passwords))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 9}
    assert sum([await login_status(account.client, each) == 200 for each in passwords]) == 1


@on_sqlite
async def test_a_link_of_0_1_is_dead_after_what_the_account_has_seen_since(
    account: Account, clock: Clock, mailbox: Mailbox
) -> None:
    """A password change, a verification, and an address that another link confirmed."""
    user = await User.get()
    await User.all().update(verified_at=None)
    clock.advance(seconds=1)
    old = of_0_1(user, "reset", clock())
    clock.advance(minutes=1)
    await account.login()
    await account.client.patch("/account", json={"email": NEW_EMAIL}, headers=account.headers)
    assert (await account.client.post(mailbox.link(NEW_EMAIL))).status_code == 200
    assert (await reset(account.client, f"/auth/reset-password/{old}")).content == DEAD_LINK
    assert (await User.get()).email == NEW_EMAIL

    clock.advance(minutes=1)
    since = of_0_1(user, "reset", clock())
    assert (await account.client.get(f"/auth/reset-password/{since}")).status_code == 200
    clock.advance(minutes=1)
    account.email = NEW_EMAIL
    await account.login()
    body = {"old_password": PASSWORD, "new_password": NEW}
    answer = await account.client.post("/account/change-password", json=body, headers=account.headers)
    assert answer.status_code == 204
    assert (await reset(account.client, f"/auth/reset-password/{since}")).content == DEAD_LINK


@on_sqlite
async def test_no_other_token_passes_for_a_verification_link_of_0_1(
    user: User, client: httpx.AsyncClient, clock: Clock
) -> None:
    """Nor one whose end is further away than the settings allow."""
    now = clock()
    tokens = [
        of_0_1(user, "refresh", now),
        of_0_1(user, "reset", now),
        of_0_1(user, "email_change", now),
        of_0_1(user, "access", now, jti="1"),
        of_0_1(user, "verify", now, jti="1"),
        of_0_1(user, "verify", now, iss="http://localhost:8000"),
        of_0_1(user, "verify", now, sub="1"),
        of_0_1(user, "verify", now, sub=str(uuid4())),
        of_0_1(user, "verify", now, exp=10**30),
        of_0_1(user, "verify", now, exp=True),
        of_0_1(user, "verify", now, exp=0),
        of_0_1(user, "verify", now + HOUR),
        of_0_1(user, "verify", now, SECRET, "HS512"),
        of_0_1(user, "verify", now, OLD_SECRET),
        of_0_1(user, "verify", now, "CHANGE_ME"),
    ]
    assert [await verify(client, token) for token in tokens] == [DEAD_LINK] * len(tokens)
    assert await verify(client, of_0_1(user, "verify", now)) != DEAD_LINK


@on_sqlite
async def test_the_links_of_0_1_are_none_for_other_purposes(account: Account, clock: Clock) -> None:
    user = await User.get()
    await User.all().update(verified_at=None, pending_email=NEW_EMAIL)
    for kind in ("email-change", "stop-email-change"):
        for scope in ("verify", "reset", "email_change", "stop_email_change"):
            answer = await account.client.post(f"/auth/{kind}/{of_0_1(user, scope, clock())}")
            assert answer.content == DEAD_LINK
    for scope in ("verify", "reset"):
        headers = {"Authorization": f"Bearer {of_0_1(user, scope, clock())}"}
        assert (await account.client.get("/auth/me", headers=headers)).status_code == 401


@on_sqlite
async def test_a_link_of_0_1_with_two_slashes_leads_to_its_page(client: httpx.AsyncClient) -> None:
    """0.1 joined so for resets and changed addresses. Nobody is led to another host."""
    for path in ("auth/verify/x.y.z", "auth/reset-password/x.y.z"):
        answer = await client.get(f"http://testserver//{path}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/{path}")
    for path in ("//evil.example//auth/verify/x", "///auth/verify/x", "//auth/verify//evil.example/x"):
        answer = await client.get(f"http://testserver{path}")
        assert not answer.headers.get("location", "").startswith("//")


@on_sqlite
async def test_a_link_of_0_1_expires(user: User, client: httpx.AsyncClient, clock: Clock) -> None:
    token = of_0_1(user, "verify", clock())
    clock.advance(hours=24, seconds=1)
    assert await verify(client, token) == DEAD_LINK


@on_sqlite
async def test_earlier_keys_are_good_for_tokens_that_name_none(
    account: Account, settings: AuthSettings, clock: Clock
) -> None:
    """0.1 signed all its tokens so."""
    await User.all().update(verified_at=None)
    user, later = await User.get(), clock() + DAY
    refresh = jwt.encode(
        {"sub": str(user.id), "scope": "refresh", "jti": "1", "exp": later}, SECRET, algorithm="HS256"
    )
    await RefreshToken.create_for(user.id, refresh, DAY)
    link = f"/auth/reset-password/{of_0_1(user, 'reset', clock())}"
    settings.jwt_secret = OLD_SECRET
    assert (await account.client.get(link)).content == DEAD_LINK
    assert (await account.refresh(refresh)).status_code == 401
    settings.jwt_previous_keys = ["x" * 40, SECRET]
    assert (await account.client.get(link)).status_code == 200
    assert (await account.refresh(refresh)).status_code == 200


@pytest.mark.parametrize("token", [None, 1, b"x.y.z"])
def test_what_is_no_text_is_no_link(token: Any) -> None:
    for read in (verify_and_get_user_id, verify_reset_token):
        with pytest.raises(AuthError):
            read(token)


def test_a_link_has_one_spelling() -> None:
    """The last character has bits to spare, and decoders skip what they do not know."""
    links, user_id = signer(), uuid4()
    token = links.generate(Purpose.VERIFY, user_id)
    assert links.read(Purpose.VERIFY, token).user_id == user_id
    others = [token[:-1] + each for each in string.ascii_letters + string.digits + "-_" if each != token[-1]]
    for other in (*others, token + "=", token + "==", token[:-1], token + "A", f"{token[:40]}\n{token[41:]}"):
        with pytest.raises(AuthError):
            links.read(Purpose.VERIFY, other)
