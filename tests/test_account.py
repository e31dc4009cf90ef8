"""The account: profile, address, deletion."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.models import Mail, RefreshToken, Session, User

from .conftest import (
    EMAIL,
    PASSWORD,
    SQLITE_UNLESS_FULL,
    Account,
    Clock,
    Mailbox,
    on_each_database,
    on_one_database,
)
from .test_password import DEAD_LINK, login_status

DIALECTS = SQLITE_UNLESS_FULL

NEW = "ada@example.org"
PATHS = pytest.mark.parametrize("path", ["/account", "/account/"])


async def patch(account: Account, path: str = "/account", **changes: object) -> httpx.Response:
    return await account.client.patch(path, json=changes, headers=account.headers)


@on_one_database
@PATHS
async def test_the_account_answers_with_and_without_a_slash(path: str, account: Account) -> None:
    read = await account.client.get(path, headers=account.headers)
    assert (read.status_code, read.json()) == (200, (await account.me()).json())
    changed = await patch(account, path, display_name="Ada")
    assert (changed.status_code, changed.json()["display_name"]) == (200, "Ada")
    deleted = await account.client.delete(path, headers=account.headers)
    assert (deleted.status_code, deleted.content) == (204, b"")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Ada Lovelace", "Ada Lovelace"),
        ("  Ada  ", "Ada"),
        ("", None),
        ("   ", None),
        (None, None),
        ("x" * 64, "x" * 64),
        ("\U0001f469\u200d\U0001f680" * 10, "\U0001f469\u200d\U0001f680" * 10),
        ("\u05d0\u05d3\u05d4", "\u05d0\u05d3\u05d4"),
        ("{{7*7}} <b>", "{{7*7}} <b>"),
    ],
)
async def test_a_display_name_is_kept_as_given_and_removed_when_empty(
    given: str | None, kept: str | None, account: Account
) -> None:
    await patch(account, display_name="Before")
    assert (await patch(account, display_name=given)).json()["display_name"] == kept
    assert (await User.get()).display_name == kept


@on_one_database
@pytest.mark.parametrize(
    "name", ["x" * 65, "a\r\nBcc: b", "a\0b", "a\u2028b", "a\u0085b", "a\x1b[31mb", 5, ["a"]]
)
async def test_a_display_name_is_one_short_line(name: object, account: Account) -> None:
    """A-82, R-46."""
    assert (await patch(account, display_name=name)).status_code == 422
    assert (await User.get()).display_name is None


@on_one_database
@pytest.mark.parametrize("changes", [{}, {"email": None}, {"email": EMAIL}, {"email": EMAIL.upper()}])
async def test_a_patch_without_a_change_changes_nothing(
    changes: dict[str, Any], account: Account, mailbox: Mailbox
) -> None:
    await patch(account, display_name="Ada")
    mailbox.clear()
    answer = await patch(account, **changes)
    assert (answer.status_code, answer.json()) == (200, (await account.me()).json())
    assert answer.json()["display_name"] == "Ada"
    assert mailbox.messages == []


@on_one_database
@pytest.mark.parametrize("field", ["id", "is_verified", "is_superuser", "is_active", "hashed_password"])
async def test_no_other_field_can_be_set(field: str, account: Account) -> None:
    """A-31."""
    before = await User.get()
    assert (await patch(account, display_name="Eve", **{field: False})).status_code == 422
    assert dict(await User.get()) == dict(before)


async def test_a_new_address_takes_effect_when_it_confirms_and_the_old_one_is_told(
    account: Account, mailbox: Mailbox
) -> None:
    """A-30."""
    await account.client.post("/auth/forgot-password", json={"email": EMAIL})
    old_reset = mailbox.link()
    mailbox.clear()
    answer = await patch(account, email=NEW.upper())
    assert (answer.status_code, answer.json()["email"]) == (200, EMAIL)
    assert {message["To"] for message in mailbox.messages} == {NEW, EMAIL}
    link = mailbox.link(NEW)
    assert await login_status(account.client, PASSWORD, NEW) == 401
    confirmed = await account.client.post(link)
    assert confirmed.json() == {"detail": "Your e-mail address was changed."}
    assert (await account.me()).json()["email"] == NEW
    assert mailbox.messages[-1]["To"] == EMAIL
    assert NEW in mailbox.messages[-1].get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert await login_status(account.client, PASSWORD, NEW) == 200
    assert await login_status(account.client, PASSWORD, EMAIL) == 401
    assert (await account.client.post(link)).content == DEAD_LINK
    body = {"new_password": "another good one"}
    assert (await account.client.post(old_reset, json=body)).content == DEAD_LINK


async def test_a_later_request_replaces_the_pending_address(account: Account, mailbox: Mailbox) -> None:
    await patch(account, email="typo@example.org")
    first = mailbox.link("typo@example.org")
    await patch(account, email=NEW)
    assert (await account.client.get(first)).content == DEAD_LINK
    assert (await account.client.post(mailbox.link(NEW))).status_code == 200


async def test_a_pending_change_dies_with_a_password_change(account: Account, mailbox: Mailbox) -> None:
    await patch(account, email=NEW)
    body = {"old_password": PASSWORD, "new_password": "another good one"}
    await account.client.post("/account/change-password", json=body, headers=account.headers)
    assert (await account.client.post(mailbox.link(NEW))).content == DEAD_LINK


async def test_a_taken_address_is_refused(account: Account, register: Callable[..., Any]) -> None:
    await register(NEW)
    answer = await patch(account, email=NEW, display_name="Ada")
    assert (answer.status_code, answer.json()["code"]) == (400, "email_taken")
    assert (await User.get(email=EMAIL)).display_name is None


async def test_a_taken_address_is_not_told_when_enumeration_is_prevented(
    account: Account, register: Callable[..., Any], settings: AuthSettings, mailbox: Mailbox
) -> None:
    await register(NEW)
    settings.prevent_enumeration = True
    mailbox.clear()
    answer = await patch(account, email=NEW)
    assert (answer.status_code, answer.json()["email"]) == (200, EMAIL)
    assert {message["To"] for message in mailbox.messages} == {NEW, EMAIL}
    assert "auth/email-change" not in "".join(map(str, mailbox.messages))


@on_each_database
async def test_of_two_users_who_confirm_one_address_one_wins(
    account: Account, register: Callable[..., Any], mailbox: Mailbox
) -> None:
    """R-17."""
    other = await register("bob@example.com")
    links = []
    for user in (account, other):
        assert (await patch(user, email=NEW)).status_code == 200
        links.append(mailbox.link(NEW))
    answers = await asyncio.gather(*(account.client.post(link) for link in links))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 1}
    assert {answer.content for answer in answers if answer.status_code == 400} == {DEAD_LINK}
    assert await User.filter(email=NEW).count() == 1
    assert await User.all().count() == 2


@on_each_database
async def test_two_patches_of_different_fields_lose_nothing(account: Account, mailbox: Mailbox) -> None:
    """R-21."""
    answers = await asyncio.gather(patch(account, display_name="Ada"), patch(account, email=NEW))
    assert [answer.status_code for answer in answers] == [200, 200]
    user = await User.get()
    assert (user.display_name, user.pending_email) == ("Ada", NEW)


async def test_sensitive_changes_need_a_recent_login(account: Account, clock: Clock) -> None:
    clock.advance(minutes=14)
    refreshed = (await account.refresh()).json()
    account.access_token = refreshed["access_token"]
    clock.advance(minutes=2)
    for answer in (
        await patch(account, email=NEW),
        await account.client.delete("/account", headers=account.headers),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
    assert (await patch(account, display_name="Ada")).status_code == 200
    body = {"password": PASSWORD}
    confirmed = await account.client.post("/auth/reauthenticate", json=body, headers=account.headers)
    assert confirmed.status_code == 200
    assert (await patch(account, email=NEW)).status_code == 200
    assert (await account.client.delete("/account", headers=account.headers)).status_code == 204


async def test_deletion_leaves_nothing_and_kills_every_token(account: Account, mailbox: Mailbox) -> None:
    """R-22, A-59: also for a later account with the same address."""
    await account.client.post("/auth/forgot-password", json={"email": EMAIL})
    reset = mailbox.link()
    await patch(account, email=NEW)
    change = mailbox.link(NEW)
    old_id = (await User.get()).id
    assert (await account.client.delete("/account", headers=account.headers)).status_code == 204
    for model in (User, Session, RefreshToken):
        assert await model.all().count() == 0
    assert await Mail.exclude(user_id=None).count() == 0
    for _ in range(2):
        assert (await account.me()).status_code == 401
        assert (await account.refresh()).status_code == 401
        assert (await account.client.post("/auth/logout", headers=account.headers)).status_code == 401
        body = {"new_password": "another good one"}
        assert (await account.client.post(reset, json=body)).content == DEAD_LINK
        assert (await account.client.post(change)).content == DEAD_LINK
        await account.client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    assert (await User.get()).id != old_id
