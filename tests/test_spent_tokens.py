"""The rows of a session in use do not grow, and a token whose row is gone still tells of theft."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.flows.spent_tokens import DROPPED_EVERY
from fastapi_pluggable_auth.models import Mail, RefreshToken, Session, User
from fastapi_pluggable_auth.security.jwt import REFRESH

from .conftest import Account, Clock, on_each_database
from .test_rotation import heard, session_lives
from .test_sessions import keep, statuses

__all__ = ["heard"]

MOST = 15
"""Rows of a session that is always in use, by the default settings."""


async def rotate(account: Account, clock: Clock, times: int) -> list[str]:
    """As a client that is always open; the tokens that it has spent."""
    spent = []
    for _ in range(times):
        spent.append(account.refresh_token)
        clock.advance(minutes=15)
        keep(account, await account.refresh())
    return spent


async def is_stored(token: str) -> bool:
    return await RefreshToken.exists(token=token)


@pytest.mark.parametrize("which", [0, 1, 39])
async def test_a_client_that_is_always_open_leaves_few_rows_and_each_of_its_tokens_tells_of_theft(
    account: Account, clock: Clock, heard: list[str], which: int
) -> None:
    """A-52."""
    spent = await rotate(account, clock, 40)
    assert await RefreshToken.all().count() <= MOST
    assert [await is_stored(token) for token in (spent[0], spent[1], spent[39])] == [True, False, True]
    assert (await account.me()).status_code == 200
    mails = await Mail.all().count()
    clock.advance(minutes=1)
    for _ in range(2):
        answer = await account.refresh(spent[which])
        # The pair of the last one has been shown by the request above.
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert heard == ["refresh_reuse"]
    assert await Mail.all().count() == mails + 1
    assert not await session_lives()
    assert statuses([await account.me(), await account.refresh()]) == {401: 2}


async def test_tokens_are_kept_for_as_long_as_the_setting_says(
    account: Account, settings: AuthSettings, clock: Clock
) -> None:
    settings.spent_token_retention = timedelta(hours=3)
    spent = await rotate(account, clock, 32)
    stored = [await is_stored(token) for token in spent]
    assert stored[0]  # tokens of before may have no number
    assert not any(stored[1 : 32 - 12 - DROPPED_EVERY])
    assert all(stored[32 - 12 :])


async def test_an_answer_that_was_lost_is_replaced_although_older_tokens_were_dropped(
    account: Account, settings: AuthSettings, clock: Clock, heard: list[str]
) -> None:
    settings.refresh_idempotent = True
    await rotate(account, clock, 23)
    assert (await account.refresh()).status_code == 200  # its answer is lost, as older ones are dropped
    clock.advance(days=5)
    keep(account, await account.refresh())
    assert heard == ["refresh_lost"]
    assert (await account.me()).status_code == 200


async def test_a_dropped_token_of_a_session_that_has_ended_alarms_nobody(
    account: Account, clock: Clock, heard: list[str]
) -> None:
    spent = await rotate(account, clock, 24)
    await User.all().update(is_active=False)
    assert (await account.refresh(spent[5])).status_code == 401
    assert await session_lives()
    await User.all().update(is_active=True)
    await Session.all().update(revoked_at=clock())
    assert (await account.refresh(spent[5])).status_code == 401
    assert heard == []


async def test_tokens_that_a_restored_database_does_not_know_alarm_nobody(
    account: Account, clock: Clock, heard: list[str]
) -> None:
    """What was issued after the backup is good for nothing, and no theft."""
    await rotate(account, clock, 16)
    backup = {token.id: dict(token) for token in await RefreshToken.all()}
    before = account.refresh_token
    after = [*await rotate(account, clock, 3), account.refresh_token][1:]
    await RefreshToken.exclude(id__in=list(backup)).delete()
    await RefreshToken.filter(token=before).update(revoked=False, rotated_at=None, replaced_by=None)
    for token in after:
        assert (await account.refresh(token)).status_code == 401
    assert heard == []
    assert (await account.refresh(before)).status_code == 200


async def test_a_token_that_names_no_session_tells_of_theft_for_as_long_as_the_session_lasts(
    account: Account, auth: Auth, clock: Clock, heard: list[str]
) -> None:
    """As those of 0.1, and of apps that mint their own."""
    user = await User.get()
    await Session.all().delete()
    first = auth.signer.sign(REFRESH, user.id, issued_at=clock(), expires_at=clock() + timedelta(days=7))
    await RefreshToken.create_for(user.id, first, timedelta(days=7))
    account.refresh_token = first
    await rotate(account, clock, 32)
    assert await is_stored(first)
    assert (await account.refresh(first)).status_code == 401
    assert heard == ["refresh_reuse"]
    assert not await session_lives()


async def test_a_token_of_another_session_or_user_says_nothing_of_this_one(
    account: Account, auth: Auth, clock: Clock, heard: list[str]
) -> None:
    await rotate(account, clock, 24)
    user, session = await User.get(), await Session.get()
    other = await User.create(email="other@example.com", hashed_password="x")
    ends = {"issued_at": clock(), "expires_at": clock() + timedelta(days=7)}
    for subject, claims in ((other, {"sid": str(session.id), "gen": 3}), (user, {"gen": 3})):
        forged = auth.signer.sign(REFRESH, subject.id, **ends, **claims)
        assert (await account.refresh(forged)).status_code == 401
    assert heard == []
    assert await session_lives()


@on_each_database
async def test_refreshes_that_drop_tokens_race_those_with_dropped_ones(
    account: Account, clock: Clock, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wins each rotation; a dropped token ends the session once, whatever else is under way."""
    monkeypatch.setattr("fastapi_pluggable_auth.flows.rotation.DROPPED_EVERY", 1)
    first = await Session.get()
    for round in range(3):
        await account.login()
        spent = await rotate(account, clock, 9)
        assert not await is_stored(spent[2])
        for _ in range(2):
            clock.advance(hours=1)
            answers = await asyncio.gather(*(account.refresh() for _ in range(10)))
            assert statuses(answers) == {200: 1, 401: 9}
            spent.append(account.refresh_token)
            keep(account, next(answer for answer in answers if answer.status_code == 200))
        clock.advance(hours=1)
        answers = await asyncio.gather(
            *(account.refresh(token) for token in (*spent[1:9], account.refresh_token))
        )
        assert set(statuses(answers)) <= {200, 401}
        assert sum(answer.status_code == 200 for answer in answers) <= 1
        assert heard == ["refresh_reuse"] * (round + 1)
        assert await Session.filter(revoked_at=None).values_list("id", flat=True) == [first.id]
        for answer in answers:
            if answer.status_code == 200:
                keep(account, answer)
        assert statuses([await account.me(), await account.refresh()]) == {401: 2}
