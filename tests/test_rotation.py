"""Rotation: what a spent token gets that comes back, and whom a token of which pair stands for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Annotated

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import Depends, FastAPI, HTTPException
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import (
    Auth,
    AuthSettings,
    CurrentUser,
    OptionalUser,
    PageUser,
    RecentUser,
    SecurityEvent,
    include_auth,
    require,
)
from fastapi_pluggable_auth.events import EventKind
from fastapi_pluggable_auth.models import Mail, RefreshToken, Session, User
from fastapi_pluggable_auth.security import jwt
from fastapi_pluggable_auth.security.generations import as_ranges, includes
from fastapi_pluggable_auth.security.jwt import new_token_id

from .conftest import EMAIL, Account, Clock, Database, Mailbox, on_one_database
from .test_cookies import (
    ACCESS,
    BASE,
    CREDENTIALS,
    OWN_PAGE,
    REFRESH,
    client_with,
    set_cookies,
    verified_user,
)
from .test_host_transactions import WRAPPERS
from .test_sessions import keep, statuses


@pytest.fixture
def heard(auth: Auth) -> list[str]:
    """The kinds of the events that tell of lost or stolen tokens."""
    kinds: list[str] = []

    @auth.on(SecurityEvent)
    def hear(event: SecurityEvent) -> None:
        if event.kind in (EventKind.REFRESH_LOST, EventKind.REFRESH_REUSE):
            kinds.append(event.kind)

    return kinds


async def session_lives() -> bool:
    return (await Session.get()).revoked_at is None


async def lose(account: Account) -> Account:
    """Rotates, and the answer never comes: it is returned, as whoever else got it."""
    answer = await account.refresh()
    other = Account(account.client, account.mailbox, account.email, account.password)
    keep(other, answer)
    return other


# Bearer tokens, retries refused


async def test_a_lost_answer_is_revoked_without_an_alarm_however_often_the_token_comes(
    account: Account, clock: Clock, mailbox: Mailbox, heard: list[str]
) -> None:
    """R-05: the old token is dead by the contract, so that nobody has one any more."""
    mailbox.clear()
    await lose(account)
    for seconds in (2, 60, 3600, 86_400):
        clock.advance(seconds=seconds)
        again = await account.refresh()
        assert (again.status_code, again.json()["code"]) == (401, "refresh_raced")
    assert heard == ["refresh_lost"]
    assert await RefreshToken.filter(revoked=False).count() == 0
    assert await session_lives()
    assert (mailbox.messages, await Mail.filter(kind="session_reuse").count()) == ([], 0)


@pytest.mark.parametrize("what", ["access", "refresh"])
@pytest.mark.parametrize("idempotent", [False, True])
async def test_whoever_shows_a_lost_pair_after_all_ends_the_session(
    account: Account,
    settings: AuthSettings,
    clock: Clock,
    mailbox: Mailbox,
    heard: list[str],
    what: str,
    idempotent: bool,
) -> None:
    """A-42: two had that answer."""
    settings.refresh_idempotent = idempotent
    mailbox.clear()
    thief = await lose(account)
    clock.advance(seconds=11)
    answer = await account.refresh()
    if idempotent:
        keep(account, answer)
        assert (await account.me()).status_code == 200
    shown = await (thief.me() if what == "access" else thief.refresh())
    assert (shown.status_code, shown.json()["code"]) == (401, "invalid_token")
    assert heard == ["refresh_lost", "refresh_reuse"]
    assert not await session_lives()
    assert (await account.me()).status_code == 401
    assert [message["To"] for message in mailbox.messages] == [EMAIL]


async def test_an_access_token_of_each_of_several_losses_in_a_row_ends_the_session(
    account: Account, settings: AuthSettings, clock: Clock
) -> None:
    settings.refresh_idempotent = True
    for lost in range(4):
        await account.login()
        thieves = []
        for _ in range(4):
            thieves.append(await lose(account))
            clock.advance(seconds=11)
        keep(account, await account.refresh())
        assert (await account.me()).status_code == 200
        keep(account, await account.refresh())
        assert (await account.me()).status_code == 200
        assert (await thieves[lost].me()).status_code == 401
        assert (await account.me()).status_code == 401
        assert (await account.refresh()).status_code == 401


async def test_losses_between_ordinary_rotations_are_known_until_their_tokens_expire(
    account: Account, settings: AuthSettings, clock: Clock
) -> None:
    settings.refresh_idempotent = True
    settings.access_token_expires = timedelta(minutes=5)
    for _ in range(20):
        await lose(account)
        clock.advance(seconds=30)
        keep(account, await account.refresh())
        assert (await account.me()).status_code == 200
        keep(account, await account.refresh())
        assert (await account.me()).status_code == 200
    superseded = (await Session.get()).superseded
    gens = set(await RefreshToken.filter(superseded=True).values_list("gen", flat=True))
    newest = sorted(gens)[-11:]  # 5 minutes, 10 and 30 seconds
    assert all(includes(superseded, gen) for gen in newest)
    assert 0 < len(superseded.split(",")) <= 12


async def test_an_older_access_token_of_an_ordinary_rotation_stays_good(
    account: Account, clock: Clock
) -> None:
    first = account.access_token
    for _ in range(3):
        clock.advance(minutes=4)
        keep(account, await account.refresh())
        assert (await account.me()).status_code == 200
        assert (await account.me(first)).status_code == 200
    assert await session_lives()


# Retries that are answered


async def test_a_lost_answer_is_replaced_and_its_replacement_repeated(
    account: Account, settings: AuthSettings, clock: Clock, heard: list[str]
) -> None:
    """R-05."""
    settings.refresh_idempotent = True
    lost = await lose(account)
    clock.advance(seconds=60)
    spent, replaced = account.refresh_token, await account.refresh()
    assert replaced.json()["refresh_token"] != lost.refresh_token
    clock.advance(seconds=9)  # of its mint, long after that of the first successor
    assert (await account.refresh(spent)).json()["refresh_token"] == replaced.json()["refresh_token"]
    keep(account, replaced)
    assert (await account.me()).status_code == 200
    assert (await account.refresh()).status_code == 200
    assert heard == ["refresh_lost"]
    assert await RefreshToken.filter(revoked=False).count() == 1


async def test_a_token_that_was_spent_yesterday_ends_the_session_once_its_successor_was_spent(
    account: Account, settings: AuthSettings, clock: Clock, heard: list[str]
) -> None:
    """Spending shows a pair as well, also where no access token of it ever came."""
    settings.refresh_idempotent = True
    spent = account.refresh_token
    for _ in range(2):
        keep(account, await account.refresh())
    clock.advance(days=1)
    assert (await account.refresh(spent)).json()["code"] == "invalid_token"
    assert heard == ["refresh_reuse"]
    assert not await session_lives()


async def test_an_expired_token_gets_nothing_and_alarms_nobody(
    account: Account, settings: AuthSettings, clock: Clock, heard: list[str]
) -> None:
    settings.refresh_idempotent = True
    clock.advance(days=6, hours=23)
    await lose(account)
    clock.advance(hours=2)
    assert (await account.refresh()).json()["code"] == "invalid_token"
    assert heard == []


async def test_an_expired_token_that_was_never_spent_is_not_spent(account: Account, clock: Clock) -> None:
    clock.advance(days=7, seconds=1)
    assert (await account.refresh()).json()["code"] == "invalid_token"
    assert not (await RefreshToken.get()).revoked


@on_one_database
async def test_a_public_key_lets_others_see_tokens_so_that_the_leeway_shows_a_pair(
    account: Account, settings: AuthSettings, clock: Clock, heard: list[str]
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    settings.jwt_algorithm, settings.refresh_idempotent = "ES256", True
    settings.jwt_private_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    await account.login()
    lost = await lose(account)
    clock.advance(seconds=9)
    assert statuses([await account.refresh()]) == {200: 1}
    clock.advance(seconds=2)
    assert (await account.refresh()).json()["code"] == "invalid_token"
    assert heard == ["refresh_reuse"]
    assert (await lost.me()).status_code == 401


# What shows a pair


@pytest.fixture
def host(app: FastAPI) -> FastAPI:
    @app.get("/page")
    async def page(user: PageUser) -> str:
        return user.email

    @app.get("/optional")
    async def optional(user: OptionalUser) -> bool:
        return user is not None

    @app.get("/recent")
    async def recent(user: RecentUser) -> str:
        return user.email

    @app.get("/required")
    async def required(user: Annotated[User, Depends(require(verified=True))]) -> str:
        return user.email

    return app


@on_one_database
@pytest.mark.parametrize(
    "path", ["/auth/me", "/account/sessions", "/page", "/optional", "/recent", "/required"]
)
async def test_whatever_authenticates_shows_a_pair(
    host: FastAPI, account: Account, clock: Clock, heard: list[str], path: str
) -> None:
    spent = account.refresh_token
    keep(account, await account.refresh())
    assert (await Session.get()).confirmed_gen == 0
    assert (await account.client.get(path, headers=account.headers)).status_code == 200
    assert (await Session.get()).confirmed_gen == 1
    clock.advance(seconds=11)
    await account.refresh(spent)
    assert heard == ["refresh_reuse"]


REFUSES_UPDATES = {
    "sqlite": (
        "CREATE TRIGGER refuse BEFORE UPDATE OF confirmed_gen ON auth_session "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END",
        "DROP TRIGGER refuse",
    ),
    "postgres": (
        "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE 'refused'; END $$ LANGUAGE plpgsql; "
        "CREATE TRIGGER refuse BEFORE UPDATE OF confirmed_gen ON auth_session "
        "FOR EACH ROW EXECUTE FUNCTION refuse()",
        "DROP TRIGGER refuse ON auth_session; DROP FUNCTION refuse()",
    ),
    "mysql": (
        "CREATE TRIGGER refuse BEFORE UPDATE ON auth_session "
        "FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused'",
        "DROP TRIGGER refuse",
    ),
}


async def test_a_request_goes_on_where_it_cannot_be_noted(
    account: Account, tortoise: TortoiseContext, database: Database
) -> None:
    keep(account, await account.refresh())
    connection = tortoise.connections.get(database.dialect)
    begin, end = REFUSES_UPDATES[database.dialect]
    await connection.execute_script(begin)
    try:
        assert (await account.me()).status_code == 200
    finally:
        await connection.execute_script(end)
    assert (await Session.get()).confirmed_gen == 0
    assert (await account.me()).status_code == 200
    assert (await Session.get()).confirmed_gen == 1


# Races


async def test_clients_that_come_late_at_once_get_one_replacement(
    account: Account, settings: AuthSettings, clock: Clock, heard: list[str]
) -> None:
    settings.refresh_idempotent = True
    for round in range(3):
        await lose(account)
        clock.advance(seconds=11)
        answers = await asyncio.gather(*(account.refresh() for _ in range(30)))
        assert statuses(answers) == {200: 30}
        assert len({answer.json()["refresh_token"] for answer in answers}) == 1
        assert await RefreshToken.filter(revoked=False).count() == 1
        assert heard == ["refresh_lost"] * (round + 1)
        keep(account, answers[0])
        assert (await account.me()).status_code == 200


async def test_clients_that_come_late_at_once_are_all_refused_where_retries_are(
    account: Account, clock: Clock, heard: list[str]
) -> None:
    await lose(account)
    clock.advance(seconds=11)
    answers = await asyncio.gather(*(account.refresh() for _ in range(30)))
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(401, "refresh_raced")}
    assert heard == ["refresh_lost"]
    assert await session_lives()


@pytest.mark.parametrize("what", ["access", "refresh"])
async def test_a_pair_that_is_shown_while_it_is_replaced_leaves_one_of_both(
    account: Account, settings: AuthSettings, clock: Clock, what: str
) -> None:
    """A-43."""
    settings.refresh_idempotent = True
    for _ in range(15):
        await account.login()
        thief = await lose(account)
        clock.advance(seconds=11)
        show = thief.me if what == "access" else thief.refresh
        shown, replaced, *_ = await asyncio.gather(show(), account.refresh(), account.refresh())
        assert statuses([shown, replaced])[200] <= 1, (shown.text, replaced.text)
        if replaced.status_code == 200:
            keep(account, replaced)
        for _ in range(2):  # the next that any of both shows
            alive = statuses([await thief.me(), await account.me()])
        assert alive[200] <= 1


async def test_many_requests_of_a_new_pair_at_once_are_all_answered(account: Account) -> None:
    keep(account, await account.refresh())
    answers = await asyncio.gather(*(account.me() for _ in range(30)))
    assert statuses(answers) == {200: 30}
    assert (await Session.get()).confirmed_gen == 1


# Transports


@pytest.fixture
def cookie_settings(settings: AuthSettings) -> AuthSettings:
    settings.cookies, settings.public_base_url = True, BASE
    return settings


@pytest.fixture
async def browser(
    cookie_settings: AuthSettings, app: FastAPI, auth: Auth, tortoise: TortoiseContext, mailbox: Mailbox
) -> AsyncIterator[httpx.AsyncClient]:
    """A page of the app that is signed in."""
    await verified_user(auth)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=OWN_PAGE) as client:
        assert (await client.post("/auth/login", json=CREDENTIALS)).status_code == 200
        yield client


def jar(client: httpx.AsyncClient) -> dict[str, str]:
    return {cookie.name: cookie.value or "" for cookie in client.cookies.jar}


async def refused(answer: Awaitable[httpx.Response]) -> None:
    given = await answer
    assert (given.status_code, given.json()["code"]) == (401, "invalid_token")
    assert not {cookie.value for cookie in set_cookies(given).values()} - {""}


@on_one_database
async def test_a_token_is_good_only_the_way_it_came(
    browser: httpx.AsyncClient, app: FastAPI, clock: Clock
) -> None:
    """A spent bearer token, sent as a cookie, would get what its owner got."""
    async with client_with(app, {}) as program:
        tokens = (await program.post("/auth/login", json=CREDENTIALS)).json()
        spent = tokens["refresh_token"]
        tokens = (await program.post("/auth/refresh", json={"token": spent})).json()
        cookies = jar(browser)
        for token in (spent, tokens["refresh_token"]):
            async with client_with(app, {REFRESH: token}, **OWN_PAGE) as thief:
                await refused(thief.post("/auth/refresh"))
                await refused(thief.get("/auth/me"))
        async with client_with(app, {ACCESS: tokens["access_token"]}, **OWN_PAGE) as thief:
            await refused(thief.get("/auth/me"))
        await refused(program.post("/auth/refresh", json={"token": cookies[REFRESH]}))
        await refused(browser.post("/auth/refresh", json={"token": cookies[REFRESH]}))
        await refused(program.get("/auth/me", headers={"Authorization": f"Bearer {cookies[ACCESS]}"}))
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert (await program.get("/auth/me", headers=headers)).status_code == 200
        again = await program.post("/auth/refresh", json={"token": tokens["refresh_token"]})
        assert again.status_code == 200
    browser.cookies.clear()
    async with client_with(app, cookies, **OWN_PAGE) as page:
        assert (await page.get("/auth/me")).status_code == 200
        assert (await page.post("/auth/refresh")).status_code == 200


async def unnamed(auth: Auth, client: httpx.AsyncClient) -> str:
    """A refresh token as releases before sign it: it names no transport and no generation."""
    stored, now = await RefreshToken.filter(revoked=False).order_by("-created_at").first(), auth.clock()
    assert stored is not None
    token = auth.signer.sign(
        jwt.REFRESH,
        stored.user_id,
        issued_at=now,
        expires_at=stored.expires_at,
        jti=stored.jti,
        sid=str(stored.session_id),
    )
    await RefreshToken.filter(id=stored.id).update(token=token)
    return token


@on_one_database
@pytest.mark.parametrize("seconds", [1, 11])
async def test_a_session_from_before_changes_its_transport_once(
    browser: httpx.AsyncClient, app: FastAPI, auth: Auth, clock: Clock, seconds: int
) -> None:
    old = await unnamed(auth, browser)
    async with client_with(app, {}) as program:
        tokens = (await program.post("/auth/refresh", json={"token": old})).json()
        clock.advance(seconds=seconds)
        async with client_with(app, {REFRESH: old}, **OWN_PAGE) as thief:
            answer = await thief.post("/auth/refresh")
            assert (answer.status_code, answer.json()["code"]) == (401, "refresh_raced")
        async with client_with(app, {REFRESH: tokens["refresh_token"]}, **OWN_PAGE) as thief:
            await refused(thief.post("/auth/refresh"))


async def test_a_session_from_before_may_change_to_cookies(
    browser: httpx.AsyncClient, app: FastAPI, auth: Auth
) -> None:
    old = await unnamed(auth, browser)
    async with client_with(app, {REFRESH: old}, **OWN_PAGE) as page:
        cookies = {name: each.value for name, each in set_cookies(await page.post("/auth/refresh")).items()}
    async with client_with(app, cookies, **OWN_PAGE) as page:
        assert (await page.get("/auth/me")).status_code == 200
    async with client_with(app, {}) as program:
        await refused(program.post("/auth/refresh", json={"token": cookies[REFRESH]}))


async def rotate_as_before(account: Account, auth: Auth) -> None:
    """By a worker of a release that does not count pairs, while both are deployed."""
    spent, now = await RefreshToken.get(token=account.refresh_token), auth.clock()
    jti = new_token_id()
    named = {"issued_at": now, "expires_at": spent.expires_at, "jti": jti, "sid": str(spent.session_id)}
    token = auth.signer.sign(jwt.REFRESH, spent.user_id, **named)
    await RefreshToken.filter(id=spent.id).update(revoked=True, rotated_at=now, replaced_by=jti)
    await RefreshToken.create(
        user_id=spent.user_id,
        session_id=spent.session_id,
        token=token,
        jti=jti,
        expires_at=spent.expires_at,
        created_at=now,
    )
    account.access_token = auth.signer.access_token(spent.user_id, spent.session_id)
    account.refresh_token = token


async def test_no_number_is_given_twice_where_workers_that_do_not_count_rotate_too(
    account: Account, settings: AuthSettings, auth: Auth, clock: Clock, heard: list[str]
) -> None:
    """A pair would else be taken for a superseded one of the same number, or for one that was shown."""
    settings.refresh_idempotent = True
    await lose(account)
    for _ in range(2):
        clock.advance(seconds=11)
        keep(account, await account.refresh())
        assert (await account.me()).status_code == 200
    for _ in range(3):
        clock.advance(seconds=30)
        await rotate_as_before(account, auth)
        assert (await account.me()).status_code == 200
        await lose(account)
        clock.advance(seconds=30)
        keep(account, await account.refresh())
        assert (await account.me()).status_code == 200
    assert heard == ["refresh_lost"] * 4
    assert await session_lives()


# Browsers


async def test_a_browser_that_lost_its_new_cookies_gets_others_and_is_not_signed_out(
    browser: httpx.AsyncClient, app: FastAPI, clock: Clock, heard: list[str], mailbox: Mailbox
) -> None:
    """R-05: a 503 after the commit, or a page that was left."""
    clock.advance(minutes=16)
    before = jar(browser)
    async with client_with(app, before, **OWN_PAGE) as page:
        lost = set_cookies(await page.get("/auth/me"))
        for _ in range(3):
            clock.advance(seconds=13)
            again = await page.get("/auth/me")
            assert again.status_code == 200
            assert set_cookies(again)[REFRESH].value != lost[REFRESH].value
    assert heard == ["refresh_lost"] * 3
    assert await session_lives()
    assert mailbox.messages == []
    thief_has = {ACCESS: lost[ACCESS].value}
    async with client_with(app, thief_has, **OWN_PAGE) as thief:
        await refused(thief.get("/auth/me"))
    assert not await session_lives()


@pytest.mark.parametrize("seconds", [1, 11])
async def test_a_browser_whose_token_gets_no_pair_any_more_can_sign_in(
    cookie_settings: AuthSettings, clock: Clock, tortoise: TortoiseContext, mailbox: Mailbox, seconds: int
) -> None:
    """Or goes on, where it has newer cookies by then."""
    app = FastAPI()
    auth = include_auth(app, settings=cookie_settings, clock=clock, pages=True)

    @app.get("/page")
    async def page(user: PageUser) -> str:
        return user.email

    await verified_user(auth)
    async with client_with(app, {}, **OWN_PAGE) as browser:
        assert (await browser.post("/auth/login", json=CREDENTIALS)).status_code == 200
        newer, old = jar(browser), await unnamed(auth, browser)
    async with client_with(app, {}) as program:
        assert (await program.post("/auth/refresh", json={"token": old})).status_code == 200
    clock.advance(seconds=seconds)
    for _ in range(2):
        async with client_with(app, {REFRESH: old}, **OWN_PAGE) as browser:
            sent = await browser.get("/page")
            assert (sent.status_code, sent.headers["location"]) == (303, "/account/sign-in?next=%2Fpage")
            form = await browser.get(sent.headers["location"])
            assert (form.status_code, 'name="password"' in form.text) == (200, True)
    async with client_with(app, newer, **OWN_PAGE) as browser:
        assert (await browser.get(sent.headers["location"])).headers["location"] == "/page"
    await auth.close()


@pytest.fixture
def slow_host(cookie_settings: AuthSettings, app: FastAPI) -> tuple[FastAPI, asyncio.Event, asyncio.Event]:
    """An app with a page that takes as long as the test wants."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    @app.get("/slow")
    async def slow(user: CurrentUser) -> str:
        begun.set()
        await go_on.wait()
        return user.email

    return app, begun, go_on


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_late_response_sets_no_tokens_that_were_replaced_meanwhile(
    slow_host: tuple[FastAPI, asyncio.Event, asyncio.Event],
    browser: httpx.AsyncClient,
    clock: Clock,
    heard: list[str],
    replaced: bool,
) -> None:
    app, begun, go_on = slow_host
    clock.advance(minutes=16)
    before = jar(browser)
    async with client_with(app, before, **OWN_PAGE) as page:
        request = asyncio.create_task(page.get("/slow"))
        await begun.wait()
        clock.advance(seconds=13)
        if replaced:
            other = set_cookies(await page.get("/auth/me"))
        go_on.set()
        late = await request
    assert (late.status_code, late.json()) == (200, EMAIL)
    cookies = other if replaced else set_cookies(late)
    assert set(set_cookies(late)) == (set() if replaced else {ACCESS, REFRESH})
    async with client_with(app, {name: each.value for name, each in cookies.items()}, **OWN_PAGE) as page:
        assert (await page.get("/auth/me")).status_code == 200
        assert (await page.post("/auth/refresh")).status_code == 200
    assert heard == ["refresh_lost"] * replaced
    assert await session_lives()


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
async def test_a_renewal_and_its_showing_outlive_a_transaction_of_the_host_that_is_rolled_back(
    cookie_settings: AuthSettings,
    app: FastAPI,
    browser: httpx.AsyncClient,
    clock: Clock,
    heard: list[str],
    database: Database,
    wrap: Callable[[FastAPI, str], None],
) -> None:
    @app.get("/missing")
    async def missing(user: CurrentUser) -> None:
        raise HTTPException(404)

    app.middleware_stack = None  # built anew, with the middleware
    wrap(app, database.dialect)
    cookies = jar(browser)
    for _ in range(3):
        clock.advance(minutes=16)
        async with client_with(app, cookies, **OWN_PAGE) as page:
            answer = await page.get("/missing")
        assert answer.status_code == 404
        spent = cookies
        cookies = {name: each.value for name, each in set_cookies(answer).items()}
        clock.advance(seconds=20)
        async with client_with(app, cookies, **OWN_PAGE) as page:
            assert (await page.get("/missing")).status_code == 404
    assert (await Session.get()).confirmed_gen == 3
    assert heard == []
    async with client_with(app, {REFRESH: spent[REFRESH]}, **OWN_PAGE) as thief:
        assert (await thief.get("/missing")).status_code == 401
    assert heard == ["refresh_reuse"]
    assert not await session_lives()


# Clocks


@on_one_database
async def test_tokens_that_are_too_young_are_refused_and_their_cookies_kept(
    host: FastAPI, browser: httpx.AsyncClient, clock: Clock
) -> None:
    """R-36, A-76: a server whose clock is 40 s behind."""
    before = jar(browser)
    clock.advance(seconds=-40)
    for gone in (None, ACCESS, REFRESH):
        cookies = {name: value for name, value in before.items() if name != gone}
        async with client_with(host, cookies, **OWN_PAGE) as page:
            for answer in (
                await page.get("/auth/me"),
                await page.post("/auth/refresh"),
                await page.post("/auth/logout"),
                await page.get("/page"),
            ):
                assert answer.status_code in (401, 303)
                assert not set_cookies(answer), answer.request.url
    clock.advance(seconds=40)
    async with client_with(host, before, **OWN_PAGE) as page:
        assert (await page.get("/auth/me")).status_code == 200
        assert (await page.post("/auth/refresh")).status_code == 200


def test_ranges_name_what_they_are_made_of() -> None:
    numbers = {1, 3, 4, 5, 9, 100}
    text = as_ranges(numbers, 100)
    assert text == "1,3-5,9,100"
    assert {number for number in range(200) if includes(text, number)} == numbers
    assert (as_ranges([], 9), includes("", 0)) == ("", False)
    assert as_ranges(numbers, 7) == "9,100"
