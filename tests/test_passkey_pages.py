"""The forms of passkeys on the pages, as the script posts them: what each answers, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import Feature, Passkeys, Slot
from fastapi_pluggable_auth.features.passkeys.credentials import encoded
from fastapi_pluggable_auth.features.passkeys.testing import SoftwareAuthenticator
from fastapi_pluggable_auth.models import User

from .conftest import EMAIL, PASSWORD, Clock
from .form_browser import BROWSER, FormBrowser, Page, PageForm

DIALECTS = ("sqlite",)
BASE = "http://localhost:8000"
SAME_ORIGIN = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, pages=True, features=[Passkeys()])
    return app


class Visitor(FormBrowser):
    """A browser with script and an authenticator."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        super().__init__(client)
        self.authenticator = SoftwareAuthenticator(BASE)

    def attributes(self, form: PageForm) -> dict[str, str]:
        found = (attributes for tag, attributes in self.page.tags if tag == "form")
        return next(each for each in found if each["action"] == form.action)

    async def ask(self, name: str, **typed: str) -> httpx.Response:
        form = self.page.form(name)
        address = urljoin(str(self.page.answer.url), self.attributes(form)["data-options"])
        return await self.client.post(address, data=form.hidden | typed, headers=SAME_ORIGIN)

    async def press(self, name: str, field: str = "credential", **typed: str) -> Page:
        """Does what the script does for the form that posts there."""
        form = self.page.form(name)
        options = (await self.ask(name, **typed)).json()
        made = self.attributes(form)["data-passkey"] == "create"
        act = self.authenticator.create if made else self.authenticator.get
        return await self.submit(name, **typed, **{field: json.dumps(act(options))})


async def visiting(app: FastAPI) -> AsyncIterator[Visitor]:
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as client:
        yield Visitor(client)


@pytest.fixture
async def ada(app: FastAPI, auth: Auth, tortoise: TortoiseContext) -> AsyncIterator[Visitor]:
    """Somebody with a password and a passkey, who is signed in."""
    await person(auth, EMAIL)
    async for visitor in visiting(app):
        await signed_in(visitor)
        await visitor.open("/account/security")
        page = await visitor.press("security/passkeys/add")
        assert "The passkey is added." in page.text
        yield visitor


async def person(auth: Auth, email: str) -> User:
    hashed = await auth.hasher.hash(PASSWORD)
    return await User.create(email=email, hashed_password=hashed, is_verified=True)


async def signed_in(visitor: FormBrowser, email: str = EMAIL) -> None:
    await visitor.open("/account/sign-in")
    page = await visitor.submit("password", email=email, password=PASSWORD)
    assert page.path == "/account/profile"


def problem(page: Page) -> str:
    found = re.search(r'role="alert"[^>]*>([^<]+)</p>', page.text)
    return unescape(found[1]) if found else ""


async def test_a_passkey_signs_in_and_leads_on_to_where_the_user_wanted(ada: Visitor) -> None:
    ada.client.cookies.clear()
    page = await ada.open("/account/security")
    assert page.path == "/account/sign-in"
    page = await ada.press("sign-in/passkey", remember="yes")
    assert (page.status, page.path) == (200, "/account/security")
    (first, *_) = [each for each in page.answer.history if each.headers.get_list("set-cookie")]
    (refresh,) = [each for each in first.headers.get_list("set-cookie") if each.startswith("refresh_token")]
    assert "Max-Age" in refresh


@pytest.mark.parametrize("what", ["nothing", "nonsense", "late", "twice", "elsewhere", "token"])
async def test_a_sign_in_that_is_refused_says_so_on_the_page(
    ada: Visitor, app: FastAPI, clock: Clock, what: str
) -> None:
    """And signs nobody in."""
    ada.client.cookies.clear()
    await ada.open("/account/sign-in")
    options = (await ada.ask("sign-in/passkey")).json()
    shown = json.dumps(ada.authenticator.get(options))
    match what:
        case "nothing":
            shown = ""
        case "nonsense":
            shown = json.dumps({"id": "x"})
        case "late":
            clock.advance(minutes=5)
        case "twice":
            await ada.submit("sign-in/passkey", credential=shown)
            ada.client.cookies.delete("access_token")
            ada.client.cookies.delete("refresh_token")
            await ada.open("/account/sign-in")
        case "elsewhere":
            async for other in visiting(app):
                await other.open("/account/sign-in")
                page = await other.submit("sign-in/passkey", credential=shown)
        case "token":
            page = await ada.submit("sign-in/passkey", credential=shown, csrf_token="x")
            assert page.status == 403
    if what not in ("elsewhere", "token"):
        page = await ada.submit("sign-in/passkey", credential=shown)
    if what != "token":
        assert page.path == "/account/sign-in/passkey"
        assert problem(page) in (
            "That took too long. Try again.",
            "This passkey was not accepted. Try again, or sign in another way.",
        )
    assert (await ada.open("/account/profile")).path == "/account/sign-in"


async def test_the_page_tells_the_browser_which_passkey_is_of_no_use(ada: Visitor) -> None:
    (known,) = ada.authenticator.credentials
    await ada.open("/account/security")
    page = await ada.submit("security/passkeys/remove")
    assert "The passkey is removed." in page.text
    ada.client.cookies.clear()
    await ada.open("/account/sign-in")
    page = await ada.press("sign-in/passkey")
    assert problem(page).startswith("This passkey is not known here any more.")
    told = next(attributes["data-unknown"] for _, attributes in page.tags if "data-unknown" in attributes)
    assert json.loads(told) == {"rpId": "localhost", "credentialId": encoded(known)}


async def test_a_passkey_of_a_sign_up_that_is_refused_is_dropped_by_the_browser(
    app: FastAPI, auth: Auth, tortoise: TortoiseContext
) -> None:
    await person(auth, EMAIL)
    async for visitor in visiting(app):
        await visitor.open("/account/sign-up")
        page = await visitor.press("sign-up/passkey", email=EMAIL)
        assert problem(page) == "There is an account with this e-mail address already."
        assert page.path == "/account/sign-up/passkey"
        (made,) = visitor.authenticator.credentials
        told = next(attributes["data-unknown"] for _, attributes in page.tags if "data-unknown" in attributes)
        assert json.loads(told)["credentialId"] == encoded(made)
        answer = await visitor.ask("sign-up/passkey", email="nonsense")
        assert answer.status_code == 422


@pytest.mark.parametrize("action", ["rename", "keep", "remove"])
async def test_nobody_changes_the_passkey_of_another_user(
    ada: Visitor, app: FastAPI, auth: Auth, action: str
) -> None:
    await ada.open("/account/security")
    theirs = ada.page.form("security/passkeys/remove").hidden["passkey"]
    await person(auth, "eve@example.com")
    async for eve in visiting(app):
        await signed_in(eve, "eve@example.com")
        await eve.open("/account/security")
        token = eve.page.forms[0].hidden["csrf_token"]
        body = {"csrf_token": token, "passkey": theirs, "name": "Mine"}
        answer = await eve.client.post(f"/account/security/passkeys/{action}", data=body, headers=SAME_ORIGIN)
        assert answer.status_code == 404
        assert problem(Page(answer)) == "There is no such passkey."
    page = await ada.open("/account/security")
    assert "<strong>Passkey</strong>" in page.text


async def test_options_are_for_who_has_shown_enough(ada: Visitor, clock: Clock) -> None:
    """A recent login to add one, one with the password for a silent one, the password for those beside it."""
    upgrade = "/account/security/passkeys/upgrade/options"
    page = await ada.open("/account/security")
    token = {"csrf_token": page.forms[0].hidden["csrf_token"]}
    assert (await ada.client.post(upgrade, data=token, headers=SAME_ORIGIN)).status_code == 200
    clock.advance(minutes=16)
    add = "/account/security/passkeys/options"
    scripts = {**SAME_ORIGIN, "Accept": "*/*"}
    for path in (add, upgrade):
        answer = await ada.client.post(path, data=token, headers=scripts)
        assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
    ada.client.cookies.clear()
    page = await ada.open("/account/sign-in")
    body = {"csrf_token": page.forms[0].hidden["csrf_token"], "challenge": "x"}
    answer = await ada.client.post("/account/sign-in/code/passkey/options", data=body, headers=scripts)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    await ada.press("sign-in/passkey")
    page = await ada.open("/account/security")
    token = {"csrf_token": page.forms[0].hidden["csrf_token"]}
    assert (await ada.client.post(upgrade, data=token, headers=scripts)).status_code == 404
    assert (await ada.client.post(add, data=token, headers=scripts)).status_code == 200


async def test_pages_allow_the_script_of_the_feature_by_its_digest_and_to_ask_this_app_alone(
    ada: Visitor, settings: AuthSettings
) -> None:
    """As without it, but for where it asks."""
    bare = FastAPI()
    include_auth(bare, settings=settings, pages=True)
    async for other in visiting(bare):
        await other.open("/account/sign-in")
    ada.client.cookies.clear()
    page = await ada.open("/account/sign-in")
    kind = re.compile(r"'sha256-[^']+'")
    with_it, without = (each.answer.headers["content-security-policy"] for each in (page, other.page))
    assert kind.sub("", with_it) == kind.sub("", without) + "; connect-src 'self'"
    assert "PublicKeyCredential" in page.text
    assert "PublicKeyCredential" not in other.page.text
    assert page.one("input", name="email")["autocomplete"] == "username webauthn"
    assert other.page.one("input", name="email")["autocomplete"] == "username"


async def test_password_managers_find_where_passkeys_are_looked_after(
    ada: Visitor, settings: AuthSettings
) -> None:
    """W3C, A Well-Known URL for Relying Party Passkey Endpoints. Not in an app without pages."""
    answer = await ada.client.get("/.well-known/passkey-endpoints")
    assert answer.headers["content-type"] == "application/json"
    section = f"{BASE}/account/security#passkeys"
    assert answer.json() == {"enroll": section, "manage": section}
    page = await ada.open(section)
    assert '<section id="passkeys">' in page.text
    without = FastAPI()
    include_auth(without, settings=settings, features=[Passkeys()])
    async for other in visiting(without):
        assert (await other.client.get("/.well-known/passkey-endpoints")).status_code == 404
        assert (await other.client.get("/auth/passkey/passkeys.js")).status_code == 200


async def test_the_security_page_says_to_the_browser_what_the_account_has(ada: Visitor) -> None:
    (known,) = ada.authenticator.credentials
    page = await ada.open("/account/security")
    told = next(attributes["data-passkeys"] for _, attributes in page.tags if "data-passkeys" in attributes)
    user = await User.get()
    assert json.loads(told) == {
        "rpId": "localhost",
        "userId": encoded(user.id.bytes),
        "name": EMAIL,
        "displayName": EMAIL,
        "allAcceptedCredentialIds": [encoded(known)],
    }


async def leads_to_the_notice(auth: Any, authentication: Any) -> str | None:
    return "saved" if authentication.user.display_name is None else None


async def test_a_feature_may_have_something_to_decide_after_a_sign_in_and_a_script(
    settings: AuthSettings, auth: Auth, tortoise: TortoiseContext, tmp_path: Path
) -> None:
    (tmp_path / "boat.js").write_text("const boats = 1\n")
    await person(auth, EMAIL)
    with pytest.raises(ValueError, match=r"The feature boats has no script ship\.js"):
        Auth(settings, features=[Feature(name="boats", templates=tmp_path, scripts=("ship.js",))])
    with pytest.raises(ValueError, match="Nothing is filled in for x in the place 'sign_up'"):
        Slot(place="sign_up", template="x", autofill="webauthn")
    boats = Feature(name="boats", templates=tmp_path, scripts=("boat.js",), detour=leads_to_the_notice)
    app = FastAPI()
    include_auth(app, settings=settings, pages=True, features=[boats])
    async for visitor in visiting(app):
        await visitor.open("/account/sign-in?next=/account/delete")
        page = await visitor.submit("password", email=EMAIL, password=PASSWORD)
        assert (page.path, page.answer.url.params["next"]) == ("/account/security", "/account/delete")
        assert ";(() => {\nconst boats = 1\n})()" in page.text
        await User.all().update(display_name="Ada")
        visitor.client.cookies.clear()
        await visitor.open("/account/sign-in?next=/account/delete")
        page = await visitor.submit("password", email=EMAIL, password=PASSWORD)
        assert page.path == "/account/delete"
