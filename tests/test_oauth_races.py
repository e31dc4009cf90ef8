"""Codes and refresh tokens of the OAuth server that are used more than once, at once and later: one winner,
and no two that share a grant (RFC 6749 section 4.1.2, RFC 9700 section 4.14.2)."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.events import SecurityEvent
from fastapi_pluggable_auth.features import OAuthServer
from fastapi_pluggable_auth.features.oauth_server.models import REFRESH
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.models import Mail, OAuthGrant, OAuthToken

from . import databases
from .conftest import EMAIL, POSTGRES_UNLESS_FULL, Account, Clock, Database, Mailbox, on_each_database
from .oauth_program import (
    RESOURCES,
    SCOPES,
    Program,
    Reader,
    add_notes,
    code_for,
    registered,
    signed_in,
)
from .smtp_server import MailServer
from .test_host_transactions import wrap_by_dispatch
from .test_workers import Server

DIALECTS = ("sqlite",)
ROUNDS = int(os.environ.get("TEST_RACE_ROUNDS", "2"))


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    server = OAuthServer(resources=RESOURCES, scopes=SCOPES)
    include_auth(app, settings=settings, clock=clock, features=[server], pages=True)
    add_notes(app)
    return app


@pytest.fixture
def heard(auth: Auth) -> list[tuple[str, str]]:
    """What the security log says of the tokens."""
    heard: list[tuple[str, str]] = []

    @auth.on(SecurityEvent)
    async def hear(event: SecurityEvent) -> None:
        if str(event.kind).startswith("oauth"):
            heard.append((str(event.kind), str(event.outcome)))

    return heard


@pytest.fixture
async def program(auth: Auth, client: httpx.AsyncClient) -> Program:
    return await registered(auth, client)


async def connected(auth: Auth, program: Program) -> None:
    assert (await program.exchange(await code_for(auth, program))).status_code == 200


async def lose(program: Program) -> Program:
    """Renews the tokens, and the answer never comes: it is returned, as the one of somebody else."""
    other = Program(program.http, program.client_id)
    assert (await other.refresh(program.tokens["refresh_token"])).status_code == 200
    return other


async def live_refresh_tokens() -> int:
    return await OAuthToken.filter(kind=REFRESH, spent_at=None, superseded=False).count()


async def test_a_code_that_comes_again_gets_nothing_and_ends_what_it_gave(
    auth: Auth, program: Program, clock: Clock, heard: list[tuple[str, str]], mailbox: Mailbox
) -> None:
    """RFC 9700 section 4.5: also from another client, and when the code has long expired."""
    other = await registered(auth, program.http)
    for again, later in ((program, 0), (other, 0), (program, 3000)):
        code = await code_for(auth, program)
        assert (await program.exchange(code)).status_code == 200
        assert (await program.refresh()).status_code == 200
        clock.advance(seconds=later)
        await purge(auth)
        tokens = dict(program.tokens)
        assert (await again.exchange(code)).json()["error"] == "invalid_grant"
        assert (await program.get(token=tokens["access_token"])).status_code == 401
        assert (await program.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert Counter(heard)["oauth_reuse", "failure"] == 3
    assert {message["To"] for message in mailbox.messages} == {EMAIL}
    assert not await OAuthGrant.all().count()


async def test_a_retry_gets_the_same_tokens_again_and_a_late_one_others(
    auth: Auth,
    program: Program,
    clock: Clock,
    settings: AuthSettings,
    heard: list[tuple[str, str]],
    mailbox: Mailbox,
) -> None:
    """A lost answer ends nothing, and raises no alarm."""
    await connected(auth, program)
    first = await lose(program)
    spent = program.tokens["refresh_token"]
    clock.advance(seconds=9)
    settings.jwt_previous_keys, settings.jwt_secret = [settings.jwt_secret], settings.jwt_secret[::-1]
    again = await program.refresh(spent)  # by the earlier key
    same = ("access_token", "refresh_token", "scope")
    assert [again.json()[name] for name in same] == [first.tokens[name] for name in same]
    for _ in range(2):  # nobody has shown them
        clock.advance(seconds=60)
        replaced = await program.refresh(spent)
        assert replaced.status_code == 200
        assert replaced.json()["refresh_token"] != again.json()["refresh_token"]
        again = replaced
    assert await live_refresh_tokens() == 1
    assert (await program.get()).status_code == 200
    assert (await program.refresh()).status_code == 200
    assert {kind for kind, _ in heard} == {"oauth_token"}
    assert not mailbox.messages


@pytest.mark.parametrize("how", ["spent", "shown", "superseded access", "superseded refresh"])
async def test_a_token_that_two_have_ends_the_grant_and_its_owner_is_told(
    auth: Auth, program: Program, clock: Clock, how: str, heard: list[tuple[str, str]]
) -> None:
    """RFC 9700 section 4.14.2: a successor that was used, or the tokens of an answer that was replaced."""
    await connected(auth, program)
    thief = await lose(program)
    clock.advance(seconds=11)
    if how == "spent":
        stolen = thief.tokens["access_token"]
        assert (await thief.refresh()).status_code == 200
        clock.advance(seconds=11)
        assert (await program.refresh()).json()["error"] == "invalid_grant"
        assert (await thief.get(token=stolen)).status_code == 401
    elif how == "shown":
        assert (await thief.get()).status_code == 200
        assert (await program.refresh()).json()["error"] == "invalid_grant"
    else:
        assert (await program.refresh()).status_code == 200
        last = await (thief.get() if how == "superseded access" else thief.refresh())
        assert last.status_code in (400, 401)
    for each in (thief, program):
        assert (await each.get()).status_code == 401
        assert (await each.refresh()).json()["error"] == "invalid_grant"
    assert Counter(heard)["oauth_reuse", "failure"] == 1
    assert await Mail.filter(kind="oauth_reuse", recipient=EMAIL).count() == 1


async def test_of_a_program_that_is_always_open_few_rows_are_kept_and_each_spent_token_still_ends_the_grant(
    auth: Auth, program: Program, clock: Clock, heard: list[tuple[str, str]]
) -> None:
    """RFC 9700 section 4.14.2, however long ago it was spent; what was never issued ends nothing."""
    await connected(auth, program)
    spent = []
    for _ in range(20):
        clock.advance(minutes=50)
        spent.append(program.tokens["refresh_token"])
        assert (await program.refresh()).status_code == 200
    assert await OAuthToken.filter(kind=REFRESH).count() <= 4
    other = await registered(auth, program.http)
    flipped = spent[0][:-1] + ("A" if spent[0][-1] != "A" else "Q")
    moved = program.tokens["refresh_token"][:47] + spent[0][47:]
    for by, token in ((program, flipped), (program, moved), (program, spent[0][:47]), (other, spent[0])):
        assert (await by.refresh(token)).json()["error"] == "invalid_grant"
    assert (await program.get()).status_code == 200
    assert (await program.refresh(spent[0])).json()["error"] == "invalid_grant"
    assert (await program.get()).status_code == 401
    assert Counter(heard)["oauth_reuse", "failure"] == 1


async def test_other_installations_of_the_program_go_on_when_one_is_stolen(
    auth: Auth, program: Program, clock: Clock
) -> None:
    other = Program(program.http, program.client_id)
    await connected(auth, program)
    await connected(auth, other)
    thief = await lose(program)
    assert (await thief.get()).status_code == 200
    clock.advance(seconds=11)
    assert (await program.refresh()).status_code == 400
    assert (await other.get()).status_code == 200
    assert (await other.refresh()).status_code == 200


@on_each_database
async def test_what_is_spent_or_stolen_stays_so_where_the_host_rolls_its_transaction_back(
    app: FastAPI,
    auth: Auth,
    program: Program,
    clock: Clock,
    database: Database,
) -> None:
    """Each refusal takes back what the host's transaction has of it, but for the end that it brings."""
    wrap_by_dispatch(app, database.dialect)

    @app.get("/api/missing")
    async def missing(user: Reader) -> None:
        raise HTTPException(404)

    code = await code_for(auth, program)
    assert (await program.exchange(code)).status_code == 200
    assert (await program.get("/api/missing")).status_code == 404  # where the tokens are shown
    assert await OAuthToken.filter(used_at=None).count() == 1  # the code alone
    assert (await program.refresh()).status_code == 200
    tokens = dict(program.tokens)
    assert (await program.exchange(code)).status_code == 400
    assert not await OAuthGrant.all().count()
    assert (await program.get(token=tokens["access_token"])).status_code == 401

    await connected(auth, program)
    thief = await lose(program)
    clock.advance(seconds=11)
    assert (await program.refresh()).status_code == 200
    assert (await thief.get()).status_code == 401  # of an answer that was replaced
    assert (await program.get()).status_code == 401
    assert not await OAuthGrant.all().count()


@on_each_database
async def test_of_requests_with_one_code_at_once_one_wins_and_then_nobody_has_it(
    auth: Auth, program: Program
) -> None:
    for _ in range(ROUNDS):
        code = await code_for(auth, program)
        programs = [Program(program.http, program.client_id) for _ in range(8)]
        answers = await asyncio.gather(*(each.exchange(code) for each in programs))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 7}
        (winner,) = [each for each in programs if each.tokens]
        assert (await winner.get()).status_code == 401
        assert not await OAuthGrant.all().count()


@on_each_database
async def test_of_requests_with_one_refresh_token_at_once_all_get_one_successor(
    auth: Auth, program: Program, clock: Clock
) -> None:
    await connected(auth, program)
    for late in (False, True) * ROUNDS:
        if late:
            await lose(program)
            clock.advance(seconds=11)
        answers = await asyncio.gather(*(lose(program) for _ in range(12)))
        assert len({each.tokens["refresh_token"] for each in answers}) == 1
        assert await live_refresh_tokens() == 1
        program.tokens = answers[0].tokens
        assert (await program.get()).status_code == 200


@on_each_database
async def test_tokens_that_are_shown_while_they_are_replaced_leave_one_of_both(
    auth: Auth, program: Program, clock: Clock
) -> None:
    for _ in range(ROUNDS * 4):
        await connected(auth, program)
        thief = await lose(program)
        clock.advance(seconds=11)
        shown, replaced = await asyncio.gather(thief.get(), program.refresh())
        assert (shown.status_code, replaced.status_code) != (200, 200)
        for _ in range(2):
            alive = [(await each.get()).status_code for each in (thief, program)]
        assert alive.count(200) <= 1


@on_each_database
async def test_a_decision_that_is_sent_twice_at_once_counts_once(
    app: FastAPI, program: Program, account: Account
) -> None:
    user = await signed_in(app, account)
    for _ in range(ROUNDS):
        form = (await program.ask(user, prompt="consent")).form("authorize").hidden | {"decision": "allow"}
        headers = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
        sent = (user.client.post("/oauth/authorize", data=form, headers=headers) for _ in range(6))
        answers = await asyncio.gather(*sent)
        assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 5}
        assert await OAuthGrant.all().count() == 1
        await OAuthGrant.all().delete()


@pytest.fixture(params=POSTGRES_UNLESS_FULL)
def served(
    request: pytest.FixtureRequest, database_urls: Callable[[str], str], mail_server: MailServer
) -> Iterator[tuple[Server, Database]]:
    """Two workers."""
    dialect: str = request.param
    if dialect != "sqlite" and not databases.answers(dialect):
        pytest.skip(f"no {dialect} server answers")
    database = Database(dialect, database_urls(dialect))
    server = Server(database, mail_server.port, TEST_OAUTH="1")
    yield server, database
    server.stop()


@pytest.fixture
async def workers(
    served: tuple[Server, Database], settings: AuthSettings
) -> AsyncIterator[tuple[Auth, Program]]:
    """A program that talks to both, and the app's services on the same database."""
    server, database = served
    async with TortoiseContext() as context:
        await context.init(databases.config(database.url, database.dialect))
        await databases.empty(context, database.dialect)
        auth = Auth(settings, features=[OAuthServer(resources=RESOURCES, scopes=SCOPES)])
        limits = httpx.Limits(max_keepalive_connections=0)  # each request may find another worker
        async with httpx.AsyncClient(base_url=server.base, limits=limits, timeout=60) as http:
            yield auth, await registered(auth, http)
        await auth.close()


async def test_on_two_workers_a_code_and_a_refresh_token_have_one_winner_and_revocation_is_at_once(
    workers: tuple[Auth, Program],
) -> None:
    auth, program = workers
    code = await code_for(auth, program)
    programs = [Program(program.http, program.client_id) for _ in range(10)]
    answers = await asyncio.gather(*(each.exchange(code) for each in programs))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 9}
    (winner,) = [each for each in programs if each.tokens]
    assert (await winner.get()).status_code == 401

    await connected(auth, program)
    successors = await asyncio.gather(*(lose(program) for _ in range(12)))
    assert len({each.tokens["access_token"] for each in successors}) == 1
    assert await live_refresh_tokens() == 1
    program.tokens = successors[0].tokens
    used = await asyncio.gather(*(program.get() for _ in range(12)))
    assert {answer.status_code for answer in used} == {200}
    assert (await program.revoke(program.tokens["refresh_token"])).status_code == 200
    ended = await asyncio.gather(*(program.get() for _ in range(12)))
    assert {answer.status_code for answer in ended} == {401}
