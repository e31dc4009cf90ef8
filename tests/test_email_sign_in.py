"""Signing in by mail: with a code where it was asked for, or by a link and a button elsewhere."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pyotp
import pytest
from fastapi import FastAPI
from tortoise.expressions import Q

from fastapi_pluggable_auth import AuthError, AuthSettings, ErrorCode, SecurityEvent, include_auth
from fastapi_pluggable_auth.features import EmailSignIn
from fastapi_pluggable_auth.features.email_sign_in.flows import mail_link
from fastapi_pluggable_auth.flows.pending import id_of
from fastapi_pluggable_auth.flows.ways_in import keep_way_in
from fastapi_pluggable_auth.models import Mail, Pending, Session, User
from fastapi_pluggable_auth.security.keys import key_set
from fastapi_pluggable_auth.security.mailed_codes import code_for, link_token

from .conftest import EMAIL, PASSWORD, Account, Clock, Database, Mailbox, claims_of, on_each_database
from .test_social_address import code_in, hidden
from .test_twofa import totp
from .test_workers import Server

__all__ = ["totp"]

DIALECTS = ("sqlite",)
KIM = "kim@example.com"
BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    allowed = EmailSignIn(allowed=lambda user: user.display_name != "By password only")
    include_auth(app, settings=settings, clock=clock, pages=True, features=[allowed])
    return app


@pytest.fixture
async def browser(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    base = "http://localhost:8000"
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=BROWSER) as browser:
        yield browser


async def ask(client: httpx.AsyncClient, email: str = EMAIL) -> str:
    answer = await client.post("/auth/email-sign-in", json={"email": email})
    assert answer.status_code == 202, answer.text
    challenge: str = answer.json()["challenge"]
    return challenge


async def enter(client: httpx.AsyncClient, challenge: str, code: str) -> httpx.Response:
    return await client.post("/auth/email-sign-in/code", json={"challenge": challenge, "code": code})


def wrong_for(settings: AuthSettings, challenge: str) -> str:
    right = code_for(key_set(settings), id_of("email_sign_in", challenge))
    return f"{(int(right) + 1) % 10**6:06}"


def link_in(mailbox: Mailbox, to: str = EMAIL) -> str:
    newest = [mail for mail in mailbox.messages if mail["To"] == to][-1]
    body = newest.get_body(("plain",))
    assert body is not None
    found = re.search(r"http://localhost:8000(/auth/email-sign-in/\S+)", body.get_content())
    assert found
    return found[1]


@on_each_database
async def test_a_code_signs_in_once_of_many_at_once(account: Account, mailbox: Mailbox) -> None:
    challenge = await ask(account.client)
    code = code_in(mailbox, EMAIL)
    before = await Session.all().count()
    answers = await asyncio.gather(*(enter(account.client, challenge, code) for _ in range(5)))
    (right,) = [answer for answer in answers if answer.status_code == 200]
    assert claims_of(right.json()["access_token"])["amr"] == ["mail"]
    assert await Session.all().count() == before + 1


@pytest.mark.full
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_of_a_thousand_guesses_on_two_workers_five_are_looked_at(
    database: Database, account: Account, mailbox: Mailbox
) -> None:
    """OWASP ASVS 5.0, 6.6.3."""
    mailbox.clear()
    server = Server(database, mailbox.server.port, TEST_EMAIL_SIGN_IN="on")
    try:
        async with httpx.AsyncClient(base_url=server.base, timeout=60) as http:
            challenge = await ask(http)
            await mailbox.server.wait(1)
            right = code_in(mailbox, EMAIL)
            guesses = [f"{number:06}" for number in range(1001) if f"{number:06}" != right][:1000]
            answers = await asyncio.gather(*(enter(http, challenge, guess) for guess in guesses))
            assert {answer.status_code for answer in answers} == {400}
            codes = [answer.json()["code"] for answer in answers]
            assert codes.count("mailed_code_refused") <= 4
            assert (await Pending.get(kind="email_sign_in")).attempts == 5
            assert (await enter(http, challenge, right)).status_code == 400
    finally:
        server.stop()


async def test_nothing_tells_whether_there_is_an_account(account: Account, mailbox: Mailbox) -> None:
    known = await account.client.post("/auth/email-sign-in", json={"email": EMAIL})
    mailbox.clear()
    unknown = await account.client.post("/auth/email-sign-in", json={"email": KIM})
    assert (known.status_code, known.json().keys()) == (unknown.status_code, unknown.json().keys())
    assert len(known.json()["challenge"]) == len(unknown.json()["challenge"])
    assert mailbox.messages == []
    refused = await enter(account.client, unknown.json()["challenge"], "123456")
    assert refused.json()["code"] == "mailed_code_refused"


async def test_a_second_factor_is_still_asked_for_and_shown_with_the_same_code(
    totp: pyotp.TOTP, account: Account, clock: Clock, mailbox: Mailbox
) -> None:
    challenge = await ask(account.client)
    code, before = code_in(mailbox, EMAIL), await Session.all().count()
    answer = await enter(account.client, challenge, code)
    assert (answer.status_code, answer.json()["code"]) == (401, "two_factor_required")
    both = {"challenge": challenge, "code": code}
    wrong = await account.client.post("/auth/email-sign-in/code", json={**both, "second_code": "000000"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_credentials")
    assert await Session.all().count() == before
    clock.advance(seconds=30)
    both["second_code"] = totp.at(clock())
    right = await account.client.post("/auth/email-sign-in/code", json=both)
    assert right.status_code == 200, right.text
    assert {"mail", "otp"} <= {*claims_of(right.json()["access_token"])["amr"]}
    assert (await account.client.post("/auth/email-sign-in/code", json=both)).status_code == 400


async def test_a_link_takes_the_second_factor_with_it(
    totp: pyotp.TOTP, account: Account, clock: Clock, mailbox: Mailbox
) -> None:
    await ask(account.client)
    link = link_in(mailbox)
    answer = await account.client.post(link)
    assert (answer.status_code, answer.json()["code"]) == (401, "two_factor_required")
    clock.advance(seconds=30)
    right = await account.client.post(link, json={"code": totp.at(clock())})
    assert right.status_code == 200, right.text
    assert (await account.client.post(link, json={"code": totp.at(clock())})).status_code == 400


async def test_codes_guessed_with_a_mail_and_with_a_password_are_counted_together(
    totp: pyotp.TOTP, account: Account, mailbox: Mailbox
) -> None:
    await ask(account.client)
    link = link_in(mailbox)
    mailbox.clear()
    login = {"email": EMAIL, "password": PASSWORD, "code": "000000"}
    for _ in range(2):
        assert (await account.client.post("/auth/login", json=login)).status_code == 401
    for _ in range(2):
        assert (await account.client.post(link, json={"code": "000000"})).status_code == 401
    assert mailbox.messages == []
    assert (await account.client.post(link, json={"code": "000000"})).status_code == 401
    assert len(mailbox.messages) == 1  # the fifth is reported


async def test_passwords_that_others_guess_are_not_in_the_way_of_a_mail(
    totp: pyotp.TOTP, account: Account, clock: Clock, mailbox: Mailbox, app: FastAPI
) -> None:
    app.state.pluggable_auth.settings.throttle_daily_limit = 3
    wrong = {"email": EMAIL, "password": "a wrong password"}
    for _ in range(4):
        locked = await account.client.post("/auth/login", json=wrong)
    assert locked.json()["code"] == "password_locked", locked.text
    await ask(account.client)
    answer = await account.client.post(link_in(mailbox), json={"code": totp.at(clock())})
    assert answer.status_code == 200, answer.text


async def test_a_program_that_asks_for_the_head_of_a_link_changes_nothing(
    account: Account, mailbox: Mailbox
) -> None:
    await ask(account.client)
    link = link_in(mailbox)
    assert [(await account.client.head(link)).status_code for _ in range(2)] == [200, 200]
    assert (await account.client.post(link)).status_code == 200
    assert (await account.client.head(link)).status_code == 404


async def test_the_button_says_why_it_signs_nobody_in(
    account: Account, browser: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await ask(account.client)
    link = link_in(mailbox)
    await User.all().update(display_name="By password only")
    page = await browser.get(link)
    answer = await browser.post(f"{link}/form", data=hidden(page, f"{link}/form"))
    assert answer.status_code == 400
    assert "does not work any more" in answer.text


async def test_a_user_who_may_not_gets_no_mail_and_nobody_sees_that(
    account: Account, mailbox: Mailbox, settings: AuthSettings
) -> None:
    await User.all().update(display_name="By password only")
    mailbox.clear()
    answers = [await account.client.post("/auth/email-sign-in", json={"email": e}) for e in (EMAIL, KIM)]
    assert len({(each.status_code, len(each.content)) for each in answers}) == 1
    assert mailbox.messages == []
    assert (
        await Mail.filter(kind__startswith="email_sign_in").count() == 0
    )  # both were looked at, and dropped
    challenges = [answer.json()["challenge"] for answer in answers]
    wrong = [
        (await enter(account.client, challenge, wrong_for(settings, challenge))).json()
        for challenge in challenges
    ]
    assert wrong[0] == wrong[1]
    assert wrong[0]["code"] == "mailed_code_refused"
    keys, kind = key_set(settings), "email_sign_in"
    guessed = [
        await enter(account.client, challenge, code_for(keys, id_of(kind, challenge)))
        for challenge in challenges
    ]
    assert [each.json()["code"] for each in guessed] == ["mailed_code_expired"] * 2
    assert await Session.all().count() == 1  # that of the account


async def test_who_may_no_more_when_the_code_comes_gets_no_session(
    account: Account, mailbox: Mailbox
) -> None:
    challenge = await ask(account.client)
    code = code_in(mailbox, EMAIL)
    await User.all().update(display_name="By password only")
    answer = await enter(account.client, challenge, code)
    assert answer.json()["code"] == "mailed_code_expired"


async def test_a_wrong_code_is_a_failed_login_of_its_account(
    account: Account, app: FastAPI, settings: AuthSettings
) -> None:
    """OWASP ASVS 5.0, 16.3.1."""
    heard: list[SecurityEvent] = []
    app.state.pluggable_auth.on(SecurityEvent)(heard.append)
    challenge = await ask(account.client)
    await enter(account.client, challenge, wrong_for(settings, challenge))
    (user,) = await User.all()
    assert [(each.kind, each.outcome, each.user_id, each.reason) for each in heard][1:] == [
        ("login", "failure", user.id, "mailed_code_refused")
    ]


async def test_wrong_codes_and_wrong_passwords_have_the_next_password_wait(
    account: Account, mailbox: Mailbox, settings: AuthSettings
) -> None:
    """And not the next code: the mail is what helps then. Names without an account look the same."""
    settings.throttle_free_attempts = 5
    for email in (EMAIL, KIM):
        wrong = {"email": email, "password": "a wrong password"}
        challenge = await ask(account.client, email)
        for _ in range(3):
            answer = await enter(account.client, challenge, wrong_for(settings, challenge))
            assert answer.json()["code"] == "mailed_code_refused"
        for _ in range(2):
            assert (await account.client.post("/auth/login", json=wrong)).status_code == 401
        waiting = await account.client.post("/auth/login", json=wrong)
        assert (waiting.status_code, waiting.json()["code"]) == (429, "throttled")
    challenge = await ask(account.client)
    assert (await enter(account.client, challenge, code_in(mailbox, EMAIL))).status_code == 200


async def test_asking_has_a_rate_limit_of_its_own(
    account: Account, browser: httpx.AsyncClient, settings: AuthSettings
) -> None:
    settings.rate_limits = {"email_sign_in": "2/hour"}
    form = "/account/sign-in/mail"
    page = await browser.get(form)
    await browser.post(form, data={**hidden(page, form), "email": EMAIL})
    await ask(account.client)
    limited = await account.client.post("/auth/email-sign-in", json={"email": EMAIL})
    assert (limited.status_code, limited.json()["code"]) == (429, "rate_limited")
    assert (await account.client.post("/auth/forgot-password", json={"email": EMAIL})).status_code == 200


async def test_a_mailbox_is_a_way_in_for_those_who_may(account: Account, app: FastAPI) -> None:
    auth = app.state.pluggable_auth
    await User.all().update(hashed_password="!")
    await keep_way_in(auth, await User.get())
    await User.all().update(display_name="By password only")
    with pytest.raises(AuthError) as refused:
        await keep_way_in(auth, await User.get())
    assert refused.value.code is ErrorCode.LAST_WAY_IN


@on_each_database
async def test_the_password_of_a_stranger_does_not_survive(
    client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    challenge = await ask(client)
    assert (await enter(client, challenge, code_in(mailbox, EMAIL))).status_code == 200
    login = await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
    assert (login.status_code, login.json()["code"]) == (401, "invalid_credentials")
    assert (await User.get()).is_verified


async def test_a_scanner_that_opens_the_link_spends_nothing(
    account: Account, browser: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    challenge = await ask(account.client)
    link = link_in(mailbox)
    assert len(f"http://localhost:8000{link}") < 200
    before = await Session.all().count()
    for _ in range(2):
        page = await browser.get(link)
        assert code_in(mailbox, EMAIL) in page.text
        assert (await account.client.get(link)).json() == {"detail": "The link is valid."}
    assert await Session.all().count() == before
    assert (await enter(account.client, challenge, code_in(mailbox, EMAIL))).status_code == 200
    assert (await account.client.get(link)).status_code == 400
    assert "too old" in (await browser.get(link)).text


async def test_the_button_of_the_link_signs_in_there(
    account: Account, browser: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await ask(account.client)
    link = link_in(mailbox)
    page = await browser.get(link)
    answer = await browser.post(f"{link}/form", data=hidden(page, f"{link}/form"))
    assert answer.status_code == 303, answer.text
    assert (await browser.get("/auth/me")).json()["email"] == EMAIL
    assert (await account.client.post(link)).status_code == 400


async def test_the_pages_sign_in(account: Account, browser: httpx.AsyncClient, mailbox: Mailbox) -> None:
    assert "/account/sign-in/mail" in (await browser.get("/account/sign-in")).text
    form = "/account/sign-in/mail"
    page = await browser.get(form, params={"next": "/notes"})
    page = await browser.post(form, data={**hidden(page, form), "email": EMAIL})
    fields = hidden(page, f"{form}/code")
    wrong = await browser.post(f"{form}/code", data={**fields, "code": "000000"})
    assert wrong.status_code == 400
    answer = await browser.post(f"{form}/code", data={**fields, "code": code_in(mailbox, EMAIL)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/notes"), answer.text


async def test_a_late_mail_is_not_sent(
    account: Account, app: FastAPI, clock: Clock, mailbox: Mailbox
) -> None:
    auth = app.state.pluggable_auth
    mailbox.clear()
    auth.settings.deliver_mail = False
    await ask(account.client)
    clock.advance(minutes=11)
    await auth.dispatcher.deliver([mail.id for mail in await Mail.filter(kind="email_sign_in")])
    assert mailbox.messages == []


async def test_a_code_that_waits_for_a_mail_server_dies_with_its_time(
    account: Account, app: FastAPI, clock: Clock, mailbox: Mailbox
) -> None:
    auth = app.state.pluggable_auth
    mailbox.clear()
    mailbox.server.behaviour = "temporary"
    challenge = await ask(account.client)
    assert (await Mail.get(kind="email_sign_in")).state == "waiting"
    clock.advance(minutes=10)
    mailbox.server.behaviour = "accept"
    await auth.dispatcher.deliver_due()
    assert ((await Mail.get(kind="email_sign_in")).state, mailbox.messages) == ("dead", [])
    await auth.outbox.retry(Q())  # nor when somebody has the dead ones sent again
    await auth.dispatcher.deliver_due()
    assert (await Mail.filter(kind="email_sign_in").count(), mailbox.messages) == (0, [])
    assert (await enter(account.client, challenge, "123456")).json()["code"] == "mailed_code_expired"


@asynccontextmanager
async def another_app(
    settings: AuthSettings, clock: Clock, *, pages: bool = False, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()

    @app.get("/")
    async def home() -> str:
        return "home"

    include_auth(app, settings=settings, clock=clock, pages=pages, features=[EmailSignIn(**options)])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as other:
        yield other
    await app.state.pluggable_auth.close()


@on_each_database
async def test_somebody_new_gets_an_account_where_the_app_says_so(
    settings: AuthSettings, clock: Clock, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    async with another_app(settings, clock, signup=True) as other:
        challenge = await ask(other, KIM)
        code = code_in(mailbox, KIM)
        answers = await asyncio.gather(*(enter(other, challenge, code) for _ in range(3)))
        assert sorted(answer.status_code for answer in answers)[0] == 200
        assert await Session.all().count() == 1
        user = await User.get()
        assert (user.email, user.is_verified) == (KIM, True)


@pytest.mark.parametrize("code", [True, False])
async def test_nobody_new_gets_an_account_or_a_mail_whom_the_app_refuses(
    code: bool, settings: AuthSettings, clock: Clock, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    def allowed(user: User) -> bool:
        return user.email.endswith("@corp.example")

    async with another_app(settings, clock, signup=True, code=code, allowed=allowed) as other:
        challenge = await ask(other, KIM)
        assert mailbox.messages == []
        waiting = id_of("email_sign_in", challenge)
        keys = key_set(settings)
        await enter(other, challenge, code_for(keys, waiting))  # as who has guessed it
        await other.post(f"/auth/email-sign-in/{link_token(keys, waiting)}")
        assert await User.all().count() == 0
        await ask(other, "kim@corp.example")
        assert [mail["To"] for mail in mailbox.messages] == ["kim@corp.example"]


def text_of(mailbox: Mailbox) -> str:
    body = mailbox.messages[-1].get_body(("plain",))
    assert body is not None
    return str(body.get_content())


@pytest.mark.parametrize("email", [EMAIL, KIM])
async def test_mails_of_codes_alone_have_no_link(
    email: str, settings: AuthSettings, clock: Clock, account: Account, mailbox: Mailbox
) -> None:
    mailbox.clear()
    async with another_app(settings, clock, pages=True, signup=True, link=False) as other:
        challenge = await ask(other, email)
        assert "http" not in text_of(mailbox)
        token = link_token(key_set(settings), id_of("email_sign_in", challenge))
        assert (await other.get(f"/auth/email-sign-in/{token}")).status_code == 404
        assert (await other.post(f"/auth/email-sign-in/{token}")).status_code in (404, 405)
        assert (await enter(other, challenge, code_in(mailbox, email))).status_code == 200


@pytest.mark.parametrize("email", [EMAIL, KIM])
async def test_mails_of_links_alone_have_no_code_and_none_is_taken(
    email: str, settings: AuthSettings, clock: Clock, account: Account, mailbox: Mailbox
) -> None:
    mailbox.clear()
    async with another_app(settings, clock, pages=True, signup=True, code=False) as other:
        other.headers.update(BROWSER)
        form = "/account/sign-in/mail"
        page = await other.get(form)
        assert "Send the link" in page.text
        page = await other.post(form, data={**hidden(page, form), "email": email})
        assert 'name="code"' not in page.text
        link = link_in(mailbox, email)
        (row,) = await Pending.filter(kind="email_sign_in")
        code = code_for(key_set(settings), row.id)
        assert code not in text_of(mailbox)
        page = await other.get(link)
        assert code not in page.text
        assert (await other.post(f"{form}/code", data={"code": code})).status_code in (404, 405)
        answer = await other.post(f"{link}/form", data=hidden(page, f"{link}/form"))
        assert answer.status_code == 303, answer.text
        assert (await other.get("/auth/me")).json()["email"] == email


def test_a_mail_without_code_and_link_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="code=True, link=True or both"):
        EmailSignIn(code=False, link=False)
    with pytest.raises(TypeError, match="code is of type str"):
        EmailSignIn(code="no")  # type: ignore[arg-type]


async def press_the_button(other: httpx.AsyncClient, mailbox: Mailbox) -> httpx.Response:
    """Asks for a mail, and signs in by the button of the page of its link."""
    await ask(other)
    link = link_in(mailbox)
    other.headers.update(BROWSER)
    page = await other.get(link)
    return await other.post(f"{link}/form", data=hidden(page, f"{link}/form"))


async def test_the_button_of_an_app_without_pages_signs_in_by_cookie_and_leads_home(
    settings: AuthSettings, clock: Clock, account: Account, mailbox: Mailbox
) -> None:
    settings.cookies = True
    async with another_app(settings, clock) as other:
        answer = await press_the_button(other, mailbox)
        assert (answer.status_code, answer.headers["location"]) == (303, "/"), answer.text
        assert (await other.get("/auth/me")).json()["email"] == EMAIL


async def test_an_app_without_pages_sends_a_second_factor_where_the_code_was_asked_for(
    totp: pyotp.TOTP, settings: AuthSettings, clock: Clock, account: Account, mailbox: Mailbox
) -> None:
    settings.cookies = True
    async with another_app(settings, clock) as other:
        answer = await press_the_button(other, mailbox)
        assert answer.status_code == 401
        assert code_in(mailbox, EMAIL) in answer.text


async def test_there_is_no_button_where_a_browser_gets_no_cookies(
    settings: AuthSettings, clock: Clock, account: Account, mailbox: Mailbox
) -> None:
    async with another_app(settings, clock) as other:
        await ask(other)
        page = await other.get(link_in(mailbox), headers=BROWSER)
        assert code_in(mailbox, EMAIL) in page.text
        assert "<form" not in page.text


async def test_nobody_new_is_mailed_where_signing_up_is_closed(
    settings: AuthSettings, clock: Clock, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    closed = settings.model_copy(update={"signup": "closed"})
    async with another_app(closed, clock, signup=True) as other:
        await ask(other, KIM)
    assert (await User.all().count(), mailbox.messages) == (0, [])


async def test_a_link_that_support_mails_signs_in_there_and_shows_no_code(
    account: Account, app: FastAPI, browser: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    auth = app.state.pluggable_auth
    assert await mail_link(auth, await User.get())
    await auth.dispatcher.deliver_due()
    link = link_in(mailbox)
    page = await browser.get(link)
    assert code_for(key_set(auth.settings), (await Pending.get(kind="email_sign_in")).id) not in page.text
    answer = await browser.post(f"{link}/form", data=hidden(page, f"{link}/form"))
    assert answer.status_code == 303, answer.text
    await User.all().update(display_name="By password only")
    assert not await mail_link(auth, await User.get())


async def test_a_mail_ends_with_its_code_in_the_form_that_is_filled_in_on_the_site_alone(
    settings: AuthSettings, account: Account, mailbox: Mailbox
) -> None:
    """WICG, origin-bound one-time codes, section 2.2: the last line."""
    settings.public_base_url = "https://app.example.com"
    for front_end, host in ((None, "app.example.com"), ("https://www.example.com/in", "www.example.com")):
        settings.sign_in_url = front_end
        await ask(account.client)
        code = code_in(mailbox, EMAIL)
        assert text_of(mailbox).rstrip().splitlines()[-1] == f"@{host} #{code}"
        html = mailbox.messages[-1].get_body(("html",))
        assert html is not None
        assert f">@{host} #{code}</p>" in html.get_content()


@pytest.mark.parametrize(
    ("path", "more"), [("/auth/email-sign-in", {}), ("/auth/forgot-password", {"mailed_code": True})]
)
async def test_a_code_is_in_the_subject_only_where_the_app_says_so(
    path: str, more: dict[str, bool], settings: AuthSettings, account: Account, mailbox: Mailbox
) -> None:
    for said in (False, True):
        settings.code_in_subject = said
        await account.client.post(path, json={"email": EMAIL, **more})
        assert mailbox.messages[-1]["Subject"].startswith(code_in(mailbox, EMAIL)) == said
