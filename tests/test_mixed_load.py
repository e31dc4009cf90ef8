"""Four workers on one database, on which logins, refreshes, logouts and revocations of many devices meet."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from math import inf

import httpx
import pytest
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.models import RefreshToken, Session, User
from fastapi_pluggable_auth.security.hashing import hash_password
from fastapi_pluggable_auth.security.jwt import ACCESS, TokenSigner

from . import databases
from .conftest import PASSWORD, SECRET, Database, Mailbox
from .test_workers import Server

DIALECTS = (databases.shared(),)
SECONDS = 6
USERS, DEVICES = 8, 3


@dataclass
class ClientSession:
    """A session as the clients know it: when its login was answered, when something was sent that may end it,
    and when something was answered that must have."""

    id: str
    email: str
    answered: float
    access_token: str
    refresh_token: str
    may_end: float = inf
    ended: float = inf
    ends: int = 0
    """How many requests to end it were sent."""


@dataclass
class World:
    """All that the clients did."""

    http: httpx.AsyncClient
    signer: TokenSigner
    sessions: list[ClientSession] = field(default_factory=list)
    logouts: list[tuple[str, float]] = field(default_factory=list)
    """Of whom, and when it was answered (never, as long as it is under way)."""
    did: Counter[str] = field(default_factory=Counter)

    async def log_in(self, email: str) -> ClientSession:
        sent = time.monotonic()
        answer = await self.http.post("/auth/login", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        session_id = self.signer.verify(tokens["access_token"], ACCESS)["sid"]
        session = ClientSession(
            session_id, email, time.monotonic(), tokens["access_token"], tokens["refresh_token"]
        )
        # A logout that was under way meanwhile came before the login or after it.
        if any(whose == email and ended >= sent for whose, ended in self.logouts):
            session.may_end = sent
        self.sessions.append(session)
        self.did["login"] += 1
        return session

    async def refresh(self, session: ClientSession) -> bool:
        sent = time.monotonic()
        answer = await self.http.post("/auth/refresh", json={"token": session.refresh_token})
        alive = self.judge(session, sent, answer.status_code)
        if alive:
            session.access_token = answer.json()["access_token"]
            session.refresh_token = answer.json()["refresh_token"]
        self.did["refresh"] += 1
        return alive

    async def ask(self, session: ClientSession) -> bool:
        sent = time.monotonic()
        answer = await self.http.get("/auth/me", headers=bearer(session))
        self.did["me"] += 1
        return self.judge(session, sent, answer.status_code)

    def judge(self, session: ClientSession, sent: float, status: int) -> bool:
        """Whether the session answered as alive; fails where it had to be dead, or had to live."""
        assert status in (200, 401)
        if status == 200:
            assert sent <= session.ended, "a session was alive after its end"
        else:
            assert session.may_end < inf, "a session was lost"
        return status == 200

    async def log_out(self, session: ClientSession) -> None:
        sent, place = time.monotonic(), len(self.logouts)
        self.logouts.append((session.email, inf))
        for each in self.of(session.email):
            each.may_end = min(each.may_end, sent)
            each.ends += 1
        answer = await self.http.post("/auth/logout", headers=bearer(session))
        assert answer.status_code == 200
        answered = time.monotonic()
        self.logouts[place] = (session.email, answered)
        for each in self.of(session.email):
            # Where another had ended this session before, its logout ends nothing.
            if each.answered < sent and session.ends == 1:
                each.ended = min(each.ended, answered)
        self.did["logout"] += 1

    async def revoke(self, session: ClientSession, other: ClientSession) -> None:
        other.may_end = min(other.may_end, time.monotonic())
        other.ends += 1
        answer = await self.http.delete(f"/account/sessions/{other.id}", headers=bearer(session))
        assert answer.status_code in (204, 401, 404)
        if answer.status_code == 204:
            other.ended = min(other.ended, time.monotonic())
        self.did["revoke"] += 1

    def of(self, email: str) -> list[ClientSession]:
        return [session for session in self.sessions if session.email == email]


def bearer(session: ClientSession) -> dict[str, str]:
    return {"Authorization": f"Bearer {session.access_token}"}


async def use_a_device(world: World, email: str, chance: random.Random, until: float) -> None:
    session = await world.log_in(email)
    while time.monotonic() < until:
        alive, dice = True, chance.random()
        if dice < 0.55:
            alive = await world.refresh(session)
        elif dice < 0.85:
            alive = await world.ask(session)
        elif dice < 0.95:
            await world.revoke(session, chance.choice(world.of(email)))
        else:
            await world.log_out(session)
            alive = False
        if not alive:
            session = await world.log_in(email)


@pytest.mark.full
async def test_four_workers_lose_double_and_revive_no_session(
    database: Database, tortoise: TortoiseContext, mailbox: Mailbox
) -> None:
    """R-02, R-35, A-43, A-46."""
    settings = AuthSettings(_env_file=None, jwt_secret=SECRET, bcrypt_rounds=4)
    hashed = hash_password(PASSWORD, settings)
    emails = [f"user{number}@example.com" for number in range(USERS)]
    await User.bulk_create([User(email=email, hashed_password=hashed, is_verified=True) for email in emails])
    server = Server(database, mailbox.server.port, workers=4, AUTH_THROTTLE_FREE_ATTEMPTS="1000")
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)
    try:
        async with httpx.AsyncClient(base_url=server.base, limits=limits, timeout=60) as http:
            world = World(http, TokenSigner(settings))
            until = time.monotonic() + SECONDS
            chances = [random.Random(number) for number in range(USERS * DEVICES)]  # noqa: S311 - no secrets
            devices = zip(emails * DEVICES, chances, strict=True)
            await asyncio.gather(*(use_a_device(world, *device, until) for device in devices))
            for session in world.sessions:
                await world.ask(session)
                await world.refresh(session)
    finally:
        server.stop()
    assert min(world.did[each] for each in ("login", "refresh", "me", "logout", "revoke")) > 0, world.did
    assert await Session.all().count() == world.did["login"] == len(world.sessions)
    alive = {str(session.id) for session in await Session.filter(revoked_at=None)}
    usable = Counter(str(token.session_id) for token in await RefreshToken.filter(revoked=False))
    assert usable == dict.fromkeys(alive, 1)
    assert {session.id for session in world.sessions if session.may_end == inf} <= alive
    assert not {session.id for session in world.sessions if session.ended < inf} & alive
