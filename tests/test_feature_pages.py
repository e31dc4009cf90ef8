"""The pages of the activity and of personal access tokens, without JavaScript."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.config import AuthSettings as Settings
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.errors import ErrorCode
from fastapi_pluggable_auth.events import EventTable, Observation, Outcome
from fastapi_pluggable_auth.features import (
    Administration,
    AuditLog,
    Feature,
    OAuthServer,
    Oidc,
    Passkeys,
    PersonalTokens,
    SocialLogin,
)
from fastapi_pluggable_auth.features.audit_log.recording import UNKEPT_KINDS
from fastapi_pluggable_auth.features.oauth_server.names import OAuthMail
from fastapi_pluggable_auth.features.passkeys.names import PasskeyMail
from fastapi_pluggable_auth.features.personal_tokens.flows import PersonalTokenMail
from fastapi_pluggable_auth.features.social_login.names import SocialMail
from fastapi_pluggable_auth.features.two_factor.flows import TwoFactorMail
from fastapi_pluggable_auth.models import PersonalToken, User
from fastapi_pluggable_auth.words.texts import texts_of

from .conftest import EMAIL, PASSWORD, Clock
from .form_browser import BROWSER, FormBrowser
from .shipped import PAGES

DIALECTS = ("sqlite",)
BASE = "http://localhost:8000"
SCOPES = {"notes:read": "Read your notes", "notes:write": "Change your notes"}


class BoatEventKind(EventTable):
    BOAT_LENT = "boat_lent"


FEATURES: list[Feature] = [
    Administration(),
    AuditLog(),
    PersonalTokens(scopes=SCOPES),
    OAuthServer(resources=["/api"]),
    Passkeys(),
    SocialLogin(Oidc("acme", issuer="https://id.example.com", client_id="app")),
    Feature(name="boats", events=BoatEventKind),
]


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, pages=True, features=FEATURES)
    return app


@pytest.fixture
async def ada(app: FastAPI, auth: Auth, tortoise: TortoiseContext) -> AsyncIterator[FormBrowser]:
    """A visitor who is signed in."""
    hashed = await auth.hasher.hash(PASSWORD)
    await User.create(email=EMAIL, hashed_password=hashed, is_verified=True)
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as client:
        visitor = FormBrowser(client)
        await visitor.open("/account/sign-in")
        await visitor.submit("password", email=EMAIL, password=PASSWORD)
        yield visitor


def headings(visitor: FormBrowser) -> list[str]:
    return re.findall(r"<strong>(.*?)</strong>", visitor.page.text)


async def test_the_navigation_leads_to_the_pages_of_the_features_that_are_there(
    ada: FormBrowser, settings: AuthSettings
) -> None:
    for path, current in (("activity", "Activity"), ("tokens", "Tokens")):
        page = await ada.open(f"/account/security/{path}")
        assert (page.status, page.path) == (200, f"/account/security/{path}")
        assert f'aria-current="page">{current}<' in page.text
        assert page.answer.headers["cache-control"] == "no-store"
    assert {"/account/security/activity", "/account/security/tokens"} <= {*page.links}
    bare = FastAPI()
    include_auth(bare, settings=settings, pages=True)
    without = FastAPI()
    pageless = [each for each in FEATURES if each.name != "oauth_server"]
    include_auth(without, settings=settings, features=pageless)
    for app in (bare, without):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as client:
            for path in ("activity", "tokens"):
                assert (await client.get(f"/account/security/{path}")).status_code == 404


async def test_what_happened_is_said_in_words_with_its_time_and_where_it_failed_why(
    ada: FormBrowser, auth: Auth, clock: Clock
) -> None:
    await ada.open("/account/profile")
    await ada.submit("password", password="wrong", new_password="a new horse battery")
    user = await User.get()
    seen = Observation(user.id, actor_id=user.id)
    await auth.events.emit(BoatEventKind.BOAT_LENT, Outcome.SUCCESS, seen)
    page = await ada.open("/account/security/activity")
    assert headings(ada) == ["Boat lent", "Change of the password", "Sign-in"]
    assert 'Change of the password</strong> <span class="off">Failed</span>' in page.text
    assert "This is not the right password." in page.text
    assert page.text.count("By an administrator") == 1
    assert page.text.count("192.0.2.7") == 2
    moments = re.findall(r'<time datetime="([^"]+)">', page.text)
    assert len(moments) == 3
    assert moments == sorted(moments, reverse=True)
    german = await ada.open("/account/security/activity", **{"Accept-Language": "de"})
    assert "Änderung des Passworts" in german.text


async def test_what_was_tried_too_often_is_said_without_a_time_that_is_long_over(
    ada: FormBrowser, auth: Auth
) -> None:
    user = await User.get()
    seen = Observation(user.id)
    await auth.events.emit(BoatEventKind.BOAT_LENT, Outcome.FAILURE, seen, reason=ErrorCode.RATE_LIMITED.code)
    page = await ada.open("/account/security/activity")
    assert page.status == 200
    assert "Too many requests. Please try again in a little while." in page.text


async def test_the_activity_has_pages(ada: FormBrowser, auth: Auth) -> None:
    user = await User.get()
    for _ in range(40):
        await auth.events.emit(BoatEventKind.BOAT_LENT, Outcome.SUCCESS, Observation(user.id))
    counts = []
    page = await ada.open("/account/security/activity")
    while more := [link for link in page.links if "after=" in link]:
        counts.append(len(headings(ada)))
        page = await ada.open(more[0])
    assert [*counts, len(headings(ada))] == [20, 20, 1]


@pytest.mark.parametrize("page", sorted({*PAGES.values()} - {"sign-in", "sign-up"}))
async def test_the_page_that_a_mail_leads_to_has_the_section_where_one_acts(
    ada: FormBrowser, page: str
) -> None:
    """A reader who is signed in; others sign in first."""
    path, _, section = f"/account/{page}".partition("#")
    opened = await ada.open(path)
    assert (opened.status, opened.path) == (200, path)
    assert not section or f'<section id="{section}">' in opened.text


def test_a_mail_about_what_the_reader_may_not_have_done_leads_to_what_ends_it() -> None:
    assert {
        MailKind.MAILBOX_CLAIMED: "forgot-password",
        MailKind.ACCOUNT_EXISTS: "sign-in",
        MailKind.SIGNUP_CLASH: "sign-up",
        MailKind.SESSION_REUSE: "profile#change-password",
        MailKind.PASSWORD_CHANGED: "forgot-password",
        MailKind.WRONG_CODES: "profile#change-password",
        MailKind.NEW_DEVICE: "profile#change-password",
        TwoFactorMail.TWO_FACTOR_ENABLED: "forgot-password",
        TwoFactorMail.TWO_FACTOR_DISABLED: "security#two-factor",
        TwoFactorMail.RECOVERY_CODES_RENEWED: "profile#change-password",
        TwoFactorMail.RECOVERY_CODE_USED: "profile#change-password",
        PersonalTokenMail.PERSONAL_TOKEN_CREATED: "security/tokens",
        **dict.fromkeys(OAuthMail, "security/applications"),
        **dict.fromkeys(PasskeyMail, "security#passkeys"),
        **dict.fromkeys({*SocialMail} - {SocialMail.SOCIAL_CODE}, "security#identities"),
    } == PAGES


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_kind_of_event_of_the_package_has_words(language: str) -> None:
    auth = Auth(Settings(_env_file=None), features=FEATURES)
    kinds = auth.features.events
    kept = {kind.value for kind in kinds.values()} - {kind.value for kind in UNKEPT_KINDS} - {"boat_lent"}
    said = {
        key.removeprefix("events.")
        for key in texts_of(None, language, auth.features.folders)
        if key.startswith("events.")
    }
    assert kept == said


async def test_a_token_is_made_shown_once_and_revoked(ada: FormBrowser) -> None:
    page = await ada.open("/account/security/tokens")
    assert "Read your notes" in page.text
    page = await ada.submit("scopes", name="backup script", scopes="notes:read", days="30")
    (secret,) = re.findall(r"pat_[\w-]{43}", page.text)
    assert page.answer.headers["cache-control"] == "no-store"
    token = await PersonalToken.get()
    assert (token.name, token.scopes) == ("backup script", frozenset({"notes:read"}))
    assert token.expires_at is not None
    assert (token.expires_at - token.created_at).days == 30
    page = await ada.open("/account/security/tokens")
    assert secret not in page.text
    assert headings(ada) == ["backup script"]
    assert f'Expires <time datetime="{token.expires_at.isoformat()}" data-day>' in page.text
    page = await ada.submit("revoke", token=str(token.id))
    assert "The token is revoked." in page.text
    assert not await PersonalToken.exists()
    for unknown in (str(token.id), "no id"):
        await PersonalToken.all().delete()
        await ada.open("/account/security/tokens")
        await ada.submit("scopes", name="x", scopes="notes:read")
        await ada.open("/account/security/tokens")
        page = await ada.submit("revoke", token=unknown)
        assert (page.status, "There is no such token." in page.text) == (404, True)


async def test_what_is_wrong_with_a_token_is_said_beside_its_field_and_nothing_is_lost(
    ada: FormBrowser, settings: AuthSettings
) -> None:
    await ada.open("/account/security/tokens")
    page = await ada.submit("scopes", name="backup script")
    assert (page.status, "Please choose one of these." in page.text) == (422, True)
    assert page.one("input", id="name")["value"] == "backup script"
    page = await ada.submit("scopes", name="", scopes="notes:write")
    assert 'id="name-fault"' in page.text
    assert "checked" in page.one("input", value="notes:write")
    settings.max_personal_tokens = 1
    await ada.submit("scopes", name="one", scopes="notes:read")
    await ada.open("/account/security/tokens")
    page = await ada.submit("scopes", name="two", scopes="notes:read")
    assert (page.status, "Revoke a token first" in page.text) == (409, True)


async def test_making_one_needs_a_recent_login_and_revoking_does_not(ada: FormBrowser, clock: Clock) -> None:
    await ada.open("/account/security/tokens")
    await ada.submit("scopes", name="one", scopes="notes:read")
    await ada.open("/account/security/tokens")
    clock.advance(minutes=16)
    page = await ada.submit("scopes", name="two", scopes="notes:read")
    assert page.path == "/account/confirm-password"
    page = await ada.open("/account/security/tokens")
    confirm = "/account/confirm-password?next=/account/security/tokens"
    assert [link for link in page.links if "next=" in link] == [confirm]
    page = await ada.submit("revoke", token=str((await PersonalToken.get()).id))
    assert "The token is revoked." in page.text
    await ada.open(confirm)
    page = await ada.submit("password", password=PASSWORD)
    assert page.path == "/account/security/tokens"
    assert page.form("create")


@pytest.mark.parametrize(
    ("longest", "days"),
    [(365, ["7", "30", "90", "365"]), (45, ["7", "30", "45"]), (0, ["7", "30", "90", "365", "0"])],
)
async def test_lifetimes_are_offered_that_the_app_allows(
    ada: FormBrowser, settings: AuthSettings, longest: int, days: list[str]
) -> None:
    settings.personal_token_max_age = f"P{longest}D"  # type: ignore[assignment]  # as the environment has it
    page = await ada.open("/account/security/tokens")
    assert re.findall(r'<option value="(\d+)"', page.text) == days
    await ada.submit("scopes", name="one", scopes="notes:read", days=days[-1])
    token = await PersonalToken.get()
    assert (token.expires_at is None) == (days[-1] == "0")
