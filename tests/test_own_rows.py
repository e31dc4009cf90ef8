"""What concerns an account looks at its own rows, and at those that it means."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pyotp
import pytest
from fastapi import FastAPI
from tortoise.expressions import Q

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings, PageUser, include_auth
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.email.tokens import Purpose
from fastapi_pluggable_auth.features import Administration
from fastapi_pluggable_auth.features.administration.impersonation import impersonate
from fastapi_pluggable_auth.features.administration.users import create_user
from fastapi_pluggable_auth.flows.purge import BATCH, purge
from fastapi_pluggable_auth.hooks import BeforeLogin
from fastapi_pluggable_auth.models import (
    Device,
    Mail,
    MailState,
    PersonalToken,
    RefreshToken,
    Session,
    Throttle,
    User,
)
from fastapi_pluggable_auth.security.jwt import REFRESH

from .conftest import EMAIL, Account, Clock, Mailbox
from .form_browser import BROWSER

DIALECTS = ("sqlite",)
BOB = "bob@example.com"


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """With the routes for administrators."""
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, features=[Administration()])
    return app


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
        tokens.append(await host_token(auth, await User.get(email=email)))
    ada = await register("ada.lovelace@example.com")
    assert (await ada.refresh(tokens[1])).status_code == 200
    kept = await RefreshToken.filter(session_id=None).values_list("token", flat=True)
    assert len(kept) == 2
    for token in (tokens[0], tokens[2]):
        assert (await ada.refresh(token)).status_code == 200


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
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
    assert await outbox.claim(4) == []


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


# --- mails -----------------------------------------------------------------------------------------------


async def test_a_disabled_account_gets_no_mail(account: Account, auth: Auth, mailbox: Mailbox) -> None:
    """Neither of those to the account nor of those to whom the address belongs."""
    user = await User.get()
    await User.all().update(is_active=False)
    mailbox.clear()
    for user_id in (user.id, None):
        for kind in (MailKind.VERIFY, MailKind.RESET):
            await auth.outbox.add(kind, EMAIL, user_id=user_id)
    assert await auth.dispatcher.deliver_due() == 4
    assert mailbox.messages == []


async def test_a_mail_that_is_tried_again_starts_anew_and_one_that_has_gone_has_no_error(
    account: Account, auth: Auth, clock: Clock
) -> None:
    outbox = auth.outbox
    await Mail.all().delete()
    await outbox.add(MailKind.RESET, EMAIL)
    (mail,) = await outbox.claim(1)
    await outbox.mark_failed(mail, "refused", permanent=True)
    assert await outbox.retry(Q(id=mail.id)) == 1
    again = await Mail.get()
    assert (again.state, again.attempts) == (MailState.WAITING, 0)
    (mail,) = await outbox.claim(1)
    assert mail.last_error == "refused"
    await outbox.mark_sent(mail)
    assert (await Mail.get()).last_error == ""


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
async def test_a_task_queue_gets_mails_that_are_due_and_meant_and_its_failures_count(
    account: Account, auth: Auth, clock: Clock
) -> None:
    outbox = auth.outbox
    await Mail.all().delete()
    for _ in range(3):
        await outbox.add(MailKind.RESET, EMAIL)
    first, later, other = await Mail.all().order_by("created_at")
    await Mail.filter(id=later.id).update(next_attempt_at=clock() + timedelta(hours=1))
    (handed,) = await outbox.hand_over(9, [first.id, later.id])
    assert handed.id == first.id
    assert (await Mail.get(id=other.id)).state is MailState.WAITING
    await outbox.mark_failed(handed, "busy", permanent=False)
    assert (await Mail.get(id=first.id)).attempts == 1


# --- ends ------------------------------------------------------------------------------------------------


async def host_token(auth: Auth, user: User) -> str:
    """A refresh token that the host has stored, without a session."""
    now = auth.clock()
    token = auth.signer.sign(
        REFRESH, user.id, issued_at=now, expires_at=now + timedelta(days=1), jti=str(uuid4())
    )
    await RefreshToken.create_for(user.id, token, timedelta(days=1))
    return token


@pytest.mark.parametrize("path", ["/auth/logout", "/account/logout-others"])
async def test_a_token_without_a_session_ends_with_the_others(
    path: str, account: Account, auth: Auth
) -> None:
    token = await host_token(auth, await User.get())
    listed = await account.client.get("/account/sessions", headers=account.headers)
    assert len(listed.json()) == 1
    await account.client.post(path, headers=account.headers)
    assert (await account.refresh(token)).status_code == 401


async def test_a_session_that_nobody_has_used_for_long_is_not_listed(account: Account, clock: Clock) -> None:
    clock.advance(days=8)
    await account.login()
    assert await Session.filter(revoked_at=None, expires_at__gt=clock()).count() == 2
    listed = await account.client.get("/account/sessions", headers=account.headers)
    assert len(listed.json()) == 1


async def test_when_a_session_ended_is_not_changed_by_a_later_end(account: Account, clock: Clock) -> None:
    ended = await Session.get()
    await account.login()
    await account.client.delete(f"/account/sessions/{ended.id}", headers=account.headers)
    before = (await Session.get(id=ended.id)).revoked_at
    clock.advance(minutes=5)
    await account.client.post("/auth/logout", headers=account.headers)
    assert before is not None
    assert (await Session.get(id=ended.id)).revoked_at == before


async def test_what_was_begun_in_the_session_that_ends_the_others_goes_on(account: Account) -> None:
    await account.client.post("/auth/2fa/enable", headers=account.headers)
    secret = (await User.get()).totp_secret
    await account.client.patch("/account", json={"email": "new@example.com"}, headers=account.headers)
    await account.client.post("/account/logout-others", headers=account.headers)
    user = await User.get()
    assert secret is not None
    assert (user.totp_secret, user.pending_email) == (secret, "new@example.com")


async def test_an_address_waits_for_no_session_that_has_expired_whoever_else_is_signed_in(
    register: Register, clock: Clock, mailbox: Mailbox, settings: AuthSettings
) -> None:
    settings.session_max_age = timedelta(hours=2)
    ada, bob = await register(EMAIL), await register(BOB)
    await ada.client.patch("/account", json={"email": "new@example.com"}, headers=ada.headers)
    link = mailbox.link("new@example.com")
    clock.advance(hours=3)
    for account in (ada, bob):
        await account.login()
    answer = await ada.client.post(link)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_link")
    assert await User.exists(email=EMAIL)


async def test_an_address_that_is_mailed_no_link_does_not_wait(
    account: Account, settings: AuthSettings
) -> None:
    settings.mail_limit = 2
    for name in ("one", "two", "three"):
        assert (await User.get()).pending_email in (None, "one@example.com", "two@example.com")
        body = {"email": f"{name}@example.com"}
        assert (await account.client.patch("/account", json=body, headers=account.headers)).status_code == 200
    assert (await User.get()).pending_email is None


# --- what is one of several ------------------------------------------------------------------------------


async def test_generations_that_another_session_has_lost_are_none_of_this_one(
    account: Account, clock: Clock, settings: AuthSettings
) -> None:
    settings.refresh_idempotent = True

    async def loses() -> None:
        spent = account.refresh_token
        await account.refresh()
        clock.advance(seconds=11)
        await rotates(spent)

    async def rotates(token: str | None = None) -> None:
        answer = (await account.refresh(token)).json()
        account.access_token, account.refresh_token = answer["access_token"], answer["refresh_token"]
        assert (await account.me()).status_code == 200

    await loses()  # generation 1
    await account.login()
    await rotates()
    shown = account.access_token
    await loses()  # generation 2, of another session
    assert (await account.me(shown)).status_code == 200
    assert (await account.me()).status_code == 200


async def test_one_of_two_devices_is_seen_again(account: Account, clock: Clock) -> None:
    values = []
    for _ in range(2):
        body = {"email": EMAIL, "password": account.password, "device": None}
        values.append((await account.client.post("/auth/login", json=body)).json()["device"])
    before = {device.id: (device.session_id, device.expires_at) for device in await Device.all()}
    clock.advance(days=30)
    body = {"email": EMAIL, "password": account.password, "device": values[0]}
    assert (await account.client.post("/auth/login", json=body)).json()["device"] == values[0]
    after = {device.id: (device.session_id, device.expires_at) for device in await Device.all()}
    (seen,) = [device_id for device_id in after if after[device_id] != before[device_id]]
    assert after[seen][1] - before[seen][1] >= timedelta(days=30)
    assert after[seen][0] != before[seen][0]


async def test_a_recovery_code_of_somebody_else_reaches_no_hook(register: Register, auth: Auth) -> None:
    bob, ada = await register(BOB), await register(EMAIL)
    codes: list[str] = []
    for account in (bob, ada):
        begun = await account.client.post("/auth/2fa/enable", headers=account.headers)
        code = pyotp.parse_uri(begun.json()["otpauth_uri"]).at(auth.clock())  # type: ignore[attr-defined]
        await account.client.post("/auth/2fa/verify", json={"code": code}, headers=account.headers)
        made = await account.client.post("/auth/2fa/recovery-codes", headers=account.headers)
        codes = codes or made.json()["codes"]
    heard: list[str] = []

    @auth.on(BeforeLogin)
    async def hear(event: BeforeLogin) -> None:
        heard.append(event.user.email)

    assert (await ada.login(codes[0])).status_code == 401
    assert heard == []
    assert (await bob.login(codes[0])).status_code == 200
    assert heard == [BOB]


async def test_the_mail_counts_the_recovery_codes_of_the_account(
    register: Register, auth: Auth, mailbox: Mailbox
) -> None:
    ada = await register(EMAIL)
    codes: list[str] = []
    for account in (await register(BOB), ada):
        begun = await account.client.post("/auth/2fa/enable", headers=account.headers)
        code = pyotp.parse_uri(begun.json()["otpauth_uri"]).at(auth.clock())  # type: ignore[attr-defined]
        await account.client.post("/auth/2fa/verify", json={"code": code}, headers=account.headers)
        made = await account.client.post("/auth/2fa/recovery-codes", headers=account.headers)
        codes = made.json()["codes"]
    for left in (9, 8):
        mailbox.clear()
        assert (await ada.login(codes.pop())).status_code == 200
        assert f"left: {left}." in str(mailbox.messages[0].get_body(("plain",)))


async def test_what_is_shown_in_one_session_confirms_no_other(
    account: Account, clock: Clock, settings: AuthSettings
) -> None:
    """The answer that the other one has lost is still replaced."""
    settings.refresh_idempotent = True
    spent = account.refresh_token
    assert (await account.refresh()).status_code == 200
    await account.login()
    answer = (await account.refresh()).json()
    account.access_token = answer["access_token"]
    assert (await account.me()).status_code == 200
    assert await Session.filter(confirmed_gen=1).count() == 1
    clock.advance(seconds=11)
    assert (await account.refresh(spent)).status_code == 200


async def test_two_processes_count_together(
    account: Account, settings: AuthSettings, clock: Clock, app: FastAPI
) -> None:
    settings.throttle_free_attempts, settings.throttle_first_pause = 5, timedelta(hours=1)
    second = FastAPI()
    auth = include_auth(second, settings=settings, clock=clock)
    transport = httpx.ASGITransport(second, client=("192.0.2.7", 4321))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as other:
        body = {"email": EMAIL, "password": "wrong"}
        asked = [each.post("/auth/login", json=body) for _ in range(15) for each in (account.client, other)]
        answers = await asyncio.gather(*asked)
    await auth.close()
    assert Counter(answer.status_code for answer in answers) == {401: 5, 429: 25}


async def test_a_purge_ends_where_many_rows_live(account: Account, auth: Auth, clock: Clock) -> None:
    now = clock()
    live = {"count": 1, "started_at": now, "blocked_until": now}
    old = {"count": 1, "started_at": now, "blocked_until": now - timedelta(days=9)}
    await Throttle.all().delete()
    await Throttle.bulk_create([Throttle(id=f"live {number}", **live) for number in range(BATCH + 1)])
    await Throttle.bulk_create([Throttle(id=f"old {number}", **old) for number in range(2)])
    async with asyncio.timeout(20):
        assert (await purge(auth))["auth_throttle"] == 2
    assert await Throttle.all().count() == BATCH + 1


async def test_a_purge_takes_nothing_that_lives(account: Account, auth: Auth, clock: Clock) -> None:
    user, later = await User.get(), clock() + timedelta(minutes=1)
    await Device.create(user_id=user.id, digest="d", expires_at=later, last_used_at=clock())
    await PersonalToken.create(user_id=user.id, name="build", digest="p", scopes=[], expires_at=later)
    assert not any((await purge(auth)).values())
    clock.advance(minutes=2)
    deleted = await purge(auth)
    assert {table for table, count in deleted.items() if count} == {"auth_device", "auth_personal_token"}


async def test_an_impersonation_by_a_script_ends_with_its_administrator(
    register: Register, auth: Auth
) -> None:
    """One that was begun in no session."""
    bob = await register(BOB)
    await User.filter(email=BOB).update(is_superuser=True)
    ada = await register(EMAIL)
    tokens = await impersonate(auth, await User.get(email=BOB), (await User.get(email=EMAIL)).id)
    assert (await ada.me(tokens.access_token)).json()["email"] == EMAIL
    await User.filter(email=BOB).update(is_active=False)
    assert (await ada.me(tokens.access_token)).status_code == 401
    await User.filter(email=BOB).update(is_active=True)
    assert (await ada.me(tokens.access_token)).status_code == 401
    assert (await bob.me()).status_code == 200


async def test_a_mail_to_an_address_that_the_account_has_left_is_not_sent(
    account: Account, auth: Auth, mailbox: Mailbox
) -> None:
    user = await User.get()
    await User.all().update(pending_email="new@example.com")
    for kind in (MailKind.VERIFY, MailKind.RESET, MailKind.STOP_EMAIL_CHANGE):
        await auth.outbox.add(kind, EMAIL, user_id=user.id, new_email="new@example.com", when="now")
    await auth.outbox.add(MailKind.EMAIL_CHANGE, "newer@example.com", user_id=user.id)
    await User.all().update(email="moved@example.com", is_verified=False)
    mailbox.clear()
    assert await auth.dispatcher.deliver_due() == 4
    assert mailbox.messages == []


async def test_a_link_that_knows_no_state_changes_no_address(account: Account, auth: Auth) -> None:
    """As a helper would make it: it could not be told whether it was used."""
    user = await User.get()
    await account.client.patch("/account", json={"email": "new@example.com"}, headers=account.headers)
    for purpose in (Purpose.EMAIL_CHANGE, Purpose.STOP_EMAIL_CHANGE):
        path = f"/auth/{purpose.value.replace('_', '-')}/{auth.links.generate(purpose, user.id)}"
        answer = await account.client.post(path)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_link")
    assert (await User.get()).pending_email == "new@example.com"


@pytest.mark.parametrize(("length", "fits"), [(7, False), (8, True), (1024, True), (1025, False)])
async def test_a_script_sets_passwords_of_the_lengths_that_a_signup_takes(
    length: int, fits: bool, client: httpx.AsyncClient, auth: Auth
) -> None:
    password = "kq7vzj2mwx" * 103
    body = {"email": EMAIL, "password": password[:length]}
    assert (await client.post("/auth/signup", json=body)).status_code == (201 if fits else 422)
    with nullcontext() if fits else pytest.raises(AuthError):
        await create_user(auth, BOB, password[:length])
    assert await User.exists(email=BOB) is fits


async def test_an_end_takes_the_impersonations_of_its_session_and_no_others(
    register: Register, auth: Auth
) -> None:
    """What an administrator has begun in another session goes on, and what had ended stays as it was."""
    root, ada, bob = await register("root@example.com"), await register(EMAIL), await register(BOB)
    await User.filter(email=root.email).update(is_superuser=True)

    async def acts() -> UUID:
        user = await User.get(email=EMAIL)
        answer = await root.client.post(f"/admin/users/{user.id}/impersonate", headers=root.headers)
        assert answer.status_code == 200
        begun = await Session.filter(impersonated_by__not_isnull=True).order_by("-created_at", "-id").first()
        assert begun is not None
        return begun.id

    async def ends(session_id: UUID) -> datetime | None:
        return (await Session.get(id=session_id)).revoked_at

    first = await acts()
    first_headers = root.headers
    await root.login()
    second = await acts()
    session = await Session.filter(user__email=root.email, revoked_at=None).order_by("id").first()
    assert session is not None
    answer = await root.client.delete(f"/account/sessions/{session.id}", headers=root.headers)
    assert answer.status_code == 204
    ended = await ends(first)
    assert ended is not None
    assert await ends(second) is None
    assert (await root.client.get("/auth/me", headers=first_headers)).status_code == 401
    await root.client.post("/auth/logout", headers=root.headers)
    assert await ends(second) is not None
    assert await ends(first) == ended
    assert (await ada.me()).status_code == (await bob.me()).status_code == 200
