"""A small feature by one value: its own code, event, mail and link, over HTTP."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings, SecurityEvent, include_auth, require
from fastapi_pluggable_auth.dependencies import CurrentAuth, CurrentAuthentication
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.email.preview import write_previews
from fastapi_pluggable_auth.email.provider import MemoryProvider
from fastapi_pluggable_auth.errors import ErrorTable
from fastapi_pluggable_auth.events import EventTable
from fastapi_pluggable_auth.features.feature import (
    Credential,
    Feature,
    LinkSpec,
    LinkTable,
    MailSpec,
    MailTable,
)
from fastapi_pluggable_auth.flows.authentication import Authentication, observed
from fastapi_pluggable_auth.flows.email import owner_of
from fastapi_pluggable_auth.flows.notices import notify
from fastapi_pluggable_auth.http.responses import documented
from fastapi_pluggable_auth.models import Mail, MailState, User
from fastapi_pluggable_auth.routes.router import AuthRouter

from .conftest import EMAIL, PASSWORD, Clock

DIALECTS = ("sqlite",)


class NoteError(ErrorTable):
    """Its codes."""

    NOTE_LOST = (404, "There is no such note.")


class NoteEventKind(EventTable):
    """Its security events."""

    NOTE_SHARED = "note_shared"


class NoteLink(LinkTable):
    """Its links."""

    ACCEPT = (
        "accept_note",
        LinkSpec(
            path="notes/{token}",
            lifetime=lambda settings: timedelta(minutes=10),
            state=lambda user: (user.display_name or "",),
        ),
    )


class NoteMail(MailTable):
    """Its mails."""

    NOTE_SHARED = (
        "note_shared",
        MailSpec(
            link=NoteLink.ACCEPT,
            page="notes",
            still_applies=lambda mail, user: user.display_name is None,
            sample={"title": "Groceries"},
        ),
    )


router = AuthRouter(prefix="/notes", tags=["notes"])


@router.post("/{title}", status_code=204, responses=documented(NoteError.NOTE_LOST))
async def share(title: str, auth: CurrentAuth, authentication: CurrentAuthentication) -> None:
    """Mails the note."""
    async with observed(auth, NoteEventKind.NOTE_SHARED, authentication):
        if title == "lost":
            raise AuthError(NoteError.NOTE_LOST)
        await notify(auth, NoteMail.NOTE_SHARED, authentication.user, title=title)


@router.put("/{token}", status_code=204)
async def accept(token: str, auth: CurrentAuth) -> None:
    """Uses the link."""
    user = await owner_of(auth, NoteLink.ACCEPT, token)
    await auth.tables.user.filter(id=user.id).update(display_name="Reader of notes")


@pytest.fixture
def notes(tmp_path: Path) -> Feature:
    """All that it brings."""
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "note_shared.subject.txt").write_text("A note: {{ title }}")
    (tmp_path / "en" / "note_shared.txt").write_text("{{ url }} works for {{ lifetime }}.")
    return Feature(
        name="notes",
        errors=NoteError,
        events=NoteEventKind,
        mails=NoteMail,
        links=NoteLink,
        routers=lambda auth: [router],
        templates=tmp_path,
    )


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, notes: Feature) -> FastAPI:
    """An app that has it."""
    app = FastAPI()
    provider = MemoryProvider()
    include_auth(app, settings=settings, clock=clock, email_provider=provider, features=[notes])
    return app


@pytest.fixture
def auth(app: FastAPI) -> Auth:
    """The services of that app."""
    found: Auth = app.state.pluggable_auth
    return found


@pytest.fixture
async def client(app: FastAPI, auth: Auth, tortoise: TortoiseContext) -> Any:
    """A user who has signed in."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        signup = await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
        assert signup.status_code == 201
        await User.all().update(is_verified=True)
        pair = (await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})).json()
        client.headers["Authorization"] = f"Bearer {pair['access_token']}"
        auth.mailer.provider.mails.clear()  # type: ignore[attr-defined]
        yield client


def mails_of(auth: Auth) -> Any:
    """What was sent."""
    return auth.mailer.provider.mails  # type: ignore[attr-defined]


async def test_a_refusal_of_a_feature_has_its_code_and_its_event(
    client: httpx.AsyncClient, auth: Auth, app: FastAPI
) -> None:
    heard: list[SecurityEvent] = []
    auth.on(SecurityEvent)(heard.append)
    refused = await client.post("/notes/lost")
    assert (refused.status_code, refused.json()) == (
        404,
        {"detail": "There is no such note.", "code": "note_lost"},
    )
    assert [(event.kind, event.outcome, event.reason) for event in heard] == [
        ("note_shared", "failure", "note_lost")
    ]
    described = app.openapi()["paths"]["/notes/{title}"]["post"]["responses"]["404"]["description"]
    assert described == "`note_lost`: There is no such note."


async def test_a_mail_of_a_feature_has_its_link_which_works_once(
    client: httpx.AsyncClient, auth: Auth
) -> None:
    assert (await client.post("/notes/Groceries")).status_code == 204
    (mail,) = mails_of(auth)
    assert (mail.to, mail.subject) == (EMAIL, "A note: Groceries")
    link, _, lifetime = mail.body.partition(" works for ")
    assert lifetime == "10 minutes."
    path = link.removeprefix(str(auth.settings.public_base_url))
    assert [(await client.put(path)).status_code for _ in range(2)] == [204, 400]
    assert (await client.get("/auth/me")).json()["display_name"] == "Reader of notes"
    assert (await client.post("/notes/Groceries")).status_code == 204
    assert len(mails_of(auth)) == 1  # nothing more to accept


async def test_a_link_of_a_feature_expires_and_is_good_for_nothing_else(
    client: httpx.AsyncClient, auth: Auth, clock: Clock
) -> None:
    await client.post("/notes/Groceries")
    token = mails_of(auth)[0].body.split("/notes/")[1].split()[0]
    other = await client.post(f"/auth/reset-password/{token}", json={"new_password": PASSWORD})
    assert (other.status_code, other.json()["code"]) == (400, "invalid_link")
    clock.advance(minutes=11)
    assert (await client.put(f"/notes/{token}")).json()["code"] == "invalid_link"


async def test_a_mail_of_an_unknown_kind_waits_and_is_said_once(
    client: httpx.AsyncClient,
    auth: Auth,
    settings: AuthSettings,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.deliver_mail = False
    await client.post("/notes/Groceries")
    waiting = await Mail.get(kind="note_shared")
    other = Auth(settings, clock=clock, email_provider=MemoryProvider())  # a worker without the feature
    for _ in range(3):
        assert await other.dispatcher.deliver_due() == 0
        await other.dispatcher.deliver([waiting.id])
    clock.advance(seconds=settings.email_max_age.total_seconds() + 1)
    assert await other.dispatcher.deliver_due() == 0
    left = await Mail.get(id=waiting.id)
    assert (left.state, left.attempts, left.next_attempt_at) == (
        MailState.WAITING,
        0,
        waiting.next_attempt_at,
    )
    assert caplog.text.count("Mails of the kind 'note_shared' wait") == 1
    await Mail.all().update(give_up_at=clock() + timedelta(hours=1))
    assert await auth.dispatcher.deliver_due() == 1
    assert mails_of(auth)[0].subject == "A note: Groceries"


async def test_mails_of_an_unknown_kind_keep_none_back(
    client: httpx.AsyncClient, settings: AuthSettings, clock: Clock
) -> None:
    settings.deliver_mail = False
    for _ in range(40):
        await client.post("/notes/Groceries")
    clock.advance(seconds=1)
    other = Auth(settings, clock=clock, email_provider=MemoryProvider())
    await other.outbox.add(NoteMail.NOTE_SHARED, EMAIL)
    await other.outbox.add(MailKind.RESET, EMAIL)
    assert await other.dispatcher.deliver_due() == 1


def test_the_preview_shows_the_mails_of_a_feature(
    settings: AuthSettings, notes: Feature, tmp_path: Path
) -> None:
    auth = Auth(settings, features=[notes])
    write_previews(settings, tmp_path / "out", auth.features, pages=True)
    text = (tmp_path / "out" / "en" / "note_shared.txt").read_text("utf-8")
    assert text.startswith("Subject: A note: Groceries\n")
    assert "works for 10 minutes." in text


def test_a_mail_or_a_link_that_another_has_is_refused_at_the_start(
    settings: AuthSettings, notes: Feature
) -> None:
    class OtherMail(MailTable):
        RESET = "reset", MailSpec()

    class OtherLink(LinkTable):
        RESET = "reset", NoteLink.ACCEPT.spec

    for other, message in (
        (Feature(name="other", mails=OtherMail), "mail 'reset' is that of the library and of the feature"),
        (Feature(name="other", mails=NoteMail), "mail 'note_shared' is that of the feature notes"),
        (Feature(name="other", links=OtherLink), "link 'reset' is that of the library and of the feature"),
        (Feature(name="other", links=NoteLink), "link 'accept_note' is that of the feature notes"),
    ):
        with pytest.raises(ValueError, match=message):
            Auth(settings, features=[notes, other])


async def test_its_tokens_never_are_a_person_nor_open_a_disabled_account(
    settings: AuthSettings, clock: Clock, tortoise: TortoiseContext
) -> None:
    """Whatever the feature has forgotten to look at."""
    user = await User.create(email=EMAIL, hashed_password="-", is_verified=True)
    scopes: dict[str, frozenset[str] | None] = {"key_notes": frozenset({"notes"}), "key_all": None}

    async def who(auth: Auth, token: str) -> Authentication:
        return Authentication(await User.get(), None, auth.clock(), scopes=scopes[token])

    credential = Credential(matches=lambda token: token.startswith("key_"), authenticate=who)
    app = FastAPI()
    include_auth(
        app, settings=settings, clock=clock, features=[Feature(name="keys", credentials=(credential,))]
    )

    async def route() -> str:
        return "in"

    app.get("/notes", dependencies=[Depends(require(scope="notes"))])(route)
    app.get("/recent", dependencies=[Depends(require(scope="notes", recent=True))])(route)

    async def ask(path: str, token: str = "key_notes") -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await client.get(path, headers=headers)
        return answer.status_code, "" if answer.is_success else answer.json()["code"]

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert await ask("/notes") == (200, "")
        assert await ask("/recent") == (403, "reauthentication_required")
        assert await ask("/auth/me") == (401, "invalid_token")
        with pytest.raises(TypeError, match="has scopes"):
            await ask("/notes", "key_all")
        await User.filter(id=user.id).update(is_active=False)
        assert await ask("/notes") == (401, "invalid_token")
