"""Devices without a browser, which their users let in from another one (RFC 8628)."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.events import SecurityEvent
from fastapi_pluggable_auth.features import Administration, Feature, OAuthServer
from fastapi_pluggable_auth.features.oauth_server.clients import delete_client, disable_client
from fastapi_pluggable_auth.features.oauth_server.models import AUTHORIZATION_CODE, DEVICE_CODE
from fastapi_pluggable_auth.features.oauth_server.names import ApplicationAuthorised, BeforeConsent
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.hooks import Refused
from fastapi_pluggable_auth.models import OAuthDevice, OAuthGrant, OAuthToken, User

from .conftest import EMAIL, PASSWORD, Account, Clock, Database, Mailbox, on_each_database
from .form_browser import FormBrowser, Page
from .oauth_program import (
    ISSUER,
    RESOURCES,
    SCOPES,
    Program,
    add_notes,
    browser_of,
    code_for,
    registered,
    signed_in,
)
from .test_host_transactions import wrap_by_dispatch

DIALECTS = ("sqlite",)
ROUNDS = int(os.environ.get("TEST_RACE_ROUNDS", "2"))
PAGE = "/account/device"
EVE = "eve@example.com"


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    features: list[Feature] = [OAuthServer(resources=RESOURCES, scopes=SCOPES), Administration()]
    include_auth(app, settings=settings, clock=clock, features=features, pages=True)
    add_notes(app)
    return app


@pytest.fixture
async def user(app: FastAPI, account: Account) -> FormBrowser:
    """The browser of the user."""
    return await signed_in(app, account)


@pytest.fixture
async def eve(app: FastAPI, account: Account, register: Callable[..., Any]) -> FormBrowser:
    """That of somebody else."""
    return await signed_in(app, await register(EVE))


@pytest.fixture
async def device(auth: Auth, client: httpx.AsyncClient) -> Program:
    """A device: a public client that has no browser."""
    return await registered(auth, client, grant_types=[AUTHORIZATION_CODE, DEVICE_CODE])


async def begun(device: Program, **changed: Any) -> dict[str, Any]:
    answer = await device.begin(**changed)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


async def typed(browser: FormBrowser, user_code: str) -> Page:
    """What the browser shows after the code."""
    await browser.open(PAGE)
    return await browser.submit("user_code", user_code=user_code)


async def decided(browser: FormBrowser, user_code: str, decision: str = "allow") -> Page:
    page = await typed(browser, user_code)
    assert page.status == 200, page.text
    return await browser.submit("decide", decision=decision)


async def said(device: Program, device_code: str, **changed: Any) -> str:
    """Why a device gets nothing."""
    answer = await device.poll(device_code, **changed)
    assert answer.status_code in (400, 403), answer.text
    error: str = answer.json()["error"]
    return error


async def test_a_device_is_let_in_by_the_code_that_it_shows(
    app: FastAPI,
    client: httpx.AsyncClient,
    account: Account,
    auth: Auth,
    user: FormBrowser,
    device: Program,
    clock: Clock,
    mailbox: Mailbox,
) -> None:
    """RFC 8628 sections 3.1 to 3.5, from the metadata on."""
    heard: list[tuple[str, str]] = []

    @auth.on(SecurityEvent)
    async def hear(event: SecurityEvent) -> None:
        heard.append((str(event.kind), str(event.outcome)))

    authorised = []

    @auth.on(ApplicationAuthorised)
    async def allowed(event: ApplicationAuthorised[User]) -> None:
        authorised.append((event.user.email, event.client_id, sorted(event.scopes)))

    server = (await client.get("/.well-known/oauth-authorization-server")).json()
    assert server["device_authorization_endpoint"] == f"{ISSUER}/oauth/device_authorization"
    assert DEVICE_CODE in server["grant_types_supported"]
    answer = await device.begin()
    assert answer.headers["cache-control"] == "no-store"
    codes = answer.json()
    assert codes.keys() == {
        *("device_code", "user_code", "verification_uri", "verification_uri_complete"),
        *("expires_in", "interval"),
    }
    assert (codes["expires_in"], codes["interval"]) == (600, 5)
    assert codes["verification_uri"] == f"{ISSUER}{PAGE}"
    assert codes["verification_uri_complete"] == f"{ISSUER}{PAGE}?user_code={codes['user_code']}"
    left, dash, right = codes["user_code"].partition("-")
    assert (len(left), dash, len(right)) == (4, "-", 4)
    assert not set(left + right) & set("AEIOUY0123456789")
    at_rest = str([dict(vars(row)) for row in await OAuthDevice.all()])
    for secret in (codes["device_code"], codes["user_code"], left + right):
        assert secret not in at_rest
    assert await said(device, codes["device_code"]) == "authorization_pending"
    page = await typed(user, codes["user_code"])
    for shown in ("Desk", "Read your notes", codes["user_code"], EMAIL, "just started this yourself"):
        assert shown in page.text
    assert "Change your notes" not in page.text
    page = await user.submit("decide", decision="allow")
    assert (page.path, page.status) == (PAGE, 200)
    assert "The device is connected" in page.text
    exchanged = await device.poll(codes["device_code"])
    assert (exchanged.status_code, exchanged.headers["cache-control"]) == (200, "no-store")
    assert exchanged.json()["scope"] == "notes:read"
    assert (await device.get()).json() == {"email": EMAIL}
    assert (await device.get("/mcp/notes")).status_code == 401
    assert (await device.refresh()).status_code == 200
    assert authorised == [(EMAIL, device.client_id, ["notes:read"])]
    kinds = [kind for kind, _ in heard if kind.startswith(("oauth", "application"))]
    assert kinds == ["application_authorised", "oauth_token"]
    (mail,) = mailbox.messages[-1:]
    assert "Desk is connected" in mail["Subject"]
    assert "(localhost)" in mail.as_string()
    assert (await user.open("/account/security/applications")).text.count("Desk") >= 1
    assert (await device.revoke(device.tokens["refresh_token"])).status_code == 200
    assert (await device.get()).status_code == 401


@pytest.mark.parametrize(
    "spelling", [str.lower, lambda code: f"  {code.replace('-', ' – ')}\t ", str.swapcase]
)
async def test_a_code_is_typed_in_any_case_with_blanks_and_dashes_or_without(
    user: FormBrowser, device: Program, spelling: Callable[[str], str]
) -> None:
    """RFC 8628 section 6.1."""
    codes = await begun(device)
    await decided(user, spelling(codes["user_code"]))
    assert (await device.poll(codes["device_code"])).status_code == 200


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"client_id": "c_unknown"}, "invalid_client"),
        ({"client_id": None}, "invalid_client"),
        ({"client_secret": "ocs_x"}, "invalid_client"),
        ({"scope": "notes:read unknown"}, "invalid_scope"),
        ({"resource": f"{ISSUER}/elsewhere"}, "invalid_target"),
        ({"scope": ["notes:read", "notes:read"]}, "invalid_request"),
    ],
)
async def test_a_device_that_asks_for_what_it_may_not_have_gets_no_code(
    device: Program, changed: dict[str, Any], error: str
) -> None:
    answer = await device.begin(**changed)
    assert answer.json()["error"] == error
    assert not await OAuthDevice.exists()


async def test_only_a_client_of_this_grant_type_begins(auth: Auth, client: httpx.AsyncClient) -> None:
    without = await registered(auth, client)
    assert (await without.begin()).json()["error"] == "unauthorized_client"
    assert await said(without, "odc_x") == "unauthorized_client"


async def test_a_confidential_device_has_to_authenticate(auth: Auth, client: httpx.AsyncClient) -> None:
    """RFC 8628 section 3.1: as at the token endpoint."""
    device = await registered(auth, client, confidential=True, grant_types=[DEVICE_CODE, AUTHORIZATION_CODE])
    assert (await Program(client, device.client_id).begin()).status_code == 401
    assert (await device.begin()).status_code == 200


async def test_a_device_that_asks_too_often_has_to_wait_longer_each_time(
    device: Program, clock: Clock, user: FormBrowser
) -> None:
    """RFC 8628 section 3.5: five seconds more, from then on."""
    code = (await begun(device))["device_code"]
    for wait, expected in (
        (0, "authorization_pending"),
        (3, "slow_down"),
        (9, "authorization_pending"),
        (8, "slow_down"),
        (13, "slow_down"),
        (20, "authorization_pending"),
        (19, "authorization_pending"),
    ):
        clock.advance(seconds=wait)
        assert await said(device, code) == expected, wait
    assert (await OAuthDevice.get()).interval == 20


async def test_a_device_code_ends_to_the_second(user: FormBrowser, device: Program, clock: Clock) -> None:
    """Whether its user has not answered, has the page open, or has allowed it."""
    waits, opened, allowed, late = [await begun(device) for _ in range(4)]
    await decided(user, allowed["user_code"])
    await typed(user, opened["user_code"])
    clock.advance(seconds=599)
    assert await said(device, waits["device_code"]) == "authorization_pending"
    clock.advance(seconds=1)
    for codes in (waits, opened, allowed):
        assert await said(device, codes["device_code"]) == "expired_token"
    page = await user.submit("decide", decision="allow")
    assert (page.status, "took too long" in page.text) == (400, True)
    assert (await typed(user, late["user_code"])).status == 400


async def test_the_last_second_is_good(user: FormBrowser, device: Program, clock: Clock) -> None:
    codes = await begun(device)
    clock.advance(seconds=599)
    await decided(user, codes["user_code"])
    assert (await device.poll(codes["device_code"])).status_code == 200
    clock.advance(seconds=60)
    assert (await device.get()).status_code == 200


async def test_what_has_expired_is_purged(
    auth: Auth, user: FormBrowser, device: Program, clock: Clock
) -> None:
    codes, used = await begun(device), await begun(device)
    await decided(user, used["user_code"])
    assert (await device.poll(used["device_code"])).status_code == 200
    clock.advance(seconds=601)
    await purge(auth)
    assert not await OAuthDevice.exists()
    assert await said(device, codes["device_code"]) == "invalid_grant"
    assert (await device.get()).status_code == 200


async def test_a_link_to_the_page_allows_nothing_and_binds_nothing(
    app: FastAPI, account: Account, user: FormBrowser, device: Program, eve: FormBrowser
) -> None:
    """RFC 8628 section 5.4, phishing by a device: the code is filled in, and has to be posted, after which
    the page says what to look at; a forged post does nothing."""
    codes = await begun(device)
    link = codes["verification_uri_complete"].removeprefix(ISSUER)
    page = await user.open(link)
    assert page.form("user_code").fields["user_code"]["value"] == codes["user_code"]
    assert "just started this yourself" in page.text
    assert "Read your notes" not in page.text
    row = await OAuthDevice.get()
    assert (row.user_id, row.allowed_at) == (None, None)
    cross = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    hidden = page.form("user_code").hidden
    for headers, body in ((cross, hidden), ({}, {})):
        forged = await user.client.post(PAGE, data={**body, "user_code": codes["user_code"]}, headers=headers)
        assert forged.status_code == 403
        forged = await user.client.post(
            f"{PAGE}/decide", data={**body, "device": str(row.id), "decision": "allow"}, headers=headers
        )
        assert forged.status_code == 403
    assert (await OAuthDevice.get()).user_id is None
    assert (await user.open(f"{PAGE}?user_code=%3Cscript%3E")).form("user_code").fields["user_code"].get(
        "value", ""
    ) == ""


async def test_who_has_not_signed_in_does_so_first_and_comes_back_to_the_code(
    app: FastAPI, account: Account, device: Program
) -> None:
    stranger, codes = browser_of(app), await begun(device)
    page = await stranger.open(codes["verification_uri_complete"].removeprefix(ISSUER))
    assert page.path == "/account/sign-in"
    page = await stranger.submit("sign-in", email=account.email, password=PASSWORD)
    assert page.form("user_code").fields["user_code"]["value"] == codes["user_code"]


async def test_nobody_takes_over_a_code_that_another_one_has_typed(
    user: FormBrowser, eve: FormBrowser, device: Program
) -> None:
    codes = await begun(device)
    await typed(user, codes["user_code"])
    row = await OAuthDevice.get()
    refused = await typed(eve, codes["user_code"])
    assert refused.status == 400
    other = await begun(device)
    await typed(eve, other["user_code"])
    eve.page.form("decide").hidden["device"] = str(row.id)
    page = await eve.submit("decide", decision="allow")
    assert (page.status, "took too long" in page.text) == (400, True)
    assert await said(device, codes["device_code"]) == "authorization_pending"
    await user.submit("decide", decision="allow")
    assert (await device.poll(codes["device_code"])).status_code == 200
    assert (await device.get()).json() == {"email": EMAIL}


async def test_a_code_that_is_wrong_expired_spent_or_of_another_user_is_answered_the_same(
    user: FormBrowser, eve: FormBrowser, device: Program, clock: Clock
) -> None:
    old, spent, denied = [await begun(device) for _ in range(3)]
    await decided(user, spent["user_code"])
    await decided(user, denied["user_code"], "deny")
    clock.advance(seconds=600)
    theirs = await begun(device)
    await typed(eve, theirs["user_code"])
    wrong = (
        "BCDF-GHJK",
        "",
        "x" * 5000,
        "ÄÖÜ€",
        *(each["user_code"] for each in (old, spent, denied, theirs)),
    )
    answers = set()
    for each in wrong:
        page = await typed(user, each)
        answers.add((page.status, page.text.partition('id="problem"')[2].partition("</p>")[0]))
    ((status, text),) = answers
    assert (status, "not known, has expired, or was used already" in text) == (400, True)


async def test_wrong_codes_are_counted_for_the_account_and_right_ones_are_not(
    user: FormBrowser, eve: FormBrowser, device: Program, clock: Clock
) -> None:
    """RFC 8628 section 5.1: always, from any network, also without rate limits."""
    for _ in range(12):
        await decided(user, (await begun(device))["user_code"])
    for _ in range(10):
        assert (await typed(user, "BCDF-GHJK")).status == 400
    codes = await begun(device)
    page = await typed(user, codes["user_code"])
    assert (page.status, int(page.answer.headers["retry-after"]) > 0) == (429, True)
    assert (await OAuthDevice.filter(user_id=None).count()) == 1
    assert (await typed(eve, (await begun(device))["user_code"])).status == 200
    clock.advance(seconds=3600)
    assert (await typed(user, (await begun(device))["user_code"])).status == 200


async def test_nobody_fills_the_table_with_devices(device: Program, clock: Clock) -> None:
    """ASVS 2.4.1: a limit for each network, also without rate limits."""
    for _ in range(60):
        assert (await device.begin()).status_code == 200
    refused = await device.begin()
    assert (refused.status_code, refused.json()["error"]) == (429, "throttled")
    assert 0 < int(refused.headers["retry-after"]) <= 3600
    assert await OAuthDevice.all().count() == 60
    clock.advance(seconds=3600)
    assert (await device.begin()).status_code == 200


async def test_what_is_denied_stays_so(user: FormBrowser, device: Program) -> None:
    codes = await begun(device)
    page = await decided(user, codes["user_code"], "deny")
    assert "The device is not connected" in page.text
    for _ in range(2):
        assert await said(device, codes["device_code"]) == "access_denied"
    assert (await typed(user, codes["user_code"])).status == 400
    assert not await OAuthGrant.exists()


async def test_a_handler_of_the_app_takes_scopes_out_or_refuses(
    auth: Auth, user: FormBrowser, device: Program
) -> None:
    refuses = False

    @auth.on(BeforeConsent)
    async def rule(event: BeforeConsent[User]) -> None:
        event.scopes.discard("notes:write")
        if refuses:
            raise Refused("Not today.")

    codes = await begun(device, scope="notes:read notes:write")
    await decided(user, codes["user_code"])
    assert (await device.poll(codes["device_code"])).json()["scope"] == "notes:read"
    nothing = await begun(device, scope="notes:write")
    page = await decided(user, nothing["user_code"])
    assert "The device is not connected" in page.text
    refuses = True
    refused = await begun(device)
    await decided(user, refused["user_code"])
    for each in (nothing, refused):
        assert await said(device, each["device_code"]) == "access_denied"


@pytest.mark.parametrize("how", [disable_client, delete_client])
@pytest.mark.parametrize("when", ["typed", "allowed"])
async def test_a_device_whose_client_is_gone_gets_nothing(
    auth: Auth, user: FormBrowser, device: Program, how: Callable[..., Any], when: str
) -> None:
    codes = await begun(device)
    await typed(user, codes["user_code"])
    if when == "allowed":
        await user.submit("decide", decision="allow")
    await how(auth, device.client_id)
    if when == "typed":
        page = await user.submit("decide", decision="allow")
        assert (page.status, "took too long" in page.text) == (400, True)
    assert (await device.poll(codes["device_code"])).json()["error"] == "invalid_client"
    assert not await OAuthGrant.exists()


@pytest.mark.parametrize("what", ["disabled", "reset", "deleted"])
async def test_a_device_of_an_account_whose_access_has_ended_gets_nothing(
    user: FormBrowser, account: Account, device: Program, what: str
) -> None:
    codes, waits = await begun(device), await begun(device)
    await decided(user, codes["user_code"])
    await typed(user, waits["user_code"])
    if what == "disabled":
        await User.all().update(is_active=False)
    elif what == "deleted":
        await User.all().delete()
    else:
        await account.client.post("/auth/forgot-password", json={"email": EMAIL})
        link = account.mailbox.token(EMAIL)
        body = {"new_password": "another good one"}
        assert (await account.client.post(f"/auth/reset-password/{link}", json=body)).status_code == 200
    page = await user.submit("decide", decision="allow")
    assert page.path == "/account/sign-in"
    assert await said(device, codes["device_code"]) == "invalid_grant"
    assert await OAuthDevice.filter(allowed_at=None).count() == (0 if what == "deleted" else 1)


async def test_a_device_code_is_good_for_its_own_client_once(
    auth: Auth, user: FormBrowser, device: Program, client: httpx.AsyncClient
) -> None:
    """A replay ends what it gave, as of other codes (RFC 9700 section 4.5); of another client also."""
    other = await registered(auth, client, grant_types=[DEVICE_CODE, AUTHORIZATION_CODE])
    for again in (device, other):
        codes = await begun(device)
        assert await said(other, codes["device_code"]) == "invalid_grant"
        await decided(user, codes["user_code"])
        assert await said(other, codes["device_code"]) == "invalid_grant"
        assert (await device.poll(codes["device_code"])).status_code == 200
        assert (await device.get()).status_code == 200
        assert await said(again, codes["device_code"]) == "invalid_grant"
        assert (await device.get()).status_code == 401
        assert await said(device, codes["device_code"]) == "invalid_grant"


async def test_no_code_is_good_in_the_place_of_another_kind(
    auth: Auth, user: FormBrowser, device: Program
) -> None:
    """RFC 9700 section 4.10."""
    codes = await begun(device)
    await decided(user, codes["user_code"])
    assert (await device.exchange(codes["device_code"])).json()["error"] == "invalid_grant"
    assert (await device.refresh(codes["device_code"])).json()["error"] == "invalid_grant"
    assert (await device.get(token=codes["device_code"])).status_code == 401
    assert (await device.revoke(codes["device_code"])).status_code == 200
    code = await code_for(auth, device)
    assert await said(device, code) == "invalid_grant"
    assert await said(device, codes["user_code"]) == "invalid_grant"
    assert await said(device, "") == "invalid_request"
    assert (await device.exchange(code)).status_code == 200
    tokens = dict(device.tokens)
    for token in tokens["access_token"], tokens["refresh_token"]:
        assert await said(device, token) == "invalid_grant"
    assert (await device.poll(codes["device_code"])).status_code == 200


async def test_an_administrator_who_acts_as_a_user_lets_no_device_in(
    account: Account, register: Callable[..., Any], device: Program
) -> None:
    await User.filter(email=EMAIL).update(is_superuser=True)
    await register(EVE)
    eve = await User.get(email=EVE)
    await account.login()
    began = await account.client.post(f"/admin/users/{eve.id}/impersonate", headers=account.headers)
    acting = {"Authorization": f"Bearer {began.json()['access_token']}"}
    codes = await begun(device)
    answer = await account.client.post(PAGE, data={"user_code": codes["user_code"]}, headers=acting)
    assert answer.status_code == 403
    row = await OAuthDevice.get()
    assert row.user_id is None
    await OAuthDevice.all().update(user_id=eve.id)
    body = {"device": str(row.id), "decision": "allow"}
    answer = await account.client.post(f"{PAGE}/decide", data=body, headers=acting)
    assert answer.status_code == 403
    assert (await OAuthDevice.get()).allowed_at is None


async def test_two_browsers_of_one_user_may_have_the_page_and_the_first_answer_counts(
    app: FastAPI, account: Account, user: FormBrowser, device: Program
) -> None:
    codes, other = await begun(device), await signed_in(app, account)
    for browser in (user, other):
        assert (await typed(browser, codes["user_code"])).status == 200
    await other.submit("decide", decision="deny")
    page = await user.submit("decide", decision="allow")
    assert (page.status, "answered already" in page.text) == (400, True)
    assert await said(device, codes["device_code"]) == "access_denied"


async def test_a_form_with_another_id_is_answered_by_a_page(user: FormBrowser, device: Program) -> None:
    await typed(user, (await begun(device))["user_code"])
    user.page.form("decide").hidden["device"] = "no-id"
    assert (await user.submit("decide", decision="allow")).status == 400
    page = await user.open(f"{PAGE}/decide")
    assert (page.path, page.status) == (PAGE, 200)


async def test_a_code_that_was_begun_before_the_key_was_changed_is_good(
    user: FormBrowser, device: Program, settings: AuthSettings
) -> None:
    codes = await begun(device)
    settings.jwt_previous_keys, settings.jwt_secret = [settings.jwt_secret], settings.jwt_secret[::-1]
    await decided(user, codes["user_code"])
    assert (await device.poll(codes["device_code"])).status_code == 200


async def test_a_device_that_is_told_to_slow_down_stays_so_where_the_host_rolls_its_transaction_back(
    app: FastAPI, device: Program, database: Database
) -> None:
    wrap_by_dispatch(app, database.dialect)
    code = (await begun(device))["device_code"]
    assert await said(device, code) == "authorization_pending"
    assert await said(device, code) == "slow_down"
    assert (await OAuthDevice.get()).interval == 10


@on_each_database
async def test_of_requests_with_one_device_code_at_once_one_wins_and_then_nobody_has_it(
    user: FormBrowser, device: Program
) -> None:
    for _ in range(ROUNDS):
        codes = await begun(device)
        await decided(user, codes["user_code"])
        programs = [Program(device.http, device.client_id) for _ in range(8)]
        answers = await asyncio.gather(*(each.poll(codes["device_code"]) for each in programs))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 7}
        (winner,) = [each for each in programs if each.tokens]
        assert (await winner.get()).status_code == 401
        assert not await OAuthGrant.exists()


@on_each_database
async def test_of_requests_at_once_while_a_device_waits_one_is_in_time(device: Program) -> None:
    for _ in range(ROUNDS):
        code = (await begun(device))["device_code"]
        errors = await asyncio.gather(*(said(device, code) for _ in range(6)))
        assert Counter(errors) == {"authorization_pending": 1, "slow_down": 5}


@on_each_database
async def test_of_answers_at_once_one_counts(user: FormBrowser, device: Program) -> None:
    headers = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    for _ in range(ROUNDS):
        codes = await begun(device)
        form = (await typed(user, codes["user_code"])).form("decide").hidden
        sent = (
            user.client.post(f"{PAGE}/decide", data=form | {"decision": decision}, headers=headers)
            for decision in ("allow", "deny") * 3
        )
        answers = await asyncio.gather(*sent)
        assert Counter(answer.status_code for answer in answers) == {303: 1, 400: 5}
        (row,) = await OAuthDevice.all()
        assert (row.allowed_at is None) != (row.denied_at is None)
        assert (
            await OAuthGrant.all().count() == await OAuthToken.all().count() == (row.allowed_at is not None)
        )
        await OAuthDevice.all().delete()
        await OAuthGrant.all().delete()


@on_each_database
async def test_of_users_who_type_one_code_at_once_one_has_the_device(
    user: FormBrowser, eve: FormBrowser, device: Program
) -> None:
    for _ in range(ROUNDS):
        codes = await begun(device)
        for browser in (user, eve):
            await browser.open(PAGE)
        pages = await asyncio.gather(
            *(browser.submit("user_code", user_code=codes["user_code"]) for browser in (user, eve))
        )
        assert sorted(page.status for page in pages) == [200, 400]
