"""People who use an app as fast as it answers, and a judge of what the app had acknowledged to them.

Each has their own account, does one thing after the other, and repeats what is refused with 503 until it is
answered: so it is known of every account, session and mail whether it has to be there.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth.models import Mail, MailState, RefreshToken, Session, User

from .. import databases
from ..conftest import PASSWORD, Database
from ..smtp_server import MailServer, text_of
from ..test_workers import Server

PEOPLE = 8
ROUNDS = int(os.environ.get("TEST_CLUSTER_ROUNDS", "2"))
"""How many go through all that people do, before something is done to the servers and after it."""
PATIENCE = 240.0
"""Seconds until whatever was broken has to work again."""
RACES, RIVALS = 4, 30
EARLIER = datetime(2026, 1, 1, tzinfo=UTC)

IDEMPOTENT = {
    "AUTH_DATABASE_TIMEOUT": "10",
    "AUTH_REFRESH_IDEMPOTENT": "true",
    "AUTH_REQUIRE_VERIFIED_EMAIL": "false",
    "AUTH_THROTTLE_FREE_ATTEMPTS": "1000",
}
"""The app's environment: an answer that an outage has lost can be asked for again; nobody waits for mail."""


@dataclass
class Verdict:
    """What was asked for, and what is wrong with the answers."""

    name: str
    requests: int = 0
    refused: int = 0
    """How many got 503."""
    longest_wait: float = 0.0
    """Seconds from the first time that something was asked for until it was answered."""
    kept: Counter[str] = field(default_factory=Counter)
    """How many of each kind were acknowledged."""
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)
    """What was alive after its end."""
    faults: list[str] = field(default_factory=list)
    """Answers that nobody should get."""

    def __str__(self) -> str:
        kept = ", ".join(f"{number} {kind}" for kind, number in sorted(self.kept.items()))
        return (
            f"{self.name}: {self.requests} requests, {self.refused} of them 503, longest wait "
            f"{self.longest_wait:.1f} s; of {kept}: {len(self.lost)} lost, {len(self.doubled)} doubled, "
            f"{len(self.revived)} alive after their end, {len(self.faults)} wrong answers"
        )

    def assert_kept(self) -> None:
        """Fails where a promise was broken."""
        wrong = {"lost": self.lost, "doubled": self.doubled, "revived": self.revived, "faults": self.faults}
        assert not any(wrong.values()), {kind: found[:5] for kind, found in wrong.items() if found}


@dataclass(eq=False)
class ClientSession:
    """A session as its client knows it."""

    id: str
    access_tokens: list[str]
    refresh_token: str
    ended: bool = False


@dataclass(eq=False)
class Person:
    """An account, and the sessions that its owner has been given."""

    email: str
    sessions: list[ClientSession] = field(default_factory=list)


class Load:
    """People who use the app that these servers serve, any of them at each request, on one database."""

    def __init__(
        self,
        name: str,
        servers: Sequence[Server],
        database: Database,
        mail_server: MailServer,
        people: int = PEOPLE,
    ) -> None:
        self.verdict = Verdict(name)
        self._servers, self._database, self._mail_server = servers, database, mail_server
        self._count = people
        self._names = count()
        self._people: list[Person] = []
        self._lives = 0
        self._stopping = False
        self._http: httpx.AsyncClient

    async def run(self, *disturb: Callable[[], Awaitable[object]]) -> Verdict:
        """Has people use the app, does things to it meanwhile, and judges."""
        # Each request has a connection of its own: so all workers get some.
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=60) as self._http, asyncio.TaskGroup() as people:
            for _ in range(self._count):
                people.create_task(self._live())
            try:
                await self._rounds()
                for each in disturb:
                    await each()
                    await self._rounds()
            finally:
                self._stopping = True
        async with httpx.AsyncClient(limits=limits, timeout=60) as self._http:
            await self._judge()
        return self.verdict

    async def _rounds(self) -> None:
        """Until so many more lives were lived, begun after now."""
        goal = self._lives + self._count + ROUNDS
        async with asyncio.timeout(PATIENCE):
            while self._lives < goal:
                await asyncio.sleep(0.02)

    async def _live(self) -> None:
        while not self._stopping:
            number = next(self._names)
            person = Person(f"person-{number}@example.com")
            self._people.append(person)
            await self._sign_up(person)
            here, there = await self._log_in(person), await self._log_in(person)
            for session in (here, there, here):
                await self._look(session)
                await self._refresh(session)
            await self._list(person, here)
            await self._end(there, by=here)
            if number % 2:
                await self._log_out(person, here)
            if number % 4 == 1:
                await self._look(await self._log_in(person))
            self._lives += 1

    async def _sign_up(self, person: Person) -> None:
        credentials = {"email": person.email, "password": PASSWORD}
        answer, again = await self._ask("POST", "/auth/signup", json=credentials)
        # What an outage took the answer of may have been done.
        if not self._expect(answer, 201, *([400] if again else [])):
            return
        self.verdict.kept["signups"] += 1

    async def _log_in(self, person: Person) -> ClientSession:
        credentials = {"email": person.email, "password": PASSWORD}
        answer, _ = await self._ask("POST", "/auth/login", json=credentials)
        if not self._expect(answer, 200):
            self.verdict.lost.append(f"account of {person.email}: {answer.text}")
            raise AssertionError(self.verdict.lost)
        tokens = answer.json()
        session = ClientSession("", [tokens["access_token"]], tokens["refresh_token"])
        person.sessions.append(session)
        self.verdict.kept["sessions"] += 1
        return session

    async def _look(self, session: ClientSession) -> None:
        answer, _ = await self._ask("GET", "/auth/me", session)
        self._judge_session(session, answer)

    async def _refresh(self, session: ClientSession) -> None:
        answer, _ = await self._ask("POST", "/auth/refresh", json={"token": session.refresh_token})
        if self._judge_session(session, answer):
            session.access_tokens.append(answer.json()["access_token"])
            session.refresh_token = answer.json()["refresh_token"]
            self.verdict.kept["refreshes"] += 1

    async def _list(self, person: Person, session: ClientSession) -> None:
        """What the account shows of its sessions, in which each client finds its own."""
        for each in person.sessions:
            answer, _ = await self._ask("GET", "/account/sessions", each)
            if self._judge_session(each, answer):
                each.id = next(row["id"] for row in answer.json() if row["current"])

    async def _end(self, session: ClientSession, *, by: ClientSession) -> None:
        answer, again = await self._ask("DELETE", f"/account/sessions/{session.id}", by)
        if self._expect(answer, 204, *([404] if again else [])):
            session.ended = True
            self.verdict.kept["ends"] += 1
        await self._look(session)

    async def _log_out(self, person: Person, session: ClientSession) -> None:
        answer, _ = await self._ask("POST", "/auth/logout", session)
        if self._expect(answer, 200):
            for each in person.sessions:
                each.ended = True
            self.verdict.kept["logouts"] += 1
        await self._look(session)

    async def _ask(
        self, verb: str, path: str, session: ClientSession | None = None, **options: Any
    ) -> tuple[httpx.Response, bool]:
        """The first answer that is not 503, and whether it was not the first one."""
        headers = {} if session is None else {"Authorization": f"Bearer {session.access_tokens[-1]}"}
        began, again = time.monotonic(), False
        while True:
            self.verdict.requests += 1
            base = random.choice(self._servers).base  # noqa: S311 - no secret
            answer = await self._http.request(verb, base + path, headers=headers, **options)
            if answer.status_code != 503:
                self.verdict.longest_wait = max(self.verdict.longest_wait, time.monotonic() - began)
                return answer, again
            self.verdict.refused += 1
            again = True
            assert time.monotonic() - began < PATIENCE, f"{verb} {path} is refused for ever"
            await asyncio.sleep(0.1)

    def _expect(self, answer: httpx.Response, *statuses: int) -> bool:
        if answer.status_code in statuses:
            return True
        request = answer.request
        told = f"{request.method} {request.url.path}: {answer.status_code} {answer.text[:200]}"
        self.verdict.faults.append(told)
        return False

    def _judge_session(self, session: ClientSession, answer: httpx.Response) -> bool:
        """Whether the session was let in."""
        if not self._expect(answer, 200, 401):
            return False
        let_in = answer.status_code == 200
        if let_in and session.ended:
            self.verdict.revived.append(f"session, at {answer.request.url.path}")
        elif not let_in and not session.ended:
            self.verdict.lost.append(f"session, at {answer.request.url.path}: {answer.text}")
        return let_in

    async def _judge(self) -> None:
        for server in self._servers:
            if gone := [pid for pid in server.workers if not _runs(pid)]:
                self.verdict.faults.append(f"workers had to be restarted: {gone}")
        async with TortoiseContext() as context:
            await context.init(databases.config(self._database.url, self._database.dialect))
            await self._judge_mails()
            await self._judge_rows()
        async with asyncio.TaskGroup() as judges:
            places = asyncio.Semaphore(self._count)
            for person in self._people:
                judges.create_task(self._judge_person(person, places))

    async def _judge_person(self, person: Person, places: asyncio.Semaphore) -> None:
        async with places:
            for session in person.sessions:
                if session.ended:
                    for token in session.access_tokens:
                        answer, _ = await self._ask("GET", "/auth/me", ClientSession("", [token], ""))
                        self._judge_session(session, answer)
                else:
                    await self._look(session)
                await self._refresh(session)
            await self._log_in(person)

    async def _judge_mails(self) -> None:
        async def waiting() -> bool:
            return await Mail.exclude(state=MailState.SENT).exists()

        try:
            async with asyncio.timeout(PATIENCE):
                while await waiting():
                    # Those that an outage has put off, or has left in nobody's hands, are due in minutes.
                    sent = [str(message["To"]) for message in self._mail_server.messages]
                    late = Mail.exclude(state=MailState.SENT).exclude(recipient__in=sent)
                    await asyncio.sleep(2)
                    await late.update(next_attempt_at=EARLIER)
        except TimeoutError:
            self.verdict.faults.append(f"{await Mail.exclude(state=MailState.SENT).count()} mails still wait")
        came = Counter(str(mail["To"]) for mail in self._mail_server.messages if "/verify/" in text_of(mail))
        self.verdict.kept["mails"] = len(came)
        for person in self._people:
            if (mails := came[person.email]) != 1:
                found = self.verdict.doubled if mails else self.verdict.lost
                found.append(f"mail to {person.email}: {mails}")

    async def _judge_rows(self) -> None:
        users = Counter(await User.all().values_list("email", flat=True))
        for email, accounts in users.items():
            if accounts != 1:
                self.verdict.doubled.append(f"account of {email}: {accounts}")
        alive = {str(each) for each in await Session.filter(revoked_at=None).values_list("id", flat=True)}
        usable = Counter(
            str(each)
            for each in await RefreshToken.filter(revoked=False).values_list("session_id", flat=True)
        )
        for session, tokens in usable.items():
            if tokens != 1:
                self.verdict.doubled.append(f"refresh token of session {session}: {tokens}")
        known = [each for person in self._people for each in person.sessions if each.id]
        self.verdict.revived += [
            f"row of session {each.id}" for each in known if each.ended and each.id in alive
        ]


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def race(servers: Sequence[Server], *, idempotent: bool = True) -> None:
    """R-01: of a token that is refreshed everywhere at once, one successor is made, and its session lives.
    All get that one where servers are `idempotent`; else one does, and the others are told."""
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=60) as http:
        bases = [server.base for server in servers]
        credentials = {"email": f"racer-{idempotent}@example.com", "password": PASSWORD}
        assert (await http.post(f"{bases[0]}/auth/signup", json=credentials)).status_code == 201
        tokens = (await http.post(f"{bases[-1]}/auth/login", json=credentials)).json()
        for _ in range(RACES):
            body = {"token": tokens["refresh_token"]}
            asked = [http.post(f"{bases[n % len(bases)]}/auth/refresh", json=body) for n in range(RIVALS)]
            answers = await asyncio.gather(*asked)
            expected = {200: RIVALS} if idempotent else {200: 1, 401: RIVALS - 1}
            assert Counter(answer.status_code for answer in answers) == expected
            given = [answer.json() for answer in answers if answer.status_code == 200]
            ((_, tokens),) = {each["refresh_token"]: each for each in given}.items()
            headers = {"Authorization": f"Bearer {tokens['access_token']}"}
            for base in bases:
                assert (await http.get(f"{base}/auth/me", headers=headers)).status_code == 200
