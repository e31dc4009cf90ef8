"""Passkeys on the pages, in a real browser with an authenticator of its own (WebAuthn Level 3 section 11)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyotp
import pytest
import pytest_asyncio
from fastapi.staticfiles import StaticFiles

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.email.provider import MemoryProvider
from fastapi_pluggable_auth.features import Passkeys

from . import browsers
from .conftest import PASSWORD, SECRET, Clock
from .live import serving
from .snippets import snippets
from .test_browser import DESK, NEW, Person, Site, registered, served
from .test_plugin import app_with_plain_init_in_lifespan

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing())),
]

PAGE = Path(__file__).parent.parent / "docs" / "passkeys-in-scripts.md"
SIGN_IN = "Sign in with a passkey"
SIGN_UP = "Sign up with a passkey"
ADD = "Add a passkey"
FAILED = "Nothing was done"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("passkeys"), [Passkeys()], host="localhost") as site:
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await browsers.launch(playwright)
        yield browser
        await browser.close()


@dataclass
class Authenticator:
    """That of one page, which Chromium has in software."""

    session: Any
    id: str

    async def send(self, command: str, **values: Any) -> dict[str, Any]:
        sent = {"authenticatorId": self.id, **values}
        return dict(await self.session.send(f"WebAuthn.{command}", sent))

    async def credentials(self) -> list[dict[str, Any]]:
        return list((await self.send("getCredentials"))["credentials"])

    async def answers(self, yes: bool) -> None:
        """Whether somebody touches it."""
        await self.send("setAutomaticPresenceSimulation", enabled=yes)

    async def touched_until(self, person: Person, title: str) -> None:
        """Somebody touches it, and again where the browser was not ready for that."""
        there = person.page.get_by_role("heading", level=1, name=title, exact=True)
        for _ in range(10):
            await self.answers(True)
            for _ in range(30):
                if await there.count():
                    return
                await asyncio.sleep(0.1)
            await self.answers(False)

    async def forgets(self) -> bool:
        """Whether it has nothing any more, as the browser was told."""
        for _ in range(100):
            if not await self.credentials():
                return True
            await asyncio.sleep(0.05)
        return False

    async def put(self, credential: dict[str, Any], **changed: Any) -> None:
        """Takes a passkey of another authenticator."""
        await self.send("addCredential", credential={**credential, **changed})


async def authenticator(page: Any, **options: Any) -> Authenticator:
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable", {"enableUI": False})
    chosen = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
        "defaultBackupEligibility": True,
        "defaultBackupState": True,
        **options,
    }
    made = await session.send("WebAuthn.addVirtualAuthenticator", {"options": chosen})
    return Authenticator(session, made["authenticatorId"])


@pytest_asyncio.fixture(loop_scope="module")
async def person(site: Site, browser: Any) -> AsyncIterator[Person]:
    context = await browser.new_context(viewport=DESK)
    context.set_default_timeout(10_000)
    yield Person(site, await context.new_page(), True)
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def phone(person: Person) -> Authenticator:
    """Of a browser without autofill, which would be faster than a button."""
    await person.page.add_init_script(
        "PublicKeyCredential.isConditionalMediationAvailable = async () => false"
    )
    return await authenticator(person.page)


async def says(person: Person, text: str) -> None:
    """Waits for what comes after the authenticator has answered."""
    await person.page.locator(":is(.notice, .problem, .fault):not([hidden])", has_text=text).wait_for()
    assert person.problems == []


async def with_passkey(person: Person, name: str) -> str:
    """Somebody who has a password and a passkey, on the security page."""
    email = await registered(person, person.address(name))
    await person.open("/account/security")
    await person.send(ADD)
    await says(person, "The passkey is added.")
    return email


async def test_a_passkey_is_registered_and_signs_in(person: Person, phone: Authenticator) -> None:
    email = await registered(person, person.address("ada"))
    await person.open("/account/security")
    await person.look("passkeys-none")
    await person.send(ADD)
    await says(person, "The passkey is added.")
    await person.look("passkeys")
    (made,) = await phone.credentials()
    assert made["isResidentCredential"]
    await person.send("Sign out")
    await person.sees("Sign in", SIGN_IN)
    await person.look("sign-in-passkeys")
    await person.page.check("#remember")
    await person.send(SIGN_IN)
    await person.sees("Your account", email)
    cookies = {each["name"]: each["expires"] for each in await person.page.context.cookies()}
    assert cookies["refresh_token"] > 0


async def test_autofill_signs_in_without_a_button(person: Person) -> None:
    """And goes on where the user wanted to."""
    phone = await authenticator(person.page)
    await with_passkey(person, "bob")
    await phone.answers(False)
    await person.send("Sign out")
    await person.sees("Sign in")
    assert await person.page.locator("#email").get_attribute("autocomplete") == "username webauthn"
    await person.open("/account/sign-in?next=/account/security")
    await phone.touched_until(person, "Security")  # which the page has waited for
    await person.sees("Security")


async def test_a_device_that_has_a_passkey_of_the_account_makes_no_second_one(
    person: Person, phone: Authenticator
) -> None:
    await with_passkey(person, "cleo")
    await person.send(ADD)
    await says(person, "You have added this passkey already.")
    await person.look("passkeys-excluded")
    assert len(await phone.credentials()) == 1


async def test_who_does_not_pass_the_lock_of_the_device_is_not_signed_in(
    person: Person, phone: Authenticator
) -> None:
    """And is where it was, with the button."""
    await with_passkey(person, "dan")
    await phone.send("setUserVerified", isUserVerified=False)
    await person.send("Sign out")
    await person.send(SIGN_IN)
    await says(person, FAILED)
    await person.look("sign-in-passkey-failed")
    await phone.send("setUserVerified", isUserVerified=True)
    await person.send(SIGN_IN)
    await person.sees("Your account")


async def test_a_passkey_that_the_account_does_not_have_any_more_vanishes_from_its_authenticator(
    person: Person, phone: Authenticator
) -> None:
    email = await with_passkey(person, "eve")
    assert len(await phone.credentials()) == 1
    with closing(sqlite3.connect(person.site.database, timeout=30)) as connection, connection:
        connection.execute(
            "DELETE FROM auth_passkey WHERE user_id = (SELECT id FROM user WHERE email = ?)", (email,)
        )
    await person.send("Sign out")
    await person.send(SIGN_IN)
    await says(person, "not known here any more")
    await person.look("sign-in-passkey-unknown")
    assert await phone.forgets()


async def test_a_passkey_that_is_removed_vanishes_and_signs_in_no_more(
    person: Person, phone: Authenticator
) -> None:
    await with_passkey(person, "fay")
    (made,) = await phone.credentials()
    await person.page.get_by_role("button", name="Remove: Passkey").click()
    await says(person, "The passkey is removed.")
    assert await phone.forgets()  # as the page has said which ones are left
    await phone.put(made)
    await person.send("Sign out")
    await person.send(SIGN_IN)
    await says(person, "not known here any more")


async def test_a_copy_of_a_passkey_is_refused(person: Person, phone: Authenticator) -> None:
    email = await with_passkey(person, "gus")
    (made,) = await phone.credentials()
    await person.send("Sign out")
    await person.send(SIGN_IN)
    await person.sees("Your account")
    await phone.send("removeCredential", credentialId=made["credentialId"])
    await phone.put(made, signCount=0)
    await person.send("Sign out")
    await person.send(SIGN_IN)
    await says(person, "This passkey was not accepted.")
    assert [mail for mail in person.site.mails.mails if mail.to == email][-1].subject.startswith("A copy")


async def test_two_tabs_both_sign_in(person: Person, phone: Authenticator) -> None:
    await with_passkey(person, "hal")
    (made,) = await phone.credentials()
    await person.send("Sign out")
    await person.sees("Sign in")
    tab = await person.page.context.new_page()
    other = await authenticator(tab)
    await other.put(made, signCount=made["signCount"] + 100)
    await other.answers(False)
    second = Person(person.site, tab, True)
    await second.open("/account/sign-in")
    await second.sees("Sign in")
    await person.send(SIGN_IN)
    await person.sees("Your account")
    await second.send(SIGN_IN)
    await second.sees("Your account")
    await person.page.reload()
    await person.sees("Your account")


async def signed_up(person: Person, name: str) -> str:
    """Somebody who has signed up with a passkey, and is yet to verify the address."""
    email = person.address(name)
    await person.open("/account/sign-up")
    await person.page.fill("#email", email)
    await person.send(SIGN_UP)
    await person.sees("Check your mail", f"We wrote to {email}.")
    return email


async def test_signing_up_with_a_passkey_and_verifying_in_the_same_browser_signs_in(
    person: Person, phone: Authenticator
) -> None:
    """Without a password; and what needs a recent login takes the passkey too."""
    await person.open("/account/sign-up")
    await person.look("sign-up-passkeys")
    await person.send(SIGN_UP, email="nonsense")
    await says(person, "not a complete e-mail address")
    assert await phone.credentials() == []  # none is made for nothing
    email = await signed_up(person, "iris")
    await person.follow_link(email, "Confirm your e-mail address")
    await person.sees("Verify your e-mail address", "You signed up in this browser")
    await person.send("Verify")
    await person.sees("Your account", email)
    with closing(sqlite3.connect(person.site.database)) as connection:
        query = "SELECT factors FROM auth_session ORDER BY created_at DESC LIMIT 1"
        (factors,) = connection.execute(query).fetchone()
    assert set(factors.split()) == {"mail", "passkey"}
    person.site.clock.advance(minutes=16)
    await person.page.get_by_role("link", name="Delete account").click()
    await person.sees("Show that it is you", "Please show your passkey")
    await person.look("confirm-passkey")
    await person.send("Confirm with a passkey")
    await person.sees("Delete account")
    await person.open("/account/security")
    await person.page.get_by_role("button", name="Remove: Passkey").click()
    await says(person, "the only way into your account")
    await person.look("passkeys-last")
    await person.send("Sign out")
    await person.send(SIGN_IN)
    await person.sees("Your account", email)


async def test_a_sign_up_with_a_passkey_is_verified_elsewhere_with_the_passkey(
    person: Person, phone: Authenticator, browser: Any
) -> None:
    email = await signed_up(person, "jo")
    (made,) = await phone.credentials()
    context = await browser.new_context(viewport=DESK)
    other = Person(person.site, await context.new_page(), True)
    laptop = await authenticator(other.page)
    await other.follow_link(email, "Confirm your e-mail address")
    await other.sees("Verify your e-mail address", "You signed up with a passkey?")
    assert await other.page.locator("#password").count() == 0
    await other.look("verify-passkey")
    await other.send("Show your passkey")
    await says(other, FAILED)
    await laptop.put(made)
    await laptop.answers(False)
    await other.send("Show your passkey")
    await laptop.touched_until(other, "Your account")  # by autofill of the sign-in page that follows
    await other.sees("Your account", email)
    await context.close()


async def test_a_security_key_is_asked_for_after_the_password(site: Site, person: Person) -> None:
    """And confirms with it."""
    key = await authenticator(
        person.page, transport="usb", hasUserVerification=False, hasResidentKey=False, isUserVerified=False
    )
    email = await registered(person, person.address("kim"))
    await person.open("/account/security")
    await person.send("Add a security key as second factor")
    await says(person, "The passkey is added.")
    assert "Second factor only" in await person.page.inner_text("#passkeys")
    await person.send("Sign out")
    await person.sign_in(email)
    await person.sees("Show that it is you", "protected by a second factor")
    await person.look("code-passkey")
    await person.send("Use a passkey")
    await person.sees("Your account")
    site.clock.advance(minutes=16)
    await person.page.get_by_role("link", name="Delete account").click()
    await person.sees("Confirm your password", "needs the password above")
    await person.look("confirm-security-key")
    await person.page.fill("#password", "wrong")
    await person.send("Confirm with a passkey")
    await says(person, "is wrong")
    await person.page.fill("#password", PASSWORD)
    await person.send("Confirm with a passkey")
    await person.sees("Delete account")
    assert len(await key.credentials()) == 1


async def test_a_passkey_answers_in_place_of_a_code(person: Person, phone: Authenticator) -> None:
    email = await with_passkey(person, "lea")
    await person.send("Set up")
    secret = await person.page.inner_text(".steps code")
    await person.send("Switch on", code=pyotp.TOTP(secret).at(person.site.clock()))
    await person.sees("Your recovery codes")
    await person.open("/account/security")
    await person.send("Sign out")
    await person.sign_in(email)
    await person.sees("Enter your code")
    await person.look("code-or-passkey")
    await person.send("Use a passkey")
    await person.sees("Your account")


async def test_after_a_reset_passkeys_wait_until_their_owner_keeps_them(
    person: Person, phone: Authenticator
) -> None:
    email = await with_passkey(person, "max")
    await person.send("Sign out")
    await person.open("/account/forgot-password")
    await person.send("Send link", email=email)
    await person.follow_link(email, "Choose a new password")
    await person.send("Set password", new_password=NEW)
    await person.sees("Your password was changed")
    await person.open("/account/sign-in")
    await person.send(SIGN_IN)
    await says(person, "The password of this account was reset.")
    await person.open("/account/sign-in?next=/account/profile")
    await person.send("Sign in", email=email, password=NEW)
    await person.sees("Security", "Some of your passkeys are on hold")
    await person.look("passkeys-held")
    await person.page.get_by_role("button", name="Keep: Passkey").click()
    await says(person, "The passkey is kept")
    await person.page.get_by_role("link", name="Go on").click()
    await person.sees("Your account")
    await person.send("Sign out")
    await person.send(SIGN_IN)
    await person.sees("Your account")


async def test_a_passkey_is_renamed_and_adding_one_needs_a_recent_login(
    person: Person, phone: Authenticator
) -> None:
    await with_passkey(person, "nia")
    keyboard = person.page.keyboard
    await person.press(name="Rename: Passkey")
    await keyboard.press("Tab")
    await keyboard.press("Control+A")
    await keyboard.type("Blue phone")
    await person.look("passkeys-rename")
    await keyboard.press("Enter")
    await says(person, "Saved.")
    assert "Blue phone" in await person.page.inner_text("#passkeys")
    person.site.clock.advance(minutes=16)
    await person.page.get_by_role("button", name="Remove: Blue phone").click()
    await person.sees("Confirm your password")
    await person.send("Confirm with a passkey")
    await person.sees("Security", "You can go on now.")
    person.site.clock.advance(minutes=16)
    await person.page.reload()
    await person.page.get_by_role("link", name=ADD, exact=True).click()
    await person.send("Confirm", password=PASSWORD)
    await person.sees("Security")
    await phone.send("clearCredentials")
    await person.send(ADD)
    await says(person, "The passkey is added.")


PLAIN = """() => [...document.querySelectorAll("main *")]
  .filter(each => each.checkVisibility() && !each.children.length).map(each => each.textContent)"""


@pytest.mark.parametrize("way", ["without-script", "without-passkeys"])
async def test_where_there_are_no_passkeys_the_forms_are_what_they_are_without_the_feature(
    way: str, site: Site, browser: Any, tmp_path: Path
) -> None:
    context = await browser.new_context(viewport=DESK, java_script_enabled=way != "without-script")
    if way == "without-passkeys":
        await context.add_init_script("delete globalThis.PublicKeyCredential")
    with served(tmp_path) as bare:
        for path in ("sign-in", "sign-up"):
            seen = []
            for each in (bare, site):
                person = Person(each, await context.new_page(), True)
                await person.open(f"/account/{path}")
                seen.append(await person.page.evaluate(PLAIN))
                assert person.problems == []
            assert seen[0] == seen[1]
            assert seen[0]
    email = f"{way}@example.com"
    person = Person(site, await context.new_page(), True)
    await registered(person, email)
    await person.open("/account/security")
    await person.sees("Security", "Passkeys need JavaScript")
    assert not await person.page.get_by_role("button", name=ADD).count()
    await context.close()


UPGRADING = """
  const create = navigator.credentials.create.bind(navigator.credentials)
  navigator.credentials.create = ({ mediation, ...options }) => {
    sessionStorage.tried = `${sessionStorage.tried ?? ""}${mediation};`
    return create(options)
  }
"""


async def test_a_browser_that_can_makes_a_passkey_by_itself_after_a_password_once_a_login(
    person: Person, phone: Authenticator
) -> None:
    """Chromium makes it where its password manager knows the password, which there is none of here: so the
    authenticator makes one as it would by a button."""
    await person.page.add_init_script(UPGRADING)
    email = await registered(person, person.address("ola"))
    for _ in range(200):
        if await person.page.evaluate("localStorage['passkey-upgrade']"):
            break
        await asyncio.sleep(0.05)
    assert len(await phone.credentials()) == 1
    await person.open("/account/security")
    assert await person.page.get_by_role("button", name="Remove: Passkey").count() == 1
    assert await person.page.evaluate("sessionStorage.tried") == "conditional;"
    await person.send("Sign out")
    await person.send(SIGN_IN)
    await person.sees("Your account", email)
    await person.page.wait_for_timeout(500)
    assert await person.page.evaluate("sessionStorage.tried") == "conditional;"


TOKENS = """async ({ email, password }) => {
  const { Passkeys, PasskeyError } = await import("/auth/passkey/passkeys.js")
  const json = { method: "POST", headers: { "Content-Type": "application/json" } }
  const login = await fetch("/auth/login", { ...json, body: JSON.stringify({ email, password }) })
  let { access_token: token } = await login.json()
  const passkeys = new Passkeys({ token: () => token })
  const { name } = await passkeys.add({ name: "Laptop" })
  const again = await passkeys.add().catch(error => error)
  const session = await passkeys.signIn()
  token = session.access_token
  await passkeys.reauthenticate()
  const [{ id, last_used_at }] = await passkeys.list()
  const renamed = await passkeys.change(id, { name: "Desk" })
  const me = await fetch("/auth/me", { headers: { Authorization: `Bearer ${token}` } })
  const refused = await passkeys.change("none", { name: "" }).catch(error => error)
  await passkeys.remove(id)
  await passkeys.add({ secondFactor: true })
  const needed = await fetch("/auth/login", { ...json, body: JSON.stringify({ email, password }) })
  const beside = await passkeys.secondFactor(await needed.json(), { email, password })
  const types = [session.token_type, beside.token_type]
  return {
    said: [name, renamed.name, ...types, (await me.json()).email, !!last_used_at],
    errors: [again, refused].map(error => [error instanceof PasskeyError, error.code, error.status ?? 0]),
  }
}"""


@contextmanager
def spa(folder: Path, *, pages: bool) -> Iterator[Site]:
    """The example of the documentation, served by the app beside it."""
    database = folder / "spa.sqlite3"
    app = app_with_plain_init_in_lifespan(f"sqlite://{database}")
    settings = AuthSettings(_env_file=None, jwt_secret=SECRET, bcrypt_rounds=4, dev_mailbox=True)
    clock, mails = Clock(), MemoryProvider()
    include_auth(
        app, settings=settings, clock=clock, email_provider=mails, pages=pages, features=[Passkeys()]
    )
    (folder / "static").mkdir()
    for each in snippets(PAGE.read_text("utf-8")):
        if each.title is not None:
            (folder / each.title).write_text(each.code, "utf-8")
    app.mount("/static", StaticFiles(directory=folder / "static"))
    with serving(app) as address:
        settings.public_base_url = base = address.replace("127.0.0.1", "localhost")
        yield Site(base, clock, mails, database, settings)


async def test_the_module_of_an_app_of_one_page_works_with_cookies(browser: Any, tmp_path: Path) -> None:
    """As its documentation shows it."""
    with spa(tmp_path, pages=True) as site:
        context = await browser.new_context(viewport=DESK)
        person = Person(site, await context.new_page(), True)
        phone = await authenticator(person.page, automaticPresenceSimulation=False)
        said = person.page.locator("#said")
        await registered(person, "sam@example.com")
        await person.open("/static/passkeys-demo.html")
        await phone.answers(True)
        await person.send("Add a passkey")
        await said.get_by_text("Added: Passkey.").wait_for()
        await person.send("Add a passkey")
        await said.get_by_text("registered", exact=False).wait_for()
        await context.clear_cookies()
        await person.send("Sign in with a passkey")
        await said.get_by_text("Signed in.").wait_for()
        await context.clear_cookies()
        await person.page.reload()
        await said.get_by_text("Signed in by autofill.").wait_for()
        await person.send("Remove the first one")
        await said.get_by_text("Removed: Passkey.").wait_for()
        assert await phone.forgets()
        assert person.problems == []
        await context.close()


async def test_the_module_of_an_app_of_one_page_works_with_tokens(browser: Any, tmp_path: Path) -> None:
    with spa(tmp_path, pages=False) as site:
        context = await browser.new_context(viewport=DESK)
        person = Person(site, await context.new_page(), True)
        phone = await authenticator(person.page)
        await person.open("/static/passkeys-demo.html")
        credentials = {"email": "tim@example.com", "password": PASSWORD}
        answer = await context.request.post(f"{site.base}/auth/signup", data=credentials)
        assert answer.status == 201
        site.change("tim@example.com", "is_verified", True)
        seen = await person.page.evaluate(TOKENS, credentials)
        assert seen["said"] == ["Laptop", "Desk", "bearer", "bearer", "tim@example.com", True]
        assert seen["errors"] == [[True, "InvalidStateError", 0], [True, "validation_error", 422]]
        module = await context.request.get(f"{site.base}/auth/passkey/passkeys.js")
        assert module.headers["content-type"].startswith("text/javascript")
        headers = {"If-None-Match": module.headers["etag"]}
        again = await context.request.get(f"{site.base}/auth/passkey/passkeys.js", headers=headers)
        assert again.status == 304
        assert len(await phone.credentials()) == 1
        await context.close()
