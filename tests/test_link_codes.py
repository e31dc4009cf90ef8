"""Codes beside the links of mails: a code is its link, for the client that asked for it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import EmailSignIn
from fastapi_pluggable_auth.models import Mail, Pending, Session, User
from fastapi_pluggable_auth.schemas import NotStored, UserCreate, UserOut

from .conftest import EMAIL, PASSWORD, Account, Clock, Database, Mailbox, on_each_database
from .form_browser import BROWSER, FormBrowser
from .test_workers import Server

DIALECTS = ("sqlite",)
NEW = "another horse battery"
KIM = "kim@example.com"
LANGUAGES = ("ar", "de", "en", "es", "fr", "it", "ja", "pt-BR", "zh-CN")


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, pages=True, features=[EmailSignIn()])
    return app


@pytest.fixture
async def visitor(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[FormBrowser]:
    """A browser, beside the client of the JSON routes."""
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    base = "http://localhost:8000"
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=BROWSER) as browser:
        yield FormBrowser(browser)


def codes_in(mailbox: Mailbox, to: str = EMAIL) -> list[str]:
    body = [mail for mail in mailbox.messages if mail["To"] == to][-1].get_body(("plain",))
    assert body is not None
    return [str(code) for code in re.findall(r"(?m)^(\d{6})\r?$", body.get_content())]


def code_in(mailbox: Mailbox, to: str = EMAIL) -> str:
    (code,) = codes_in(mailbox, to)
    return code


def wrong(right: str) -> str:
    return f"{(int(right) + 1) % 10**6:06}"


async def forgot(client: httpx.AsyncClient, email: str = EMAIL) -> str:
    answer = await client.post("/auth/forgot-password", json={"email": email, "mailed_code": True})
    assert answer.status_code == 200, answer.text
    challenge: str = answer.json()["challenge"]
    return challenge


async def reset(client: httpx.AsyncClient, challenge: str, code: str, password: str = NEW) -> httpx.Response:
    body = {"challenge": challenge, "code": code, "new_password": password}
    return await client.post("/auth/reset-password/code", json=body)


async def sign_up(client: httpx.AsyncClient, email: str = KIM, **more: object) -> str:
    body = {"email": email, "password": PASSWORD, "mailed_code": True, **more}
    answer = await client.post("/auth/signup", json=body)
    assert answer.status_code == 201, answer.text
    challenge: str = answer.json()["challenge"]
    return challenge


async def resend(client: httpx.AsyncClient, email: str = KIM, **more: object) -> str:
    body = {"email": email, "mailed_code": True, **more}
    answer = await client.post("/auth/verify/resend", json=body)
    assert answer.status_code == 200, answer.text
    challenge: str = answer.json()["challenge"]
    return challenge


async def verify(client: httpx.AsyncClient, challenge: str, code: str, **more: str) -> httpx.Response:
    body = {"challenge": challenge, "code": code, **more}
    return await client.post("/auth/verify/code", json=body)


async def change(account: Account, email: str = KIM) -> None:
    body = {"email": email, "mailed_code": True}
    answer = await account.client.patch("/account", json=body, headers=account.headers)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"id", "email", "is_verified", "display_name"}


async def confirm(account: Account, code: str) -> httpx.Response:
    return await account.client.post("/auth/email-change/code", json={"code": code}, headers=account.headers)


def refusal(answer: httpx.Response) -> object:
    return answer.status_code, answer.json().get("code")


DEAD = (400, "mailed_code_expired")
WRONG = (400, "mailed_code_refused")


async def test_a_reset_by_code_does_what_one_by_link_does(account: Account, mailbox: Mailbox) -> None:
    await User.filter(email=EMAIL).update(is_verified=False)
    challenge = await forgot(account.client)
    answer = await reset(account.client, challenge, code_in(mailbox))
    assert answer.status_code == 200, answer.text
    assert (await account.me()).status_code == 401
    assert not await Session.filter(revoked_at=None).exists()
    assert (await User.get(email=EMAIL)).is_verified
    assert (await account.login()).status_code == 401
    account.password = NEW
    assert (await account.login()).status_code == 200


async def test_a_client_that_names_a_device_gets_its_value(account: Account, mailbox: Mailbox) -> None:
    challenge = await forgot(account.client)
    body = {"challenge": challenge, "code": code_in(mailbox), "new_password": NEW, "device": None}
    answer = await account.client.post("/auth/reset-password/code", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["device"]


async def test_a_code_and_its_link_are_one_thing(account: Account, mailbox: Mailbox) -> None:
    challenge = await forgot(account.client)
    code, link = code_in(mailbox), mailbox.link()
    assert (await reset(account.client, challenge, code)).status_code == 200
    assert refusal(await reset(account.client, challenge, code)) == DEAD
    spent = await account.client.post(link, json={"new_password": PASSWORD})
    assert refusal(spent) == (400, "invalid_link")
    challenge = await forgot(account.client)
    code = code_in(mailbox)
    answer = await account.client.post(mailbox.link(), json={"new_password": PASSWORD})
    assert answer.status_code == 200, answer.text
    assert refusal(await reset(account.client, challenge, code)) == DEAD


@on_each_database
async def test_of_a_code_and_its_link_at_once_one_works(account: Account, mailbox: Mailbox) -> None:
    challenge = await forgot(account.client)
    code, link = code_in(mailbox), mailbox.link()
    answers = await asyncio.gather(
        *(reset(account.client, challenge, code, f"horse battery {number}") for number in range(4)),
        *(account.client.post(link, json={"new_password": f"battery horse {n}"}) for n in range(4)),
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7


async def test_a_password_that_is_refused_spends_neither_the_code_nor_its_tries(
    account: Account, mailbox: Mailbox
) -> None:
    challenge = await forgot(account.client)
    code = code_in(mailbox)
    for _ in range(7):
        answer = await reset(account.client, challenge, code, "password123")
        assert refusal(answer) == (422, "password_too_common")
    assert (await reset(account.client, challenge, code)).status_code == 200


async def test_after_five_wrong_codes_the_right_one_is_dead_and_its_link_is_not(
    account: Account, mailbox: Mailbox
) -> None:
    challenge = await forgot(account.client)
    code = code_in(mailbox)
    answers = [refusal(await reset(account.client, challenge, wrong(code))) for _ in range(6)]
    assert answers == [WRONG] * 4 + [DEAD] * 2
    assert refusal(await reset(account.client, challenge, code)) == DEAD
    answer = await account.client.post(mailbox.link(), json={"new_password": NEW})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_of_a_thousand_guesses_at_once_five_are_looked_at(
    database: Database, account: Account, mailbox: Mailbox
) -> None:
    """OWASP ASVS 5.0, 6.6.3."""
    server = Server(database, mailbox.server.port)
    try:
        async with httpx.AsyncClient(base_url=server.base, timeout=60) as http:
            challenge = await forgot(http)
            while not mailbox.messages or mailbox.messages[-1]["Subject"].startswith("Confirm"):
                await asyncio.sleep(0.05)
            code = code_in(mailbox)
            guesses = [f"{number:06}" for number in range(1001) if f"{number:06}" != code][:1000]
            answers = await asyncio.gather(*(reset(http, challenge, guess) for guess in guesses))
            assert {answer.status_code for answer in answers} == {400}
            assert [refusal(answer) for answer in answers].count(WRONG) <= 4
            assert (await Pending.get()).attempts == 5
            assert refusal(await reset(http, challenge, code)) == DEAD
    finally:
        server.stop()


async def test_a_code_works_for_ten_minutes_and_its_link_for_longer(
    account: Account, mailbox: Mailbox, clock: Clock
) -> None:
    """OWASP ASVS 5.0, 6.5.5."""
    challenge = await forgot(account.client)
    code = code_in(mailbox)
    clock.advance(minutes=10)
    assert refusal(await reset(account.client, challenge, code)) == DEAD
    assert (await account.client.get(mailbox.link())).status_code == 200


async def test_the_mail_of_a_client_that_has_no_place_for_a_code_has_none(
    account: Account, mailbox: Mailbox
) -> None:
    for path in ("/auth/forgot-password", "/auth/verify/resend"):
        answer = await account.client.post(path, json={"email": EMAIL})
        assert answer.json().keys() == {"detail"}
    assert codes_in(mailbox) == []
    answer = await account.client.post("/auth/signup", json={"email": KIM, "password": PASSWORD})
    assert answer.json().keys() == {"id", "email", "is_verified", "display_name"}
    assert codes_in(mailbox, KIM) == []
    assert await Pending.all().count() == 0
    await account.client.patch("/account", json={"email": "new@example.com"}, headers=account.headers)
    assert codes_in(mailbox, "new@example.com") == []


async def test_a_mail_that_is_sent_too_late_for_its_code_has_its_link_alone(
    account: Account, auth: Auth, settings: AuthSettings, mailbox: Mailbox, clock: Clock
) -> None:
    port, settings.smtp_port = settings.smtp_port, 1
    mailbox.clear()
    await forgot(account.client)
    settings.smtp_port = port
    clock.advance(minutes=11)
    await auth.dispatcher.deliver_due()
    assert codes_in(mailbox) == []
    answer = await account.client.post(mailbox.link(), json={"new_password": NEW})
    assert answer.status_code == 200, answer.text


async def test_no_code_is_stored_or_logged(
    account: Account, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_pluggable_auth")
    challenge = await forgot(account.client)
    code = code_in(mailbox)
    await reset(account.client, challenge, wrong(code))
    rows = [*await Mail.all().values(), *await Pending.all().values()]
    assert not any(code in str(value) or challenge in str(value) for row in rows for value in row.values())
    assert (await reset(account.client, challenge, code)).status_code == 200
    assert challenge not in caplog.text
    assert not re.search(rf"\b{code}\b", caplog.text)


async def test_a_code_is_worth_nothing_for_another_purpose_or_another_challenge(
    account: Account, mailbox: Mailbox
) -> None:
    signing_up = await sign_up(account.client)
    verifying = code_in(mailbox, KIM)
    challenge = await forgot(account.client, KIM)
    resetting = code_in(mailbox, KIM)
    assert refusal(await reset(account.client, signing_up, verifying)) == DEAD
    assert refusal(await verify(account.client, challenge, resetting)) == DEAD
    if verifying != resetting:
        assert refusal(await reset(account.client, challenge, verifying)) == WRONG
    body = {"challenge": challenge, "code": resetting}
    answer = await account.client.post("/auth/email-sign-in/code", json=body)
    assert refusal(answer) == DEAD
    answer = await account.client.post("/auth/email-sign-in", json={"email": EMAIL})
    assert refusal(await reset(account.client, answer.json()["challenge"], code_in(mailbox))) == DEAD


async def test_a_mail_that_somebody_else_asks_for_makes_no_code_useless(
    account: Account, mailbox: Mailbox
) -> None:
    challenge = await forgot(account.client)
    code = code_in(mailbox)
    theirs = await forgot(account.client)
    for _ in range(5):
        await reset(account.client, theirs, "000000")
    assert refusal(await reset(account.client, theirs, code)) == DEAD
    assert (await reset(account.client, challenge, code)).status_code == 200


async def test_nothing_tells_whether_there_is_an_account(account: Account, mailbox: Mailbox) -> None:
    seen = []
    for email in (EMAIL, KIM):
        told: list[object] = []
        for path in ("/auth/forgot-password", "/auth/verify/resend"):
            answer = await account.client.post(path, json={"email": email, "mailed_code": True})
            told.append((answer.status_code, sorted(answer.headers), answer.json()["detail"]))
            challenge = answer.json()["challenge"]
            told.append(len(challenge))
            paths = {"/auth/forgot-password": "/auth/reset-password/code"}
            body = {"challenge": challenge, "code": "000000"}
            if path in paths:
                body["new_password"] = NEW
            for _ in range(6):
                answer = await account.client.post(paths.get(path, "/auth/verify/code"), json=body)
                told.append((answer.status_code, sorted(answer.headers), answer.json()))
        seen.append(told)
    assert seen[0] == seen[1]


async def test_codes_for_one_address_are_looked_at_thirty_times_a_day_and_links_always(
    account: Account, mailbox: Mailbox, settings: AuthSettings, clock: Clock
) -> None:
    """So many mails that somebody asks for, so many guesses: the account counts them, too (NIST SP 800-63B-4
    section 3.2.2)."""
    settings.mail_limit = 10
    for email in (EMAIL, KIM):
        for _ in range(6):
            challenge = await forgot(account.client, email)
            for _ in range(5):
                assert (await reset(account.client, challenge, "000000")).status_code == 400
        challenge = await forgot(account.client, email)
        assert refusal(await reset(account.client, challenge, "000000")) == (429, "throttled")
    assert (await account.client.get(mailbox.link())).status_code == 200
    clock.advance(hours=24)
    challenge = await forgot(account.client)
    assert (await reset(account.client, challenge, code_in(mailbox))).status_code == 200


async def test_a_challenge_beyond_the_limit_of_mails_has_no_code(
    account: Account, mailbox: Mailbox, settings: AuthSettings
) -> None:
    settings.mail_limit = 3
    challenges = [await forgot(account.client) for _ in range(settings.mail_limit)]
    code, count = code_in(mailbox), len(mailbox.messages)
    challenges.append(await forgot(account.client))
    assert len(mailbox.messages) == count
    assert refusal(await reset(account.client, challenges[-1], code)) == WRONG
    assert (await reset(account.client, challenges[-2], code)).status_code == 200


async def test_a_code_verifies_where_the_client_signed_up_and_all_stays(
    client: httpx.AsyncClient, mailbox: Mailbox, settings: AuthSettings
) -> None:
    settings.require_verified_email = False
    challenge = await sign_up(client)
    login = await client.post("/auth/login", json={"email": KIM, "password": PASSWORD})
    token = login.json()["access_token"]
    answer = await verify(client, challenge, code_in(mailbox, KIM))
    assert answer.status_code == 200, answer.text
    me = await client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert me.json()["is_verified"] is True
    assert refusal(await verify(client, challenge, code_in(mailbox, KIM))) == DEAD
    assert (await client.post(mailbox.link(KIM))).json()["code"] == "invalid_link"


async def test_a_client_shows_with_the_challenge_of_its_signup_that_it_signed_up(
    client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    signing_up = await sign_up(client)
    challenge = await resend(client, challenge=signing_up)
    answer = await verify(client, challenge, code_in(mailbox, KIM))
    assert answer.status_code == 200, answer.text


async def test_a_client_that_did_not_sign_up_shows_the_password_too(
    client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await sign_up(client)
    challenge = await resend(client, challenge="made up")
    code = code_in(mailbox, KIM)
    for _ in range(6):
        assert refusal(await verify(client, challenge, code)) == (403, "signup_elsewhere")
    answer = await verify(client, challenge, code, password="not the password")
    assert refusal(answer) == (403, "wrong_password")
    assert (await verify(client, challenge, code, password=PASSWORD)).status_code == 200


async def test_the_owner_of_a_mailbox_claims_by_code_what_a_stranger_signed_up_for(
    client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    """Sudhodanan and Paverd, "Pre-hijacked accounts" (USENIX Security 2022): nothing of the stranger is left.
    Neither is the code of the owner's mail worth anything to the stranger."""
    strangers = await sign_up(client)
    challenge = await resend(client)
    code = code_in(mailbox, KIM)
    assert refusal(await verify(client, strangers, code)) == WRONG
    assert (await verify(client, challenge, code, new_password=NEW)).status_code == 200
    old = await client.post("/auth/login", json={"email": KIM, "password": PASSWORD})
    assert old.status_code == 401
    new = await client.post("/auth/login", json={"email": KIM, "password": NEW})
    assert new.status_code == 200


async def test_a_signup_of_a_taken_address_answers_with_a_challenge_as_any_other(
    account: Account, mailbox: Mailbox, settings: AuthSettings
) -> None:
    settings.prevent_enumeration = True
    mailbox.clear()
    taken, free = await sign_up(account.client, EMAIL), await sign_up(account.client, KIM)
    assert len(taken) == len(free)
    assert codes_in(mailbox, EMAIL) == []
    tried = [
        [refusal(await verify(account.client, challenge, "000000")) for _ in range(6)]
        for challenge in (taken, free)
    ]
    assert tried[0] == tried[1] == [WRONG] * 4 + [DEAD] * 2


async def test_bodies_of_the_host_ask_for_a_code_too_and_answer_as_the_host_has_it(
    settings: AuthSettings, clock: Clock, tortoise: TortoiseContext, mailbox: Mailbox
) -> None:
    class Newcomer(UserCreate):
        display_name: str

    class Shown(UserOut):
        created_at: datetime

    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, user_create=Newcomer, user_out=Shown)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        body = {"email": KIM, "password": PASSWORD, "display_name": "Kim"}
        answer = await client.post("/auth/signup", json={**body, "mailed_code": True})
        assert answer.json().keys() == Shown.model_fields.keys() | {"challenge"}
        assert answer.json()["display_name"] == "Kim"
        right = await verify(client, answer.json()["challenge"], code_in(mailbox, KIM))
        assert right.status_code == 200, right.text
        answer = await client.post("/auth/signup", json={**body, "email": "lee@example.com"})
        assert answer.json().keys() == Shown.model_fields.keys()


def test_a_field_of_the_host_does_not_take_the_name_of_the_one_that_asks(settings: AuthSettings) -> None:
    class Newcomer(UserCreate):
        mailed_code: Annotated[bool, NotStored] = True

    with pytest.raises(ValueError, match=r"Newcomer\.mailed_code is a field of the package"):
        include_auth(FastAPI(), settings=settings, user_create=Newcomer)


async def test_a_code_confirms_a_new_address_in_the_session_that_asked(
    account: Account, mailbox: Mailbox
) -> None:
    await change(account)
    code = code_in(mailbox, KIM)
    before = account.access_token
    await account.login()
    assert refusal(await confirm(account, code)) == DEAD
    other, account.access_token = account.access_token, before
    assert refusal(await confirm(account, wrong(code))) == WRONG
    assert (await confirm(account, code)).status_code == 200
    assert (await account.me()).json()["email"] == KIM
    assert (await account.me(other)).status_code == 401
    assert refusal(await confirm(account, code)) == DEAD
    assert (await account.client.post(mailbox.link(KIM))).json()["code"] == "invalid_link"


async def test_the_code_of_another_change_takes_the_place_of_the_first(
    account: Account, mailbox: Mailbox
) -> None:
    await change(account)
    first = code_in(mailbox, KIM)
    await change(account, "lee@example.com")
    second = code_in(mailbox, "lee@example.com")
    if first != second:
        assert refusal(await confirm(account, first)) == WRONG
    assert (await confirm(account, second)).status_code == 200
    assert (await account.me()).json()["email"] == "lee@example.com"


async def test_a_change_that_was_taken_back_or_stopped_has_no_code(
    account: Account, mailbox: Mailbox
) -> None:
    await change(account)
    code = code_in(mailbox, KIM)
    await account.client.patch("/account", json={"email": EMAIL}, headers=account.headers)
    assert refusal(await confirm(account, code)) == DEAD
    await change(account)
    code = code_in(mailbox, KIM)
    assert (await account.client.post(mailbox.link(EMAIL))).status_code == 200
    assert refusal(await confirm(account, code)) == DEAD
    anonymous = await account.client.post("/auth/email-change/code", json={"code": code})
    assert anonymous.status_code == 401


@on_each_database
async def test_of_many_confirmations_by_code_at_once_one_works(account: Account, mailbox: Mailbox) -> None:
    await change(account)
    code, link = code_in(mailbox, KIM), mailbox.link(KIM)
    answers = await asyncio.gather(
        *(confirm(account, code) for _ in range(3)), *(account.client.post(link) for _ in range(3))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 5


async def test_a_taken_address_looks_like_any_other_and_is_never_confirmed(
    account: Account, mailbox: Mailbox, settings: AuthSettings
) -> None:
    settings.prevent_enumeration = True
    await User.create(email=KIM, hashed_password="", is_verified=True)
    tried = []
    for email in (KIM, "lee@example.com"):
        await change(account, email)
        tried.append([refusal(await confirm(account, "000000")) for _ in range(6)])
    assert tried[0] == tried[1] == [WRONG] * 4 + [DEAD] * 2
    assert codes_in(mailbox, KIM) == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/auth/reset-password/code", {"code": "123456", "new_password": NEW}),
        ("/auth/reset-password/code", {"challenge": "x" * 129, "code": "123456", "new_password": NEW}),
        ("/auth/reset-password/code", {"challenge": "x", "code": "12345", "new_password": NEW}),
        ("/auth/reset-password/code", {"challenge": "x", "code": "１２３４５６", "new_password": NEW}),
        ("/auth/reset-password/code", {"challenge": "x", "code": 123456, "new_password": NEW}),
        ("/auth/verify/code", {"challenge": "x\0", "code": "123456"}),
        ("/auth/verify/code", {"challenge": None, "code": "123456"}),
        ("/auth/verify/resend", {"email": EMAIL, "mailed_code": "yes"}),
        ("/auth/forgot-password", {"email": EMAIL, "mailed_code": 1}),
        ("/auth/signup", {"email": KIM, "password": PASSWORD, "mailed_code": None}),
    ],
)
async def test_what_is_no_code_and_no_challenge_is_refused(
    client: httpx.AsyncClient, path: str, body: dict[str, object]
) -> None:
    answer = await client.post(path, json=body)
    assert refusal(answer) == (422, "validation_error")


async def test_a_code_of_the_page_signs_in_the_browser_that_signed_up(
    visitor: FormBrowser, mailbox: Mailbox
) -> None:
    await visitor.open("/account/sign-up")
    await visitor.submit("email", email=KIM, new_password=PASSWORD)
    field = visitor.page.form("code").fields["code"]
    assert (field["autocomplete"], field["inputmode"]) == ("one-time-code", "numeric")
    assert "autofocus" in field
    code = code_in(mailbox, KIM)
    page = await visitor.submit("code", code=wrong(code))
    assert (page.status, page.path) == (400, "/account/check-mail/code")
    assert "This code is wrong." in page.text
    page = await visitor.submit("code", code=f" {code[:3]} {code[3:]} ")
    assert (page.status, page.path) == (200, "/account/profile")
    assert (await User.get(email=KIM)).is_verified


async def test_the_page_says_when_a_code_is_dead_and_mails_another(
    visitor: FormBrowser, mailbox: Mailbox
) -> None:
    await visitor.open("/account/sign-up")
    await visitor.submit("email", email=KIM, new_password=PASSWORD)
    first = code_in(mailbox, KIM)
    for _ in range(5):
        page = await visitor.submit("code", code=wrong(first))
    assert "This code does not work any more." in page.text
    page = await visitor.submit("check-mail")
    second = code_in(mailbox, KIM)
    if first != second:
        page = await visitor.submit("code", code=first)
        assert "This code is wrong." in page.text
    page = await visitor.submit("code", code=second)
    assert page.path == "/account/profile"


async def test_a_code_of_the_page_leads_to_the_new_password(
    account: Account, visitor: FormBrowser, mailbox: Mailbox
) -> None:
    await visitor.open("/account/forgot-password")
    await visitor.submit("email", email=EMAIL)
    page = await visitor.submit("code", code="none")
    assert "This code is wrong." in page.text
    page = await visitor.submit("code", code=code_in(mailbox))
    assert page.path.startswith("/auth/reset-password/")
    page = await visitor.submit("new_password", new_password=NEW)
    assert page.status == 200
    account.password = NEW
    assert (await account.login()).status_code == 200


async def test_in_another_browser_the_code_leads_to_the_page_that_asks_for_the_password(
    client: httpx.AsyncClient, visitor: FormBrowser, mailbox: Mailbox
) -> None:
    await sign_up(client)
    await visitor.open("/account/verify-email")
    await visitor.submit("email", email=KIM)
    page = await visitor.submit("code", code=code_in(mailbox, KIM))
    assert page.path.startswith("/auth/verify/")
    assert not (await User.get(email=KIM)).is_verified
    await visitor.submit("password", password=PASSWORD)
    assert (await User.get(email=KIM)).is_verified


async def test_the_profile_takes_the_code_of_a_new_address(
    account: Account, visitor: FormBrowser, mailbox: Mailbox
) -> None:
    await visitor.open("/account/sign-in")
    await visitor.submit("email", email=EMAIL, password=PASSWORD)
    await visitor.open("/account/profile")
    assert not any("code" in form.fields for form in visitor.page.forms)
    await visitor.submit("email", email=KIM)
    code = code_in(mailbox, KIM)
    page = await visitor.submit("code", code=wrong(code))
    assert (page.status, "This code is wrong." in page.text) == (400, True)
    page = await visitor.submit("code", code=code)
    assert (page.status, page.path) == (200, "/account/profile")
    assert await User.filter(email=KIM).exists()
    assert not any("code" in form.fields for form in page.forms)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_page_and_mail_have_the_code_in_every_language(
    language: str, client: httpx.AsyncClient, visitor: FormBrowser, mailbox: Mailbox
) -> None:
    visitor.client.headers["Accept-Language"] = language
    await visitor.open("/account/sign-up")
    page = await visitor.submit("email", email=KIM, new_password=PASSWORD)
    assert page.one("html")["lang"] == language
    code = code_in(mailbox, KIM)
    newest = mailbox.messages[-1]
    html = newest.get_body(("html",))
    assert html is not None
    assert f">{code}</p>" in html.get_content()  # nothing else comes along where it is copied
    page = await visitor.submit("code", code=code)
    assert page.path == "/account/profile"


async def test_a_template_of_the_app_that_has_no_place_for_a_code_stays_as_it_is(
    client: httpx.AsyncClient,
    visitor: FormBrowser,
    mailbox: Mailbox,
    settings: AuthSettings,
    tmp_path: Path,
) -> None:
    settings.template_dir = tmp_path
    own = tmp_path / "verify.txt.jinja"
    own.write_text("Hello {{ email }}, your zip code is fine: {{ verify_link }}\n")
    await visitor.open("/account/sign-up")
    page = await visitor.submit("email", email=KIM, new_password=PASSWORD)
    assert page.path == "/account/check-mail"
    assert not any("code" in form.fields for form in page.forms)
    assert codes_in(mailbox, KIM) == []
    assert (await client.get(mailbox.link(KIM))).status_code == 200


async def test_a_template_of_the_app_may_say_the_code(
    client: httpx.AsyncClient,
    visitor: FormBrowser,
    mailbox: Mailbox,
    settings: AuthSettings,
    tmp_path: Path,
) -> None:
    settings.template_dir = tmp_path
    own = tmp_path / "reset.txt.jinja"
    own.write_text("{{ reset_link }}\n{% if code %}\n{{ code }}\n({{ code_lifetime }})\n{% endif %}")
    await client.post("/auth/signup", json={"email": KIM, "password": PASSWORD})
    await visitor.open("/account/forgot-password")
    await visitor.submit("email", email=KIM)
    page = await visitor.submit("code", code=code_in(mailbox, KIM))
    assert page.path.startswith("/auth/reset-password/")
    mailbox.clear()
    await client.post("/auth/forgot-password", json={"email": KIM})
    assert codes_in(mailbox, KIM) == []
