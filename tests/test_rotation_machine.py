"""Rotation against an owner on a bad network and a thief, in any order (Hypothesis, stateful): what must hold
whatever they do, while the rows of spent tokens are dropped.

`TEST_ROTATION_EXAMPLES=1000`, examples for each thief, looks longer than the runs of CI do.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fastapi_pluggable_auth import CurrentUser, SecurityEvent
from fastapi_pluggable_auth.events import EventKind
from fastapi_pluggable_auth.http.cookies import NEW
from fastapi_pluggable_auth.models import Mail, RefreshToken, Session, User

from .conftest import PASSWORD, claims_of
from .world import World

EXAMPLES = int(os.environ.get("TEST_ROTATION_EXAMPLES", "6"))
STEPS = 50
BASE = "https://app.example.com"
BROWSER = {"Sec-Fetch-Site": "same-origin", "X-Requested-With": "fetch"}
ACCESS, REFRESH = "__Host-access_token", "__Host-refresh_token"
LEEWAY = timedelta(seconds=10)
TOLERANCE = timedelta(seconds=2)
"""The clock goes on while a step runs."""
DAY = 86_400


@dataclass(frozen=True)
class Mode:
    """How the client gets its tokens, and whether a retry is answered."""

    cookies: bool
    idempotent: bool

    @property
    def repeats(self) -> bool:
        return self.cookies or self.idempotent


MODES = {
    "cookies": Mode(cookies=True, idempotent=False),
    "tokens": Mode(cookies=False, idempotent=False),
    "tokens, idempotent": Mode(cookies=False, idempotent=True),
}


@dataclass(frozen=True)
class Tokens:
    """What a client has; either may be gone."""

    access: str = ""
    refresh: str = ""

    @property
    def gen(self) -> int:
        return int(claims_of(self.refresh or self.access)["gen"])


@dataclass
class Answer:
    """What the server said, and the tokens in it."""

    status: int
    code: str
    tokens: Tokens | None = None
    deleted: bool = False


@dataclass
class SlowPage:
    """A request that is being answered, and what it was sent with."""

    task: asyncio.Task[Answer]
    go_on: asyncio.Event


class Network(World):
    """The app with a page that answers when it is told to, and what it says of itself."""

    def __init__(self) -> None:
        super().__init__(BASE, public_base_url=BASE, cookies=True)
        self.events: list[SecurityEvent] = []
        self.auth.on(SecurityEvent)(self.events.append)
        self.pages: list[asyncio.Event] = []

        @self.app.get("/slow")
        async def slow(user: CurrentUser) -> str:
            go_on = asyncio.Event()
            self.pages.append(go_on)
            await go_on.wait()
            return user.email

    async def ask(self, method: str, path: str, *, cookies: Tokens | None = None, **request: Any) -> Answer:
        """A request, by a browser with these cookies or by a client with none."""
        headers = dict(request.pop("headers", {}))
        if cookies is not None:
            sent = {ACCESS: cookies.access, REFRESH: cookies.refresh}
            headers |= BROWSER | {"Cookie": "; ".join(f"{name}={v}" for name, v in sent.items() if v)}
        answer = await self.client.request(method, path, headers=headers, **request)
        body = answer.json() if answer.content else {}
        code = body.get("code", "") if isinstance(body, dict) else ""
        found: dict[str, str] = {}
        for header in answer.headers.get_list("set-cookie"):
            found |= {name: morsel.value for name, morsel in SimpleCookie(header).items()}
        if cookies is None and isinstance(body, dict) and "refresh_token" in body:
            return Answer(answer.status_code, code, Tokens(body["access_token"], body["refresh_token"]))
        if not found:
            return Answer(answer.status_code, code)
        tokens = Tokens(found.get(ACCESS, ""), found.get(REFRESH, ""))
        if tokens == Tokens():
            return Answer(answer.status_code, code, deleted=True)
        return Answer(answer.status_code, code, tokens)


@dataclass
class Party:
    """The owner, or a thief: the tokens that the server gave, and the generations shown with success."""

    given: set[int] = field(default_factory=set)
    shown: set[int] = field(default_factory=set)


THIEVES = ("none", "silent", "waits", "yesterday", "access only", "any")
"""One that rotates first and never shows what it got, one that waits until the owner has rotated, one with a
token that was spent yesterday, one that shows access tokens alone, and one that does anything."""

ARRIVES = st.sampled_from(["now", "now", "late", "never", "elsewhere"])
"""When an answer comes to its owner; `elsewhere` is to a thief that listens, and else nowhere."""


class Rotation(RuleBasedStateMachine):
    """A session of an owner with some tabs, whose answers come, are lost, or come late."""

    world: ClassVar[Network]
    thief_kind: ClassVar[str]

    @initialize(mode=st.sampled_from(list(MODES)), is_early=st.booleans())
    def begin(self, mode: str, is_early: bool) -> None:
        """`is_early` is a thief that has the first tokens."""
        world = self.world
        self.mode, self.is_early = MODES[mode], is_early
        world.settings.refresh_idempotent = self.mode.idempotent
        world.users += 1
        self.email = f"u{world.users}@example.com"
        user = {"email": self.email, "hashed_password": world.hashed, "is_verified": True}
        world.run(lambda: User.create(**user))
        self.mailed = 0
        self.sign_in()

    def sign_in(self) -> None:
        """Begins a session, of which nobody else has anything yet."""
        world = self.world
        self.owner, self.thief = Party(), Party()
        self.stolen: set[int] = set()
        self.thiefs: list[Tokens] = []
        self.first_given: dict[int, datetime] = {}
        self.refresh_tokens: defaultdict[int, set[str]] = defaultdict(set)
        self.spent_at: dict[str, datetime] = {}
        self.slow: list[SlowPage] = []
        self.late: list[tuple[datetime, Tokens]] = []
        self.days, self.tried = 0, False
        world.events.clear()
        login = self.ask("POST", "/auth/login", Tokens(), json={"email": self.email, "password": PASSWORD})
        assert login.status == 200, login
        assert login.tokens is not None
        self.jar = login.tokens
        self.note(self.owner, login)
        self.session_id = claims_of(self.jar.access)["sid"]
        if self.is_early and self.thief_kind != "none":
            self.steal(self.jar)

    @precondition(lambda self: not self.slow and self.state().revoked_at is not None)
    @rule()
    def owner_signs_in_again(self) -> None:
        self.mailed += self.alarms()
        self.sign_in()

    # What a client does, in its transport

    def ask(self, method: str, path: str, cookies: Tokens, **request: Any) -> Answer:
        return self.world.run(
            lambda: self.world.ask(method, path, cookies=cookies if self.mode.cookies else None, **request)
        )

    def refresh(self, tokens: Tokens, by_page: bool = False) -> Answer:
        """`by_page` is on the way to something else, as a browser does whose access token is gone."""
        if self.mode.cookies and by_page:
            return self.ask("GET", "/auth/me", replace(tokens, access=""))
        if self.mode.cookies:
            return self.ask("POST", "/auth/refresh", tokens)
        return self.ask("POST", "/auth/refresh", tokens, json={"token": tokens.refresh})

    def show(self, tokens: Tokens) -> Answer:
        """The access token, alone."""
        headers = {} if self.mode.cookies else {"Authorization": f"Bearer {tokens.access}"}
        return self.ask("GET", "/auth/me", replace(tokens, refresh=""), headers=headers)

    # What is known

    def state(self) -> Session:
        return self.world.run(lambda: Session.get(id=self.session_id))

    @property
    def now(self) -> datetime:
        return self.world.clock()

    @property
    def forgives(self) -> bool:
        """Whether nobody but the owner has any token, so that nothing may go wrong."""
        return not self.stolen and not self.thief.given

    def alarms(self) -> int:
        return sum(event.kind is EventKind.REFRESH_REUSE for event in self.world.events)

    def note(self, party: Party, answer: Answer, sent: Tokens | None = None) -> Answer:
        """Keeps who got what, and checks it."""
        if answer.tokens is not None:
            gen = answer.tokens.gen
            party.given.add(gen)
            first = self.first_given.setdefault(gen, self.now)
            assert self.now - first <= LEEWAY + TOLERANCE, "a pair is repeated within the leeway alone"
            self.refresh_tokens[gen].add(answer.tokens.refresh)
            assert len(self.refresh_tokens[gen]) == 1, "a repeated pair is the same one"
            assert claims_of(answer.tokens.access)["gen"] == gen
            if sent is not None and sent.refresh:
                self.spent_at.setdefault(sent.refresh, self.now)
        return answer

    def show_access(self, party: Party, tokens: Tokens) -> Answer:
        """Shows an access token and checks the answer: it is good as long as it lasts, unless it was
        superseded, which ends the session."""
        before, alarms = self.state(), self.alarms()
        claims = claims_of(tokens.access)
        superseded = self.world.run(
            lambda: RefreshToken.exists(session_id=self.session_id, gen=claims["gen"], superseded=True)
        )
        good = claims["exp"] > self.now.timestamp() and before.revoked_at is None
        answer = self.show(tokens)
        assert answer.status == (200 if good and not superseded else 401), answer
        if good and superseded:
            assert self.state().revoked_at is not None, "a superseded token that is shown ends the session"
            assert self.alarms() == alarms + 1
        if answer.status == 200:
            party.shown.add(claims["gen"])
        return answer

    def spend(self, party: Party, tokens: Tokens, by_page: bool = False) -> Answer:
        """Spends a refresh token and checks what needs no knowledge of the rest."""
        stored = self.world.run(lambda: RefreshToken.get_or_none(token=tokens.refresh))
        live, alarms = self.state().revoked_at is None, self.alarms()
        reused = stored is None or self.world.run(lambda: self.is_reused(stored))
        answer = self.note(party, self.refresh(tokens, by_page), tokens)
        assert answer.status in (200, 401), answer
        if live and (reused or (stored is not None and stored.superseded)):
            assert (answer.status, self.alarms()) == (401, alarms + 1)
            assert self.state().revoked_at is not None
        if answer.status == 200 and stored is not None and not stored.revoked:
            party.shown.add(stored.gen)  # spending shows
        return answer

    async def is_reused(self, spent: RefreshToken) -> bool:
        """Whether what a token was spent for has been shown, longer ago than a race may last."""
        successor = await RefreshToken.get_or_none(jti=spent.replaced_by)
        if successor is None:
            return spent.replaced_by is not None
        if successor.superseded:
            return False
        shown = successor.gen in self.owner.shown | self.thief.shown
        return shown and self.now - successor.created_at > LEEWAY

    # The owner

    @rule(arrives=ARRIVES, shows=st.booleans(), by_page=st.booleans(), waits=st.sampled_from([0, 0, 11]))
    def owner_refreshes(self, arrives: str, shows: bool, by_page: bool, waits: int) -> None:
        """And uses what came, or goes away."""
        self.world.clock.advance(seconds=waits)
        if not self.jar.refresh:
            return
        answer = self.spend(self.owner, self.jar, by_page)
        self.check_owner(answer)
        self.deliver(answer, arrives)
        if shows and arrives == "now":
            self.owner_shows_access()

    @rule()
    def owner_is_busy(self) -> None:
        """So that the rows of older tokens go."""
        for _ in range(3):
            self.world.clock.advance(seconds=200)
            self.owner_refreshes("now", True, False, 0)

    @rule(arrives=ARRIVES, tabs=st.integers(2, 3))
    def owner_refreshes_in_tabs(self, arrives: str, tabs: int) -> None:
        if not self.jar.refresh:
            return
        jar = self.jar
        stored = self.world.run(lambda: RefreshToken.get_or_none(token=jar.refresh))

        async def together() -> list[Answer]:
            request: dict[str, Any] = {"json": {"token": jar.refresh}}
            if self.mode.cookies:
                request = {"cookies": jar}
            ask = self.world.ask
            return await asyncio.gather(*(ask("POST", "/auth/refresh", **request) for _ in range(tabs)))

        answers = self.world.run(lambda: together())
        for answer in answers:
            self.note(self.owner, answer, jar)
            self.check_owner(answer)
        given = [answer.tokens for answer in answers if answer.tokens is not None]
        assert len({tokens.refresh for tokens in given}) <= 1
        if given and self.mode.repeats:
            assert len(given) == tabs
        elif given:
            assert len(given) == 1
        if given and stored is not None and not stored.revoked:
            self.owner.shown.add(stored.gen)
        for answer in answers:
            self.deliver(answer, arrives)

    @rule()
    def owner_shows_access(self) -> None:
        if not self.jar.access:
            return
        answer = self.show_access(self.owner, self.jar)
        assert not answer.deleted or self.alarms() or self.expired(self.jar.access)

    @precondition(lambda self: self.mode.cookies and len(self.slow) < 3)
    @rule(with_access=st.booleans())
    def owner_opens_slow_page(self, with_access: bool) -> None:
        jar = self.jar if with_access else replace(self.jar, access="")
        if not jar.refresh:
            return

        async def begin() -> SlowPage | Answer:
            pages, count = self.world.pages, len(self.world.pages)
            task = asyncio.create_task(self.world.ask("GET", "/slow", cookies=jar))
            while len(pages) == count and not task.done():
                await asyncio.sleep(0)
            return await task if task.done() else SlowPage(task, pages[-1])

        begun = self.world.run(lambda: begin())
        if jar.access and not self.expired(jar.access) and not isinstance(begun, Answer):
            self.owner.shown.add(jar.gen)
        if isinstance(begun, Answer):
            self.check_owner(begun)
            self.deliver(begun, "now")
        else:
            self.slow.append(begun)
            # What it rotates is the owner's, although it is still under way.
            newest = self.world.run(
                lambda: RefreshToken.filter(session_id=self.session_id).order_by("-gen").first()
            )
            assert newest is not None
            self.first_given.setdefault(newest.gen, self.now)

    @precondition(lambda self: self.slow)
    @rule(arrives=st.sampled_from(["now", "never"]), which=st.integers(0, 2))
    def slow_page_ends(self, arrives: str, which: int) -> None:
        page = self.slow.pop(which % len(self.slow))

        async def finish() -> Answer:
            page.go_on.set()
            return await page.task

        answer = self.world.run(lambda: finish())
        assert answer.status == 200
        if answer.tokens is None or arrives == "never":
            return
        token, age = answer.tokens.refresh, self.now - self.first_given[answer.tokens.gen]
        if self.world.run(lambda: RefreshToken.exists(token=token, revoked=False)):
            self.owner.given.add(answer.tokens.gen)
            self.deliver(answer, "now")
        else:
            assert age <= NEW + TOLERANCE, "a late response sets no tokens that are not the newest"

    def expired(self, token: str) -> bool:
        return bool(claims_of(token)["exp"] <= self.now.timestamp())

    def check_owner(self, answer: Answer) -> None:
        """A lost answer ends no session where retries are answered, and is never an alarm."""
        if not self.forgives:
            return
        allowed = {(200, "")} if self.mode.repeats else {(200, ""), (401, "refresh_raced")}
        assert (answer.status, answer.code) in allowed, answer

    def deliver(self, answer: Answer, arrives: str) -> None:
        if answer.deleted and arrives != "never":
            self.jar = Tokens()
        if answer.tokens is None:
            return
        if arrives == "now":
            self.jar = answer.tokens
        elif arrives == "late":
            self.late.append((self.now, answer.tokens))
        elif arrives == "elsewhere" and self.thief_kind in ("any", "silent", "access only"):
            self.steal(answer.tokens)

    @precondition(lambda self: self.late)
    @rule()
    def late_answer_comes(self) -> None:
        """On a network that is slow, yet not so slow that the server takes it for lost."""
        sent_at, tokens = self.late.pop()
        newest = self.world.run(lambda: RefreshToken.exists(token=tokens.refresh, revoked=False))
        if newest and self.now - sent_at <= LEEWAY:
            self.jar = tokens

    # The thief

    def steal(self, tokens: Tokens) -> None:
        self.thiefs.append(tokens)
        self.stolen |= {int(claims_of(token)["gen"]) for token in (tokens.access, tokens.refresh) if token}

    @precondition(lambda self: self.thief_kind != "none" and len(self.thiefs) < 4 and self.jar != Tokens())
    @rule()
    def thief_steals(self) -> None:
        self.steal(self.jar)

    @precondition(lambda self: self.thiefs)
    @rule(which=st.integers(0, 3), refreshes=st.booleans(), waits=st.sampled_from([0, 11, 11, 60]))
    def thief_acts(self, which: int, refreshes: bool, waits: int) -> None:
        """With the newest tokens that it has, or older ones."""
        self.world.clock.advance(seconds=waits)
        tokens = self.thiefs[-1 - which % len(self.thiefs)]
        if self.thief_kind == "silent":
            refreshes = True
        elif self.thief_kind == "access only":
            refreshes = False
        if refreshes and tokens.refresh:
            self.thief_refreshes(tokens)
        elif tokens.access and self.thief_kind != "silent":
            self.show_access(self.thief, tokens)

    def thief_refreshes(self, tokens: Tokens) -> None:
        spent_at = self.spent_at.get(tokens.refresh)
        fits = {
            "silent": spent_at is None,
            "waits": spent_at is not None,
            "yesterday": spent_at is not None and self.now - spent_at >= timedelta(seconds=DAY),
        }
        if fits.get(self.thief_kind, True):
            answer = self.spend(self.thief, tokens)
            if answer.tokens is not None:
                self.thiefs.append(answer.tokens)

    @precondition(lambda self: self.thiefs and not self.tried)
    @rule(which=st.integers(0, 7))
    def thief_tries_the_other_transport(self, which: int) -> None:
        """Which is refused, and changes nothing."""
        self.tried = True
        tokens = self.thiefs[-1 - which % len(self.thiefs)]
        if not tokens.refresh or not tokens.access:
            return
        before = dict(self.state())
        ask = self.world.ask
        if self.mode.cookies:
            refreshed = self.world.run(lambda: ask("POST", "/auth/refresh", json={"token": tokens.refresh}))
            headers = {"Authorization": f"Bearer {tokens.access}"}
            shown = self.world.run(lambda: ask("GET", "/auth/me", headers=headers))
        else:
            refreshed = self.world.run(lambda: ask("POST", "/auth/refresh", cookies=tokens))
            shown = self.world.run(lambda: ask("GET", "/auth/me", cookies=replace(tokens, refresh="")))
        for answer in (refreshed, shown):
            assert (answer.status, answer.code, answer.tokens) == (401, "invalid_token", None)
        assert dict(self.state()) == before

    # Time

    @rule(seconds=st.sampled_from([1, 4, 9, 11, 11, 11, 60, 60, 16 * 60, DAY]))
    def time_passes(self, seconds: int) -> None:
        if seconds == DAY:
            self.days += 1
            if self.days > 5:  # a token lasts for seven
                return
        self.world.clock.advance(seconds=seconds)

    # What always holds

    @invariant()
    def one_refresh_token_is_live(self) -> None:
        live = self.world.run(lambda: RefreshToken.filter(session_id=self.session_id, revoked=False).count())
        assert live <= 1

    @invariant()
    def nobody_is_alarmed_without_a_thief(self) -> None:
        mails = self.world.run(lambda: Mail.filter(user__email=self.email).count())
        assert mails == self.mailed + self.alarms(), "one mail an alarm"
        assert self.alarms() <= 1, "a session ends once"
        if self.forgives:
            assert self.alarms() == 0
            assert self.state().revoked_at is None

    @invariant()
    def owner_and_thief_never_go_on_side_by_side(self) -> None:
        """Beyond what was stolen, only one of them shows tokens with success, unless they got the same
        answer, which takes a thief who is there within the leeway of the rotation."""
        if not self.stolen:
            return
        shared = self.owner.given & self.thief.given
        after = {gen for gen in self.owner.shown | self.thief.shown if gen > max(self.stolen)} - shared
        assert not (after & self.owner.shown and after & self.thief.shown)

    def teardown(self) -> None:
        if not hasattr(self, "jar"):
            return
        for page in self.slow:
            page.task.cancel()
        if self.forgives and self.mode.repeats and self.jar.refresh:
            answer = self.refresh(self.jar)
            assert answer.status == 200, "the owner goes on"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    logger = logging.getLogger("fastapi_pluggable_auth.security")
    monkeypatch.setattr(logger, "disabled", True)
    monkeypatch.setattr("fastapi_pluggable_auth.flows.rotation.DROPPED_EVERY", 1)  # as soon as they may
    world = Network()
    world.settings.spent_token_retention = timedelta(0)
    world.settings.access_token_expires = timedelta(minutes=2)
    monkeypatch.setattr(Rotation, "world", world, raising=False)
    yield world
    world.close()


@pytest.mark.parametrize("thief", THIEVES)
def test_a_lost_answer_ends_no_session_and_a_thief_never_goes_along(
    world: Network, monkeypatch: pytest.MonkeyPatch, thief: str
) -> None:
    """A-42, A-43, R-05."""
    monkeypatch.setattr(Rotation, "thief_kind", thief, raising=False)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Rotation,
        settings=hypothesis_settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize="TEST_ROTATION_EXAMPLES" not in os.environ,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
