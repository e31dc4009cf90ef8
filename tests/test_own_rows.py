"""What concerns an account looks at its own rows, and at those that it means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, PageUser, include_auth
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.models import Mail, MailState, RefreshToken, Session, User

from .conftest import EMAIL, Account, Clock, Mailbox
from .visitor import BROWSER

DIALECTS = ("sqlite",)
BOB = "bob@example.com"

Register = Callable[..., Awaitable[Account]]


async def log_in(account: Account, agent: str) -> None:
    """From this browser."""
    body = {"email": account.email, "password": account.password}
    answer = await account.client.post("/auth/login", json=body, headers={"User-Agent": agent})
    assert answer.status_code == 200
    account.access_token = answer.json()["access_token"]


async def test_as_many_sessions_as_allowed_are_those_of_the_account(
    register: Register, settings: AuthSettings, clock: Clock
) -> None:
    bob, ada = await register(BOB), await register(EMAIL)
    settings.max_sessions = 3
    for number in range(3):
        clock.advance(seconds=1)
        await bob.login()
        await log_in(ada, f"Browser {number}")
    for owner in (ada, bob):
        assert await Session.filter(user__email=owner.email, revoked_at=None).count() == 3
        assert (await User.get(email=owner.email)).sessions_opened == 3
    settings.max_sessions = 10
    dora = await register("dora@example.com")
    await log_in(dora, "A browser")
    assert await Session.filter(user__email=dora.email, revoked_at=None).count() == 2


async def test_sessions_that_have_ended_take_no_place(
    account: Account, settings: AuthSettings, clock: Clock
) -> None:
    """The oldest lives: those after it were ended, or have expired."""
    settings.max_sessions = 2
    await account.login()
    newest = account.access_token
    await Session.all().order_by("-id").limit(1).first()
    ended = await Session.all().order_by("-id").first()
    assert ended is not None
    await account.client.delete(f"/account/sessions/{ended.id}", headers=account.headers)
    await account.login()
    assert await Session.filter(revoked_at=None).count() == 2
    oldest = await Session.all().order_by("id").first()
    assert oldest is not None
    assert oldest.revoked_at is None
    await Session.filter(revoked_at=None).exclude(id=oldest.id).update(expires_at=clock())
    await account.login()
    assert (await Session.get(id=oldest.id)).revoked_at is None
    assert (await account.me(newest)).status_code == 401


async def test_a_browser_is_known_to_the_account_that_has_used_it_only(
    register: Register, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.notify_new_device = True
    bob, ada = await register(BOB), await register(EMAIL)
    mailbox.clear()
    await log_in(bob, "Bob's browser")
    assert [message["To"] for message in mailbox.messages] == [BOB]
    await log_in(ada, "Bob's browser")
    assert [message["To"] for message in mailbox.messages] == [BOB, EMAIL]
    await log_in(ada, "Bob's browser")
    assert len(mailbox.messages) == 2


async def test_the_first_sign_in_is_no_news_whoever_else_has_signed_in(
    register: Register, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.notify_new_device = True
    await register(BOB)
    mailbox.clear()
    await register(EMAIL)
    assert [message["To"] for message in mailbox.messages] == [EMAIL]
    assert "verify" in str(mailbox.messages[0].get_body(("plain",))).lower()


async def test_a_token_of_the_host_that_gets_a_session_leaves_others_without(
    register: Register, auth: Auth
) -> None:
    """Also another one of the same user."""
    tokens = []
    for email in (BOB, EMAIL, EMAIL):
        if not await User.exists(email=email):
            await register(email)
        user, now = await User.get(email=email), auth.clock()
        token = auth.signer.sign(
            "refresh", user.id, issued_at=now, expires_at=now + timedelta(days=1), jti=str(uuid4())
        )
        await RefreshToken.create_for(user.id, token, timedelta(days=1))
        tokens.append(token)
    ada = await register("ada.lovelace@example.com")
    assert (await ada.refresh(tokens[1])).status_code == 200
    kept = await RefreshToken.filter(session_id=None).values_list("token", flat=True)
    assert len(kept) == 2
    for token in (tokens[0], tokens[2]):
        assert (await ada.refresh(token)).status_code == 200


async def test_of_mails_that_were_claimed_together_each_gets_its_own_end(
    account: Account, auth: Auth
) -> None:
    user, outbox = await User.get(), auth.outbox
    await Mail.all().delete()
    for _ in range(4):
        await outbox.add(MailKind.PASSWORD_CHANGED, EMAIL, user_id=user.id, when="now")
    sent, failed, dropped, held = await outbox.claim(4)
    await outbox.mark_sent(sent)
    await outbox.mark_failed(failed, "refused", permanent=True)
    await outbox.drop(dropped)
    states = {mail.id: mail.state for mail in await Mail.all()}
    assert states == {sent.id: MailState.SENT, failed.id: MailState.DEAD, held.id: MailState.SENDING}


async def test_who_has_lost_a_mail_to_another_process_changes_nothing_of_it(
    account: Account, auth: Auth, clock: Clock
) -> None:
    """A process that is slow to send it, or to find that it cannot."""
    user, outbox = await User.get(), auth.outbox
    await Mail.all().delete()
    await outbox.add(MailKind.PASSWORD_CHANGED, EMAIL, user_id=user.id, when="now")
    (slow,) = await outbox.claim(1)
    clock.advance(minutes=3)
    (quick,) = await outbox.claim(1)
    assert quick.id == slow.id
    before = await Mail.all().values()
    await outbox.mark_sent(slow)
    await outbox.mark_failed(slow, "refused", permanent=True)
    await outbox.drop(slow)
    assert await Mail.all().values() == before
    await outbox.mark_sent(quick)
    sent = await Mail.all().values()
    await outbox.mark_failed(quick, "refused", permanent=True)
    assert await Mail.all().values() == sent


async def test_no_token_and_no_link_of_a_disabled_account_is_good(
    account: Account, auth: Auth, mailbox: Mailbox
) -> None:
    user = await User.get()
    alone = auth.signer.access_token(user.id)
    assert (await account.me(alone)).status_code == 200
    await User.all().update(is_verified=False)
    links = []
    for path in ("/auth/verify/resend", "/auth/forgot-password"):
        await account.client.post(path, json={"email": EMAIL})
        links.append(mailbox.link())
    await User.all().update(is_active=False)
    assert (await account.me(alone)).status_code == 401
    before = await User.all().values()
    for link in links:
        assert (await account.client.get(link, headers=BROWSER)).status_code == 400
        answer = await account.client.post(link, json={"new_password": "a new horse battery"})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_link")
        assert (await account.client.post(link)).status_code in (400, 422)
    assert await User.all().values() == before
    await User.all().update(is_active=True)
    assert (await account.me(alone)).status_code == 200


@pytest.mark.parametrize("url", [None, "https://www.example.com/enter"])
async def test_a_page_of_the_host_works_without_our_pages(
    url: str | None, settings: AuthSettings, clock: Clock, account: Account
) -> None:
    """It leads to the sign-in page of the app, wherever that is; bearers of tokens need none."""
    settings.cookies, settings.sign_in_url = True, url
    app = FastAPI()
    auth = include_auth(
        app, settings=settings, clock=clock, require_two_factor=lambda user: user.email == BOB
    )

    @app.get("/reports")
    async def reports(user: PageUser) -> str:
        return user.email

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        refused = await client.get("/reports?year=2026")
        assert refused.status_code == 303
        place = url or "/account/sign-in"
        assert refused.headers["location"] == f"{place}?next=%2Freports%3Fyear%3D2026"
        assert (await client.get("/reports", headers=account.headers)).json() == EMAIL
        await User.all().update(email=BOB)
        lacking = await client.get("/reports", headers=account.headers)
        assert (lacking.status_code, lacking.json()["code"]) == (403, "two_factor_enrolment_required")
    await auth.close()
