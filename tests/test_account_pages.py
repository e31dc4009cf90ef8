"""The account pages, without JavaScript."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from math import ceil
from urllib.parse import unquote

import httpx
import pyotp
import pytest
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, PageUser, include_auth, open_session
from fastapi_pluggable_auth.features.two_factor.models import RecoveryCode
from fastapi_pluggable_auth.models import Session, User

from .conftest import EMAIL, PASSWORD, Clock, Mailbox
from .form_browser import BROWSER, FormBrowser

DIALECTS = ("sqlite",)
NEW = "a new horse battery"
BASE = "http://localhost:8000"


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """A host app with the pages, and one of its own."""
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, pages=True)

    @app.get("/reports")
    async def reports(user: PageUser, year: int = 0) -> str:
        return f"Reports of {user.email}"

    return app


@pytest.fixture
async def visitor(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[FormBrowser]:
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as client:
        yield FormBrowser(client)


@pytest.fixture
async def ada(visitor: FormBrowser, auth: Auth) -> FormBrowser:
    """A visitor who is signed in."""
    hashed = await auth.hasher.hash(PASSWORD)
    await User.create(email=EMAIL, hashed_password=hashed, is_verified=True)
    return await signed_in(visitor)


async def signed_in(visitor: FormBrowser, password: str = PASSWORD, email: str = EMAIL) -> FormBrowser:
    await visitor.open("/account/sign-in")
    await visitor.submit("password", email=email, password=password)
    return visitor


async def with_two_factor(visitor: FormBrowser) -> tuple[pyotp.TOTP, list[str]]:
    """Sets up two-factor on the pages; the authenticator, and the recovery codes shown."""
    await visitor.open("/account/security")
    page = await visitor.submit("enable")
    (link,) = [link for link in page.links if link.startswith("otpauth:")]
    totp = pyotp.parse_uri(link)
    assert isinstance(totp, pyotp.TOTP)
    page = await visitor.submit("code", code=f" {totp.now()[:3]} {totp.now()[3:]} ")
    return totp, re.findall(r"<code>([a-z2-7-]+)</code>", page.text)


async def test_from_signing_up_to_deleting_the_account(visitor: FormBrowser, mailbox: Mailbox) -> None:
    await visitor.open("/account/sign-up")
    page = await visitor.submit("new_password", email=EMAIL, new_password=PASSWORD)
    assert (page.status, page.path) == (200, "/account/check-mail")
    assert f"We wrote to {EMAIL}." in page.text
    await visitor.open(mailbox.link())
    await visitor.submit("form")
    assert visitor.page.path == "/account/profile"
    page = await visitor.submit("name", display_name=" Ada ")
    assert (page.one("input", name="display_name")["value"], page.status) == ("Ada", 200)
    assert "Saved." in page.text
    await visitor.open("/account/delete")
    page = await visitor.submit("sure")
    assert (page.status, page.one("input", name="sure")["aria-describedby"]) == (422, "problem")
    page = await visitor.submit("sure", sure="yes")
    assert (page.path, await User.all().count()) == ("/account/sign-in", 0)
    assert "Your account was deleted" in page.text


async def test_a_browser_that_asks_for_the_account_gets_the_page(ada: FormBrowser) -> None:
    for path in ("/account", "/account/"):
        assert (await ada.open(path)).path == "/account/profile"
    assert (await ada.client.get("/account", headers={"Accept": "application/json"})).json()["email"] == EMAIL


async def test_signing_in_leads_back_to_where_one_came_from(ada: FormBrowser) -> None:
    await ada.submit("sign-out")
    page = await ada.open("/reports?year=2026")
    assert page.path == "/account/sign-in"
    page = await ada.submit("password", email=EMAIL, password="wrong")
    assert (page.status, page.one("input", name="email")["value"]) == (401, EMAIL)
    page = await ada.submit("password", email=EMAIL, password=PASSWORD)
    assert (page.text, str(page.answer.url)) == (f'"Reports of {EMAIL}"', f"{BASE}/reports?year=2026")
    page = await ada.open("/account/sign-in?next=/reports")
    assert page.path == "/reports"


@pytest.mark.parametrize(
    "hostile",
    [
        "https://evil.example.com",
        "//evil.example.com",
        "/\\evil.example.com",
        "/%2fevil.example.com",
        "javascript:alert(1)",
        "/\tevil",
        "evil",
        "\ud83d",
        "/" + "x" * 5000,
    ],
)
async def test_next_leads_nowhere_else(ada: FormBrowser, hostile: str) -> None:
    """A-81."""
    for path, field in (("sign-in", "password"), ("confirm-password", "password")):
        if path == "sign-in":
            await ada.open("/account/security")
            await ada.submit("sign-out")
        query = httpx.QueryParams({"next": hostile.encode("utf-8", "replace").decode()})
        page = await ada.open(f"/account/{path}?{query}")
        assert "next" not in page.form(field).hidden
        page.form(field).hidden["next"] = hostile.encode("utf-8", "replace").decode()
        page = await ada.submit(field, email=EMAIL, password=PASSWORD)
        assert (page.path, page.answer.url.host) == ("/account/profile", "localhost")


async def test_two_factor_is_set_up_used_and_switched_off(ada: FormBrowser, clock: Clock) -> None:
    totp, codes = await with_two_factor(ada)
    assert len(codes) == 10
    assert "Unused: 10." in (await ada.open("/account/security")).text
    await ada.submit("sign-out")
    await signed_in(ada)
    page = ada.page
    assert (page.status, "Enter your code" in page.text, "password" in page.forms[0].fields) == (
        200,
        True,
        False,
    )
    page = await ada.submit("code", code="000000")
    assert (page.status, page.one("input", name="code")["aria-invalid"]) == (400, "true")
    page = await ada.submit("code", code="nonsense")
    assert page.status == 422
    clock.advance(seconds=60)
    page = await ada.submit("code", code=totp.at(clock()))
    assert page.path == "/account/profile"
    await ada.submit("sign-out")
    await signed_in(ada)
    assert (await ada.submit("code", code=codes[0].upper())).path == "/account/profile"
    assert "Unused: 9." in (await ada.open("/account/security")).text
    page = await ada.submit("recovery_codes")
    assert codes[1] not in page.text
    await ada.open("/account/security")
    page = await ada.submit("disable")
    assert "Two-factor sign-in is off." in page.text
    assert (await User.get()).totp_secret is None


async def test_a_phone_opens_its_authenticator_by_a_link_or_copies_the_key(ada: FormBrowser) -> None:
    await ada.open("/account/security")
    page = await ada.submit("enable")
    user = await User.get()
    secret = user.totp_secret or ""
    (link,) = [link for link in page.links if link.startswith("otpauth:")]
    assert link == pyotp.TOTP(secret).provisioning_uri(name=EMAIL, issuer_name="MyApp")
    (key,) = re.findall(r'<code class="key" id="key">(.+)</code>', page.text)
    assert re.sub("<[^>]+>", "", key) == secret
    button = page.one("button", **{"data-copy": "key"})
    assert "hidden" in button  # until script makes it work


async def test_every_code_is_asked_for_with_a_keyboard_of_digits(ada: FormBrowser, clock: Clock) -> None:
    """And first, where there is nothing else to do; a recovery code has a field of its own."""
    await ada.open("/account/security")
    page = await ada.submit("enable")
    fields = [page.one("input", name="code")]
    await ada.submit("disable")
    _, codes = await with_two_factor(ada)
    await ada.open("/account/security")
    await ada.submit("sign-out")
    await signed_in(ada)
    page = ada.page
    fields.append(page.one("input", name="code"))
    assert "autofocus" in fields[-1]
    assert "inputmode" not in page.one("input", name="recovery_code")
    await ada.submit("code", code=codes[0])
    clock.advance(minutes=20)
    page = await ada.open("/account/delete")
    fields.append(page.one("input", name="code"))
    assert "autofocus" in page.one("input", name="password")
    assert "recovery_code" in page.form("password").fields
    assert {(field["inputmode"], field["autocomplete"]) for field in fields} == {("numeric", "one-time-code")}


async def test_a_recovery_code_has_a_field_of_its_own(ada: FormBrowser, clock: Clock) -> None:
    _, codes = await with_two_factor(ada)
    await ada.open("/account/security")
    await ada.submit("sign-out")
    await signed_in(ada)
    page = await ada.submit("code", code="", recovery_code="abcd-abcd-abcd-abcd-abcd-abcd")
    wrong = page.one("input", name="recovery_code")
    assert (page.status, wrong["aria-invalid"], "autofocus" in wrong) == (400, "true", True)
    assert "open" in page.one("details")
    page = await ada.submit("code", code="", recovery_code=f" {codes[0]} ")
    assert page.path == "/account/profile"
    clock.advance(minutes=20)
    await ada.open("/account/delete")
    page = await ada.submit("password", password=PASSWORD, code="", recovery_code=codes[1])
    assert page.path == "/account/delete"


async def test_recovery_codes_are_downloaded_as_a_file_of_the_page_itself(ada: FormBrowser) -> None:
    """No request has them again, and nothing keeps them."""
    _, codes = await with_two_factor(ada)
    link = ada.page.one("a", download="recovery-codes.txt")["href"]
    kind, _, text = link.partition(",")
    assert kind == "data:text/plain;charset=utf-8"
    assert unquote(text).split("\r\n") == [f"Your recovery codes: MyApp, {EMAIL}", "", *codes, ""]


async def test_setting_two_factor_up_sends_one_mail(ada: FormBrowser, mailbox: Mailbox, clock: Clock) -> None:
    """Renewed codes send one of their own, and so do the first ones of an account that has been without."""
    mailbox.clear()
    await with_two_factor(ada)
    subjects = ["Two-factor authentication is on for MyApp"]
    assert [message["Subject"] for message in mailbox.messages] == subjects
    await ada.open("/account/security")
    await ada.submit("recovery_codes")
    subjects.append("New recovery codes for MyApp")
    assert [message["Subject"] for message in mailbox.messages] == subjects
    await RecoveryCode.all().delete()
    clock.advance(minutes=11)
    await ada.open("/account/security")
    await ada.submit("recovery_codes")
    subjects.append("New recovery codes for MyApp")
    assert [message["Subject"] for message in mailbox.messages] == subjects


async def test_a_wrong_code_shows_the_same_picture_again_while_the_login_is_recent(
    ada: FormBrowser, clock: Clock
) -> None:
    await ada.open("/account/security")
    page = await ada.submit("enable")
    picture = page.one("img")["src"]
    assert picture.startswith("data:image/png;base64,")
    assert "img-src data:" in page.answer.headers["content-security-policy"]
    page = await ada.submit("code", code="000000")
    assert (page.status, page.one("img")["src"]) == (400, picture)
    page = await ada.submit("disable")
    assert "img" not in {tag for tag, _ in page.tags}
    assert "img-src" not in page.answer.headers["content-security-policy"]
    assert "img" in {tag for tag, _ in (await ada.submit("enable")).tags}
    clock.advance(minutes=20)
    assert "img" not in {tag for tag, _ in (await ada.open("/account/security")).tags}


async def test_a_challenge_that_has_expired_starts_again(ada: FormBrowser, clock: Clock) -> None:
    totp, _ = await with_two_factor(ada)
    await ada.open("/account/security")
    await ada.submit("sign-out")
    await ada.open("/reports")
    await ada.submit("password", email=EMAIL, password=PASSWORD)
    clock.advance(minutes=6)
    page = await ada.submit("code", code=totp.at(clock()))
    assert (page.path, page.form("password").hidden["next"]) == ("/account/sign-in", "/reports")
    assert "took too long" in page.text


async def test_whoever_needs_two_factor_is_led_to_it(ada: FormBrowser, settings: AuthSettings) -> None:
    settings.require_two_factor = True
    for path in ("/account/profile", "/account/delete"):
        page = await ada.open(path)
        assert page.path == "/account/security"
        assert "set it up first" in page.text
    assert (await ada.open("/reports")).path == "/account/security"
    await ada.submit("sign-out")
    await signed_in(ada)
    assert ada.page.path == "/account/security"
    await with_two_factor(ada)
    assert (await ada.open("/account/profile")).path == "/account/profile"


async def test_sensitive_changes_ask_for_the_password_again(ada: FormBrowser, clock: Clock) -> None:
    totp, _ = await with_two_factor(ada)
    clock.advance(minutes=20)
    page = await ada.open("/account/delete")
    assert page.path == "/account/confirm-password"
    page = await ada.submit("password", password="wrong", code=totp.at(clock()))
    assert (page.status, page.one("input", name="password")["aria-invalid"]) == (403, "true")
    page = await ada.submit("password", password=PASSWORD)
    assert page.status == 401
    page = await ada.submit("password", password=PASSWORD, code=totp.at(clock()))
    assert (page.path, page.status) == ("/account/delete", 200)
    clock.advance(minutes=20)
    assert (await ada.submit("sure", sure="yes")).path == "/account/confirm-password"
    await ada.open("/account/security")
    assert (await ada.submit("disable")).path == "/account/confirm-password"
    page = await ada.open("/account/profile")
    assert "email" not in {name for form in page.forms for name in form.fields}
    assert "/account/confirm-password?next=/account/profile" in page.links
    assert await User.filter(email=EMAIL, totp_confirmed=True).count() == 1


async def test_a_new_address_is_pending_until_it_confirms(ada: FormBrowser, mailbox: Mailbox) -> None:
    await ada.open("/account/profile")
    assert (await ada.submit("email", email="nonsense")).status == 422
    page = await ada.submit("email", email="ada@example.org")
    assert "You sign in as ada@example.com." in page.text
    assert "A change to ada@example.org waits" in page.text
    await ada.open(mailbox.link("ada@example.org"))
    page = await ada.submit(ada.page.forms[-1].action.rsplit("/", 1)[1])
    assert "Your e-mail address was changed" in page.text
    assert "You sign in as ada@example.org." in (await ada.open("/account/profile")).text


async def test_the_page_does_not_tell_whether_an_address_is_taken(
    ada: FormBrowser, auth: Auth, settings: AuthSettings, mailbox: Mailbox
) -> None:
    """A-19, A-30."""
    await User.create(email="bob@example.com", hashed_password="x", is_verified=True)
    await ada.open("/account/profile")
    page = await ada.submit("email", email="bob@example.com")
    assert (page.status, page.one("input", name="email")["aria-invalid"]) == (400, "true")
    settings.prevent_enumeration = True
    pages = [await ada.submit("email", email=f"{name}@example.com") for name in ("bob", "eve")]
    texts = [re.sub(r'value="[^"]*"|eve|bob', "", page.text) for page in pages]
    assert texts[0] == texts[1]
    (to_bob,) = [message for message in mailbox.messages if message["To"] == "bob@example.com"]
    assert "already" in to_bob.as_string()


async def test_a_new_password_signs_out_everywhere(ada: FormBrowser) -> None:
    await ada.open("/account/profile")
    page = await ada.submit("password", password="wrong", new_password=NEW)
    assert (page.status, page.one("input", id="password")["aria-invalid"]) == (403, "true")
    page = await ada.submit("password", password=PASSWORD, new_password="password1")
    assert (page.status, page.one("input", id="new_password")["aria-invalid"]) == (422, "true")
    page = await ada.submit("password", password=PASSWORD, new_password=NEW)
    assert page.path == "/account/sign-in"
    assert "Your password was changed" in page.text
    assert await Session.filter(revoked_at=None).count() == 0
    await signed_in(ada, NEW)
    assert ada.page.path == "/account/profile"


async def test_a_forgotten_password_is_reset(ada: FormBrowser, mailbox: Mailbox) -> None:
    await ada.submit("sign-out")
    answers = []
    for email in (EMAIL, "nobody@example.com"):
        await ada.open("/account/forgot-password")
        page = await ada.submit("email", email=email)
        answers.append(re.sub(r'value="[^"]*"', "", page.text.replace(email, "")))
    assert answers[0] == answers[1]
    assert "If there is an account with" in answers[0]
    await ada.open(mailbox.link())
    await ada.submit("new_password", new_password=NEW)
    await signed_in(ada, NEW)
    assert ada.page.path == "/account/profile"


async def test_a_new_verification_link_can_be_asked_for(visitor: FormBrowser, mailbox: Mailbox) -> None:
    await visitor.open("/account/sign-up")
    await visitor.submit("new_password", email=EMAIL, new_password=PASSWORD)
    await signed_in(visitor)
    assert (visitor.page.status, "/account/verify-email" in visitor.page.links) == (401, True)
    assert "/account/verify-email" in (await visitor.open("/auth/verify/expired")).links
    await visitor.open("/account/verify-email")
    assert (await visitor.submit("email", email="x")).status == 422
    assert "is waiting to be verified" in (await visitor.submit("email", email=EMAIL)).text
    assert [str(mail["To"]) for mail in mailbox.messages] == [EMAIL, EMAIL]


async def test_devices_are_listed_and_signed_out(ada: FormBrowser, app: FastAPI) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url=BASE, headers=BROWSER | {"User-Agent": agent}
    ) as client:
        for how in ("session", "others"):
            other = await signed_in(FormBrowser(client))
            page = await ada.open("/account/security")
            assert page.text.count("This device") == 1
            assert "Firefox, Linux" in page.text
            (button,) = [button for button in page.form("session").buttons if button.get("name") == "session"]
            typed = {"session": button["value"]} if how == "session" else {}
            page = await ada.submit(how, **typed)
            assert (page.status, "Firefox" in page.text) == (200, False)
            assert (await other.open("/account/profile")).path == "/account/sign-in"
        assert (await ada.submit("session", session=button["value"])).status == 404
        assert (await ada.submit("session", session="nonsense")).status == 404


async def test_the_list_of_devices_says_when_a_session_began_and_was_last_used(
    ada: FormBrowser, clock: Clock
) -> None:
    """In UTC, in the form that scripts read."""
    began = (await Session.get()).created_at
    clock.advance(hours=3)
    page = await ada.open("/account/security")
    used = began + timedelta(hours=3)
    moments = [attributes["datetime"] for tag, attributes in page.tags if tag == "time"]
    assert [datetime.fromisoformat(moment) - began < timedelta(minutes=1) for moment in moments] == [
        False,
        True,
    ]
    assert f"{used:%Y-%m-%d %H:%M} UTC" in page.text
    assert f'Signed in: <time datetime="{began.isoformat()}">{began:%Y-%m-%d %H:%M} UTC</time>' in page.text


async def test_signing_out_ends_this_session_and_clears_the_browser(ada: FormBrowser, app: FastAPI) -> None:
    """A-76: and what the site has stored in it, where the settings say so."""
    app.state.pluggable_auth.settings.clear_site_data = True
    page = await ada.open("/account/profile")
    form = page.form("sign-out")
    answer = await ada.client.post(form.action, data=form.hidden, headers={"Origin": BASE})
    assert (answer.status_code, answer.headers["location"]) == (303, "/account/sign-in?notice=signed_out")
    assert answer.headers["clear-site-data"] == '"storage"'
    assert "access_token" not in ada.client.cookies
    assert (await ada.open("/account/profile")).path == "/account/sign-in"
    assert await Session.filter(revoked_at=None).count() == 0
    answer = await ada.client.post(form.action, data=form.hidden, headers={"Origin": BASE})
    assert answer.headers["location"].startswith("/account/sign-in")


@pytest.mark.parametrize(
    ("path", "name", "typed"),
    [
        ("/account/sign-in", "password", {"email": EMAIL, "password": PASSWORD}),
        ("/account/sign-up", "new_password", {"email": "eve@example.com", "new_password": PASSWORD}),
        ("/account/forgot-password", "email", {"email": EMAIL}),
        ("/account/verify-email", "email", {"email": EMAIL}),
    ],
)
async def test_no_other_page_posts_the_forms_of_strangers(
    visitor: FormBrowser, mailbox: Mailbox, path: str, name: str, typed: dict[str, str]
) -> None:
    """A-77: login included."""
    await refused_without_token_or_from_elsewhere(visitor, path, name, typed)
    assert (await User.all().count(), mailbox.messages) == (0, [])


@pytest.mark.parametrize(
    ("path", "name", "typed"),
    [
        ("/account/profile", "name", {"display_name": "Eve"}),
        ("/account/profile", "password", {"password": PASSWORD, "new_password": NEW}),
        ("/account/security", "enable", {}),
        ("/account/security", "session", {}),
        ("/account/delete", "sure", {"sure": "yes"}),
        ("/account/confirm-password", "password", {"password": PASSWORD}),
        ("/account/profile", "sign-out", {}),
    ],
)
async def test_no_other_page_posts_the_forms_of_the_account(
    ada: FormBrowser, path: str, name: str, typed: dict[str, str]
) -> None:
    """A-77."""
    await refused_without_token_or_from_elsewhere(ada, path, name, typed)
    user = await User.get()
    assert (user.display_name, user.totp_secret) == (None, None)
    assert await Session.filter(revoked_at=None).count() == 1


async def test_forms_say_where_they_come_from_over_plain_http(ada: FormBrowser) -> None:
    """A-77: browsers hide the origin of a form under no-referrer, and send no other sign over plain http."""
    pages = [
        await ada.open(f"/account/{name}") for name in ("profile", "security", "delete", "confirm-password")
    ]
    await ada.submit("sign-out")
    pages += [await ada.open(f"/account/{name}") for name in PAGES[:4]]
    for page in pages:
        assert page.one("meta", name="referrer")["content"] == "same-origin"
    link = await ada.open("/auth/verify/x")
    assert "referrer" not in {attributes.get("name") for _, attributes in link.tags}


async def refused_without_token_or_from_elsewhere(
    visitor: FormBrowser, path: str, name: str, typed: dict[str, str]
) -> None:
    form = (await visitor.open(path)).form(name)
    token = form.hidden["csrf_token"]
    for headers, csrf_token in (
        ({"Origin": BASE}, ""),
        ({"Origin": BASE}, token + "x"),
        ({"Origin": "https://evil.example.com"}, token),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, token),
        ({}, token),
    ):
        data = form.hidden | typed | {"csrf_token": csrf_token}
        answer = await visitor.client.post(form.action, data=data, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")


PAGES = (
    "sign-in",
    "sign-up",
    "verify-email",
    "forgot-password",
    "profile",
    "security",
    "delete",
    "confirm-password",
)


@pytest.mark.parametrize("name", PAGES)
async def test_each_page_is_safe_small_and_whole(ada: FormBrowser, name: str) -> None:
    """A-12, A-79: in both languages; no external asset, under 30 kB."""
    if PAGES.index(name) < 4:
        await ada.submit("sign-out")
    titles = set()
    for language in ("en", "de"):
        page = await ada.open(f"/account/{name}", **{"Accept-Language": language})
        assert (page.status, page.path) == (200, f"/account/{name}")
        headers = page.answer.headers
        assert headers["content-language"] == page.one("html")["lang"] == language
        for header, value in (
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-opener-policy", "same-origin"),
        ):
            assert headers[header] == value
        policy = headers["content-security-policy"]
        for directive in (
            "default-src 'none'",
            "object-src 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "form-action 'self'",
        ):
            assert directive in policy
        assert "unsafe" not in policy
        assert len(page.text.encode()) < 30_000
        assert not re.search(r'(src|href|action)="(https?:)?//', page.text)
        assert not re.search(r' on\w+="', page.text)
        (title,) = re.findall(r"<title>(.*) · MyApp</title>", page.text)
        assert f"<h1>{title}</h1>" in page.text
        titles.add(title)
        labelled = {attributes["for"] for tag, attributes in page.tags if tag == "label"}
        for form in page.forms:
            for field in form.fields.values():
                assert "hidden" in field or field["id"] in labelled
                if field["type"] == "password":
                    assert field["autocomplete"] in ("current-password", "new-password")
    assert len(titles) == 2


async def test_titles_are_distinct(ada: FormBrowser) -> None:
    pages = [
        await ada.open(f"/account/{name}") for name in ("profile", "security", "delete", "confirm-password")
    ]
    await ada.submit("sign-out")
    pages += [
        await ada.open(f"/account/{name}")
        for name in ("sign-in", "sign-up", "forgot-password", "verify-email")
    ]
    titles = [re.findall("<title>(.*?)</title>", page.text)[0] for page in pages]
    assert len(set(titles)) == len(titles) == 8


async def test_names_and_addresses_are_text(ada: FormBrowser) -> None:
    """A-80."""
    hostile = '"><script>alert(1)</script>{{7*7}}'
    await ada.open("/account/profile")
    page = await ada.submit("name", display_name=hostile)
    assert page.one("input", name="display_name")["value"] == hostile
    assert "<script>alert" not in page.text
    page = await ada.submit("email", email='"><script>alert(1)</script>@example.com')
    assert page.status == 422
    await ada.submit("sign-out")
    page = await ada.submit("password", email=hostile, password="x")
    assert page.one("input", name="email")["value"] == hostile
    assert "<script>alert" not in page.text
    page = await ada.open(f"/account/sign-in?notice={hostile}&next={hostile}")
    assert "<script>alert" not in page.text


async def test_pages_are_in_the_language_of_the_account(ada: FormBrowser) -> None:
    await User.filter(email=EMAIL).update(language="de")
    page = await ada.open("/account/security", **{"Accept-Language": "en"})
    assert "<h1>Sicherheit</h1>" in page.text


@pytest.mark.parametrize("path", ["sign-in", "sign-up", "forgot-password", "verify-email"])
async def test_hostile_input_gets_a_page(visitor: FormBrowser, path: str) -> None:
    """R-43: no server error, whatever is typed."""
    for hostile in ("", "\0", "x" * 400_000, "ada@\0example.com", "\u202e@example.com"):
        await visitor.open(f"/account/{path}")
        page = await visitor.submit(
            "email", email=hostile, password=hostile, new_password=hostile, code=hostile
        )
        assert page.status == 422, hostile[:20]
        assert 'role="alert"' in page.text


@pytest.mark.parametrize(
    "charset", ["utf-7", "utf-16", "raw_unicode_escape", "undefined", "idna", "rot13", "x" * 99]
)
async def test_no_charset_of_a_form_breaks_the_page(visitor: FormBrowser, charset: str) -> None:
    """R-43: some of them spell half characters, which no page can show again."""
    form = (await visitor.open("/account/sign-in")).form("password")
    typed = form.hidden | {"email": "+2AA-", "password": r"\ud800"}
    parts = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in typed.items()
    )
    headers = {"Origin": BASE, "Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    answer = await visitor.client.post(form.action, content=f"{parts}--x--\r\n", headers=headers)
    assert answer.status_code in (403, 422)


async def test_a_form_of_no_kind_gets_a_page(ada: FormBrowser) -> None:
    page = await ada.open("/account/security")
    token = page.form("sign-out").hidden["csrf_token"]
    for address, form in (("session", {"session": "\0"}), ("two-factor/code", {"code": "\0"})):
        answer = await ada.client.post(
            f"/account/security/{address}", data={"csrf_token": token} | form, headers={"Origin": BASE}
        )
        assert (answer.status_code, "not complete" in answer.text) == (422, True)


async def test_the_address_of_a_form_leads_to_its_page(ada: FormBrowser, clock: Clock) -> None:
    """A browser opens it again: with a page that said what was wrong, or after the password was confirmed."""
    for page in ("profile", "security"):
        posted = {form.action for form in (await ada.open(f"/account/{page}")).forms}
        own = [action for action in posted if action.startswith(f"/account/{page}/")]
        assert own
        for action in own:
            assert (await ada.open(action)).path == f"/account/{page}"
    await ada.open("/account/profile")
    clock.advance(hours=1)
    await ada.submit("email", email="new@example.org")
    page = await ada.submit("password", password=PASSWORD)
    assert (page.path, page.status) == ("/account/profile", 200)
    await ada.submit("sign-out")
    assert (await ada.open("/account/sign-in/code")).path == "/account/sign-in"


async def test_signing_out_takes_more_than_a_link(ada: FormBrowser) -> None:
    """A-78: sign-out is no link."""
    for method in ("GET", "HEAD"):
        assert (await ada.client.request(method, "/account/sign-out")).status_code == 405
    assert (await ada.open("/account/profile")).path == "/account/profile"


async def test_guessing_on_the_page_counts_on_the_account(ada: FormBrowser, settings: AuthSettings) -> None:
    """A-21."""
    settings.throttle_free_attempts = 2
    await ada.submit("sign-out")
    statuses = [(await ada.submit("password", email=EMAIL, password="wrong")).status for _ in range(3)]
    assert statuses == [401, 401, 429]
    assert "retry-after" in ada.page.answer.headers


@pytest.mark.parametrize(
    ("language", "seconds", "said"),
    [
        ("en", 1, "Please try again in a little while."),
        ("en", 40, "Please try again in 40 seconds."),
        ("en", 119, "Please try again in 119 seconds."),
        ("en", 121, "Please try again in 3 minutes."),
        ("en", 7201, "Please try again in 3 hours."),
        ("de", 40, "Bitte versuchen Sie es in 40 Sekunden noch einmal."),
        ("de", 900, "Bitte versuchen Sie es in 15 Minuten noch einmal."),
    ],
)
async def test_a_page_says_in_words_how_long_to_wait(
    visitor: FormBrowser, settings: AuthSettings, language: str, seconds: int, said: str
) -> None:
    """Never one of a unit, as `in 1 minutes`, and never less than it takes."""
    settings.throttle_free_attempts = 1
    settings.throttle_first_pause = settings.throttle_longest_pause = timedelta(seconds=seconds)
    visitor.client.headers["Accept-Language"] = language
    await visitor.open("/account/sign-in")
    for _ in range(2):
        page = await visitor.submit("password", email=EMAIL, password="wrong")
    assert (page.status, page.answer.headers["retry-after"]) == (429, str(seconds))
    assert said in page.text


async def test_the_browser_of_the_sign_in_page_is_known_again(
    ada: FormBrowser, client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """A-14: also where its user gives a code in a second step."""
    totp, _ = await with_two_factor(ada)
    settings.throttle_free_attempts = 5
    device = ada.client.cookies["device"]
    await ada.submit("sign-out")
    for _ in range(6):
        body = {"email": EMAIL, "password": "wrong password"}
        answer = await client.post("/auth/login", json=body)
    assert answer.json()["code"] == "throttled"
    await signed_in(ada)
    await ada.submit("code", code=totp.now())
    assert (await ada.open("/account/profile")).path == "/account/profile"
    assert ada.client.cookies["device"] == device


async def test_pages_are_limited_like_the_routes(
    visitor: FormBrowser, settings: AuthSettings, client: httpx.AsyncClient
) -> None:
    """A-15."""
    settings.rate_limits = {"login": "1/hour"}
    assert (await client.post("/auth/login", json={"email": EMAIL, "password": "x"})).status_code == 401
    await visitor.open("/account/sign-in")
    page = await visitor.submit("password", email=EMAIL, password="x")
    left = int(page.answer.headers["retry-after"])  # until the next full hour
    wait = f"{ceil(left / 60)} minutes" if left >= 120 else f"{left} seconds"
    assert page.status == 429
    assert f"Too many requests. Please try again in {wait}." in page.text


async def test_pages_are_in_no_schema_and_off_unless_asked_for(
    app: FastAPI, settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    plain = FastAPI()
    include_auth(plain, settings=settings)
    assert plain.openapi()["paths"].keys() == app.openapi()["paths"].keys() - {"/reports"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(plain), base_url=BASE, headers=BROWSER
    ) as client:
        for name in PAGES:
            assert (await client.get(f"/account/{name}")).status_code == 404
        assert (await client.get("/account")).status_code == 401


async def test_pages_work_under_a_prefix_of_a_mounted_app(
    settings: AuthSettings, tortoise: TortoiseContext, mailbox: Mailbox
) -> None:
    settings.route_prefix, settings.public_base_url = "/api", f"{BASE}/sub"
    inner, outer = FastAPI(), FastAPI()
    auth = include_auth(inner, settings=settings, pages=True)
    outer.mount("/sub", inner)
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as client:
        visitor = FormBrowser(client)
        await visitor.open("/sub/api/account/sign-up")
        page = await visitor.submit("new_password", email=EMAIL, new_password=PASSWORD)
        assert page.path == "/sub/api/account/check-mail"
        await visitor.open(mailbox.link())
        assert (await visitor.submit("form")).path == "/sub/api/account/profile"
        await visitor.submit("sign-out")
        page = await visitor.open("/sub/api/account/security")
        assert page.form("password").hidden["next"] == "/sub/api/account/security"
        page = await visitor.submit("password", email=EMAIL, password=PASSWORD)
        assert (page.path, page.status) == ("/sub/api/account/security", 200)
        assert (await visitor.submit("sign-out")).path == "/sub/api/account/sign-in"
    await auth.close()


async def test_no_page_shows_a_pending_secret_that_another_session_began(
    ada: FormBrowser, app: FastAPI, clock: Clock
) -> None:
    """A thief's would be activated by its owner, as his own."""
    transport = httpx.ASGITransport(app, client=("192.0.2.8", 4321))
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as client:
        thief = await signed_in(FormBrowser(client))
        await thief.open("/account/security")
        assert "otpauth:" in (await thief.submit("enable")).text
        assert "otpauth:" not in (await ada.open("/account/security")).text
        assert "otpauth:" in (await thief.open("/account/security")).text
        clock.advance(minutes=11)
        assert "otpauth:" not in (await thief.open("/account/security")).text


async def test_a_sign_in_lasts_until_the_browser_is_closed_unless_it_is_to_be_remembered(
    visitor: FormBrowser, auth: Auth
) -> None:
    hashed = await auth.hasher.hash(PASSWORD)
    await User.create(email=EMAIL, hashed_password=hashed, is_verified=True)

    def lasting() -> set[str]:
        return {cookie.name for cookie in visitor.client.cookies.jar if cookie.expires} & {"refresh_token"}

    await signed_in(visitor)
    assert (visitor.page.path, lasting()) == ("/account/profile", set())
    _, codes = await with_two_factor(visitor)
    for remember, kept in (({"remember": "yes"}, {"refresh_token"}), ({}, set())):
        await visitor.open("/account/profile")
        await visitor.submit("sign-out")
        page = await visitor.submit("password", email=EMAIL, password="wrong", **remember)
        assert ("checked" in page.one("input", name="remember")) == bool(remember)
        await visitor.submit("password", email=EMAIL, password=PASSWORD, **remember)
        await visitor.submit("code", code="000000")
        page = await visitor.submit("code", code=codes.pop())
        assert (page.path, lasting()) == ("/account/profile", kept)
        assert "refresh_token" in visitor.client.cookies


async def test_signing_out_on_the_pages_is_for_this_device(ada: FormBrowser, auth: Auth) -> None:
    await open_session(auth, await User.get())
    await ada.submit("sign-out")
    assert await Session.filter(revoked_at=None).count() == 1


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_password_managers_find_where_a_password_is_changed(
    settings: AuthSettings, tortoise: TortoiseContext, prefix: str
) -> None:
    """https://www.w3.org/TR/change-password-url/"""
    path = "/.well-known/change-password"
    settings.route_prefix = prefix

    async def leads_to(*, own: bool) -> str | None:
        app = FastAPI()
        include_auth(app, settings=settings, pages=True)
        if own:
            app.get(path)(lambda: RedirectResponse("/own"))
        app.get("/{path:path}")(lambda path: "index")  # for any path, such as a single-page app has
        assert own or path not in app.openapi()["paths"]
        transport = httpx.ASGITransport(app, root_path="/proxied")
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            return (await client.get(path)).headers.get("location")

    assert await leads_to(own=False) == f"/proxied{prefix}/account/profile"
    assert await leads_to(own=True) == "/own"


async def test_without_pages_nothing_leads_to_one(settings: AuthSettings, tortoise: TortoiseContext) -> None:
    app = FastAPI()
    include_auth(app, settings=settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
        assert (await client.get("/.well-known/change-password")).status_code == 404
