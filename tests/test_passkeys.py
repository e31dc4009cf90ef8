"""Passkeys over HTTP, with an authenticator in software (WebAuthn Level 3). Whatever is made or signed here
is accepted by an independent library (`webauthn`) as well."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from tortoise import Tortoise
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from fastapi_pluggable_auth import (
    Auth,
    AuthSettings,
    CurrentUser,
    CurrentWebSocketUser,
    SecurityEvent,
    include_auth,
    require,
)
from fastapi_pluggable_auth.features import Administration, Passkeys, PersonalTokens
from fastapi_pluggable_auth.features.administration.users import end_sessions
from fastapi_pluggable_auth.features.passkeys.names import PasskeyAdded, PasskeyRemoved
from fastapi_pluggable_auth.features.passkeys.testing import PRESENT, SoftwareAuthenticator
from fastapi_pluggable_auth.models import Passkey, Session, User

from .authenticator import ORIGIN, Checked
from .conftest import EMAIL, PASSWORD, SECRET, Account, Clock, Mailbox, claims_of, on_each_database
from .live import serving
from .test_queries import STATEMENT
from .test_twofa import code_of, enrol, post
from .test_websocket import PROTOCOL

DIALECTS = ("sqlite",)
OWN = "/account/passkeys"
NEW = "a new horse battery"


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    features = [Passkeys(), Administration(), PersonalTokens(scopes={"notes:read": "Read"})]
    include_auth(app, settings=settings, clock=clock, features=features)

    @app.get("/vault")
    async def vault(user: Annotated[User, Depends(require(phishing_resistant=True))]) -> str:
        return user.email

    @app.get("/notes")
    async def notes(user: CurrentUser) -> str:
        return user.email

    return app


@pytest.fixture
def phone() -> SoftwareAuthenticator:
    return Checked(ORIGIN)


class Keys:
    """What a client does with passkeys."""

    def __init__(self, account: Account, authenticator: SoftwareAuthenticator) -> None:
        self.account, self.authenticator = account, authenticator
        self.client: httpx.AsyncClient = account.client

    async def options(self, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.client.post(path, json=body or None, headers=self.account.headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def add(self, *, name: str | None = None, **asked: Any) -> httpx.Response:
        options = await self.options("/account/passkeys/options", **asked)
        body = {"credential": self.authenticator.create(options)} | ({"name": name} if name else {})
        return await self.client.post("/account/passkeys", json=body, headers=self.account.headers)

    async def sign_in(self) -> httpx.Response:
        options = (await self.client.post("/auth/passkey/options")).json()
        credential = self.authenticator.get(options)
        answer = await self.client.post("/auth/passkey/login", json={"credential": credential})
        if answer.status_code == 200:
            self.account.access_token = answer.json()["access_token"]
            self.account.refresh_token = answer.json()["refresh_token"]
        return answer

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.client.request(method, path, json=body, headers=self.account.headers)

    async def second_factor(self) -> dict[str, Any]:
        """What answers for one in a login."""
        body = {"email": self.account.email, "password": self.account.password}
        needed = (await self.client.post("/auth/login", json=body)).json()
        return {**body, "passkey": self.authenticator.get(needed["options"]["passkey"])}

    async def sign_up(self, client: httpx.AsyncClient | None = None) -> httpx.Response:
        """By this browser."""
        client, asked = client or self.client, {"email": self.account.email}
        options = (await client.post("/auth/passkey/sign-up/options", json=asked)).json()
        body = {**asked, "credential": self.authenticator.create(options)}
        return await client.post("/auth/signup", json=body)


@pytest.fixture
def keys(account: Account, phone: SoftwareAuthenticator) -> Keys:
    return Keys(account, phone)


@on_each_database
async def test_a_passkey_that_was_added_signs_in(keys: Keys, mailbox: Mailbox) -> None:
    added = await keys.add(name="My phone")
    assert added.status_code == 201, added.text
    shown = added.json()
    assert (shown["name"], shown["signs_in"], shown["held"], shown["synced"]) == (
        "My phone",
        True,
        False,
        True,
    )
    assert "passkey" in mailbox.messages[-1]["Subject"]
    answer = await keys.sign_in()
    assert answer.status_code == 200, answer.text
    assert claims_of(answer.json()["access_token"])["amr"] == ["passkey"]
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await keys.client.get("/auth/me", headers=headers)).json()["email"] == EMAIL
    listed = (await keys.client.get("/account/passkeys", headers=headers)).json()
    assert [each["id"] for each in listed] == [shown["id"]]
    assert listed[0]["last_used_at"] is not None


@pytest.mark.parametrize("how", ["program", "passkey"])
async def test_an_account_verified_elsewhere_keeps_the_passkey_that_signed_up(
    how: str, client: httpx.AsyncClient, mailbox: Mailbox, phone: SoftwareAuthenticator
) -> None:
    options = (await client.post("/auth/passkey/sign-up/options", json={"email": EMAIL})).json()
    body = {"email": EMAIL, "credential": phone.create(options)}
    signup = await client.post("/auth/signup", json=body)
    assert signup.status_code == 201, signup.text
    if how == "program":
        assert (await client.get(mailbox.link(EMAIL))).status_code == 200
    else:
        token = {"token": mailbox.token(EMAIL)}
        shown = phone.get((await client.post("/auth/passkey/verify/options", json=token)).json())
        verified = await client.post("/auth/passkey/verify", json={**token, "credential": shown})
        assert verified.status_code == 200, verified.text
    keys = Keys(Account(client, mailbox, EMAIL, ""), phone)
    assert (await keys.sign_in()).status_code == 200


@pytest.fixture
def nobody(client: httpx.AsyncClient, mailbox: Mailbox, phone: SoftwareAuthenticator) -> Keys:
    """Who has no account yet."""
    return Keys(Account(client, mailbox, EMAIL, ""), phone)


@pytest.fixture
async def without_password(nobody: Keys) -> Keys:
    """An account that was signed up with a passkey, and is signed in."""
    assert (await nobody.sign_up()).status_code == 201
    assert (await nobody.client.get(nobody.account.mailbox.link())).status_code == 200
    assert (await nobody.sign_in()).status_code == 200
    return nobody


# Looking after them


@on_each_database
async def test_passkeys_are_listed_shown_renamed_and_removed(
    keys: Keys, auth: Auth, mailbox: Mailbox
) -> None:
    heard: list[Any] = []
    for kind in (PasskeyAdded, PasskeyRemoved, SecurityEvent):
        auth.on(kind)(heard.append)
    first = (await keys.add()).json()
    keys.authenticator = Checked(ORIGIN, aaguid=bytes.fromhex("ea9b8d664d011d213ce4b6b48cb575d4"))
    second = (await keys.add()).json()
    assert [first["name"], second["name"]] == ["Passkey", "Google Password Manager"]
    assert [each["id"] for each in (await keys.ask("GET", OWN)).json()] == [first["id"], second["id"]]
    path = f"{OWN}/{first['id']}"
    assert (await keys.ask("GET", path)).json() == first
    renamed = await keys.ask("PATCH", path, {"name": " Key at home "})
    assert renamed.json() == {**first, "name": "Key at home"}
    mailbox.clear()
    assert (await keys.ask("DELETE", path)).status_code == 204
    assert "Key at home" in mailbox.messages[-1].as_string()
    for method in ("GET", "PATCH", "DELETE"):
        answer = await keys.ask(method, path, {} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()["code"]) == (404, "passkey_not_found")
    told = [type(each).__name__ for each in heard if not isinstance(each, SecurityEvent)]
    assert told == ["PasskeyAdded", "PasskeyAdded", "PasskeyRemoved"]
    kinds = [each.kind for each in heard if isinstance(each, SecurityEvent) and each.outcome == "success"]
    assert kinds == ["passkey_added", "passkey_added", "passkey_changed", "passkey_removed"]
    # Of a user who has no more passkeys no factor is said.
    assert (await keys.ask("DELETE", f"{OWN}/{second['id']}")).status_code == 204
    assert (await User.get()).second_factors == frozenset()


async def test_an_authenticator_that_has_one_of_the_account_makes_no_second_one(keys: Keys) -> None:
    await keys.add()
    with pytest.raises(ValueError, match="InvalidStateError"):
        await keys.add()


async def test_one_that_the_browser_makes_by_itself_needs_nobody_present_and_signs_in_with_who_is(
    keys: Keys,
) -> None:
    """WebAuthn Level 3 section 5.1.3, conditional creation."""
    keys.authenticator.flags, verified = 0, keys.authenticator.flags
    assert (await keys.add(upgrade=True)).status_code == 201
    with pytest.raises(AssertionError):  # what the other library says of one that has verified nobody
        await keys.sign_in()
    keys.authenticator.flags = verified & ~0x18
    assert (await keys.sign_in()).status_code == 200


# Showing one again, and beside a password


@on_each_database
async def test_a_passkey_makes_the_login_recent_again(
    keys: Keys, settings: AuthSettings, clock: Clock
) -> None:
    await keys.add()
    settings.reauth_ttl = timedelta(minutes=2)
    clock.advance(minutes=3)
    assert await code_of(await keys.ask("POST", f"{OWN}/options", {})) == "reauthentication_required"
    shown = keys.authenticator.get(await keys.options("/auth/passkey/reauthenticate/options"))
    answer = await keys.ask("POST", "/auth/passkey/reauthenticate", {"credential": shown})
    assert answer.status_code == 200, answer.text
    assert (await keys.ask("POST", f"{OWN}/options", {})).status_code == 200
    again = await keys.ask("POST", "/auth/passkey/reauthenticate", {"credential": shown})
    assert (again.status_code, await code_of(again)) == (400, "passkey_expired")


@on_each_database
async def test_a_key_beside_the_password_is_asked_for_and_answers(keys: Keys) -> None:
    """NIST SP 800-63B-4 section 3.1.6: a single-factor authenticator beside a password."""
    other = (await keys.account.refresh()).json()
    first = Account(keys.client, keys.account.mailbox, EMAIL, PASSWORD)
    assert (await first.login()).status_code == 200
    keys.account.access_token = other["access_token"]
    keys.authenticator.flags = PRESENT
    assert (await keys.add(second_factor=True)).json()["signs_in"] is False
    assert (await first.me()).status_code == 401, "it has not shown the new factor"
    body = await keys.second_factor()
    without = {name: value for name, value in body.items() if name != "passkey"}
    refused = await keys.client.post("/auth/login", json=without)
    assert (refused.status_code, await code_of(refused)) == (401, "two_factor_required")
    answer = await keys.client.post("/auth/login", json=body)
    assert answer.status_code == 200, answer.text
    keys.account.access_token = answer.json()["access_token"]
    assert claims_of(keys.account.access_token)["amr"] == ["pwd", "passkey"]
    again = await keys.client.post("/auth/login", json=body)
    assert (again.status_code, await code_of(again)) == (400, "passkey_expired")
    proof = await keys.second_factor()
    shown = {"password": PASSWORD, "passkey": proof["passkey"]}
    assert await code_of(await keys.ask("POST", "/auth/reauthenticate", {"password": PASSWORD})) == (
        "two_factor_required"
    )
    assert (await keys.ask("POST", "/auth/reauthenticate", shown)).status_code == 200
    assert (await keys.ask("DELETE", f"{OWN}/{(await Passkey.get()).id}")).status_code == 204
    assert (await keys.account.login()).status_code == 200


async def test_a_passkey_answers_in_place_of_the_code_of_an_app(keys: Keys, clock: Clock) -> None:
    await keys.add()
    assert (await keys.account.login()).status_code == 200, "nobody has switched two-factor on"
    totp = await enrol(keys.account)
    assert (await post(keys.account, "/auth/2fa/verify", code=totp.at(clock()))).status_code == 200
    assert await code_of(await keys.account.login()) == "two_factor_required"
    assert (await keys.client.post("/auth/login", json=await keys.second_factor())).status_code == 200
    clock.advance(seconds=31)
    assert (await keys.account.login(totp.at(clock()))).status_code == 200
    assert (await keys.sign_in()).status_code == 200


# Without a password


async def test_who_signs_up_with_a_passkey_verifies_the_address_before_the_first_session(
    nobody: Keys,
) -> None:
    """ASVS V6.2.1 has no password to look at; NIST SP 800-63B-4 section 4.1."""
    signup = await nobody.sign_up()
    assert signup.status_code == 201, signup.text
    assert signup.json()["is_verified"] is False
    refused = await nobody.sign_in()
    assert (refused.status_code, await code_of(refused)) == (401, "email_not_verified")
    assert (await nobody.client.post("/auth/verify/resend", json={"email": EMAIL})).status_code == 200
    assert (await nobody.client.get(nobody.account.mailbox.link())).status_code == 200
    assert (await nobody.sign_in()).status_code == 200
    assert claims_of(nobody.account.access_token)["amr"] == ["passkey"]


@pytest.fixture
async def browsers(app: FastAPI) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Two, each with cookies of its own."""
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin", "User-Agent": "Mozilla/5.0"}
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    async with (
        httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers) as one,
        httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers) as other,
    ):
        yield one, other


Browsers = tuple[httpx.AsyncClient, httpx.AsyncClient]


@pytest.mark.parametrize("cookies", [True, False])
async def test_the_browser_that_signed_up_verifies_by_the_link_alone(
    cookies: bool, nobody: Keys, browsers: Browsers, settings: AuthSettings
) -> None:
    mine, other = browsers
    assert (await nobody.sign_up(mine)).status_code == 201
    link = nobody.account.mailbox.link()
    refused = await other.post(link)
    assert (refused.status_code, await code_of(refused)) == (403, "signup_elsewhere")
    assert (await mine.post(link)).status_code == 200
    assert (await nobody.sign_in()).status_code == 200


async def test_the_owner_of_a_mailbox_keeps_no_passkey_of_a_stranger(
    nobody: Keys, browsers: Browsers
) -> None:
    """Pre-hijacking (Sudhodanan and Paverd, 2022); ASVS V6.3.4: Eve signs up with Ada's address."""
    eves, adas = browsers
    assert (await nobody.sign_up(eves)).status_code == 201
    link = nobody.account.mailbox.link()
    assert await code_of(await adas.post(link)) == "signup_elsewhere"
    assert (await adas.post(link, json={"new_password": NEW})).status_code == 200
    assert await Passkey.all().count() == 0
    assert (await User.get()).second_factors == frozenset()
    refused = await nobody.sign_in()
    assert (refused.status_code, await code_of(refused)) == (401, "passkey_unknown")
    mine = Account(nobody.client, nobody.account.mailbox, EMAIL, NEW)
    assert (await mine.login()).status_code == 200


@pytest.mark.parametrize("silent", [True, False])
async def test_a_stranger_who_signs_up_later_neither_drops_nor_adds_a_passkey(
    silent: bool, nobody: Keys, browsers: Browsers, settings: AuthSettings
) -> None:
    """The other order: Ada was first, and verifies where she signed up or with her passkey elsewhere."""
    settings.prevent_enumeration = silent
    adas, eves = browsers
    assert (await nobody.sign_up(adas)).status_code == 201
    link = nobody.account.mailbox.link()
    eve = Keys(nobody.account, Checked(ORIGIN))
    by_key, status = await eve.sign_up(eves), 201 if silent else 400
    by_password = await eves.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    assert (by_key.status_code, by_password.status_code) == (status, status)
    assert (await User.get()).signup_binding is not None
    assert (await eves.post(link)).status_code == 403
    token = {"token": link.rpartition("/")[2]}
    options = (await eves.post("/auth/passkey/verify/options", json=token)).json()
    with pytest.raises(LookupError):
        eve.authenticator.get(options)
    shown = {**token, "credential": nobody.authenticator.get(options)}
    assert (await eves.post("/auth/passkey/verify", json=shown)).status_code == 200
    assert (await nobody.sign_in()).status_code == 200
    assert (await eve.sign_in()).status_code == 401


async def test_a_signup_has_one_way_in(nobody: Keys) -> None:
    asked = {"email": EMAIL}
    options = (await nobody.client.post("/auth/passkey/sign-up/options", json=asked)).json()
    both = {**asked, "password": PASSWORD, "credential": nobody.authenticator.create(options)}
    for body in (both, asked):
        assert (await nobody.client.post("/auth/signup", json=body)).status_code == 422
    assert await User.all().count() == 0


async def test_a_user_without_a_password_sets_one_and_signs_in_with_both(without_password: Keys) -> None:
    keys = without_password
    for path, body in (
        ("/account/change-password", {"old_password": "", "new_password": NEW}),
        ("/auth/reauthenticate", {}),
    ):
        refused = await keys.ask("POST", path, body)
        assert await code_of(refused) in ("password_not_set", "validation_error"), path
    assert (await keys.ask("POST", "/account/set-password", {"new_password": NEW})).status_code == 204
    assert (await keys.sign_in()).status_code == 200
    keys.account.password = NEW
    assert (await keys.account.login()).status_code == 200
    assert (await keys.ask("DELETE", f"{OWN}/{(await Passkey.get()).id}")).status_code == 204


async def test_a_user_without_a_password_changes_the_address_and_deletes_the_account(
    without_password: Keys, settings: AuthSettings, clock: Clock
) -> None:
    keys, settings.reauth_ttl = without_password, timedelta(minutes=2)
    clock.advance(minutes=3)
    change = {"email": "new@example.com"}
    assert await code_of(await keys.ask("PATCH", "/account", change)) == "reauthentication_required"
    options = await keys.options("/auth/passkey/reauthenticate/options")
    body = {"credential": keys.authenticator.get(options)}
    assert (await keys.ask("POST", "/auth/passkey/reauthenticate", body)).status_code == 200
    assert (await keys.ask("PATCH", "/account", change)).status_code == 200
    link = keys.account.mailbox.link("new@example.com")
    assert (await keys.client.post(link)).status_code == 200
    assert (await keys.sign_in()).status_code == 200
    assert (await keys.ask("GET", "/auth/me")).json()["email"] == "new@example.com"
    totp = await enrol(keys.account)
    assert (await post(keys.account, "/auth/2fa/verify", code=totp.at(clock()))).status_code == 200
    assert (await keys.sign_in()).status_code == 200, "a passkey is two factors"
    assert (await keys.ask("DELETE", "/account")).status_code == 204
    assert await Passkey.all().count() == 0
    assert await code_of(await keys.sign_in()) == "passkey_unknown"


async def test_a_user_without_a_password_who_loses_the_passkey_comes_back_by_mail(
    without_password: Keys,
) -> None:
    keys = without_password
    await keys.client.post("/auth/forgot-password", json={"email": EMAIL})
    answer = await keys.client.post(keys.account.mailbox.link(), json={"new_password": NEW})
    assert answer.status_code == 200, answer.text
    keys.account.password = NEW
    assert (await keys.account.login()).status_code == 200


@on_each_database
async def test_the_last_way_in_stays_also_of_two_that_are_removed_at_once(without_password: Keys) -> None:
    keys = without_password
    (first,) = (await keys.ask("GET", OWN)).json()
    refused = await keys.ask("DELETE", f"{OWN}/{first['id']}")
    assert (refused.status_code, await code_of(refused)) == (409, "last_way_in")
    keys.authenticator = Checked(ORIGIN)
    second = (await keys.add()).json()
    both = await asyncio.gather(*(keys.ask("DELETE", f"{OWN}/{each['id']}") for each in (first, second)))
    assert sorted(answer.status_code for answer in both) == [204, 409]
    assert await Passkey.all().count() == 1


async def test_a_key_beside_a_password_and_a_passkey_that_is_held_are_not_ways_in(
    without_password: Keys,
) -> None:
    keys = without_password
    (first,) = (await keys.ask("GET", OWN)).json()
    keys.authenticator = Checked(ORIGIN)
    assert (await keys.add(second_factor=True)).status_code == 201
    assert await code_of(await keys.ask("DELETE", f"{OWN}/{first['id']}")) == "last_way_in"
    keys.authenticator = Checked(ORIGIN)
    third = (await keys.add()).json()
    await Passkey.filter(id=third["id"]).update(held_since=(await User.get()).created_at)
    assert await code_of(await keys.ask("DELETE", f"{OWN}/{first['id']}")) == "last_way_in"


# After a reset


@on_each_database
async def test_after_a_reset_a_passkey_signs_in_once_its_owner_has_kept_it(keys: Keys) -> None:
    """Who has read the mailbox for a while may have added one (ASVS V6.4.3, V7.4.3)."""
    passkey = (await keys.add()).json()
    await keys.client.post("/auth/forgot-password", json={"email": EMAIL})
    reset = await keys.client.post(keys.account.mailbox.link(), json={"new_password": NEW})
    assert reset.status_code == 200
    refused = await keys.sign_in()
    assert (refused.status_code, await code_of(refused)) == (403, "passkey_held")
    keys.account.password = NEW
    assert (await keys.account.login()).status_code == 200
    (shown,) = (await keys.ask("GET", OWN)).json()
    assert shown["held"] is True
    kept = await keys.ask("PATCH", f"{OWN}/{passkey['id']}", {"keep": True})
    assert kept.json()["held"] is False
    assert (await keys.sign_in()).status_code == 200


async def test_a_passkey_does_not_sign_in_after_an_administrator_has_ended_all_access(
    keys: Keys, auth: Auth
) -> None:
    await keys.add()
    await end_sessions(auth, (await User.get()).id)
    assert await code_of(await keys.sign_in()) == "passkey_held"


# What an app asks for


async def test_a_passkey_is_the_two_factors_that_an_app_requires(keys: Keys, settings: AuthSettings) -> None:
    """NIST SP 800-63B-4 section 2.2.1: a multi-factor authenticator alone is AAL2; ASVS V6.3.3."""
    settings.require_two_factor = True
    assert await code_of(await keys.ask("GET", "/notes")) == "two_factor_enrolment_required"
    assert (await keys.add()).status_code == 201
    assert (await keys.ask("GET", "/notes")).status_code == 200, "this session has shown it"
    assert (await keys.sign_in()).status_code == 200
    assert (await keys.ask("GET", "/notes")).status_code == 200
    assert await code_of(await keys.account.login()) == "two_factor_required"
    answer = await keys.client.post("/auth/login", json=await keys.second_factor())
    assert answer.status_code == 200
    keys.account.access_token = answer.json()["access_token"]
    assert (await keys.ask("GET", "/notes")).status_code == 200


async def test_a_session_without_the_passkey_is_stepped_up_where_two_factor_is_required_later(
    keys: Keys, settings: AuthSettings
) -> None:
    await keys.add()
    assert (await keys.account.login()).status_code == 200
    settings.require_two_factor = True
    refused = await keys.ask("GET", "/notes")
    assert (refused.status_code, await code_of(refused)) == (403, "step_up_required")
    options = await keys.options("/auth/passkey/reauthenticate/options")
    body = {"credential": keys.authenticator.get(options)}
    assert (await keys.ask("POST", "/auth/passkey/reauthenticate", body)).status_code == 200
    assert (await keys.ask("GET", "/notes")).status_code == 200


async def test_a_route_may_ask_for_a_factor_that_no_look_alike_passes_on(keys: Keys, clock: Clock) -> None:
    """NIST SP 800-63B-4 section 3.2.5."""
    assert await code_of(await keys.ask("GET", "/vault")) == "step_up_required"
    totp = await enrol(keys.account)
    assert (await post(keys.account, "/auth/2fa/verify", code=totp.at(clock()))).status_code == 200
    assert await code_of(await keys.ask("GET", "/vault")) == "step_up_required"
    assert (await keys.add()).status_code == 201
    assert (await keys.ask("GET", "/vault")).status_code == 200
    clock.advance(seconds=31)
    assert (await keys.account.login(totp.at(clock()))).status_code == 200
    assert await code_of(await keys.ask("GET", "/vault")) == "step_up_required"
    assert (await keys.sign_in()).status_code == 200
    assert (await keys.ask("GET", "/vault")).status_code == 200


async def test_a_personal_token_neither_sees_nor_adds_passkeys(keys: Keys) -> None:
    added = (await keys.add()).json()
    body = {"name": "build", "scopes": []}
    made = await keys.ask("POST", "/account/tokens", {**body, "scopes": ["notes:read"]})
    if made.status_code != 201:  # the user lacks the permission
        await User.all().update(permissions=["notes:read"])
        made = await keys.ask("POST", "/account/tokens", {**body, "scopes": ["notes:read"]})
    keys.account.access_token = made.json()["token"]
    for method, path in (
        ("GET", OWN),
        ("POST", f"{OWN}/options"),
        ("GET", f"{OWN}/{added['id']}"),
        ("DELETE", f"{OWN}/{added['id']}"),
        ("POST", "/auth/passkey/reauthenticate/options"),
    ):
        assert (await keys.ask(method, path)).status_code == 401, path
    assert await Passkey.all().count() == 1


async def test_who_is_signed_in_by_a_passkey_is_one_query(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    await keys.add()
    await keys.sign_in()
    with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
        caplog.clear()
        assert (await keys.account.me()).status_code == 200
        assert len([line for line in caplog.messages if STATEMENT.match(line)]) == 1
        caplog.clear()
        assert (await keys.client.post("/auth/passkey/options")).status_code == 200
        assert not [line for line in caplog.messages if STATEMENT.match(line)], (
            "anonymous requests store nothing"
        )


async def test_a_socket_opens_for_a_session_that_has_shown_the_passkey(
    tmp_path: Path, settings: AuthSettings, clock: Clock, mailbox: Mailbox
) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models = {"models": ["fastapi_pluggable_auth.models"]}
        await Tortoise.init(db_url=f"sqlite://{tmp_path / 'sockets.sqlite3'}", modules=models)
        await Tortoise.generate_schemas()
        yield
        await Tortoise.close_connections()

    app = FastAPI(lifespan=lifespan)
    include_auth(app, settings=settings, clock=clock, features=[Passkeys()])

    @app.websocket("/feed")
    async def feed(websocket: WebSocket, user: CurrentWebSocketUser) -> None:
        await websocket.accept("bearer")
        await websocket.send_text(user.email)
        await websocket.close()

    async def greeting(token: str) -> str:
        bearer = [Subprotocol("bearer"), Subprotocol(token)]
        try:
            async with connect(
                f"{base.replace('http', 'ws')}/feed", proxy=None, subprotocols=bearer
            ) as socket:
                return str(await socket.recv())
        except InvalidStatus as error:
            return str(error.response.status_code)

    with serving(app, ws=PROTOCOL) as base:
        async with httpx.AsyncClient(base_url=base, timeout=30) as client:
            account = {"email": EMAIL, "password": PASSWORD}
            await client.post("/auth/signup", json=account)
            await asyncio.to_thread(mailbox.server.wait_for, 1)
            await client.get(mailbox.link())
            keys = Keys(Account(client, mailbox, EMAIL, PASSWORD), Checked(ORIGIN))
            await keys.account.login()
            await keys.add()
            await keys.account.login()
            by_password = keys.account.access_token
            settings.require_two_factor = True
            await keys.sign_in()
            assert await greeting(by_password) == "403"
            assert await greeting(keys.account.access_token) == EMAIL


# What it costs an app without it


def test_an_app_without_passkeys_imports_neither_the_feature_nor_its_library() -> None:
    work = (
        "import sys; sys.modules['fido2'] = None\n"
        "from fastapi import FastAPI\n"
        "from fastapi_pluggable_auth import AuthSettings, include_auth\n"
        f"include_auth(FastAPI(), settings=AuthSettings(_env_file=None, jwt_secret={SECRET!r}), pages=True)\n"
        "print(*(each for each in sys.modules if 'passkeys.' in each))\n"
        "import fastapi_pluggable_auth.cli, fastapi_pluggable_auth.testing"
    )
    told = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True).stdout
    assert {each.rpartition("passkeys.")[2] for each in told.split()} <= {"models"}


def test_an_app_with_passkeys_says_at_its_start_which_extra_is_missing() -> None:
    work = (
        "import sys; sys.modules['fido2'] = None\n"
        "from fastapi import FastAPI\n"
        "from fastapi_pluggable_auth import AuthSettings, include_auth\n"
        "from fastapi_pluggable_auth.features import Passkeys\n"
        f"settings = AuthSettings(_env_file=None, jwt_secret={SECRET!r})\n"
        "include_auth(FastAPI(), settings=settings, features=[Passkeys()])"
    )
    failed = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True)
    assert failed.returncode == 1
    assert "pip install 'fastapi-pluggable-auth[passkeys]'" in failed.stderr


async def test_every_session_of_a_passkey_says_so(keys: Keys) -> None:
    """RFC 8176; the export, the list of sessions and tokens agree."""
    await keys.add()
    await keys.sign_in()
    sessions = await Session.all().order_by("created_at")
    assert [session.factors for session in sessions] == ["pwd passkey", "passkey"]
    export = (await keys.ask("GET", "/account/export")).json()
    assert [each["name"] for each in export["passkeys"]] == ["Passkey"]
