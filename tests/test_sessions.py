"""Sessions: rotation, reuse, revocation, lifetimes."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features.administration.users import require_password_reset
from fastapi_pluggable_auth.models import RefreshToken, Session, User, token_digest
from fastapi_pluggable_auth.security.jwt import REFRESH

from .conftest import EMAIL, PASSWORD, Account, Clock, Database, Mailbox, claims_of, on_one_database


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def second(account: Account) -> Account:
    """The same user, not yet signed in."""
    return Account(account.client, account.mailbox, account.email, account.password)


async def other_login(account: Account) -> Account:
    """The same user on another device."""
    other = second(account)
    assert (await other.login()).status_code == 200
    return other


def keep(account: Account, answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    account.access_token, account.refresh_token = (
        answer.json()["access_token"],
        answer.json()["refresh_token"],
    )


async def test_a_refresh_gives_a_new_pair_and_both_access_tokens_work(account: Account) -> None:
    first = account.access_token
    answer = await account.refresh()
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["token_type"] == "bearer"
    keep(account, answer)
    assert (await account.me()).status_code == 200
    assert (await account.me(first)).status_code == 200


async def test_a_spent_token_within_the_leeway_is_a_race_and_the_family_lives(
    account: Account, clock: Clock
) -> None:
    """Two browser tabs log nobody out."""
    spent = account.refresh_token
    keep(account, await account.refresh())
    clock.advance(seconds=9)
    again = await account.refresh(spent)
    assert (again.status_code, again.json()["code"]) == (401, "refresh_raced")
    assert (await account.refresh()).status_code == 200


async def test_a_spent_token_after_the_leeway_ends_its_family_and_tells_the_owner_once(
    account: Account, clock: Clock, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A-42, R-05."""
    other = await other_login(account)
    spent = account.refresh_token
    keep(account, await account.refresh())
    assert (await account.me()).status_code == 200
    mailbox.clear()
    clock.advance(seconds=11)
    for _ in range(2):
        again = await account.refresh(spent)
        assert (again.status_code, again.json()["code"]) == (401, "invalid_token")
    assert (await account.refresh()).status_code == 401
    assert (await account.me()).status_code == 401
    assert (await other.me()).status_code == 200
    assert [message["To"] for message in mailbox.messages] == [EMAIL]
    assert "reuse" in caplog.text


async def test_a_long_spent_token_still_ends_the_family(account: Account, clock: Clock) -> None:
    """A-52: reuse is known for as long as the token lives."""
    spent = account.refresh_token
    for _ in range(10):
        clock.advance(hours=1)
        keep(account, await account.refresh())
    assert (await account.refresh(spent)).status_code == 401
    assert (await account.me()).status_code == 401


async def test_refresh_race_has_one_winner(account: Account) -> None:
    """R-01: one 200, 49 times 401, and the winner's session lives."""
    answers = await asyncio.gather(*(account.refresh() for _ in range(50)))
    assert statuses(answers) == {200: 1, 401: 49}
    losers = {answer.json()["code"] for answer in answers if answer.status_code == 401}
    assert losers == {"refresh_raced"}
    keep(account, next(answer for answer in answers if answer.status_code == 200))
    assert (await account.me()).status_code == 200
    assert await RefreshToken.filter(revoked=False).count() == 1
    assert (await account.refresh()).status_code == 200


async def test_a_retry_gets_the_same_successor_when_refresh_is_idempotent(
    account: Account, settings: AuthSettings, clock: Clock
) -> None:
    """Never a second branch, never a raw token at rest."""
    settings.refresh_idempotent = True
    spent = account.refresh_token
    answers = await asyncio.gather(*(account.refresh(spent) for _ in range(10)))
    assert statuses(answers) == {200: 10}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert await RefreshToken.all().count() == 2
    keep(account, answers[0])
    keep(account, await account.refresh())
    assert (await account.refresh(spent)).json()["code"] == "refresh_raced"
    clock.advance(seconds=11)
    assert (await account.refresh(spent)).json()["code"] == "invalid_token"
    assert (await account.me()).status_code == 401


async def test_a_rotation_that_races_a_logout_leaves_nothing_alive(account: Account) -> None:
    """R-02."""
    for _ in range(20):
        await account.login()
        refreshed, logged_out = await asyncio.gather(
            account.refresh(), account.client.post("/auth/logout", headers=account.headers)
        )
        assert logged_out.status_code == 200, logged_out.text
        assert refreshed.status_code in (200, 401), refreshed.text
        tokens = [account.refresh_token]
        if refreshed.status_code == 200:
            tokens.append(refreshed.json()["refresh_token"])
            assert (await account.me(refreshed.json()["access_token"])).status_code == 401
        for token in tokens:
            assert (await account.refresh(token)).status_code == 401


async def test_a_rotation_that_races_the_deletion_is_no_server_error(
    register: Callable[..., object], settings: AuthSettings
) -> None:
    """R-04."""
    for number in range(10):
        account: Account = await register(f"user{number}@example.com")  # type: ignore[misc]
        refreshed, deleted = await asyncio.gather(
            account.refresh(), account.client.delete("/account", headers=account.headers)
        )
        assert deleted.status_code == 204, deleted.text
        assert refreshed.status_code in (200, 401), refreshed.text
        assert await RefreshToken.all().count() == 0
        assert await Session.all().count() == 0


async def test_single_session_mode_ends_the_others_at_a_refresh(
    account: Account, settings: AuthSettings
) -> None:
    settings.single_session = True
    other = await other_login(account)
    assert (await other.me()).status_code == 200
    keep(account, await account.refresh())
    assert (await other.me()).status_code == 401
    assert (await other.refresh()).status_code == 401
    assert (await account.me()).status_code == 200
    assert (await account.refresh()).status_code == 200


async def test_a_session_ends_at_its_maximum_age_however_often_it_is_refreshed(
    account: Account, clock: Clock
) -> None:
    """A-44."""
    for _ in range(5):
        clock.advance(days=5.9)
        keep(account, await account.refresh())
    clock.advance(hours=11)
    keep(account, await account.refresh())
    clock.advance(hours=2)  # 30 days and an hour
    assert (await account.refresh()).status_code == 401
    assert (await account.me()).status_code == 401


async def test_a_refresh_never_outlives_its_session(account: Account, clock: Clock) -> None:
    session = await Session.get()
    for _ in range(5):
        clock.advance(days=5.5)
        keep(account, await account.refresh())
    newest = await RefreshToken.filter(revoked=False).get()
    assert newest.expires_at == session.expires_at == (await Session.get()).expires_at


async def test_an_idle_session_ends(account: Account, clock: Clock) -> None:
    """A-45."""
    clock.advance(days=7, seconds=-5)
    keep(account, await account.refresh())
    clock.advance(days=7, seconds=1)
    assert (await account.refresh()).status_code == 401
    assert (await account.client.get("/account/sessions", headers=account.headers)).status_code == 401


async def test_no_token_is_readable_in_the_database(
    account: Account, tortoise: TortoiseContext, database: Database
) -> None:
    """I4, A-40."""
    connection = tortoise.connections.get(database.dialect)
    quote = "`" if database.dialect == "mysql" else '"'
    dump = ""
    for table in ("user", "refreshtoken", "auth_session", "auth_mail"):
        dump += str(await connection.execute_query_dict(f"SELECT * FROM {quote}{table}{quote}"))
    assert token_digest(account.refresh_token) in dump
    for token in (account.refresh_token, account.access_token, account.mailbox.token()):
        assert token not in dump
        assert token[-32:] not in dump  # of a signature


async def test_a_stored_token_is_found_by_its_raw_value(account: Account) -> None:
    found = await RefreshToken.get(token=account.refresh_token)
    assert found.token == token_digest(account.refresh_token)
    await found.save()
    assert (await RefreshToken.get(token=account.refresh_token)).id == found.id
    assert (await account.refresh()).status_code == 200


async def test_a_token_that_the_host_stored_gets_a_session_of_its_own(
    account: Account, auth: Auth, clock: Clock
) -> None:
    user = await User.get(email=EMAIL)
    clock.advance(minutes=5)
    now = clock()
    raw = auth.signer.sign(REFRESH, user.id, issued_at=now, expires_at=now + timedelta(days=1))
    assert (await account.refresh(raw)).status_code == 401
    await RefreshToken.create_for(user.id, raw, timedelta(days=1))
    mine = Account(account.client, account.mailbox, EMAIL, PASSWORD)
    keep(mine, await account.refresh(raw))
    assert (await mine.me()).status_code == 200
    assert (await Session.get(id=claims_of(mine.access_token)["sid"])).created_at >= now
    assert (await account.refresh(raw)).json()["code"] == "refresh_raced"
    clock.advance(seconds=11)
    assert (await account.refresh(raw)).json()["code"] == "invalid_token"
    assert (await mine.me()).status_code == 401
    assert (await account.me()).status_code == 200


async def test_sessions_are_listed_with_device_address_and_times(account: Account, clock: Clock) -> None:
    """A-49."""
    clock.advance(hours=1)
    hostile = "Mozilla/5.0 (\u00e9; \x1b[31m) " + "x" * 400
    credentials = {"email": EMAIL, "password": PASSWORD}
    headers = {"User-Agent": hostile.encode("latin-1")}
    login = await account.client.post("/auth/login", json=credentials, headers=headers)
    keep(account, login)
    clock.advance(minutes=5)
    keep(account, await account.refresh())
    answer = await account.client.get("/account/sessions", headers=account.headers)
    newest, oldest = answer.json()
    assert set(newest) == {
        "id", "created_at", "last_used_at", "expires_at", "user_agent", "address", "current", "impersonated",
    }  # fmt: skip
    assert (newest["current"], oldest["current"]) == (True, False)
    assert newest["address"] == "192.0.2.7"
    assert newest["user_agent"].startswith("Mozilla/5.0 (\u00e9; ?[31m) xxx")
    assert len(newest["user_agent"]) == 255
    assert newest["created_at"] < newest["last_used_at"] < newest["expires_at"]
    assert newest["created_at"].endswith("Z")


async def test_one_session_can_be_ended_and_the_others_live(account: Account) -> None:
    other = await other_login(account)
    listed = (await account.client.get("/account/sessions", headers=account.headers)).json()
    target = next(session["id"] for session in listed if not session["current"])
    ended = await account.client.delete(f"/account/sessions/{target}", headers=account.headers)
    assert ended.status_code == 204
    assert (await other.me()).status_code == 401
    assert (await other.refresh()).status_code == 401
    assert (await account.me()).status_code == 200
    again = await account.client.delete(f"/account/sessions/{target}", headers=account.headers)
    assert again.status_code == 404
    assert len((await account.client.get("/account/sessions", headers=account.headers)).json()) == 1


async def test_nobody_ends_a_session_of_somebody_else(
    account: Account, register: Callable[..., object]
) -> None:
    """A-88."""
    stranger: Account = await register("eve@example.com")  # type: ignore[misc]
    mine = (await account.client.get("/account/sessions", headers=account.headers)).json()[0]["id"]
    for target in (mine, str(uuid4()), "x", "%00", "1; DROP TABLE auth_session"):
        answer = await account.client.delete(f"/account/sessions/{target}", headers=stranger.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
    assert (await account.me()).status_code == 200


async def test_logging_out_the_others_keeps_the_current_session(account: Account) -> None:
    others = [await other_login(account) for _ in range(2)]
    answer = await account.client.post("/account/logout-others", headers=account.headers)
    assert answer.status_code == 204
    for other in others:
        assert (await other.me()).status_code == 401
        assert (await other.refresh()).status_code == 401
    assert (await account.me()).status_code == 200
    assert (await account.refresh()).status_code == 200


async def test_a_token_without_session_stands_for_the_user_until_the_password_changes(
    account: Account, auth: Auth, clock: Clock
) -> None:
    user = await User.get(email=EMAIL)
    token = auth.signer.access_token(user.id)
    assert (await account.me(token)).status_code == 200
    others = {"Authorization": f"Bearer {token}"}
    assert (await account.client.post("/account/logout-others", headers=others)).status_code == 204
    assert (await account.me()).status_code == 401
    clock.advance(seconds=2)
    await User.filter(id=user.id).update(password_changed_at=clock())
    assert (await account.me(token)).status_code == 401


@pytest.mark.parametrize("change", [{"is_active": False}, None])
async def test_a_disabled_or_deleted_user_is_out_at_once(
    account: Account, change: dict[str, bool] | None
) -> None:
    """A-47."""
    users = User.filter(email=EMAIL)
    await (users.delete() if change is None else users.update(**change))
    assert (await account.me()).status_code == 401
    assert (await account.refresh()).status_code == 401
    assert (await account.login()).json()["code"] == "invalid_credentials"


async def test_fifty_writers_on_one_sqlite_file_never_meet_a_locked_database(
    settings: AuthSettings, mailbox: Mailbox, tmp_path: Path
) -> None:
    app = FastAPI()
    auth = include_auth(app, settings=settings)
    async with TortoiseContext() as context:
        url = f"sqlite://{tmp_path / 'busy.sqlite3'}"
        await context.init(db_url=url, modules={"models": ["fastapi_pluggable_auth.models"]})
        await context.generate_schemas()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            signups = await asyncio.gather(
                *(
                    client.post("/auth/signup", json={"email": f"u{n}@example.com", "password": PASSWORD})
                    for n in range(50)
                )
            )
        assert statuses(signups) == {201: 50}
        assert await User.all().count() == 50
    await auth.close()


async def test_a_login_beyond_the_limit_ends_the_oldest_session(
    account: Account, settings: AuthSettings
) -> None:
    """A-50."""
    settings.max_sessions = 3
    first = account.access_token
    others = [second(account) for _ in range(3)]
    for other in others:
        assert (await other.login()).status_code == 200
    assert (await account.me(first)).status_code == 401
    assert {(await other.me()).status_code for other in others} == {200}


async def test_logins_at_once_leave_no_more_sessions_than_allowed(
    account: Account, settings: AuthSettings
) -> None:
    """R-07."""
    settings.max_sessions = 3
    answers = await asyncio.gather(*(second(account).login() for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert await Session.filter(revoked_at=None).count() == 3
    assert await RefreshToken.filter(revoked=False).count() == 3


async def test_a_user_flagged_for_a_reset_can_do_nothing_else(
    account: Account, auth: Auth, mailbox: Mailbox, clock: Clock
) -> None:
    """A-09: forced after a compromise, and never by age alone."""
    clock.advance(days=400)
    assert (await account.login()).status_code == 200
    await require_password_reset(auth, (await User.get()).id)
    assert (await account.me()).status_code == 401
    assert (await account.refresh()).status_code == 401
    refused = await account.login()
    assert (refused.status_code, refused.json()["code"]) == (401, "password_reset_required")
    wrong = Account(account.client, mailbox, EMAIL, "wrong password")
    assert (await wrong.login()).json()["code"] == "invalid_credentials"
    await account.client.post("/auth/forgot-password", json={"email": EMAIL})
    account.password = "a new horse battery"
    body = {"new_password": account.password}
    assert (await account.client.post(mailbox.link(), json=body)).status_code == 200
    assert (await account.login()).status_code == 200


@on_one_database
async def test_an_unknown_browser_is_told_where_the_app_asks_for_it(
    account: Account, settings: AuthSettings, mailbox: Mailbox
) -> None:
    """A-23."""
    mailbox.clear()

    async def login_from(agent: str) -> list[str]:
        mailbox.clear()
        account.client.headers["User-Agent"] = agent
        assert (await account.login()).status_code == 200
        return [str(message.get_body(("plain",))) for message in mailbox.messages]

    assert await login_from("Quiet/1.0") == []
    settings.notify_new_device = True
    (mail,) = await login_from("Loud/1.0")
    assert "Loud/1.0, from 192.0.2.7" in mail
    assert await login_from("Loud/1.0") == []
    (mail,) = await login_from("Mozilla/5.0 (X11; Linux) Firefox/140.0 https://evil.example/1")
    assert ": Firefox, Linux, from 192.0.2.7" in mail
    for hostile in ("Your-account-is-locked:https://evil.example", "evil.example/login", "x" * 300, "()"):
        (mail,) = await login_from(hostile)
        assert ": unknown, from 192.0.2.7" in mail


@on_one_database
async def test_clocks_that_differ_or_step_open_nothing_and_break_nothing(
    account: Account, clock: Clock, mailbox: Mailbox
) -> None:
    """R-36: two servers 5 s apart; a clock that steps back an hour, and one that steps forward a day."""
    clock.advance(seconds=5)
    await account.login()
    clock.advance(seconds=-5)
    assert (await account.me()).status_code == 200
    keep(account, await account.refresh())

    ended = second(account)
    await ended.login()
    await account.client.post("/auth/forgot-password", json={"email": EMAIL})
    link, body = mailbox.link(), {"new_password": PASSWORD[::-1]}
    assert (await account.client.post(link, json=body)).status_code == 200
    clock.advance(hours=-1)
    assert (await account.client.post(link, json=body)).status_code == 400
    assert (await ended.me()).status_code == 401
    assert (await ended.refresh()).status_code == 401

    account.password = PASSWORD[::-1]
    assert (await account.login()).status_code == 200
    clock.advance(days=1)
    assert (await account.me()).status_code == 401
    clock.advance(days=-1)
    assert (await account.me()).status_code == 200
    assert (await account.refresh()).status_code == 200


async def listed(account: Account, query: str = "") -> httpx.Response:
    answer = await account.client.get(f"/account/sessions{query}", headers=account.headers)
    assert answer.status_code == 200, answer.text
    return answer


async def test_a_long_list_of_sessions_comes_in_pages_that_miss_and_repeat_none(
    account: Account, settings: AuthSettings
) -> None:
    """RFC 8288: the header `Link` has the next one."""
    settings.max_sessions = 0
    for _ in range(6):
        await account.login()
    whole = (await listed(account)).json()
    assert "link" not in (await listed(account)).headers
    assert [session["current"] for session in whole] == [True] + [False] * 6
    shown, path, pages = [], "?limit=3", 0
    while path:
        answer = await listed(account, path)
        shown += answer.json()
        link = answer.headers.get("link", "")
        match = re.fullmatch(r'</account/sessions(\?[^>]+)>; rel="next"', link)
        path, pages = match[1] if match else "", pages + 1
        if pages == 1:  # one more login comes first, and moves none of the others
            await account.login()
    assert (pages, shown[1:]) == (3, whole[1:])


@on_one_database
@pytest.mark.parametrize("query", ["?limit=0", "?limit=101", "?limit=x", "?after=x", "?after=1"])
async def test_a_page_that_is_none_is_refused(query: str, account: Account) -> None:
    answer = await account.client.get(f"/account/sessions{query}", headers=account.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


async def many_sessions(user: User, count: int, clock: Clock) -> None:
    """As an account of before has them."""
    now = clock()
    ids = [uuid4() for _ in range(count)]
    options: dict[str, Any] = {"user_id": user.id, "expires_at": now + timedelta(days=3)}
    await Session.bulk_create([Session(id=each, authenticated_at=now, **options) for each in ids])
    await RefreshToken.bulk_create(
        [RefreshToken(session_id=each, token=str(each), **options) for each in ids]
    )


async def test_no_list_of_sessions_is_longer_than_a_hundred(account: Account, clock: Clock) -> None:
    await many_sessions(await User.get(), 1500, clock)
    answer = await listed(account)
    assert (len(answer.json()), "link" in answer.headers) == (100, True)


async def test_without_a_setting_a_user_has_a_hundred_sessions_at_most(
    account: Account, clock: Clock
) -> None:
    """A-50: also an account that had more before there was a limit."""
    user = await User.get()
    await many_sessions(user, 1200, clock)
    await User.all().update(sessions_opened=None)
    clock.advance(seconds=1)
    for _ in range(3):
        await account.login()
        assert await Session.filter(revoked_at=None).count() == 100
        assert await RefreshToken.filter(revoked=False).count() == 100
    assert (await account.me()).status_code == 200


async def test_the_limit_holds_whatever_it_was_before(account: Account, settings: AuthSettings) -> None:
    settings.max_sessions = 0
    for _ in range(5):
        await account.login()
    for most in (3, 4, 1):
        settings.max_sessions = most
        for _ in range(2):
            await account.login()
        assert await Session.filter(revoked_at=None).count() == most
