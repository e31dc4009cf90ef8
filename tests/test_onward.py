"""Into the app and back: `next`, `HOME_URL`, and the mail in between (issue 20)."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx
import pyotp
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from pydantic import ValidationError
from starlette.routing import Mount

from fastapi_pluggable_auth import Auth, AuthSettings, PageUser, include_auth
from fastapi_pluggable_auth.errors import Refused
from fastapi_pluggable_auth.hooks import BeforeLogin, LoggedIn
from fastapi_pluggable_auth.models import Session, User

from .conftest import EMAIL, PASSWORD, Clock, Mailbox
from .form_browser import BROWSER, FormBrowser, Page

DIALECTS = ("sqlite",)
BASE = "http://localhost:8000"
EVE = "eve@example.com"
NEW = "a new horse battery"
FORMS = ("sign-in", "sign-up", "forgot-password", "verify-email")
HOSTILE = [
    "https://evil.example",
    "//evil.example",
    "/\\evil.example",
    "/%2fevil.example",
    "javascript:alert(1)",
]


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """A host app with the pages, a home, and a page of its own."""
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, pages=True)

    @app.get("/")
    async def home() -> PlainTextResponse:
        return PlainTextResponse("Home")

    @app.get("/reports")
    async def reports(user: PageUser) -> PlainTextResponse:
        return PlainTextResponse(f"Reports of {user.email}")

    return app


@dataclass
class Browsers:
    """Opens one more browser at each call, and keeps all addresses that they asked for."""

    app: FastAPI
    stack: AsyncExitStack
    asked: list[str] = field(default_factory=list)

    async def __call__(self) -> FormBrowser:
        transport = httpx.ASGITransport(self.app, client=("192.0.2.7", 4321))
        client = httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER)

        async def note(request: httpx.Request) -> None:
            self.asked.append(str(request.url))

        client.event_hooks["request"].append(note)
        return FormBrowser(await self.stack.enter_async_context(client))


@pytest.fixture
async def browsers(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[Browsers]:
    async with AsyncExitStack() as stack:
        yield Browsers(app, stack)


@pytest.fixture
async def visitor(browsers: Browsers) -> FormBrowser:
    return await browsers()


async def sign_up(visitor: FormBrowser, next: str = "", email: str = EMAIL) -> Page:
    await visitor.open(f"/account/sign-up?next={next}")
    return await visitor.submit("new_password", email=email, new_password=PASSWORD)


async def click(visitor: FormBrowser, link: str, **typed: str) -> Page:
    """Opens a mailed link, as from a mail program, and presses the button."""
    await visitor.open(link, **{"Sec-Fetch-Site": "none"})
    return await visitor.submit("form", **typed)


def following(page: Page, words: str) -> str:
    """The address of a link."""
    return re.findall(f'href="([^"]+)">{words}', page.text)[0].replace("&amp;", "&")


async def test_next_survives_the_sign_up_and_the_mail_and_the_password_is_asked_once(
    visitor: FormBrowser, browsers: Browsers, mailbox: Mailbox
) -> None:
    page = await visitor.open("/reports")
    page = await visitor.open(following(page, "Create an account"))
    await visitor.submit("new_password", email=EMAIL, new_password="short")
    page = await visitor.submit("new_password", email=EMAIL, new_password=PASSWORD)
    assert (page.path, f"We wrote to {EMAIL}." in page.text) == ("/account/check-mail", True)
    page = await click(visitor, mailbox.link())
    assert (page.path, page.text) == ("/reports", f"Reports of {EMAIL}")
    (session,) = await Session.all()
    assert session.factors == "pwd mail"
    assert "mail_note" not in visitor.client.cookies
    assert not [url for url in browsers.asked if "@" in url or "%40" in url]


async def test_next_survives_the_reset_of_a_password(
    visitor: FormBrowser, auth: Auth, mailbox: Mailbox
) -> None:
    await User.create(email=EMAIL, hashed_password=await auth.hasher.hash(PASSWORD), is_verified=True)
    page = await visitor.open("/reports")
    await visitor.open(following(page, "Forgot your password"))
    await visitor.submit("email", email="nonsense")
    page = await visitor.submit("email", email=EMAIL)
    assert (page.path, f"If there is an account with {EMAIL}" in page.text) == ("/account/check-mail", True)
    await visitor.open(mailbox.link())
    page = await visitor.submit("new_password", new_password=NEW)
    page = await visitor.open(following(page, "Sign in"))
    assert page.one("input", id="email")["value"] == EMAIL
    assert (await visitor.submit("password", email=EMAIL, password=NEW)).path == "/reports"


@pytest.mark.parametrize("name", FORMS)
async def test_each_page_before_the_sign_in_hands_next_on(visitor: FormBrowser, name: str) -> None:
    page = await visitor.open(f"/account/{name}?next=/reports")
    field = "password" if name == "sign-in" else "email"
    for _ in range(2):
        assert page.form(field).hidden["next"] == "/reports"
        others = [link for link in page.links if any(f"/account/{form}" in link for form in FORMS)]
        assert others
        assert {link.partition("?")[2] for link in others} == {"next=%2Freports"}
        page = await visitor.submit(field, email="nonsense", password="", new_password="")
        assert page.status == 422


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_no_next_leads_elsewhere_on_any_way(
    visitor: FormBrowser, mailbox: Mailbox, hostile: str
) -> None:
    """A-81: also where it is in the form, and in the note of the browser."""
    for name in FORMS:
        page = await visitor.open(f"/account/{name}?{httpx.QueryParams(next=hostile)}")
        assert "evil" not in page.text
        assert "javascript:" not in page.text
    await visitor.open("/account/sign-up")
    visitor.page.form("email").hidden["next"] = hostile
    page = await visitor.submit("email", email=EMAIL, new_password=PASSWORD)
    assert "evil" not in page.text
    page = await click(visitor, mailbox.link())
    assert (page.path, page.answer.url.host) == ("/", "localhost")
    page = await visitor.open("/account/profile")
    page.form("sign-out").hidden["next"] = hostile
    assert (await visitor.submit("sign-out")).path == "/account/sign-in"


async def test_signing_out_leads_on_where_a_page_of_the_app_says_so(
    visitor: FormBrowser, mailbox: Mailbox
) -> None:
    await sign_up(visitor)
    await click(visitor, mailbox.link())
    page = await visitor.open("/account/profile")
    page.form("sign-out").hidden["next"] = "/"
    assert (await visitor.submit("sign-out")).text == "Home"
    assert (await visitor.open("/reports")).path == "/account/sign-in"


# Home


async def test_home_is_where_the_sign_in_and_the_brand_lead(
    visitor: FormBrowser, settings: AuthSettings, mailbox: Mailbox
) -> None:
    await sign_up(visitor)
    assert (await click(visitor, mailbox.link())).text == "Home"
    page = await visitor.open("/account/profile")
    assert "/" in page.links
    settings.home_url = "/reports?year=2026"
    page = await visitor.open("/account/profile")
    assert "/reports?year=2026" in page.links
    assert str((await visitor.open("/account/sign-in")).answer.url) == f"{BASE}/reports?year=2026"
    settings.home_url = "https://www.example.com/start"
    answer = await visitor.client.get("/account/sign-in")
    assert (answer.status_code, answer.headers["location"]) == (303, settings.home_url)


async def test_a_form_may_lead_to_a_home_elsewhere_and_nowhere_else(
    visitor: FormBrowser, settings: AuthSettings
) -> None:
    """Browsers hold the redirect that answers a form against the policy too."""
    settings.home_url = "https://www.example.com:8443/start"
    policy = (await visitor.open("/account/sign-in")).answer.headers["content-security-policy"]
    assert "form-action 'self' https://www.example.com:8443;" in f"{policy};"
    settings.home_url = "/start"
    policy = (await visitor.open("/account/sign-in")).answer.headers["content-security-policy"]
    assert "form-action 'self';" in f"{policy};"


def with_nothing(app: FastAPI) -> None:
    pass


def with_a_route(app: FastAPI) -> None:
    app.add_api_route("/", lambda: "Home")


def with_a_post(app: FastAPI) -> None:
    app.add_api_route("/", lambda: "Home", methods=["POST"])


def with_files(app: FastAPI) -> None:
    app.routes.append(Mount("/", PlainTextResponse("Home")))


def with_any_path(app: FastAPI) -> None:
    def any_path(request: Request) -> str:
        return request.url.path

    app.add_api_route("/{path:path}", any_path)


@pytest.mark.parametrize(
    ("answering", "place"),
    [
        (with_nothing, "/account/profile"),
        (with_a_post, "/account/profile"),
        (with_a_route, "/"),
        (with_files, "/"),
        (with_any_path, "/"),
    ],
)
@pytest.mark.parametrize("mount", ["", "/sub"])
async def test_unless_it_is_set_home_is_a_page_that_is_there(
    settings: AuthSettings, tortoise: object, answering: Callable[[FastAPI], None], place: str, mount: str
) -> None:
    inner, outer = FastAPI(), FastAPI()
    auth = include_auth(inner, settings=settings, pages=True)
    answering(inner)
    outer.mount("/sub", inner)
    transport = httpx.ASGITransport(outer if mount else inner)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as client:
        page = Page(await client.get(f"{mount}/account/sign-up"))
        assert page.links[1] == f"{mount}{place}"
        settings.home_url = "/"
        page = Page(await client.get(f"{mount}/account/sign-up"))
        assert page.links[1] == f"{mount}/"
    await auth.close()


@pytest.mark.parametrize(
    "value",
    [
        "",
        "home",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "ftp://example.com",
        "https://",
        "/a b",
    ],
)
def test_a_home_that_is_no_place_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match=r"(?i)home_url"):
        AuthSettings(_env_file=None, home_url=value)


# The mail


async def test_another_browser_is_led_to_sign_in_with_the_address(
    visitor: FormBrowser, browsers: Browsers, mailbox: Mailbox
) -> None:
    await sign_up(visitor, "/reports")
    other = await browsers()
    page = await click(other, mailbox.link(), password=PASSWORD)
    assert (page.path, "is verified" in page.text) == ("/account/sign-in", True)
    assert page.one("input", id="email")["value"] == EMAIL
    assert not await Session.exists()
    assert (await other.submit("password", email=EMAIL, password=PASSWORD)).text == "Home"
    page = await visitor.open("/account/check-mail")
    page = await visitor.open(following(page, "Back to sign in"))
    assert page.one("input", id="email")["value"] == EMAIL
    assert (await visitor.submit("password", email=EMAIL, password=PASSWORD)).path == "/reports"


@pytest.mark.parametrize("silent", [False, True])
async def test_nobody_gets_into_the_account_of_a_stranger_who_signed_up_with_their_address(
    visitor: FormBrowser, browsers: Browsers, mailbox: Mailbox, settings: AuthSettings, silent: bool
) -> None:
    """Also where the owner's browser has signed up with the address itself, and was not told that it is
    taken; nor into an account that the other one chose for them."""
    settings.prevent_enumeration = silent
    stranger = visitor
    await sign_up(stranger)
    link = mailbox.link()
    owner = await browsers()
    await sign_up(owner)
    page = await owner.open(link, **{"Sec-Fetch-Site": "none"})
    assert "password" in page.form("form").fields
    assert (await owner.submit("form", password="")).status == 403
    assert not (await User.get()).is_verified
    await sign_up(stranger, email=EVE)
    page = await owner.open(mailbox.link(EVE), **{"Sec-Fetch-Site": "none"})
    assert (await owner.submit("form")).status == 403
    assert not await Session.exists()


@pytest.mark.parametrize("kept", ["signup_binding", "mail_note"])
async def test_half_of_what_the_browser_of_the_signup_has_signs_nobody_in(
    visitor: FormBrowser, browsers: Browsers, mailbox: Mailbox, kept: str
) -> None:
    await sign_up(visitor)
    other = await browsers()
    other.client.cookies.set(kept, visitor.client.cookies[kept])
    page = await click(other, mailbox.link(), password=PASSWORD)
    assert page.path == "/account/sign-in"
    assert not await Session.exists()


async def test_a_note_is_good_as_it_was_signed_and_for_its_address_and_a_day(
    visitor: FormBrowser, mailbox: Mailbox, clock: Clock, settings: AuthSettings
) -> None:
    settings.verify_token_ttl = settings.verify_token_ttl * 3
    await sign_up(visitor, "/reports")
    mine = visitor.client.cookies["mail_note"]
    payload, _, signature = mine.partition(".")
    said = json.loads(base64.urlsafe_b64decode(f"{payload}=="))
    said[0] += 10**9
    longer = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    bad = [f"{longer}.{signature}", f"{payload}.", payload, "x.y", ".", "\u00e9", "x" * 5000]
    for value in bad:
        headers = {"Cookie": f"mail_note={value}".encode()}  # type: ignore[dict-item]
        answer = await visitor.client.get("/account/check-mail", headers=headers)
        assert answer.headers["location"] == "/account/sign-in", value
    clock.advance(hours=24, seconds=1)
    page = await click(visitor, mailbox.link())
    assert (page.path, "is verified" in page.text) == ("/account/sign-in", True)
    assert not await Session.exists()


async def test_what_signed_in_once_does_so_never_again(visitor: FormBrowser, mailbox: Mailbox) -> None:
    await sign_up(visitor)
    link, cookies = mailbox.link(), dict(visitor.client.cookies)
    await click(visitor, link)
    await visitor.open("/account/profile")
    await visitor.submit("sign-out")
    visitor.client.cookies.clear()
    for name, value in cookies.items():
        visitor.client.cookies.set(name, value)
    headers = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}
    answer = await visitor.client.post(f"{link}/form", headers=headers)
    assert answer.status_code == 400
    await User.all().update(is_verified=False)  # as if the link worked again
    answer = await visitor.client.post(f"{link}/form", headers=headers)
    assert answer.status_code == 403
    assert await Session.filter(revoked_at=None).count() == 0


async def test_of_two_clicks_at_once_one_signs_in(visitor: FormBrowser, mailbox: Mailbox) -> None:
    await sign_up(visitor)
    headers = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}
    link = f"{mailbox.link()}/form"
    answers = await asyncio.gather(*(visitor.client.post(link, headers=headers) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [303, 400, 400, 400, 400]
    assert await Session.all().count() == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
        {},
    ],
)
async def test_no_other_page_signs_a_browser_in_by_posting_the_form(
    visitor: FormBrowser, mailbox: Mailbox, headers: dict[str, str]
) -> None:
    """A-77."""
    await sign_up(visitor)
    answer = await visitor.client.post(f"{mailbox.link()}/form", headers=headers)
    assert answer.headers["location"].startswith("/account/sign-in")
    assert not await Session.exists()


async def test_a_signup_by_json_signs_no_browser_in(visitor: FormBrowser, mailbox: Mailbox) -> None:
    """A page of a neighbour could have posted it."""
    body = {"email": EMAIL, "password": PASSWORD}
    await visitor.client.post("/auth/signup", json=body, headers={"Sec-Fetch-Site": "same-site"})
    page = await click(visitor, mailbox.link())
    assert (page.path, "is verified" in page.text) == ("/account/sign-in", True)
    assert not await Session.exists()


async def test_a_password_that_was_changed_since_is_asked_for(
    visitor: FormBrowser, browsers: Browsers, mailbox: Mailbox, settings: AuthSettings
) -> None:
    settings.require_verified_email = False
    await sign_up(visitor)
    link, other = mailbox.link(), await browsers()
    await other.open("/account/sign-in")
    await other.submit("password", email=EMAIL, password=PASSWORD)
    await other.open("/account/profile")
    await other.submit("new_password", password=PASSWORD, new_password=NEW)
    assert (await click(visitor, link)).path == "/account/sign-in"
    assert await Session.filter(revoked_at=None).count() == 0


async def test_a_second_factor_is_asked_for(visitor: FormBrowser, mailbox: Mailbox, clock: Clock) -> None:
    await sign_up(visitor, "/reports")
    secret = pyotp.random_base32()
    await User.all().update(totp_secret=secret, totp_confirmed=True)
    page = await click(visitor, mailbox.link())
    assert "Enter your code" in page.text
    assert not await Session.exists()
    assert (await visitor.submit("code", code=pyotp.TOTP(secret).at(clock()))).path == "/reports"
    assert (await Session.get()).factors == "pwd mail otp"


@pytest.mark.parametrize("next", ["/reports?year=2026", "", *HOSTILE])
async def test_next_survives_where_two_factor_has_to_be_set_up_first(
    visitor: FormBrowser, settings: AuthSettings, mailbox: Mailbox, next: str
) -> None:
    await sign_up(visitor, quote(next))
    settings.require_two_factor = True
    page = await click(visitor, mailbox.link())
    assert (page.path, "set it up first" in page.text) == ("/account/security", True)
    page = await visitor.submit("enable")
    (link,) = [link for link in page.links if link.startswith("otpauth:")]
    code = pyotp.parse_uri(link).now()  # type: ignore[union-attr]
    await visitor.submit("code", code="nonsense")
    page = await visitor.submit("code", code=code)
    assert following(page, "I have kept them") == ("/" if next in HOSTILE else next or "/")


async def test_a_page_leads_to_the_set_up_of_two_factor_and_is_come_back_to(
    visitor: FormBrowser, settings: AuthSettings, mailbox: Mailbox
) -> None:
    await sign_up(visitor)
    await click(visitor, mailbox.link())
    settings.require_two_factor = True
    for path in ("/reports?year=2026", "/account/profile"):
        page = await visitor.open(path)
        assert (page.path, page.form("enable").hidden["next"]) == ("/account/security", path)


def leads_on(page: Page) -> bool:
    """Whether all that the page offers to do hands `next` on, or the visitor is there."""
    if page.path == "/reports":
        return True
    forms = [form.action for form in page.forms if not form.action.endswith("/sign-out")]
    return bool(forms) and all(httpx.URL(action).params.get("next") == "/reports" for action in forms)


@pytest.mark.parametrize("detour", ["none", "password", "sign-in", "opened again"])
@pytest.mark.parametrize(
    "form", ["enable", "code", "cancel", "disable", "recovery_codes", "session", "others"]
)
async def test_next_survives_each_detour_from_the_security_page(
    visitor: FormBrowser, browsers: Browsers, mailbox: Mailbox, clock: Clock, form: str, detour: str
) -> None:
    await sign_up(visitor)
    await click(visitor, mailbox.link())
    other = await browsers()
    await other.open("/account/sign-in")
    await other.submit("password", email=EMAIL, password=PASSWORD)
    typed = {"code": "", "session": str((await Session.all().order_by("-created_at"))[0].id)}
    page = await visitor.open("/account/security?next=/reports")
    if form in ("code", "cancel", "disable", "recovery_codes"):
        page = await visitor.submit("enable")
        (secret,) = re.findall(r"secret=([A-Z2-7]+)", page.text)
        typed["code"] = pyotp.TOTP(secret).at(clock())
    if form in ("disable", "recovery_codes"):
        assert following(await visitor.submit("code", **typed), "I have kept them") == "/reports"
        page = await visitor.open("/account/security?next=/reports")
    assert leads_on(page)
    clock.advance(minutes=20 if detour == "password" else 1)
    if typed["code"]:
        typed["code"] = pyotp.TOTP(secret).at(clock())
    if detour == "sign-in":
        await Session.all().update(revoked_at=clock())
    if detour == "opened again":
        page = await visitor.open(page.form("disable" if form == "cancel" else form).action)
        assert (page.path, leads_on(page)) == ("/account/security", True)
        return
    page = await visitor.submit("disable" if form == "cancel" else form, **typed)
    if detour == "sign-in":
        assert page.path == "/account/sign-in"
        assert leads_on(page)
        page = await visitor.submit("password", email=EMAIL, password=PASSWORD)
        assert leads_on(page)
        if form in ("disable", "recovery_codes"):
            page = await visitor.submit("code", code=typed["code"])
        assert page.path == "/reports"
        return
    if detour == "password" and form in ("enable", "cancel", "disable", "recovery_codes"):
        assert page.path == "/account/confirm-password"
        clock.advance(minutes=1)
        code = pyotp.TOTP(secret).at(clock()) if form in ("disable", "recovery_codes") else ""
        page = await visitor.submit("password", password=PASSWORD, code=code)
        assert (page.path, "You can go on now." in page.text) == ("/account/security", True)
    elif form == "recovery_codes" or (form, detour) == ("code", "none"):
        assert following(page, "I have kept them") == "/reports"
        return
    assert page.path.startswith("/account/security")
    assert leads_on(page)


@pytest.mark.parametrize("name", [*FORMS, "sign-in/code", "confirm-password"])
async def test_next_survives_a_refusal_and_a_form_whose_address_is_opened_again(
    visitor: FormBrowser, mailbox: Mailbox, settings: AuthSettings, clock: Clock, name: str
) -> None:
    """As a phone opens it, which has closed the page while its owner looked for the code."""
    await sign_up(visitor)
    if name == "confirm-password":
        await click(visitor, mailbox.link())
    page = await visitor.open(f"/account/{name.partition('/')[0]}?next=/reports")
    if name == "sign-in/code":
        await User.all().update(totp_secret=pyotp.random_base32(), totp_confirmed=True, is_verified=True)
        page = await visitor.submit("password", email=EMAIL, password=PASSWORD)
    form = page.form(name.rpartition("/")[2])
    page = await visitor.open(form.action)
    assert leads_on(page)
    await User.all().update(totp_secret=None, totp_confirmed=False)
    names = ("login", "signup", "forgot_password", "resend", "reauthenticate")
    settings.rate_limits = dict.fromkeys(names, "1/hour")
    for _ in range(2):
        await visitor.open(f"/account/{name.partition('/')[0]}?next=/reports")
        page = await visitor.submit(
            "email" if name != "confirm-password" else "password", email="x", password=""
        )
    assert page.status == 429
    page = await visitor.open(following(page, "Go to your account"))
    assert leads_on(page)


async def test_hooks_decide_about_this_sign_in_as_about_any(
    visitor: FormBrowser, mailbox: Mailbox, auth: Auth
) -> None:
    refusing, heard = [True], list[LoggedIn]()

    @auth.on(BeforeLogin)
    def refuse(event: BeforeLogin) -> None:
        if refusing:
            raise Refused("Not before Monday.", code="not_yet")

    auth.on(LoggedIn)(heard.append)
    await sign_up(visitor, "/reports")
    page = await click(visitor, mailbox.link())
    assert (page.status, "Not before Monday." in page.text) == (403, True)
    assert page.one("input", id="email")["value"] == EMAIL
    assert ((await User.get()).is_verified, heard, await Session.exists()) == (True, [], False)
    refusing.clear()
    assert (await visitor.submit("password", email=EMAIL, password=PASSWORD)).path == "/reports"
    assert len(heard) == 1


async def test_a_text_that_cannot_be_said_leaves_the_sentence_of_the_hook_on_the_page(
    visitor: FormBrowser, auth: Auth, settings: AuthSettings, tmp_path: Path
) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "en.toml").write_text('[errors]\nodd = "{minimum.x}"\nmore = "{ours}"')
    settings.template_dir = tmp_path  # which is not looked at before
    for code in ("odd", "more"):

        @auth.on(BeforeLogin)
        def refuse(event: BeforeLogin, code: str = code) -> None:
            raise Refused("Not before {Monday}.", code=code)

        await User.get_or_create(
            email=EMAIL, defaults={"hashed_password": await auth.hasher.hash(PASSWORD), "is_verified": True}
        )
        await visitor.open("/account/sign-in")
        page = await visitor.submit("password", email=EMAIL, password=PASSWORD)
        assert (page.status, "Not before {Monday}." in page.text) == (403, True)
        auth.hooks.handlers.clear()


async def test_a_disabled_account_is_not_let_in(visitor: FormBrowser, mailbox: Mailbox) -> None:
    await sign_up(visitor)
    link = mailbox.link()
    await User.all().update(is_active=False)
    headers = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}
    assert (await visitor.client.post(f"{link}/form", headers=headers)).status_code == 400
    assert not await Session.exists()


async def test_a_browser_that_is_signed_in_stays_with_its_user(
    visitor: FormBrowser, mailbox: Mailbox, settings: AuthSettings
) -> None:
    await sign_up(visitor)
    await click(visitor, mailbox.link())
    await sign_up(visitor, "/reports", EVE)
    page = await click(visitor, mailbox.link(EVE))
    assert "Your e-mail address is verified" in page.text
    assert await User.filter(is_verified=True).count() == 2
    assert (await visitor.open("/reports")).text == f"Reports of {EMAIL}"
    assert await Session.all().count() == 1
    settings.require_verified_email = False
    await visitor.open("/account/profile")
    await visitor.submit("sign-out")
    await sign_up(visitor, "/reports", "cleo@example.com")
    await visitor.open("/account/sign-in")
    await visitor.submit("password", email="cleo@example.com", password=PASSWORD)
    before = await Session.all().count()
    assert (await click(visitor, mailbox.link("cleo@example.com"))).status == 200
    assert await Session.all().count() == before


async def test_the_mail_is_sent_again_within_its_limit_and_to_nobody_else(
    visitor: FormBrowser, mailbox: Mailbox, settings: AuthSettings
) -> None:
    settings.mail_limit = 2
    page = await sign_up(visitor, "/reports")
    for _ in range(3):
        page = await visitor.submit("check-mail", email=EVE)
        assert (page.path, "Another mail is on its way" in page.text) == ("/account/check-mail", True)
    assert [str(mail["To"]) for mail in mailbox.messages] == [EMAIL] * 3
    assert (await click(visitor, mailbox.link())).path == "/reports"


async def test_sending_again_is_limited_per_client_and_takes_a_form_of_the_app(
    visitor: FormBrowser, mailbox: Mailbox, settings: AuthSettings
) -> None:
    """A-15, A-77."""
    page = await sign_up(visitor)
    form = page.form("check-mail")
    for headers, token in (
        ({"Origin": BASE}, ""),
        ({"Origin": "https://evil.example.com"}, form.hidden["csrf_token"]),
    ):
        answer = await visitor.client.post(form.action, data={"csrf_token": token}, headers=headers)
        assert answer.status_code == 403
    settings.rate_limits = {"resend": "1/hour"}
    assert [(await visitor.submit("check-mail")).status for _ in range(2)][:1] == [200]
    assert visitor.page.status == 429
    assert len(mailbox.messages) == 2


async def test_another_address_leads_back_to_the_form_with_the_first_filled_in(
    visitor: FormBrowser, mailbox: Mailbox
) -> None:
    page = await sign_up(visitor, "/reports")
    page = await visitor.open(following(page, "Use another address"))
    assert (page.path, page.one("input", id="email")["value"]) == ("/account/sign-up", EMAIL)
    page = await visitor.submit("new_password", email=EVE, new_password=PASSWORD)
    assert EVE in page.text
    assert (await click(visitor, mailbox.link(EVE))).text == f"Reports of {EVE}"


async def test_no_other_address_is_asked_for_where_nobody_signs_up_any_more(
    visitor: FormBrowser, settings: AuthSettings, mailbox: Mailbox
) -> None:
    await sign_up(visitor)
    settings.signup = "invited"
    page = await visitor.open("/account/check-mail")
    assert (page.status, [link for link in page.links if "sign-up" in link]) == (200, [])
    await visitor.open("/account/forgot-password")
    page = await visitor.submit("email", email=EVE)
    assert "/account/forgot-password" in page.links


async def test_there_is_no_page_to_wait_on_before_a_mail(visitor: FormBrowser) -> None:
    assert (await visitor.open("/account/check-mail")).path == "/account/sign-in"
    page = await visitor.open("/account/sign-up")
    form = page.form("new_password").hidden
    headers = {"Origin": BASE}
    answer = await visitor.client.post("/account/check-mail", data=form, headers=headers)
    assert answer.headers["location"] == "/account/sign-in"


@pytest.mark.parametrize("silent", [False, True])
async def test_a_taken_address_leads_to_sign_in_with_it_unless_nothing_may_tell(
    visitor: FormBrowser, auth: Auth, settings: AuthSettings, silent: bool
) -> None:
    settings.prevent_enumeration = silent
    await User.create(email=EMAIL, hashed_password=await auth.hasher.hash(PASSWORD), is_verified=True)
    page = await sign_up(visitor, "/reports", f" {EMAIL.upper()}")
    assert (page.path == "/account/check-mail") is silent
    assert ("Sign in as" in page.text) is not silent
    page = await visitor.open(following(page, "Back to sign in" if silent else "Sign in as"))
    assert page.one("input", id="email")["value"] == EMAIL
    assert (await visitor.submit("password", email=EMAIL, password=PASSWORD)).path == "/reports"


async def test_an_address_that_waits_is_filled_in_where_a_new_link_is_asked_for(
    visitor: FormBrowser, browsers: Browsers, mailbox: Mailbox
) -> None:
    await sign_up(visitor)
    other = await browsers()
    await other.open("/account/sign-in?next=/reports")
    page = await other.submit("password", email=EMAIL, password=PASSWORD)
    page = await other.open(following(page, "Ask for a new link"))
    assert page.one("input", id="email")["value"] == EMAIL
    await other.submit("email", email=EMAIL)
    page = await click(other, mailbox.link(), password=PASSWORD)
    assert page.form("password").hidden["next"] == "/reports"
