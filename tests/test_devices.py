"""Trusted devices: no second factor is asked for there, for a while; nothing else is spared."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Any

import httpx
import pyotp
import pytest
from fastapi import Depends, FastAPI
from pydantic import ValidationError

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth, require
from fastapi_pluggable_auth.models import Device, User

from .conftest import (
    EMAIL,
    PASSWORD,
    SQLITE_UNLESS_FULL,
    Account,
    Clock,
    Mailbox,
    claims_of,
    on_each_database,
)
from .form_browser import BROWSER, FormBrowser, Page
from .test_password import forgot
from .test_password import reset as reset_by_link
from .test_twofa import totp

__all__ = ["totp"]

DIALECTS = SQLITE_UNLESS_FULL
NEW = "another horse battery"


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    settings.trusted_device_ttl = timedelta(days=14)
    return settings


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    include_auth(
        app, settings=settings, clock=clock, pages=True, trust_device=lambda user: user.display_name != "No"
    )

    @app.get("/secret")
    async def secret(user: Annotated[Any, Depends(require(two_factor=True, recent=True))]) -> str:
        return str(user.email)

    @app.get("/known")
    async def known(user: Annotated[Any, Depends(require(two_factor=True))]) -> str:
        return str(user.email)

    return app


async def sign_in(account: Account, device: str | None = None, **more: Any) -> httpx.Response:
    body = {"email": account.email, "password": account.password, "device": device, **more}
    answer = await account.client.post("/auth/login", json=body)
    if answer.status_code == 200:
        account.access_token = answer.json()["access_token"]
    return answer


async def trusted(account: Account, totp: pyotp.TOTP, clock: Clock) -> str:
    """Signs in with the code on a device that is trusted from now on."""
    answer = await sign_in(account, code=totp.at(clock()), trust_device=True)
    assert answer.status_code == 200, answer.text
    clock.advance(minutes=1)
    device: str = answer.json()["device"]
    return device


def needs_code(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json()["code"]) == (401, "two_factor_required")


async def test_a_trusted_device_spares_the_code_again_and_again_until_the_trust_ends(
    totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    device = await trusted(account, totp, clock)
    for _ in range(13):
        answer = await sign_in(account, device)
        assert answer.status_code == 200, answer.text
        assert claims_of(answer.json()["access_token"])["amr"] == ["pwd", "device"]
        assert answer.json()["device"] == device
        clock.advance(days=1)
    clock.advance(days=1)
    assert needs_code(await sign_in(account, device))
    # It is known still, and is trusted anew with another code.
    assert (await sign_in(account, device, code=totp.at(clock()), trust_device=True)).status_code == 200
    clock.advance(days=13)
    assert (await sign_in(account, device)).status_code == 200


async def test_it_spares_no_password_and_a_stolen_one_is_worth_nothing(
    totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    device = await trusted(account, totp, clock)
    body = {"email": EMAIL, "password": "wrong horse battery", "device": device}
    answer = await account.client.post("/auth/login", json=body)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")


async def test_logins_that_it_has_spared_a_code_start_the_count_of_wrong_passwords_anew(
    totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    """Else it would be unknown after twenty typos of years."""
    device = await trusted(account, totp, clock)
    body = {"email": EMAIL, "password": "wrong horse battery", "device": device}
    for _ in range(20):
        assert (await account.client.post("/auth/login", json=body)).status_code == 401
        assert (await sign_in(account, device)).status_code == 200


async def test_a_login_that_it_has_spared_a_code_is_not_recent_until_one_is_shown(
    totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    """ASVS 7.5.3: who knows the password and has the device does not switch two-factor off."""
    assert (await sign_in(account, await trusted(account, totp, clock))).status_code == 200
    for method, path in (("POST", "/account/2fa/disable"), ("GET", "/secret")):
        refused = await account.client.request(method, path, headers=account.headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "reauthentication_required")
    assert (await account.client.get("/known", headers=account.headers)).status_code == 200
    again = {"password": PASSWORD}
    refused = await account.client.post("/auth/reauthenticate", json=again, headers=account.headers)
    assert needs_code(refused)
    shown = again | {"code": totp.at(clock())}
    assert (
        await account.client.post("/auth/reauthenticate", json=shown, headers=account.headers)
    ).status_code == 200
    assert (await account.client.get("/secret", headers=account.headers)).status_code == 200


async def test_only_a_real_code_on_a_device_of_its_own_makes_one_trusted(
    totp: pyotp.TOTP, account: Account, clock: Clock, register: Any
) -> None:
    device = (await sign_in(account, code=totp.at(clock()))).json()["device"]
    assert needs_code(await sign_in(account, device, trust_device=True))
    assert needs_code(await sign_in(account, device))
    clock.advance(minutes=1)
    # Without `device` the client is not known again.
    body = {"email": EMAIL, "password": PASSWORD, "code": totp.at(clock()), "trust_device": True}
    assert (await account.client.post("/auth/login", json=body)).status_code == 200
    assert not await Device.filter(trusted_at__not_isnull=True).exists()
    clock.advance(minutes=1)
    mine = await trusted(account, totp, clock)
    eve = await register("eve@example.com")
    theirs = (await sign_in(eve, trust_device=True)).json()["device"]
    assert (await Device.get(user_id=(await User.get(email=eve.email)).id)).trusted_at is None
    assert needs_code(await sign_in(account, theirs))
    assert (await sign_in(account, mine)).status_code == 200


async def test_trust_is_the_choice_of_the_app(
    totp: pyotp.TOTP, account: Account, clock: Clock, auth: Auth, settings: AuthSettings
) -> None:
    device = await trusted(account, totp, clock)
    settings.trusted_device_ttl = timedelta(hours=1)  # it ends earlier, also for one that was trusted before
    clock.advance(hours=2)
    assert needs_code(await sign_in(account, device))
    settings.trusted_device_ttl = timedelta(days=14)
    await User.all().update(display_name="No")
    assert needs_code(await sign_in(account, device))
    await User.all().update(display_name=None)
    settings.trusted_device_ttl = timedelta(0)
    assert needs_code(await sign_in(account, device))
    with pytest.raises(ValidationError, match="30 days"):
        AuthSettings(_env_file=None, trusted_device_ttl=timedelta(days=31))


@pytest.mark.parametrize("how", ["reset", "password", "administrator", "removed"])
async def test_trust_ends_with_what_the_device_is_known_by(
    how: str, totp: pyotp.TOTP, account: Account, clock: Clock, mailbox: Mailbox, auth: Auth
) -> None:
    device = await trusted(account, totp, clock)
    if how == "reset":
        await reset_by_link(account.client, await forgot(account.client, mailbox), NEW)
        account.password = NEW
    elif how == "password":
        await sign_in(account, code=totp.at(clock()))  # elsewhere
        clock.advance(minutes=1)
        changed = await account.client.post(
            "/account/change-password",
            json={"old_password": PASSWORD, "new_password": NEW},
            headers=account.headers,
        )
        assert changed.status_code == 204, changed.text
        account.password = NEW
    elif how == "administrator":
        from fastapi_pluggable_auth.features.administration.users import end_sessions

        await end_sessions(auth, (await User.get()).id)
    else:
        listed = await account.client.get("/account/devices", headers=account.headers)
        (own,) = listed.json()
        assert (own["current"], own["trusted_until"] is not None) == (True, True)
        path = f"/account/devices/{own['id']}"
        assert (await account.client.delete(path, headers=account.headers)).status_code == 204
        gone = await account.client.delete(path, headers=account.headers)
        assert (gone.status_code, gone.json()["code"]) == (404, "device_not_found")
    assert needs_code(await sign_in(account, device))


async def test_nobody_removes_the_device_of_another(
    totp: pyotp.TOTP, account: Account, clock: Clock, register: Any
) -> None:
    device = await trusted(account, totp, clock)
    (own,) = (await account.client.get("/account/devices", headers=account.headers)).json()
    eve = await register("eve@example.com")
    for wrong in (own["id"], "x", "00000000-0000-0000-0000-000000000000"):
        refused = await eve.client.delete(f"/account/devices/{wrong}", headers=eve.headers)
        assert (refused.status_code, refused.json()["code"]) == (404, "device_not_found")
    assert (await eve.client.get("/account/devices", headers=eve.headers)).json() == []
    assert (await sign_in(account, device)).status_code == 200


@on_each_database
async def test_logins_beside_a_removal_are_before_it_or_ask_for_the_code(
    totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    device = await trusted(account, totp, clock)
    (own,) = (await account.client.get("/account/devices", headers=account.headers)).json()
    headers = account.headers
    removal = account.client.delete(f"/account/devices/{own['id']}", headers=headers)
    answers = await asyncio.gather(*(sign_in(account, device) for _ in range(3)), removal)
    assert answers[-1].status_code == 204
    assert {answer.status_code for answer in answers[:-1]} <= {200, 401}
    assert needs_code(await sign_in(account, device))


async def test_the_box_of_the_code_page_makes_the_browser_trusted_and_the_security_page_ends_it(
    totp: pyotp.TOTP, account: Account, clock: Clock, app: FastAPI
) -> None:
    transport, base = httpx.ASGITransport(app), "http://localhost:8000"
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=BROWSER) as client:
        browser = FormBrowser(client)

        async def sign_in() -> Page:
            for cookie in [*client.cookies.jar]:
                if "device" not in cookie.name:
                    client.cookies.delete(cookie.name)
            await browser.open("/account/sign-in")
            return await browser.submit("sign-in", email=EMAIL, password=PASSWORD)

        page = await sign_in()
        assert "trust" in page.form("sign-in/code").fields
        await browser.submit("sign-in/code", code=totp.at(clock()), trust="yes")
        clock.advance(minutes=1)
        page = await sign_in()
        assert "sign-in" not in page.path, page.path
        page = await browser.open("/account/security")
        (button,) = [each for each in page.form("device").buttons if each["name"] == "device"]
        page = await browser.submit("device", device=button["value"])
        assert "The device is not trusted any more." in page.text
        page = await sign_in()
        assert "trust" in page.form("sign-in/code").fields
