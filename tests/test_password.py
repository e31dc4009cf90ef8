"""Forgotten, reset and changed passwords."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import httpx
import pyotp
import pytest

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth import config as config_module
from fastapi_pluggable_auth.email.tokens import (
    Purpose,
    generate_reset_token,
    generate_verify_token,
    verify_and_get_user_id,
    verify_reset_token,
)
from fastapi_pluggable_auth.errors import AuthError
from fastapi_pluggable_auth.flows.passwords import changed_now
from fastapi_pluggable_auth.models import Session, User

from .conftest import EMAIL, PASSWORD, SECRET, Account, Clock, Mailbox, on_one_database

NEW = "another good one"
DEAD_LINK = b'{"detail":"The link is not valid or no longer valid.","code":"invalid_link"}'


async def forgot(client: httpx.AsyncClient, mailbox: Mailbox, email: str = EMAIL) -> str:
    """The path of a fresh reset link."""
    assert (await client.post("/auth/forgot-password", json={"email": email})).status_code == 200
    return mailbox.link(email)


async def reset(client: httpx.AsyncClient, link: str, password: str = NEW) -> httpx.Response:
    return await client.post(link, json={"new_password": password})


async def login_status(client: httpx.AsyncClient, password: str, email: str = EMAIL) -> int:
    return (await client.post("/auth/login", json={"email": email, "password": password})).status_code


async def test_a_reset_link_sets_the_password_once(account: Account, mailbox: Mailbox) -> None:
    """A-33."""
    link = await forgot(account.client, mailbox)
    assert (await reset(account.client, link)).status_code == 200
    assert await login_status(account.client, NEW) == 200
    assert await login_status(account.client, PASSWORD) == 401
    again = await reset(account.client, link, "a third good one")
    assert (again.status_code, again.content) == (400, DEAD_LINK)


async def test_a_forgotten_password_answers_alike_for_everybody(account: Account, mailbox: Mailbox) -> None:
    """A-19: known, unknown, unverified, disabled."""
    await account.client.post("/auth/signup", json={"email": "new@example.com", "password": PASSWORD})
    await account.client.post("/auth/signup", json={"email": "off@example.com", "password": PASSWORD})
    await User.filter(email="off@example.com").update(is_active=False)
    mailbox.clear()
    answers = [
        await account.client.post("/auth/forgot-password", json={"email": email})
        for email in (EMAIL.upper(), "nobody@example.com", "new@example.com", "off@example.com")
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert [message["To"] for message in mailbox.messages] == [EMAIL, "new@example.com"]


async def test_asking_for_a_link_changes_nothing(account: Account, mailbox: Mailbox) -> None:
    """A-36."""
    await forgot(account.client, mailbox)
    assert (await account.me()).status_code == 200
    assert (await account.refresh()).status_code == 200
    assert await login_status(account.client, PASSWORD) == 200


@on_one_database
@pytest.mark.parametrize("weak", ["short77", "password1", "x" * 1025])
async def test_a_refused_password_does_not_spend_the_link(
    weak: str, account: Account, mailbox: Mailbox
) -> None:
    """A-38."""
    link = await forgot(account.client, mailbox)
    assert (await reset(account.client, link, weak)).status_code == 422
    assert await login_status(account.client, PASSWORD) == 200
    assert (await reset(account.client, link)).status_code == 200


async def test_a_reset_ends_every_session_and_starts_none(account: Account, mailbox: Mailbox) -> None:
    """A-35."""
    answer = await reset(account.client, await forgot(account.client, mailbox))
    assert set(answer.json()) == {"detail"}
    assert (await account.me()).status_code == 401
    assert (await account.refresh()).status_code == 401
    assert await Session.filter(revoked_at=None).count() == 0


async def test_a_reset_verifies_the_address_it_was_mailed_to(
    client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    """A-29: the stranger who signed up with this address is out."""
    await client.post("/auth/signup", json={"email": EMAIL, "password": "of a stranger"})
    verification = mailbox.link()
    assert (await reset(client, await forgot(client, mailbox))).status_code == 200
    assert await login_status(client, NEW) == 200
    assert await login_status(client, "of a stranger") == 401
    assert (await client.get(verification)).status_code == 400


async def test_a_reset_leaves_two_factor_on(account: Account, mailbox: Mailbox) -> None:
    """A-34."""
    await account.client.post("/auth/2fa/enable", headers=account.headers)
    code = {"code": pyotp.TOTP((await User.get()).totp_secret or "").now()}
    confirmed = await account.client.post("/auth/2fa/verify", json=code, headers=account.headers)
    assert confirmed.status_code == 200
    await reset(account.client, await forgot(account.client, mailbox))
    answer = await account.client.post("/auth/login", json={"email": EMAIL, "password": NEW})
    assert answer.json()["code"] == "two_factor_required"


async def test_using_one_link_kills_the_others(account: Account, mailbox: Mailbox, clock: Clock) -> None:
    """A-33, R-11."""
    first = await forgot(account.client, mailbox)
    clock.advance(seconds=2)
    second = await forgot(account.client, mailbox)
    assert first != second
    assert (await reset(account.client, second)).status_code == 200
    assert (await reset(account.client, first)).content == DEAD_LINK


async def test_a_link_used_by_many_at_once_has_one_winner(account: Account, mailbox: Mailbox) -> None:
    """R-10."""
    link = await forgot(account.client, mailbox)
    passwords = [f"password of number {n}" for n in range(20)]
    answers = await asyncio.gather(*(reset(account.client, link, password) for password in passwords))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 19}
    winner = next(p for p, answer in zip(passwords, answers, strict=True) if answer.status_code == 200)
    assert {p: await login_status(account.client, p) for p in passwords}[winner] == 200
    assert sum([await login_status(account.client, p) == 200 for p in passwords]) == 1


async def test_a_link_dies_with_its_time_its_address_and_its_user(
    account: Account, mailbox: Mailbox, clock: Clock
) -> None:
    link = await forgot(account.client, mailbox)
    await User.all().update(email="moved@example.com")
    assert (await reset(account.client, link)).content == DEAD_LINK
    await User.all().update(email=EMAIL, is_active=False)
    assert (await reset(account.client, link)).content == DEAD_LINK
    await User.all().update(is_active=True)
    clock.advance(minutes=59)
    assert (await account.client.get(link)).status_code == 200
    clock.advance(minutes=1.1)
    assert (await reset(account.client, link)).content == DEAD_LINK


@on_one_database
async def test_only_a_reset_link_resets(account: Account, auth: Auth) -> None:
    """A-56."""
    user = await User.get()
    tokens = [
        account.access_token,
        account.refresh_token,
        auth.links.generate(Purpose.VERIFY, user.id),
        auth.links.generate(Purpose.EMAIL_CHANGE, user.id),
        "x",
        "%00",
        "x" * 9000,
    ]
    for token in tokens:
        answer = await reset(account.client, f"/auth/reset-password/{token}")
        assert (answer.status_code, answer.content) == (400, DEAD_LINK)


async def test_a_token_of_the_helper_works_until_the_password_changes(
    account: Account, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(config_module.settings, "jwt_secret", SECRET)
    user = await User.get()
    first, second = generate_reset_token(user.id), generate_reset_token(user.id)
    assert verify_reset_token(first) == user.id
    assert (await reset(account.client, f"/auth/reset-password/{first}")).status_code == 200
    for dead in (first, second):
        clock.advance(hours=-3)
        answer = await reset(account.client, f"/auth/reset-password/{dead}")
        assert answer.content == DEAD_LINK


def test_the_helpers_keep_purposes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_module.settings, "jwt_secret", SECRET)
    user_id = "5f0c7a4e-7a6b-4d0e-9b65-5b6f0f3f4a11"
    assert str(verify_and_get_user_id(generate_verify_token(user_id))) == user_id
    for check, token in (
        (verify_and_get_user_id, generate_reset_token(user_id)),
        (verify_reset_token, generate_verify_token(user_id)),
        (verify_reset_token, "nonsense"),
    ):
        with pytest.raises(AuthError, match="link"):
            check(token)


async def test_changing_the_password_ends_every_session(account: Account) -> None:
    other = Account(account.client, account.mailbox, EMAIL, PASSWORD)
    await other.login()
    body = {"old_password": PASSWORD, "new_password": NEW}
    answer = await account.client.post("/account/change-password", json=body, headers=account.headers)
    assert (answer.status_code, answer.content) == (204, b"")
    for one in (account, other):
        assert (await one.me()).status_code == 401
        assert (await one.refresh()).status_code == 401
    assert await login_status(account.client, PASSWORD) == 401
    assert await login_status(account.client, NEW) == 200


@on_one_database
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"old_password": "wrong password", "new_password": NEW}, 403, "wrong_password"),
        ({"old_password": PASSWORD, "new_password": "short77"}, 422, "validation_error"),
        ({"old_password": PASSWORD, "new_password": "password1"}, 422, "password_too_common"),
        ({"new_password": NEW}, 422, "validation_error"),
    ],
)
async def test_a_refused_change_changes_nothing(
    body: dict[str, str], status: int, code: str, account: Account
) -> None:
    """A-08."""
    before = (await User.get()).hashed_password
    answer = await account.client.post("/account/change-password", json=body, headers=account.headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await User.get()).hashed_password == before
    assert (await account.me()).status_code == 200


async def test_of_two_changes_at_once_one_wins(account: Account) -> None:
    """R-21."""
    passwords = ["first of the two", "second of the two"]
    answers = await asyncio.gather(
        *(
            account.client.post(
                "/account/change-password",
                json={"old_password": PASSWORD, "new_password": password},
                headers=account.headers,
            )
            for password in passwords
        )
    )
    winners = [p for p, answer in zip(passwords, answers, strict=True) if answer.status_code == 204]
    assert len(winners) == 1
    assert {answer.status_code for answer in answers} <= {204, 403, 401}
    assert [p for p in passwords if await login_status(account.client, p) == 200] == winners


@on_one_database
async def test_a_change_is_later_than_the_one_before_though_the_clock_was_set_back(
    account: Account, auth: Auth, clock: Clock
) -> None:
    user = await User.get()
    for before in (timedelta(), timedelta(hours=1), -timedelta(hours=1)):
        user.password_changed_at = clock() + before
        now = clock()
        assert changed_now(auth, user) >= now
        assert changed_now(auth, user) > user.password_changed_at


@on_one_database
async def test_the_reset_link_can_point_at_a_front_end(
    account: Account, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.reset_url = "https://front.example.com/reset?token={token}&x=1"
    await account.client.post("/auth/forgot-password", json={"email": EMAIL})
    link = mailbox.link()
    assert link.startswith("https://front.example.com/reset?token=A")
    token = link.removeprefix("https://front.example.com/reset?token=").removesuffix("&x=1")
    assert (await reset(account.client, f"/auth/reset-password/{token}")).status_code == 200
