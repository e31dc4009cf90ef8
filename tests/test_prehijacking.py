"""Whose mailbox it is: a stranger who signs up with an address gets nothing from its owner's link."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pyotp
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, Challenge, SecurityEvent, include_auth, open_session
from fastapi_pluggable_auth.auth import transactional
from fastapi_pluggable_auth.features import PersonalTokens
from fastapi_pluggable_auth.features.administration.users import create_user
from fastapi_pluggable_auth.flows.mailbox import claim_mailbox
from fastapi_pluggable_auth.hooks import MailboxClaimed
from fastapi_pluggable_auth.models import Device, PersonalToken, RecoveryCode, Session, User
from fastapi_pluggable_auth.schemas import ProfileUpdate, UserCreate

from . import databases, own_form, own_tables
from .conftest import EMAIL, PASSWORD, Account, Clock, Mailbox, on_one_database
from .form_browser import BROWSER, FormBrowser, Page
from .smtp_server import text_of
from .spare_database import SpareDatabase
from .test_notices import enable_two_factor
from .test_password import DEAD_LINK, NEW, forgot

BASE = "http://localhost:8000"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0"
SCRIPT = {
    "User-Agent": CHROME,
    "Accept": "application/json",
    "Origin": BASE,
    "Sec-Fetch-Site": "same-origin",
}
"""What the front end of the app sends."""

CREDENTIALS = {"email": EMAIL, "password": PASSWORD}


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """A host app with the pages and personal access tokens."""
    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        clock=clock,
        pages=True,
        features=[PersonalTokens(scopes={"notes:read": "Read"})],
    )
    return app


@pytest.fixture
def browser(app: FastAPI, client: httpx.AsyncClient) -> Callable[..., httpx.AsyncClient]:
    """Makes browsers, each with cookies of its own."""

    def make(**headers: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
        return httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers)

    return make


@dataclass
class Stranger:
    """Who has signed up with the address of somebody else, and got as far as the app let him."""

    account: Account
    access: list[str] = field(default_factory=list)
    refresh: list[str] = field(default_factory=list)
    personal: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    devices: list[Any] = field(default_factory=list)
    mailed: str = ""
    """The link that the owner of the mailbox gets."""

    async def signs_up(self) -> None:
        client, account = self.account.client, self.account
        assert (await client.post("/auth/signup", json=CREDENTIALS)).status_code == 201
        self.mailed = account.mailbox.link()
        if (await account.login()).status_code != 200:
            return
        await client.patch("/account", json={"display_name": "Eve"}, headers=account.headers)
        body = {"name": "backup", "scopes": ["notes:read"]}
        answer = await client.post("/account/tokens", json=body, headers=account.headers)
        self.personal.append(answer.json()["token"])
        change = {"email": "eve@example.com"}
        assert (await client.patch("/account", json=change, headers=account.headers)).status_code == 200
        self.links.append(account.mailbox.link("eve@example.com"))
        known = await client.post("/auth/login", json=CREDENTIALS | {"device": None})
        assert known.status_code == 200
        self.devices.extend(await Device.all().values_list("id", flat=True))
        assert self.devices
        self.access.append(account.access_token)
        self.refresh.append(account.refresh_token)

    async def has_nothing(self) -> None:
        """Not the password, a session, a token, a link, a code or a row is good for anything."""
        client = self.account.client
        assert (await client.post("/auth/login", json=CREDENTIALS)).json()["code"] == "invalid_credentials"
        for token in self.access:
            assert (await self.account.me(token)).status_code == 401
        for token in self.refresh:
            assert (await self.account.refresh(token)).status_code == 401
        for token in self.personal:
            headers = {"Authorization": f"Bearer {token}"}
            assert (await client.get("/account/tokens", headers=headers)).status_code == 401
        for link in self.links:
            assert (await client.post(link)).content == DEAD_LINK
        user = await User.get()
        assert (user.email, user.is_verified, user.display_name) == (EMAIL, True, None)
        assert (user.totp_secret, user.totp_confirmed, user.pending_email) == (None, False, None)
        assert await Session.filter(revoked_at=None).count() == 0
        assert not await Device.filter(id__in=self.devices).exists()
        for table in (PersonalToken, RecoveryCode):
            assert await table.all().count() == 0


@pytest.fixture
async def stranger(client: httpx.AsyncClient, mailbox: Mailbox) -> Stranger:
    return Stranger(Account(client, mailbox, EMAIL, PASSWORD))


async def by_the_page(owner: httpx.AsyncClient, link: str) -> None:
    """The owner of the mailbox opens the link, does not know the password, and chooses another."""
    owner.headers.update(BROWSER)
    visitor = FormBrowser(owner)
    page = await visitor.open(link, **{"Sec-Fetch-Site": "none"})
    assert page.form("password")
    (choose,) = [link for link in page.links if "/reset-password/" in link]
    await visitor.open(choose)
    page = await visitor.submit("new_password", new_password=NEW)
    assert (page.status, "was changed" in page.text) == (200, True)


async def by_json(owner: httpx.AsyncClient, link: str) -> None:
    """The same by the front end of the app."""
    owner.headers.update(SCRIPT)
    assert (await owner.get(link)).status_code == 200
    refused = await owner.post(link)
    assert (refused.status_code, refused.json()["code"]) == (403, "signup_elsewhere")
    answer = await owner.post(link, json={"new_password": NEW})
    assert answer.json() == {"detail": "Your e-mail address is verified. Sign in with the new password."}


WAYS = [by_the_page, by_json]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("verified_only", [True, False])
async def test_nothing_of_a_stranger_is_good_after_the_owner_of_the_mailbox_has_taken_over(
    way: Callable[..., Any],
    verified_only: bool,
    stranger: Stranger,
    browser: Callable[..., httpx.AsyncClient],
    mailbox: Mailbox,
    settings: AuthSettings,
) -> None:
    """A-29: password, session, tokens, pending address and secret."""
    settings.require_verified_email = verified_only
    await stranger.signs_up()
    link = stranger.mailed
    assert bool(stranger.access) is not verified_only
    if stranger.access:
        enable = await stranger.account.client.post("/auth/2fa/enable", headers=stranger.account.headers)
        assert enable.status_code == 200
    async with browser() as owner:
        await way(owner, link)
        await stranger.has_nothing()
        assert (await owner.post("/auth/login", json=CREDENTIALS | {"password": NEW})).status_code == 200
        assert (await owner.get(link, headers=BROWSER)).status_code == 400


@pytest.mark.parametrize("way", WAYS)
async def test_a_second_factor_of_a_stranger_keeps_nobody_out(
    way: Callable[..., Any],
    stranger: Stranger,
    browser: Callable[..., httpx.AsyncClient],
    mailbox: Mailbox,
    settings: AuthSettings,
) -> None:
    """A-29: switched on, with recovery codes."""
    settings.require_verified_email = False
    await stranger.signs_up()
    link = stranger.mailed
    assert (await enable_two_factor(stranger.account)).status_code == 200
    headers = stranger.account.headers
    codes = await stranger.account.client.post("/auth/2fa/recovery-codes", headers=headers)
    assert codes.status_code == 200
    secret = (await User.get()).totp_secret or ""
    async with browser() as owner:
        await way(owner, link)
        await stranger.has_nothing()
        login = CREDENTIALS | {"password": NEW}
        assert (await owner.post("/auth/login", json=login)).status_code == 200
        code = pyotp.TOTP(secret).now()
        answer = await owner.post("/auth/login", json=CREDENTIALS | {"code": code})
        assert answer.json()["code"] == "invalid_credentials"


async def test_a_link_alone_never_activates_the_password_of_a_stranger_in_a_browser(
    stranger: Stranger, browser: Callable[..., httpx.AsyncClient], mailbox: Mailbox
) -> None:
    """Whatever of a browser's headers is there; nor does anything sign one in."""
    await stranger.signs_up()
    link = stranger.mailed
    signs = [
        {"User-Agent": CHROME},
        {"Accept": "text/html"},
        {"Origin": "https://evil.example"},
        {"Origin": BASE},
        *(
            {name: "x"}
            for name in ("Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Purpose", "Purpose", "X-Purpose")
        ),
    ]
    async with browser() as owner:
        for headers in signs:
            for body in ({}, {"json": {}}, {"json": None}):
                answer = await owner.post(link, headers=headers, **body)
                assert answer.status_code == 403, headers
            assert (await owner.post(f"{link}/form", headers=headers)).status_code == 403
            assert not owner.cookies.keys() & {"access_token", "refresh_token"}
    assert not (await User.get()).is_verified


async def test_the_password_of_the_signup_verifies_elsewhere(
    browser: Callable[..., httpx.AsyncClient], mailbox: Mailbox
) -> None:
    async with browser(**SCRIPT) as laptop, browser(**SCRIPT) as phone:
        await laptop.post("/auth/signup", json=CREDENTIALS)
        link = mailbox.link()
        wrong = await phone.post(link, json={"password": "not this one"})
        assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong_password")
        assert (await phone.post(link, json={"password": PASSWORD})).status_code == 200
        assert (await phone.post("/auth/login", json=CREDENTIALS)).status_code == 200
        assert not [mail for mail in mailbox.messages if "yours alone" in mail["Subject"]]


@pytest.mark.parametrize("pages", [True, False])
async def test_the_browser_that_signed_up_verifies_by_a_click_and_keeps_what_it_has(
    pages: bool, browser: Callable[..., httpx.AsyncClient], mailbox: Mailbox, settings: AuthSettings
) -> None:
    settings.require_verified_email = False
    async with browser(**(BROWSER if pages else SCRIPT)) as owner:
        visitor = FormBrowser(owner)
        if pages:
            await visitor.open("/account/sign-up")
            await visitor.submit("new_password", email=EMAIL, new_password=PASSWORD)
        else:
            await owner.post("/auth/signup", json=CREDENTIALS)
        link = mailbox.link()
        assert (await owner.post("/auth/login", json=CREDENTIALS, headers=SCRIPT)).status_code == 200
        if pages:
            page = await visitor.open(link, **{"Sec-Fetch-Site": "cross-site"})
            assert "password" not in page.form("form").fields
            assert (await visitor.submit("form")).status == 200
        else:
            assert (await owner.post(link)).status_code == 200
        me = await owner.get("/auth/me")
        assert (me.status_code, me.json()["is_verified"]) == (200, True)
        assert (await User.get()).signup_binding is None


@on_one_database
@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin"}, {"Origin": BASE}, {}])
async def test_each_browser_that_signs_up_gets_a_value_of_its_own_and_no_program_does(
    headers: dict[str, str], browser: Callable[..., httpx.AsyncClient], settings: AuthSettings
) -> None:
    """Also for a taken address, where nothing may tell."""
    settings.prevent_enumeration = True
    values = []
    for _ in range(2):
        async with browser() as owner:
            answer = await owner.post("/auth/signup", json=CREDENTIALS, headers=headers)
            assert answer.status_code == 201
            cookies = answer.headers.get_list("set-cookie")
            if not headers:
                assert cookies == []
                continue
            (cookie,) = cookies
            name, _, rest = cookie.partition("=")
            value, *attributes = rest.split("; ")
            assert (name, len(value)) == ("signup_binding", 43)
            assert {each.lower() for each in attributes} == {
                *("httponly", "path=/", "samesite=lax", "max-age=2592000")
            }
            values.append(value)
    assert len(set(values)) == len(values)
    # For a program of a value that nobody has.
    stored = (await User.get()).signup_binding
    assert len(str(stored)) == 64
    assert stored not in values


@on_one_database
async def test_another_site_signs_nobody_up_so_that_this_browser_verifies_it(
    browser: Callable[..., httpx.AsyncClient], mailbox: Mailbox
) -> None:
    """By a form whose text is JSON, or by a script."""
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "User-Agent": CHROME}
    async with browser(**headers) as owner:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
            content = json.dumps({"email": EMAIL, "password": PASSWORD})
            answer = await owner.post("/auth/signup", content=content, headers={"Content-Type": kind})
            assert answer.status_code == (201 if kind == "application/json" else 422)
            assert "set-cookie" not in answer.headers
        assert (await owner.post(mailbox.link())).status_code == 403


@on_one_database
async def test_the_value_is_bound_to_the_host_where_there_is_tls_and_needs_no_cookie_transport(
    settings: AuthSettings, tortoise: object, mailbox: Mailbox
) -> None:
    settings.public_base_url = "https://app.example.com"
    app = FastAPI()
    auth = include_auth(app, settings=settings)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://app.example.com") as owner:
        answer = await owner.post("/auth/signup", json=CREDENTIALS, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.headers["set-cookie"].startswith("__Host-signup_binding=")
        assert "Secure" in answer.headers["set-cookie"]
        token = mailbox.token()
        assert (await owner.post(f"/auth/verify/{token}", headers=SCRIPT)).status_code == 200
    await auth.close()


async def test_no_other_value_counts(browser: Callable[..., httpx.AsyncClient], mailbox: Mailbox) -> None:
    async with browser(**SCRIPT) as owner, browser(**SCRIPT) as other:
        await owner.post("/auth/signup", json=CREDENTIALS)
        link, right = mailbox.link(), owner.cookies["signup_binding"]
        await other.post("/auth/signup", json={"email": "eve@example.com", "password": PASSWORD})
        wrong = other.cookies["signup_binding"]
        digest = (await User.get(email=EMAIL)).signup_binding
        other.cookies.clear()
        for cookie in (
            f"signup_binding={wrong}",
            f"signup_binding={digest}",
            f"signup_binding={wrong}; signup_binding={right}",
            f"\u00a0signup_binding={right}".encode("latin-1").decode("latin-1"),
            f"Signup_binding={right}",
            f"signup_binding={right}x",
            "signup_binding=",
            "signup_binding=None",
        ):
            headers = [(b"cookie", cookie.encode("latin-1"))]
            answer = await other.post(link, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "signup_elsewhere"), cookie
        assert (await other.post(link, headers={"Cookie": f"signup_binding={right}"})).status_code == 200


async def test_a_second_signup_in_the_same_browser_takes_nothing_from_the_first(
    browser: Callable[..., httpx.AsyncClient], mailbox: Mailbox
) -> None:
    async with browser(**SCRIPT) as owner:
        await owner.post("/auth/signup", json=CREDENTIALS)
        await owner.post("/auth/signup", json={"email": "eve@example.com", "password": PASSWORD})
        for email in (EMAIL, "eve@example.com"):
            assert (await owner.post(mailbox.link(email))).status_code == 200
    assert len({user.signup_binding for user in await User.all()}) == 1


@on_one_database
async def test_a_claim_is_told_by_mail_event_and_hook(
    stranger: Stranger, browser: Callable[..., httpx.AsyncClient], mailbox: Mailbox, auth: Auth
) -> None:
    events: list[SecurityEvent] = []
    claimed: list[MailboxClaimed] = []
    auth.on(SecurityEvent)(events.append)
    auth.on(MailboxClaimed)(claimed.append)
    await stranger.signs_up()
    link = stranger.mailed
    mailbox.clear()
    async with browser() as owner:
        await by_json(owner, link)
    (mail,) = mailbox.messages
    assert (mail["To"], mail["Subject"]) == (EMAIL, "Your MyApp account is yours alone now")
    assert PASSWORD not in text_of(mail)
    assert "everything else that was set up before are gone" in text_of(mail)
    (event,) = [event for event in events if event.kind == "mailbox_claimed"]
    user = await User.get()
    assert (event.outcome, event.user_id) == ("success", user.id)
    assert [each.user.id for each in claimed] == [user.id]
    assert claimed[0].user.is_verified


async def test_an_account_that_was_signed_in_to_while_verified_loses_nothing(
    account: Account, mailbox: Mailbox
) -> None:
    """A-74: its owner is known; a mail alone takes no second factor."""
    assert (await enable_two_factor(account)).status_code == 200
    await User.all().update(is_verified=False, display_name="Ada")
    mailbox.clear()
    reset = await forgot(account.client, mailbox)
    assert (await account.client.post(reset, json={"new_password": NEW})).status_code == 200
    user = await User.get()
    assert (user.is_verified, user.two_factor_active, user.display_name) == (True, True, "Ada")
    assert not [mail for mail in mailbox.messages if "yours alone" in mail["Subject"]]


@on_one_database
async def test_a_common_password_claims_nothing(
    stranger: Stranger, browser: Callable[..., httpx.AsyncClient], mailbox: Mailbox
) -> None:
    await stranger.signs_up()
    link = stranger.mailed
    before = await User.all().values()
    async with browser(**SCRIPT) as owner:
        for body, code in (
            ({"new_password": "password1"}, "password_too_common"),
            ({"new_password": "x"}, "validation_error"),
            ({"new_password": None}, "validation_error"),
            ({"claim": True}, "validation_error"),
        ):
            answer = await owner.post(link, json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, code)
        dead = await owner.post("/auth/verify/x", json={"new_password": NEW})
        assert dead.content == DEAD_LINK
    assert await User.all().values() == before


@on_one_database
async def test_the_page_of_another_browser_says_so_in_both_languages(
    stranger: Stranger, browser: Callable[..., httpx.AsyncClient], mailbox: Mailbox
) -> None:
    await stranger.signs_up()
    link = stranger.mailed
    async with browser(**BROWSER) as owner:
        for language, says in (("en", "not the browser in which"), ("de", "In diesem Browser wurde")):
            page = Page(await owner.get(link, headers={"Accept-Language": language}))
            assert says in page.text
            (reset,) = [each for each in page.links if "/reset-password/" in each]
            claim = Page(await owner.get(reset, headers={"Accept-Language": language}))
            assert ("yours alone" if language == "en" else "Ihnen allein") in claim.text


class NewMember(UserCreate):
    username: str
    phone: str | None = None
    city: str = ""


class MemberUpdate(ProfileUpdate):
    company_id: int | None = None


async def test_what_users_fill_in_and_need_not_goes_with_a_claim(
    settings: AuthSettings, spare: SpareDatabase, mailbox: Mailbox
) -> None:
    """What the host has written itself stays: it hears of the claim."""
    await databases.create(spare.url, spare.dialect, own_tables.__name__, "shop")
    app = FastAPI()
    bodies = {"user_create": NewMember, "profile_update": MemberUpdate}
    auth = include_auth(app, settings=settings, user_model=own_tables.User, **bodies)  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app)
    async with TortoiseContext() as context:
        await context.init(databases.config(spare.url, f"{spare.dialect} own", "shop", own_tables.__name__))
        company = await own_tables.Company.create(name="Eve's")
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            own = {"username": "eve", "phone": "+49 30 1", "city": "Berlin"}
            assert (await client.post("/auth/signup", json=CREDENTIALS | own)).status_code == 201
            await own_tables.User.all().update(company_id=company.id, level=3, language="de")
            answer = await client.post(mailbox.link(), json={"new_password": NEW}, headers=SCRIPT)
            assert answer.status_code == 200
        user = await own_tables.User.get()
        assert (user.phone, user.company_id) == (None, None)  # type: ignore[attr-defined]
        assert (user.username, user.city, user.level, user.language) == ("eve", "", 3, "de")
    await auth.close()


class NewReferred(own_form.NewCustomer):
    reference: str


@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
async def test_what_an_account_cannot_be_without_outlives_a_claim(
    settings: AuthSettings, spare: SpareDatabase, mailbox: Mailbox
) -> None:
    await databases.create(spare.url, spare.dialect, own_form.__name__, "shop")
    app = FastAPI()
    include_auth(app, settings=settings, user_model=own_form.Customer, user_create=NewReferred)
    async with TortoiseContext() as context:
        await context.init(databases.config(spare.url, f"{spare.dialect} own", "shop", own_form.__name__))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
            own = {
                "username": "eve",
                "company": "Engines",
                "plan": "team",
                "seats": 3,
                "terms": True,
                "reference": "E1",
            }
            assert (await client.post("/auth/signup", json=CREDENTIALS | own)).status_code == 201
            answer = await client.post(mailbox.link(), json={"new_password": NEW}, headers=SCRIPT)
            assert answer.status_code == 200
        user = await own_form.Customer.get()
        assert (user.company, user.plan, user.seats, user.reference) == ("Engines", "team", 3, "E1")


async def answers_to(*requests: Any) -> Counter[int]:
    return Counter(answer.status_code for answer in await asyncio.gather(*requests))


async def test_of_many_verifications_at_once_one_wins(
    browser: Callable[..., httpx.AsyncClient], mailbox: Mailbox
) -> None:
    async with browser(**SCRIPT) as owner:
        await owner.post("/auth/signup", json=CREDENTIALS)
        link = mailbox.link()
        by_password = {"json": {"password": PASSWORD}}
        requests = [owner.post(link, **(by_password if number % 2 else {})) for number in range(8)]
        assert await answers_to(*requests) == {200: 1, 400: 7}


async def test_a_verification_and_a_claim_at_once_have_one_winner(
    browser: Callable[..., httpx.AsyncClient], mailbox: Mailbox
) -> None:
    """And the account has the password of that one alone."""
    for number in range(6):
        credentials = {"email": f"ada{number}@example.com", "password": PASSWORD}
        async with browser(**SCRIPT) as owner, browser(**SCRIPT) as other:
            await owner.post("/auth/signup", json=credentials)
            link = mailbox.link(credentials["email"])
            kept, claimed = await asyncio.gather(
                owner.post(link), other.post(link, json={"new_password": NEW})
            )
            assert sorted((kept.status_code, claimed.status_code)) == [200, 400]
            passwords = {PASSWORD: kept, NEW: claimed}
            for password, won in passwords.items():
                login = await other.post("/auth/login", json=credentials | {"password": password})
                assert login.status_code == (200 if won.status_code == 200 else 401)


@pytest.mark.parametrize("silent", [True, False])
async def test_a_claim_and_a_signup_again_at_once_leave_the_owner_of_the_mailbox(
    silent: bool,
    stranger: Stranger,
    browser: Callable[..., httpx.AsyncClient],
    mailbox: Mailbox,
    settings: AuthSettings,
) -> None:
    settings.prevent_enumeration = silent
    await stranger.signs_up()
    link = stranger.mailed
    async with browser(**SCRIPT) as owner, browser(**SCRIPT) as other:
        again = [other.post("/auth/signup", json=CREDENTIALS) for _ in range(4)]
        claim, *signups = await asyncio.gather(owner.post(link, json={"new_password": NEW}), *again)
        assert claim.status_code == 200
        assert {answer.status_code for answer in signups} == {201 if silent else 400}
    assert await User.all().count() == 1
    await stranger.has_nothing()


async def test_a_stranger_whom_the_app_has_signed_in_without_a_password_leaves_nothing_either(
    client: httpx.AsyncClient, mailbox: Mailbox, auth: Auth, settings: AuthSettings
) -> None:
    """Such as by a provider that does not verify addresses: a second factor would keep the owner out."""
    settings.require_verified_email = False
    await create_user(auth, EMAIL)
    opened = await open_session(auth, await User.get(), factors="sso")
    assert not isinstance(opened, Challenge)
    account = Account(client, mailbox, EMAIL, NEW)
    account.access_token = opened.access_token
    await client.patch("/account", json={"display_name": "Eve"}, headers=account.headers)
    assert (await enable_two_factor(account)).status_code == 200
    answer = await client.post(await forgot(client, mailbox), json={"new_password": NEW})
    assert answer.status_code == 200
    assert (await account.login()).status_code == 200
    assert (await User.get()).display_name is None


async def test_what_an_import_brings_is_no_stranger_s(
    client: httpx.AsyncClient, mailbox: Mailbox, auth: Auth, settings: AuthSettings
) -> None:
    """Nobody has signed in to an account without a password that the app has not opened."""
    settings.require_verified_email = False
    await create_user(auth, EMAIL)
    await User.all().update(display_name="Ada")
    answer = await client.post(await forgot(client, mailbox), json={"new_password": NEW})
    assert answer.status_code == 200
    assert (await User.get()).display_name == "Ada"


async def test_a_claim_without_a_new_password_ends_what_was_signed_before_it(
    client: httpx.AsyncClient, mailbox: Mailbox, auth: Auth, settings: AuthSettings, clock: Clock
) -> None:
    """A token of the app on the user alone, which no session ends: it was made while the account was a
    stranger's."""
    settings.require_verified_email = False
    account = Account(client, mailbox, EMAIL, PASSWORD)
    await client.post("/auth/signup", json=CREDENTIALS)
    user = await User.get()
    account.access_token = auth.signer.access_token(user.id)
    assert (await account.me()).status_code == 200
    clock.advance(seconds=1)
    assert await transactional(claim_mailbox)(auth, user) is not None
    assert (await account.me()).status_code == 401


@pytest.mark.parametrize("two_factor", [True, False])
async def test_a_stranger_with_a_token_of_the_app_makes_no_login_by_showing_the_password_again(
    two_factor: bool, client: httpx.AsyncClient, mailbox: Mailbox, auth: Auth, settings: AuthSettings
) -> None:
    """An app may give tokens before the address is verified: that says nothing of whose mailbox it is."""
    settings.require_verified_email = True
    await client.post("/auth/signup", json=CREDENTIALS)
    account = Account(client, mailbox, EMAIL, PASSWORD)
    account.access_token = auth.signer.access_token((await User.get()).id)
    body = {"password": PASSWORD}
    if two_factor:
        assert (await enable_two_factor(account)).status_code == 200
        body["code"] = pyotp.TOTP((await User.get()).totp_secret or "").at(auth.clock())
    shown = await client.post("/auth/reauthenticate", json=body, headers=account.headers)
    assert (shown.status_code, (await User.get()).last_login_at) == (200, None)
    answer = await client.post(await forgot(client, mailbox), json={"new_password": NEW})
    assert answer.status_code == 200
    assert (await Account(client, mailbox, EMAIL, NEW).login()).status_code == 200
