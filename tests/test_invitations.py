"""Who gets an account: anyone, people who are invited, or nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings, include_auth
from fastapi_pluggable_auth.features import Administration
from fastapi_pluggable_auth.features.administration.users import create_user, invite_user
from fastapi_pluggable_auth.flows.authorization import grant
from fastapi_pluggable_auth.hooks import EmailVerified, PasswordChanged, SignedUp
from fastapi_pluggable_auth.models import Mail, Session, User

from .conftest import EMAIL, PASSWORD, Account, Clock, Mailbox, on_each_database
from .form_browser import BROWSER, FormBrowser
from .test_account_pages import BASE, signed_in

DIALECTS = ("sqlite",)
KIM = "kim@example.com"


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    settings.signup = "invited"
    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        clock=clock,
        roles={"editor": ["posts:write"], "chief": []},
        pages=True,
        features=[Administration()],
    )
    return app


@pytest.fixture
async def account(client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox) -> Account:
    """Somebody who may invite."""
    user = await create_user(auth, EMAIL, PASSWORD, verified=True)
    await grant(auth, user.id, permissions=["accounts:write"], roles=["editor"])
    account = Account(client, mailbox, EMAIL, PASSWORD)
    assert (await account.login()).status_code == 200
    return account


@pytest.fixture
async def visitor(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[FormBrowser]:
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as client:
        yield FormBrowser(client)


async def invite(account: Account, email: str = KIM, **body: Any) -> httpx.Response:
    return await account.client.post(
        "/admin/invitations", json={"email": email, **body}, headers=account.headers
    )


async def login(client: httpx.AsyncClient, email: str = KIM, password: str = PASSWORD) -> int:
    answer = await client.post("/auth/login", json={"email": email, "password": password})
    return answer.status_code


def letters(mailbox: Mailbox, email: str = KIM) -> list[str]:
    """The subjects of the mails to an address."""
    return [message["Subject"] for message in mailbox.messages if message["To"] == email]


@pytest.mark.parametrize("signup", ["invited", "closed"])
async def test_strangers_get_no_account_unless_signup_is_open(
    client: httpx.AsyncClient, visitor: FormBrowser, settings: AuthSettings, mailbox: Mailbox, signup: Any
) -> None:
    body = {"email": KIM, "password": PASSWORD}
    settings.signup = "open"
    await visitor.open("/account/sign-in")
    assert "/account/sign-up" in visitor.page.links
    await visitor.open("/account/sign-up")  # and left open until later
    settings.signup = signup
    refused = await client.post("/auth/signup", json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "signup_closed")
    page = await visitor.submit("new_password", email=KIM, new_password=PASSWORD)
    assert (page.status, "/account/sign-up" in page.links) == (404, False)
    page = await visitor.open("/account/sign-up")
    assert (page.status, "Nobody can sign up here" in page.text) == (404, True)
    page = await visitor.open("/account/sign-in")
    assert (page.status, [link for link in page.links if "sign-up" in link]) == (200, [])
    assert (await User.all().count(), mailbox.messages) == (0, [])


async def test_a_taken_address_is_refused_as_any_other_where_signup_is_closed(
    client: httpx.AsyncClient, auth: Auth, settings: AuthSettings
) -> None:
    await create_user(auth, EMAIL, PASSWORD)
    taken, free = [
        await client.post("/auth/signup", json={"email": email, "password": PASSWORD})
        for email in (EMAIL, KIM)
    ]
    assert (taken.status_code, taken.content) == (free.status_code, free.content)


async def test_the_documents_name_the_code(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert "signup_closed" in document["paths"]["/auth/signup"]["post"]["responses"]["403"]["description"]


async def test_an_invitation_sets_the_password_and_verifies_the_address(
    account: Account, visitor: FormBrowser, mailbox: Mailbox, auth: Auth
) -> None:
    heard: list[type[object]] = []
    for event in (SignedUp, EmailVerified, PasswordChanged):
        auth.on(event)(lambda happened: heard.append(type(happened)))
    answer = await invite(account, " KIM@Example.com ", display_name="Kim")
    assert answer.status_code == 201, answer.text
    shown = [answer.json()[name] for name in ("email", "display_name", "is_verified", "roles")]
    assert shown == [KIM, "Kim", False, []]
    assert letters(mailbox) == ["Your invitation to MyApp"]
    link = mailbox.link(KIM)
    assert len("http://localhost:8000" + link) < 200

    before = await User.get(email=KIM).values()
    page = await visitor.open(link)
    assert (page.status, KIM in page.text) == (200, True)
    assert (await visitor.client.head(link)).status_code == 200
    program = await account.client.get(link)
    assert (program.status_code, program.json()) == (200, {"detail": "The link is valid."})
    assert await User.get(email=KIM).values() == before

    page = await visitor.submit("new_password", new_password="password1")
    assert (page.status, page.one("input", name="new_password")["aria-invalid"]) == (422, "true")
    page = await visitor.submit("new_password", new_password=PASSWORD)
    assert (page.status, "/account/sign-in" in page.links) == (200, True)
    # In a browser that did not ask for the mail, nobody is signed in.
    assert await Session.filter(user__email=KIM).count() == 0
    user = await User.get(email=KIM)
    assert (user.is_verified, user.verified_at is not None) == (True, True)
    assert await login(account.client) == 200
    assert heard == [SignedUp, PasswordChanged, EmailVerified]
    assert letters(mailbox) == ["Your invitation to MyApp"]  # none that tells of a changed password

    page = await visitor.open(link)
    assert (page.status, "/account/forgot-password" in page.links) == (400, True)
    assert (await visitor.client.head(link)).status_code == 404


async def test_programs_accept_an_invitation_as_json(account: Account, mailbox: Mailbox) -> None:
    await invite(account)
    link, client = mailbox.link(KIM), account.client
    weak = await client.post(link, json={"new_password": "password1"})
    assert (weak.status_code, weak.json()["code"]) == (422, "password_too_common")
    assert (await client.post(link, json={"new_password": PASSWORD})).status_code == 200
    assert await login(client) == 200
    again = await client.post(link, json={"new_password": "another horse battery"})
    assert (again.status_code, again.json()["code"]) == (400, "invalid_link")
    assert await login(client) == 200


async def test_an_invitation_can_be_sent_again_until_it_is_accepted(
    account: Account, mailbox: Mailbox
) -> None:
    first = await invite(account)
    links = [mailbox.link(KIM)]
    second = await invite(account, roles=["editor"])
    links.append(mailbox.link(KIM))
    assert (first.json()["id"], second.json()["roles"]) == (second.json()["id"], ["editor"])
    assert len({*links}) == 2
    assert (await account.client.post(links[0], json={"new_password": PASSWORD})).status_code == 200
    # Any use kills all of them.
    assert (await account.client.post(links[1], json={"new_password": "other horse"})).status_code == 400
    third = await invite(account)
    assert (third.status_code, third.json()["code"]) == (400, "email_taken")
    assert len(letters(mailbox)) == 2


@pytest.mark.parametrize("by", ["signup", "administrator", "reset"])
async def test_an_account_in_use_is_not_invited(
    account: Account, mailbox: Mailbox, auth: Auth, settings: AuthSettings, by: str
) -> None:
    client = account.client
    if by == "signup":
        settings.signup = "open"
        await client.post("/auth/signup", json={"email": KIM, "password": PASSWORD})
    elif by == "administrator":
        await create_user(auth, KIM, verified=True)
    else:
        await invite(account)
        await client.post("/auth/forgot-password", json={"email": KIM})
        assert (await client.post(mailbox.link(KIM), json={"new_password": PASSWORD})).status_code == 200
    before, mails = await User.get(email=KIM).values(), len(letters(mailbox))
    refused = await invite(account, roles=["editor"])
    assert (refused.status_code, refused.json()["code"]) == (400, "email_taken")
    assert (await User.get(email=KIM).values(), len(letters(mailbox))) == (before, mails)


async def test_an_invitation_ends_after_its_time(account: Account, mailbox: Mailbox, clock: Clock) -> None:
    await invite(account)
    link = mailbox.link(KIM)
    clock.advance(days=3, hours=-1)
    assert (await account.client.get(link)).status_code == 200
    clock.advance(hours=1)
    assert (await account.client.post(link, json={"new_password": PASSWORD})).status_code == 400


async def test_a_mail_that_waits_is_not_sent_once_the_account_is_used(
    tortoise: TortoiseContext, auth: Auth, mailbox: Mailbox
) -> None:
    kim, lee = await invite_user(auth, KIM), await invite_user(auth, "lee@example.com")
    await User.filter(id=kim.id).update(is_verified=True)
    await auth.dispatcher.deliver([mail.id for mail in await Mail.all()])
    assert (letters(mailbox), len(letters(mailbox, lee.email))) == ([], 1)


async def test_an_address_is_not_flooded_with_invitations(
    account: Account, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.mail_limit = 3
    statuses = [(await invite(account)).status_code for _ in range(6)]
    assert statuses == [201] * 4 + [429] * 2  # the first is counted for an address without an account
    assert len(letters(mailbox)) == 4
    assert (await invite(account, "lee@example.com")).status_code == 201


async def test_nobody_gives_a_role_that_he_lacks_by_inviting(account: Account, mailbox: Mailbox) -> None:
    lacked, unknown = await invite(account, roles=["chief"]), await invite(account, roles=["editr"])
    assert (lacked.status_code, lacked.json()["code"]) == (403, "permission_denied")
    assert unknown.status_code == 403
    await User.filter(email=EMAIL).update(is_superuser=True)
    unknown = await invite(account, roles=["editr"])
    assert (unknown.status_code, unknown.json()["code"]) == (400, "unknown_role")
    assert (await User.filter(email=KIM).count(), letters(mailbox)) == (0, [])
    assert (await invite(account, roles=["chief"])).json()["roles"] == ["chief"]


@pytest.mark.parametrize("more", ["superuser", "role", "permission", "nothing"])
async def test_nobody_invites_an_account_with_more_rights_again(
    account: Account, visitor: FormBrowser, mailbox: Mailbox, auth: Auth, more: str
) -> None:
    """An invitation that is sent again opens the account with all that it was given since."""
    await invite(account, roles=["editor"])
    kim = await User.get(email=KIM)
    permissions = ["billing:write"] if more == "permission" else ["posts:write"]
    roles = ["chief"] if more == "role" else ["editor"]
    await grant(auth, kim.id, permissions=permissions, roles=roles, superuser=more == "superuser")
    again = await invite(account)
    await signed_in(visitor)
    await visitor.open("/account/invite")
    page = await visitor.submit("invite", email=KIM)
    allowed = more == "nothing"
    assert (again.status_code, page.status) == ((201, 200) if allowed else (403, 403))
    assert len(letters(mailbox)) == (3 if allowed else 1)
    await User.filter(email=EMAIL).update(is_superuser=True)
    assert (await invite(account)).status_code == 201


async def test_nobody_without_the_right_invites(account: Account, visitor: FormBrowser) -> None:
    await User.filter(email=EMAIL).update(permissions="")
    assert (await invite(account)).status_code == 403
    await signed_in(visitor)
    assert "/account/invite" not in visitor.page.links
    assert (await visitor.open("/account/invite")).status == 403
    assert await User.filter(email=KIM).count() == 0


async def test_a_page_invites(
    account: Account, visitor: FormBrowser, mailbox: Mailbox, settings: AuthSettings
) -> None:
    await signed_in(visitor)
    assert "/account/invite" in visitor.page.links
    page = await visitor.open("/account/invite")
    offered = [field["value"] for field in page.form("invite").fields.values() if field["type"] == "checkbox"]
    assert (page.status, offered) == (200, ["editor"])  # those that one has
    page = await visitor.submit("invite", email="kim", roles="editor")
    assert (page.status, page.one("input", name="email")["aria-invalid"]) == (422, "true")
    assert "checked" in page.one("input", name="roles")
    page = await visitor.submit("invite", email=KIM, roles="editor")
    assert (page.status, "on its way" in page.text) == (200, True)
    assert await User.filter(email=KIM).values_list("roles", flat=True) == [frozenset({"editor"})]
    await visitor.submit("invite", email="lee@example.com", roles="chief")  # which is not offered
    assert await User.filter(email="lee@example.com").values_list("roles", flat=True) == [frozenset()]
    page = await visitor.submit("invite", email=EMAIL)
    assert (page.status, page.one("input", name="email")["aria-invalid"]) == (400, "true")
    settings.signup = "closed"
    page = await visitor.submit("invite", email="max@example.com")
    assert (page.status, "/account/invite" in page.links) == (403, False)
    assert [*map(len, (letters(mailbox), letters(mailbox, "max@example.com")))] == [1, 0]


async def test_inviting_on_the_page_needs_a_recent_login(
    account: Account, visitor: FormBrowser, clock: Clock
) -> None:
    await signed_in(visitor)
    clock.advance(minutes=16)
    page = await visitor.open("/account/invite")
    assert page.path == "/account/confirm-password"
    page = await visitor.submit("password", password=PASSWORD)
    assert page.path == "/account/invite"


async def test_nobody_is_invited_where_signup_is_closed_and_all_may_be_where_it_is_open(
    account: Account, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.signup = "closed"
    refused = await invite(account)
    assert (refused.status_code, refused.json()["code"]) == (403, "signup_closed")
    assert await User.filter(email=KIM).count() == 0
    settings.signup = "open"
    assert (await invite(account)).status_code == 201
    # Who signs up instead learns that there is an account, and gets in by a reset.
    taken = await account.client.post("/auth/signup", json={"email": KIM, "password": PASSWORD})
    assert taken.json()["code"] == "email_taken"
    settings.signup = "closed"  # keeps nobody out who was invited before
    accepted = await account.client.post(mailbox.link(KIM), json={"new_password": PASSWORD})
    assert (accepted.status_code, await login(account.client)) == (200, 200)


@on_each_database
async def test_of_two_invitations_at_once_one_makes_the_account(
    database: object, tortoise: TortoiseContext, auth: Auth
) -> None:
    answers = await asyncio.gather(*(invite_user(auth, KIM) for _ in range(4)), return_exceptions=True)
    assert await User.filter(email=KIM).count() == 1
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert all(isinstance(error, AuthError) and error.code.code == "email_taken" for error in refused)
    assert len(refused) < 4
    await invite_user(auth, KIM)


async def test_a_program_sends_people_to_the_page_of_its_front_end(
    account: Account, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.invite_url = "https://app.example.com/welcome?token={token}"
    await invite(account)
    text = mailbox.messages[-1].get_body(("plain",)).get_content()  # type: ignore[union-attr]
    (link,) = [
        line for line in text.splitlines() if line.startswith("https://app.example.com/welcome?token=")
    ]
    token = link.rpartition("=")[2]
    assert (await account.client.get(f"/auth/invite/{token}")).status_code == 200
