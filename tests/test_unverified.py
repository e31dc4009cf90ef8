"""Accounts that somebody signed up for and never verified are deleted after a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings, SecurityEvent
from fastapi_pluggable_auth.email.tokens import Purpose
from fastapi_pluggable_auth.errors import Refused
from fastapi_pluggable_auth.features.administration.users import create_user, disable_user, invite_user
from fastapi_pluggable_auth.flows import unverified as unverified_flow
from fastapi_pluggable_auth.flows.authorization import grant
from fastapi_pluggable_auth.flows.email import verify_signup
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.flows.signup import signup
from fastapi_pluggable_auth.hooks import AccountDeleted, DeletingAccount
from fastapi_pluggable_auth.models import Mail, RefreshToken, Session, User
from fastapi_pluggable_auth.security.startup import check_settings

from .conftest import EMAIL, PASSWORD, Clock, Mailbox, on_each_database, on_one_database

DIALECTS = ("sqlite",)
WEEK = timedelta(days=7)
NOBODY = "nobody@example.com"


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    settings.unverified_account_ttl = WEEK
    settings.bcrypt_rounds = 4
    return settings


async def sign_up(client: httpx.AsyncClient, email: str = NOBODY, **headers: str) -> None:
    body = {"email": email, "password": PASSWORD}
    answer = await client.post("/auth/signup", json=body, headers=headers)
    assert answer.status_code == 201, answer.text


async def there() -> set[str]:
    return {user.email for user in await User.all()}


@on_each_database
@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "same-origin"}], ids=["program", "browser"])
async def test_an_account_that_nobody_verifies_is_deleted_after_its_time_and_hooks_hear_it(
    database: object,
    headers: dict[str, str],
    client: httpx.AsyncClient,
    auth: Auth,
    clock: Clock,
    mailbox: Mailbox,
) -> None:
    heard: list[Any] = []
    events: list[SecurityEvent] = []
    for event in (DeletingAccount, AccountDeleted):
        auth.on(event)(heard.append)
    auth.on(SecurityEvent)(events.append)
    await sign_up(client, **headers)
    user = await User.get()
    clock.advance(days=7, hours=-1)
    assert (await purge(auth))["user"] == 0
    clock.advance(hours=2)
    mailbox.clear()
    assert (await purge(auth))["user"] == 1
    assert await User.all().count() == await Mail.all().count() == 0
    deleting, deleted = heard
    assert (deleting.user.id, deleted.user_id, deleted.email) == (user.id, user.id, NOBODY)
    assert (events[-1].kind, events[-1].user_id) == ("account_expired", user.id)
    assert (await purge(auth))["user"] == 0
    await auth.dispatcher.deliver_due()
    assert mailbox.messages == []  # a stranger may have typed the address
    await sign_up(client)


async def test_by_default_nobody_is_deleted(
    client: httpx.AsyncClient, auth: Auth, settings: AuthSettings, clock: Clock
) -> None:
    settings.unverified_account_ttl = AuthSettings.model_fields["unverified_account_ttl"].default
    await sign_up(client)
    clock.advance(days=3650)
    assert "user" not in await purge(auth)
    assert await there() == {NOBODY}


async def verified(client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox) -> None:
    await sign_up(client)
    assert (await client.get(mailbox.link(NOBODY))).status_code == 200


async def verified_once(client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox) -> None:
    """And marked unverified by the app."""
    await verified(client, auth, mailbox)
    await User.all().update(is_verified=False)


async def reset(client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox) -> None:
    await sign_up(client)
    await client.post("/auth/forgot-password", json={"email": NOBODY})
    link = mailbox.link(NOBODY)
    assert (await client.post(link, json={"new_password": "another horse"})).status_code == 200


async def signed_in(client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox) -> None:
    auth.settings.require_verified_email = False
    await sign_up(client)
    login = await client.post("/auth/login", json={"email": NOBODY, "password": PASSWORD})
    access = {"Authorization": f"Bearer {login.json()['access_token']}"}
    await client.post("/auth/logout", headers=access)
    await Session.all().delete()


async def given_a_token_by_the_app(client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox) -> None:
    await sign_up(client)
    await RefreshToken.create_for((await User.get()).id, "a.b.c", timedelta(days=90))


async def made_by_an_administrator(client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox) -> None:
    await create_user(auth, NOBODY, PASSWORD)


async def made_without_a_password(client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox) -> None:
    await create_user(auth, NOBODY)


async def invited(client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox) -> None:
    await invite_user(auth, NOBODY)


async def disabled(client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox) -> None:
    await sign_up(client)
    await disable_user(auth, (await User.get()).id)


async def made_a_superuser(client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox) -> None:
    await sign_up(client)
    await grant(auth, (await User.get()).id, superuser=True)


Story = Callable[[httpx.AsyncClient, Auth, Mailbox], Awaitable[None]]
STORIES: list[Story] = [
    verified,
    verified_once,
    reset,
    signed_in,
    given_a_token_by_the_app,
    made_by_an_administrator,
    made_without_a_password,
    invited,
    disabled,
    made_a_superuser,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_an_account_that_somebody_has_to_do_with_stays(
    story: Story, client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox, clock: Clock
) -> None:
    await story(client, auth, mailbox)
    await sign_up(client, "other@example.com")
    clock.advance(days=20)
    assert (await purge(auth))["user"] == 1
    assert await there() == {NOBODY}


@on_each_database
async def test_of_a_verification_and_the_purge_at_once_one_wins(
    database: object, client: httpx.AsyncClient, auth: Auth, settings: AuthSettings, clock: Clock
) -> None:
    """Either the account is verified and stays, or it is gone and the link is refused."""
    settings.verify_token_ttl = timedelta(days=30)
    emails = [f"new{number}@example.com" for number in range(12)]
    tokens = []
    for email in emails:
        user = await signup(auth, email, PASSWORD, binding="x" * 43)
        tokens.append(auth.links.generate(Purpose.VERIFY, user.id))
    clock.advance(days=8)

    async def verify(token: str) -> bool:
        try:
            await verify_signup(auth, token, "x" * 43)
        except AuthError as error:
            return error.code.code != "invalid_link"
        return True

    done, verified = await asyncio.gather(purge(auth), asyncio.gather(*map(verify, tokens)))
    left = {user.email: user.is_verified for user in await User.all()}
    assert left == {email: True for email, won in zip(emails, verified, strict=True) if won}
    assert done["user"] == len(emails) - len(left)


@on_one_database
async def test_a_verification_just_before_the_deletion_keeps_the_account_and_no_hook_hears_of_it(
    client: httpx.AsyncClient, auth: Auth, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle: after the purge has read what to delete."""
    heard: list[Any] = []
    auth.on(AccountDeleted)(heard.append)
    await sign_up(client)
    clock.advance(days=8)
    before = (await User.get()).access_epoch
    erase = unverified_flow.erase

    async def verify_first(auth: Auth, user: Any, **options: Any) -> bool:
        await User.filter(id=user.id).update(is_verified=True)
        return await erase(auth, user, **options)

    monkeypatch.setattr(unverified_flow, "erase", verify_first)
    assert (await purge(auth))["user"] == 0
    assert (await there(), heard) == ({NOBODY}, [])
    assert (await User.get()).access_epoch == before  # nothing of it has happened


async def test_an_account_that_a_hook_keeps_stops_no_other(
    client: httpx.AsyncClient, auth: Auth, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unverified_flow, "BATCH", 2)

    @auth.on(DeletingAccount)
    async def keep(event: DeletingAccount) -> None:
        if event.user.email == EMAIL:
            raise Refused("This one owes something.")
        if event.user.email == "broken@example.com":
            raise ZeroDivisionError

    for email in (EMAIL, "broken@example.com", *(f"new{number}@example.com" for number in range(5))):
        await sign_up(client, email)
    clock.advance(days=8)
    with pytest.raises(Exception, match=r"owes something|keep failed"):
        await purge(auth)
    assert await there() == {EMAIL, "broken@example.com"}


async def test_a_warning_says_that_accounts_end_before_their_links(
    settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    check_settings(settings)
    assert "UNVERIFIED" not in caplog.text
    settings.unverified_account_ttl = timedelta(hours=23)
    check_settings(settings)
    assert "AUTH_UNVERIFIED_ACCOUNT_TTL is shorter than AUTH_VERIFY_TOKEN_TTL" in caplog.text
