"""What compares moments works in every combination of database, `use_tz`, Tortoise's zone and the TZ of the
process. A few of them run always, all of them with the marker `full`."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from tortoise import Model
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth, require
from fastapi_pluggable_auth.features import Administration, AuditLog, Passkeys, PersonalTokens
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.models import (
    Device,
    Mail,
    MailState,
    MomentField,
    RefreshToken,
    Session,
    Tables,
    User,
)

from . import databases
from .conftest import EMAIL, PASSWORD, Account, Clock, Database, Mailbox
from .test_twofa import enrol

ZONES = ("UTC", "Asia/Shanghai", "America/Los_Angeles")
PROCESSES = ("UTC", "Asia/Tokyo", "America/New_York")
ALWAYS = {
    ("sqlite", True, "Asia/Shanghai", "UTC"),
    ("sqlite", False, "America/Los_Angeles", "Asia/Tokyo"),
    ("postgres", False, "UTC", "Asia/Tokyo"),
    ("mysql", True, "Asia/Shanghai", "UTC"),
}
WITHOUT_ZONE = pytest.mark.without_zone
"""With columns of PostgreSQL that keep no zone."""
COMBINATIONS: list[Any] = [
    pytest.param(*each, marks=() if each in ALWAYS else pytest.mark.full)
    for each in itertools.product(databases.DIALECTS, (True, False), ZONES, PROCESSES)
]
COMBINATIONS.append(pytest.param("postgres", False, "Asia/Shanghai", "Asia/Tokyo", marks=WITHOUT_ZONE))
UTC_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
NEW = "another battery staple"


ON_SQLITE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00:00")


def moments_of(model: type[Model]) -> list[str]:
    """The columns of moments."""
    return [name for name, each in model._meta.fields_map.items() if isinstance(each, MomentField)]


async def assert_utc(context: TortoiseContext, dialect: str) -> None:
    """What is stored, as the driver reads it, is what Tortoise says, in UTC; on SQLite, in one form."""
    connection = context.connections.get(dialect)
    for model in Tables():
        quote = "`" if dialect == "mysql" else '"'
        rows = await connection.execute_query_dict(f"SELECT * FROM {quote}{model._meta.db_table}{quote}")
        read = {str(row.pk): row for row in await model.all()}
        for row in rows:
            for name in moments_of(model):
                raw, moment = row[name], getattr(read[str(row["id"])], name)
                assert (raw is None) == (moment is None)
                if isinstance(raw, str):
                    assert ON_SQLITE.fullmatch(raw), (model, name, raw)
                    raw = datetime.fromisoformat(raw)
                if raw is not None:
                    assert moment.tzinfo is UTC
                    assert raw.replace(tzinfo=UTC) == moment


@pytest.fixture
def process_zone(zone_of_process: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The TZ of the process."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone_of_process)
        time.tzset()
        yield
    time.tzset()


async def retype(database: Database, kind: str) -> None:
    """Gives every moment a column of this kind."""
    async with TortoiseContext() as context:
        await context.init(databases.config(database.url, database.dialect))
        for model in Tables():
            for name in moments_of(model):
                await context.connections.get(database.dialect).execute_script(
                    f'ALTER TABLE "{model._meta.db_table}" ALTER COLUMN {name} TYPE {kind}'
                    f" USING {name} AT TIME ZONE 'UTC'"
                )


@pytest.fixture
async def tortoise(
    request: pytest.FixtureRequest, database: Database, use_tz: bool, zone: str, process_zone: None
) -> AsyncIterator[TortoiseContext]:
    """Tortoise on an empty database, in this combination."""
    naive = request.node.get_closest_marker(WITHOUT_ZONE.name) is not None
    if naive:
        await retype(database, "TIMESTAMP")
    async with TortoiseContext() as context:
        await context.init(
            {**databases.config(database.url, database.dialect), "use_tz": use_tz, "timezone": zone}
        )
        await databases.empty(context, database.dialect)
        yield context
    if naive:
        await retype(database, "TIMESTAMPTZ")


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    """Everything on, and few guesses."""
    settings.throttle_free_attempts = 3
    return settings


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """A host app with everything on."""
    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        clock=clock,
        features=[
            PersonalTokens(scopes={"notes:read": "Read your notes"}),
            Administration(),
            AuditLog(),
            Passkeys(),
        ],
    )

    @app.get("/notes", dependencies=[Depends(require(scope="notes:read"))])
    async def notes() -> None: ...

    return app


@pytest.fixture
def walk(account: Account, auth: Auth, clock: Clock, mailbox: Mailbox) -> Walk:
    """A verified, signed-in user."""
    return Walk(account, auth, clock, mailbox)


@dataclass
class Walk:
    """One user's way through the app."""

    account: Account
    auth: Auth
    clock: Clock
    mailbox: Mailbox

    async def call(self, method: str, path: str, status: int = 200, **body: Any) -> Any:
        """Asks as the user."""
        headers, sent = self.account.headers, body or None
        answer = await self.account.client.request(method, path, headers=headers, json=sent)
        assert answer.status_code == status, (path, answer.text)
        return answer.json() if answer.content else None

    def is_near(self, text: str) -> bool:
        """Whether a moment that the app told, in its one form, is of these two hours."""
        assert UTC_TEXT.fullmatch(text), text
        return abs(datetime.fromisoformat(text) - self.clock()) < timedelta(hours=2)

    async def outbox(self) -> None:
        """The account's verification mail was claimed and sent when the signup had answered."""
        mail = await Mail.get()
        assert (mail.state, mail.attempts, mail.next_attempt_at) == (MailState.SENT, 1, None)
        assert mail.sent_at is not None
        assert timedelta() <= self.clock() - mail.sent_at < timedelta(minutes=5)
        assert mail.give_up_at - mail.sent_at > timedelta(hours=23)

    async def sessions(self) -> None:
        listed = await self.call("GET", "/account/sessions")
        assert [each["current"] for each in listed] == [True]
        assert all(self.is_near(listed[0][name]) for name in ("created_at", "last_used_at"))
        ends = datetime.fromisoformat(listed[0]["expires_at"]) - self.clock()
        assert ends - self.auth.settings.session_max_age < timedelta(minutes=5)

    async def rotation(self) -> None:
        """A spent token within the leeway is a race, and after it, once the new pair was seen, a theft."""
        spent = self.account.refresh_token
        pair = (await self.account.refresh()).json()
        assert (await self.account.me(pair["access_token"])).status_code == 200
        assert (await self.account.refresh(spent)).json()["code"] == "refresh_raced"
        assert (await self.account.me(pair["access_token"])).status_code == 200
        self.clock.advance(minutes=1)
        assert (await self.account.refresh(spent)).status_code == 401
        assert (await self.account.me(pair["access_token"])).status_code == 401
        assert (await self.account.login()).status_code == 200

    async def recent_login(self) -> None:
        self.clock.advance(minutes=14)
        await self.account.login()
        self.clock.advance(minutes=14)
        await self.call("POST", "/auth/2fa/enable")
        self.clock.advance(minutes=2)
        self.account.refresh_token = (await self.account.refresh()).json()["refresh_token"]
        pair = (await self.account.refresh()).json()
        self.account.access_token, self.account.refresh_token = pair["access_token"], pair["refresh_token"]
        assert (await self.call("POST", "/auth/2fa/enable", 403))["code"] == "reauthentication_required"
        await self.call("POST", "/auth/reauthenticate", password=PASSWORD)
        await self.call("POST", "/auth/2fa/enable")

    async def two_factor(self) -> None:
        totp = await enrol(self.account)
        self.clock.advance(minutes=9)
        await self.call("POST", "/auth/2fa/verify", code=totp.at(self.clock()))
        self.clock.advance(minutes=1)
        assert (await self.account.login()).status_code == 401
        assert (await self.account.login(totp.at(self.clock()))).status_code == 200
        await self.call("POST", "/account/2fa/disable", 204)
        totp = await enrol(self.account)
        self.clock.advance(minutes=11)
        await self.call("POST", "/auth/2fa/verify", 400, code=totp.at(self.clock()))

    async def throttle(self) -> None:
        """Guesses are slowed down, and the pause ends when it should."""
        guess = {"email": EMAIL, "password": "wrong password"}
        answers = [await self.account.client.post("/auth/login", json=guess) for _ in range(6)]
        assert [answer.status_code for answer in answers[:3]] == [401] * 3
        assert answers[-1].status_code == 429
        pause = int(answers[-1].headers["Retry-After"])
        assert 0 < pause < 3600
        assert (await self.account.login()).status_code == 429
        self.clock.advance(seconds=pause + 1)
        assert (await self.account.login()).status_code == 200

    async def devices(self) -> None:
        body = {"email": EMAIL, "password": self.account.password, "device": None}
        device = (await self.account.client.post("/auth/login", json=body)).json()["device"]
        assert timedelta(days=89) < (await Device.get()).expires_at - self.clock() < timedelta(days=91)
        self.clock.advance(minutes=1)
        again = await self.account.client.post("/auth/login", json={**body, "device": device})
        assert again.json()["device"] == device

    async def personal_tokens(self) -> None:
        asked = {"name": "backup", "scopes": ["notes:read"], "expires_in": 86400}
        made = await self.call("POST", "/account/tokens", 201, **asked)
        assert self.is_near(made["created_at"])
        bearer = {"Authorization": f"Bearer {made['token']}"}
        self.clock.advance(hours=23)
        assert (await self.account.client.get("/notes", headers=bearer)).status_code == 200
        await self.account.login()
        (listed,) = await self.call("GET", "/account/tokens")
        assert self.is_near(listed["last_used_at"])
        self.clock.advance(hours=2)
        assert (await self.account.client.get("/notes", headers=bearer)).status_code == 401
        await self.account.login()
        assert await self.call("GET", "/account/tokens") == []

    async def reset(self) -> None:
        """A link is good for as long as it says, and once."""
        lifetime = self.auth.settings.reset_token_ttl
        links = []
        for waited in (lifetime + timedelta(minutes=1), lifetime - timedelta(minutes=1)):
            await self.account.client.post("/auth/forgot-password", json={"email": EMAIL})
            links.append(self.mailbox.link())
            self.clock.advance(seconds=waited.total_seconds())
            answer = await self.account.client.post(links[-1], json={"new_password": NEW})
            assert answer.status_code == (400 if waited > lifetime else 200), answer.text
        assert (await self.account.client.post(links[-1], json={"new_password": PASSWORD})).status_code == 400
        self.account.password = NEW
        assert (await self.account.login()).status_code == 200

    async def audit(self) -> None:
        found = (await self.call("GET", "/account/activity"))["events"]
        times = [each["time"] for each in found]
        assert found[0]["event"] == "login"
        assert self.is_near(times[0])
        assert [datetime.fromisoformat(each) for each in times] == sorted(
            map(datetime.fromisoformat, times), reverse=True
        )
        user = await User.get()
        await User.filter(id=user.id).update(is_superuser=True)
        (shown,) = (await self.call("GET", "/admin/users"))["users"]
        assert self.is_near(shown["last_login_at"])
        assert UTC_TEXT.fullmatch(shown["created_at"])

    async def purge(self) -> None:
        """What lives stays, and what has ended goes."""
        body = {"email": EMAIL, "password": self.account.password, "device": None}
        assert (await self.account.client.post("/auth/login", json=body)).status_code == 200
        session, device = await Session.all().order_by("-created_at").first(), await Device.get()
        assert session is not None
        for model, ends in ((Session, session.expires_at), (Device, device.expires_at)):
            self.clock.advance(seconds=(ends - self.clock()).total_seconds() - 1800)
            await purge(self.auth)
            assert await model.exists()
            self.clock.advance(hours=1)
            await purge(self.auth)
            assert not await model.exists()
        assert not await RefreshToken.exists()


@pytest.mark.parametrize(
    ("database", "use_tz", "zone", "zone_of_process"), COMBINATIONS, indirect=["database"]
)
async def test_what_compares_moments_works(walk: Walk, tortoise: TortoiseContext, database: Database) -> None:
    for step in (
        *(walk.outbox, walk.sessions, walk.rotation, walk.recent_login, walk.two_factor, walk.throttle),
        *(walk.devices, walk.personal_tokens, walk.reset, walk.audit),
    ):
        await step()
        await assert_utc(tortoise, database.dialect)
    await walk.purge()
