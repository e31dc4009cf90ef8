"""What ends with access: each row of the table, over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pyotp
import pytest
from fastapi import FastAPI
from tortoise.expressions import Q

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import Administration
from fastapi_pluggable_auth.features.administration.users import delete_user
from fastapi_pluggable_auth.models import Mail, User
from fastapi_pluggable_auth.models.device import Device

from .conftest import EMAIL, PASSWORD, Account, Clock, Mailbox, on_one_database
from .form_browser import BROWSER
from .smtp_server import link_in, text_of
from .test_password import DEAD_LINK, forgot, reset

THIEFS = "thief@example.org"
NEW_PASSWORD = "an entirely new one"


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, features=[Administration()])
    return app


@dataclass
class StolenAccount:
    """An owner and a thief, who is signed in to the account as well; and an administrator."""

    owner: Account
    thief: Account
    administrator: Account
    owners_id: str

    async def by_administrator(self, what: str) -> httpx.Response:
        path = f"/admin/users/{self.owners_id}/{what}"
        answer = await self.owner.client.post(path, headers=self.administrator.headers)
        assert answer.status_code == 204, answer.text
        return answer


async def sign_in(account: Account) -> Account:
    other = Account(account.client, account.mailbox, account.email, account.password)
    assert (await other.login()).status_code == 200
    return other


@pytest.fixture
async def stolen(account: Account, register: Callable[..., Any], mailbox: Mailbox) -> StolenAccount:
    administrator = await register("root@example.com")
    await User.filter(email="root@example.com").update(is_superuser=True)
    thief = await sign_in(account)
    mailbox.clear()
    return StolenAccount(account, thief, administrator, str((await User.get(email=EMAIL)).id))


async def change_address(account: Account, email: str = THIEFS) -> str:
    """Asks for another address; gives the link that was mailed to it."""
    answer = await account.client.patch("/account", json={"email": email}, headers=account.headers)
    assert answer.status_code == 200, answer.text
    return account.mailbox.link(email)


async def logout(stolen: StolenAccount) -> None:
    await stolen.owner.client.post("/auth/logout", headers=stolen.owner.headers)


async def logout_others(stolen: StolenAccount) -> None:
    await stolen.owner.client.post("/account/logout-others", headers=stolen.owner.headers)


async def logout_of_the_thief_alone(stolen: StolenAccount) -> None:
    body = {"everywhere": False}
    await stolen.thief.client.post("/auth/logout", json=body, headers=stolen.thief.headers)


async def end_one_session(stolen: StolenAccount) -> None:
    sessions = (await stolen.owner.client.get("/account/sessions", headers=stolen.owner.headers)).json()
    for session in sessions:
        if not session["current"]:
            await stolen.owner.client.delete(
                f"/account/sessions/{session['id']}", headers=stolen.owner.headers
            )


async def reuse(stolen: StolenAccount) -> None:
    tokens = (await stolen.thief.refresh()).json()
    assert (await stolen.thief.me(tokens["access_token"])).status_code == 200
    await stolen.thief.refresh(tokens["refresh_token"])
    clock = stolen.thief.client._transport.app.state.pluggable_auth.clock  # type: ignore[attr-defined]
    clock.advance(seconds=30)
    assert (await stolen.thief.refresh()).status_code == 401


async def administrator_ends_sessions(stolen: StolenAccount) -> None:
    await stolen.by_administrator("end-sessions")


async def disable_and_enable(stolen: StolenAccount) -> None:
    await stolen.by_administrator("disable")
    await stolen.by_administrator("enable")


async def reset_required(stolen: StolenAccount) -> None:
    await stolen.by_administrator("require-password-reset")


async def change_password(stolen: StolenAccount) -> None:
    body = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
    await stolen.owner.client.post("/account/change-password", json=body, headers=stolen.owner.headers)


async def reset_password(stolen: StolenAccount) -> None:
    await reset(stolen.owner.client, await forgot(stolen.owner.client, stolen.owner.mailbox))


async def expiry(stolen: StolenAccount) -> None:
    clock = stolen.thief.client._transport.app.state.pluggable_auth.clock  # type: ignore[attr-defined]
    clock.advance(days=30, minutes=1)


ENDS: list[Callable[[StolenAccount], Awaitable[None]]] = [
    logout,
    logout_others,
    logout_of_the_thief_alone,
    end_one_session,
    reuse,
    administrator_ends_sessions,
    disable_and_enable,
    reset_required,
    change_password,
    reset_password,
]


@on_one_database
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_pending_address_dies_with_the_session_that_asked_for_it(
    end: Callable[[StolenAccount], Awaitable[None]], stolen: StolenAccount
) -> None:
    """A-30."""
    link = await change_address(stolen.thief)
    await end(stolen)
    assert (await stolen.thief.me()).status_code == 401
    for method in ("GET", "POST"):
        answer = await stolen.owner.client.request(method, link, headers={"User-Agent": "curl/8"})
        assert (answer.status_code, answer.content) == (400, DEAD_LINK)
    user = await User.get(id=stolen.owners_id)
    assert (user.email, user.pending_email, user.pending_email_session) == (EMAIL, None, None)


async def test_a_pending_address_dies_with_a_session_that_expires(
    stolen: StolenAccount, settings: AuthSettings
) -> None:
    settings.verify_token_ttl = settings.session_max_age * 2
    link = await change_address(stolen.thief)
    await expiry(stolen)
    assert (await stolen.owner.client.post(link)).content == DEAD_LINK
    assert (await User.get(id=stolen.owners_id)).email == EMAIL


@pytest.mark.parametrize("end", [end_one_session, reuse, logout_others], ids=lambda end: end.__name__)
async def test_a_pending_address_outlives_the_end_of_other_sessions(
    end: Callable[[StolenAccount], Awaitable[None]], stolen: StolenAccount
) -> None:
    link = await change_address(stolen.owner, "new@example.org")
    await end(stolen)
    assert (await stolen.owner.client.post(link)).status_code == 200
    assert (await stolen.owner.me()).json()["email"] == "new@example.org"


async def test_a_confirmed_change_ends_the_other_sessions_and_tells_the_old_address(
    stolen: StolenAccount, mailbox: Mailbox
) -> None:
    """A-30."""
    link = await change_address(stolen.owner, "new@example.org")
    mailbox.clear()
    assert (await stolen.owner.client.post(link)).status_code == 200
    assert (await stolen.owner.me()).status_code == (await stolen.owner.refresh()).status_code == 200
    assert (await stolen.thief.me()).status_code == (await stolen.thief.refresh()).status_code == 401
    (notice,) = mailbox.messages
    assert notice["To"] == EMAIL


async def test_the_old_address_is_told_of_a_request_and_stops_it_by_a_link(
    stolen: StolenAccount, mailbox: Mailbox
) -> None:
    """A-30."""
    link = await change_address(stolen.thief)
    (notice,) = [message for message in mailbox.messages if message["To"] == EMAIL]
    assert THIEFS in notice.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    stop = link_in(notice).removeprefix("http://localhost:8000")
    client = stolen.owner.client
    for headers in ({}, BROWSER):  # which spends nothing
        assert (await client.get(stop, headers=headers)).status_code == 200
    assert THIEFS in (await client.get(stop, headers=BROWSER)).text
    assert (await User.get(id=stolen.owners_id)).pending_email == THIEFS
    answer = await client.post(stop)
    assert (answer.status_code, answer.json()) == (200, {"detail": "Your e-mail address stays as it is."})
    assert (await client.post(link)).content == DEAD_LINK
    assert (await client.post(stop)).content == (await client.get(stop)).content == DEAD_LINK
    assert (await User.get(id=stolen.owners_id)).email == EMAIL


@on_one_database
async def test_a_browser_stops_a_change_by_the_button_of_a_page(
    stolen: StolenAccount, mailbox: Mailbox
) -> None:
    link = await change_address(stolen.thief)
    answer = await stolen.owner.client.post(mailbox.link(EMAIL), headers=BROWSER)
    assert (answer.status_code, "stays as it is" in answer.text) == (200, True)
    dead = await stolen.owner.client.post(mailbox.link(EMAIL), headers=BROWSER)
    assert (dead.status_code, "does not work any more" in dead.text) == (400, True)
    assert (await stolen.owner.client.post(link)).content == DEAD_LINK


@on_one_database
async def test_a_link_for_one_purpose_serves_no_other(stolen: StolenAccount, mailbox: Mailbox) -> None:
    change = (await change_address(stolen.thief)).rpartition("/")[2]
    stop = mailbox.token(EMAIL)
    for path in (f"/auth/stop-email-change/{change}", f"/auth/email-change/{stop}"):
        assert (await stolen.owner.client.post(path)).content == DEAD_LINK
    assert (await User.get(id=stolen.owners_id)).pending_email == THIEFS


async def test_giving_the_present_address_takes_a_change_back(stolen: StolenAccount) -> None:
    link = await change_address(stolen.owner, "typo@example.org")
    answer = await stolen.owner.client.patch("/account", json={"email": EMAIL}, headers=stolen.owner.headers)
    assert (answer.status_code, answer.json()["email"]) == (200, EMAIL)
    assert (await stolen.owner.client.post(link)).content == DEAD_LINK
    assert (await User.get(id=stolen.owners_id)).pending_email is None


async def test_a_request_beyond_the_mail_limit_leaves_nothing_pending_that_nobody_was_told_of(
    stolen: StolenAccount, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.mail_limit = 1
    link = await change_address(stolen.thief)
    assert (await stolen.owner.client.post(mailbox.link(EMAIL))).status_code == 200
    mailbox.clear()
    answer = await stolen.thief.client.patch("/account", json={"email": THIEFS}, headers=stolen.thief.headers)
    assert (answer.status_code, mailbox.messages) == (200, [])
    assert (await stolen.owner.client.post(link)).content == DEAD_LINK


@on_one_database
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_pending_second_factor_dies_with_the_session_that_began_it(
    end: Callable[[StolenAccount], Awaitable[None]], stolen: StolenAccount
) -> None:
    """A-68."""
    enrolment = await stolen.thief.client.post("/auth/2fa/enable", headers=stolen.thief.headers)
    totp = pyotp.parse_uri(enrolment.json()["otpauth_uri"])  # type: ignore[attr-defined]
    await end(stolen)
    user = await User.get(id=stolen.owners_id)
    assert (user.totp_secret, user.totp_enrolled_at, user.totp_pending_session) == (None, None, None)
    if end is not reset_required:
        stolen.owner.password = NEW_PASSWORD if end is change_password else PASSWORD
        stolen.owner.password = "another good one" if end is reset_password else stolen.owner.password
        assert (await stolen.owner.login()).status_code == 200
        body = {"code": totp.now()}
        answer = await stolen.owner.client.post("/auth/2fa/verify", json=body, headers=stolen.owner.headers)
        assert answer.json()["code"] == "two_factor_not_started"


async def test_a_revoked_access_token_ends_nothing(stolen: StolenAccount) -> None:
    """A-46: a repeated logout is no error, and signs nobody out who has signed in since."""
    old = stolen.thief.headers
    await logout(stolen)
    assert (await stolen.owner.login()).status_code == 200
    for _ in range(2):
        assert (await stolen.owner.client.post("/auth/logout", headers=old)).status_code == 200
    assert (await stolen.owner.me()).status_code == (await stolen.owner.refresh()).status_code == 200


async def delete_by_owner(stolen: StolenAccount, auth: Auth) -> None:
    answer = await stolen.owner.client.delete("/account", headers=stolen.owner.headers)
    assert answer.status_code == 204


async def delete_by_administrator(stolen: StolenAccount, auth: Auth) -> None:
    path = f"/admin/users/{stolen.owners_id}"
    answer = await stolen.owner.client.delete(path, headers=stolen.administrator.headers)
    assert answer.status_code == 204


async def delete_by_a_script(stolen: StolenAccount, auth: Auth) -> None:
    await delete_user(auth, UUID(stolen.owners_id))
    await auth.dispatcher.deliver_due()


@on_one_database
@pytest.mark.parametrize("taken_again", [False, True])
@pytest.mark.parametrize(
    "delete", [delete_by_owner, delete_by_administrator, delete_by_a_script], ids=lambda f: f.__name__
)
async def test_the_owner_of_a_deleted_account_is_told_by_mail_in_his_language(
    delete: Callable[[StolenAccount, Auth], Awaitable[None]],
    taken_again: bool,
    stolen: StolenAccount,
    mailbox: Mailbox,
    auth: Auth,
) -> None:
    """A-23."""
    await User.filter(id=stolen.owners_id).update(language="de")
    mailbox.server.behaviour = "temporary" if taken_again else "accept"
    await delete(stolen, auth)
    if taken_again:
        await stolen.owner.client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
        mailbox.server.behaviour = "accept"
        await auth.outbox.retry(Q())
        await auth.dispatcher.deliver_due()
    (notice,) = [mail for mail in mailbox.messages if "gelöscht" in str(mail["Subject"])]
    assert notice["To"] == EMAIL
    assert await Mail.exclude(user_id=None).filter(kind="account_deleted").count() == 0


async def test_who_moves_an_account_to_himself_and_deletes_it_silences_no_mail_to_the_owner(
    stolen: StolenAccount, mailbox: Mailbox, auth: Auth
) -> None:
    """Also where no mail has gone out yet."""
    await User.filter(id=stolen.owners_id).update(language="de")
    link = await change_address(stolen.thief, "thief@example.org")
    mailbox.clear()
    mailbox.server.behaviour = "temporary"
    assert (await stolen.thief.client.post(link)).status_code == 200
    answer = await stolen.thief.client.delete("/account", headers=stolen.thief.headers)
    assert answer.status_code == 204
    mailbox.server.behaviour = "accept"
    await auth.outbox.retry(Q())
    await auth.dispatcher.deliver_due()
    (notice,) = [mail for mail in mailbox.messages if mail["To"] == EMAIL]
    assert "thief@example.org" in text_of(notice)
    assert "geändert" in text_of(notice)


async def on_device(account: Account) -> Account:
    """Signed in on a device that is known from then on."""
    body = {"email": EMAIL, "password": PASSWORD, "device": None}
    answer = (await account.client.post("/auth/login", json=body)).json()
    tokens = answer["access_token"], answer["refresh_token"]
    return Account(account.client, account.mailbox, EMAIL, PASSWORD, *tokens)


KNOWN_AFTER = {
    logout: 2,
    logout_others: 2,
    change_password: 1,
    reuse: 1,
    administrator_ends_sessions: 0,
    disable_and_enable: 0,
    reset_required: 0,
    reset_password: 0,
}


@on_one_database
@pytest.mark.parametrize("end", KNOWN_AFTER, ids=lambda end: end.__name__)
async def test_known_devices_end_as_the_table_says(
    end: Callable[[StolenAccount], Awaitable[None]], stolen: StolenAccount
) -> None:
    stolen.owner, stolen.thief = await on_device(stolen.owner), await on_device(stolen.thief)
    assert await Device.filter(user_id=stolen.owners_id).count() == 2
    await end(stolen)
    assert await Device.filter(user_id=stolen.owners_id).count() == KNOWN_AFTER[end]
