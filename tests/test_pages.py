"""The pages behind mailed links."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.models import RecoveryCode, User

from .conftest import EMAIL, PASSWORD, Account, Mailbox
from .test_notices import enable_two_factor
from .test_password import NEW, forgot, login_status

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Page(HTMLParser):
    """What the tests look at in a page."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(answer.text)
        self.answer = answer

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def one(self, tag: str) -> dict[str, str | None]:
        (attributes,) = [attributes for name, attributes in self.tags if name == tag]
        return attributes


@pytest.fixture
async def pages(account: Account, mailbox: Mailbox) -> dict[str, Page]:
    """Every kind of page, by name."""
    client = account.client
    reset = await forgot(client, mailbox)
    await client.patch("/account", json={"email": "ada@example.org"}, headers=account.headers)
    change = mailbox.link("ada@example.org")
    await client.post("/auth/signup", json={"email": "new@example.com", "password": PASSWORD})
    verify = mailbox.link("new@example.com")
    answers = {
        "verify": await client.get(verify, headers=BROWSER),
        "wrong": await client.post(f"{verify}/form", data={"password": "wrong"}, headers=BROWSER),
        "too long": await client.post(f"{verify}/form", data={"password": "x" * 1025}, headers=BROWSER),
        "verified": await client.post(f"{verify}/form", data={"password": PASSWORD}, headers=BROWSER),
        "verified before": await client.post(f"{verify}/form", data={"password": PASSWORD}),
        "dead verify": await client.get("/auth/verify/x", headers=BROWSER),
        "reset": await client.get(reset, headers=BROWSER),
        "weak": await client.post(f"{reset}/form", data={"new_password": "password1"}, headers=BROWSER),
        "short": await client.post(f"{reset}/form", data={"new_password": "x"}, headers=BROWSER),
        "empty": await client.post(f"{reset}/form", headers=BROWSER),
        "dead reset": await client.get("/auth/reset-password/x", headers=BROWSER),
        "dead form": await client.post("/auth/reset-password/x/form", data={"new_password": NEW}),
        "change": await client.get(change, headers=BROWSER),
        "changed": await client.post(change, headers=BROWSER),
        "dead change": await client.get(change, headers=BROWSER),
    }
    return {name: Page(answer) for name, answer in answers.items()}


async def test_every_page_says_what_happened(pages: dict[str, Page]) -> None:
    statuses = {name: page.answer.status_code for name, page in pages.items()}
    bad = {"verified before", "dead verify", "dead reset", "dead form", "dead change"}
    refused = dict.fromkeys(bad, 400) | dict.fromkeys(("weak", "short", "empty"), 422)
    refused |= dict.fromkeys(("wrong", "too long"), 403)
    assert statuses == {name: refused.get(name, 200) for name in pages}
    for name in bad:
        assert "does not work any more" in pages[name].answer.text
    assert "among the most common" in pages["weak"].answer.text
    assert "8 to 1024 characters" in pages["short"].answer.text
    assert "not the password" in pages["wrong"].answer.text
    assert "is verified" in pages["verified"].answer.text
    assert "was changed" in pages["changed"].answer.text


async def test_every_page_has_the_security_headers_and_nothing_from_elsewhere(pages: dict[str, Page]) -> None:
    """A-39, A-79."""
    for page in pages.values():
        headers = page.answer.headers
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        for directive in (
            "default-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "object-src 'none'",
        ):
            assert directive in policy
        assert "unsafe" not in policy
        (style,) = re.findall(r"<style>(.*?)</style>", page.answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
        assert "http" not in page.answer.text
        assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe"})


async def test_the_password_field_is_kind_to_password_managers(pages: dict[str, Page]) -> None:
    """A-12."""
    for name in ("reset", "weak", "short"):
        field = pages[name].one("input")
        assert (field["type"], field["autocomplete"]) == ("password", "new-password")
        assert pages[name].one("label")["for"] == field["id"]
        assert "password1" not in pages[name].answer.text


async def test_the_owner_of_an_address_never_activates_the_password_of_a_stranger(
    client: httpx.AsyncClient, mailbox: Mailbox, settings: AuthSettings
) -> None:
    """A-29, P-36: a click on the link asks for the password, and leads on to a password of one's own, which
    ends whatever the stranger has begun."""
    settings.require_verified_email = False
    stranger = Account(client, mailbox, EMAIL, PASSWORD)
    await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    link = mailbox.link()
    await stranger.login()
    evil = {"display_name": "Eve", "email": "eve@example.com"}
    assert (await client.patch("/account", json=evil, headers=stranger.headers)).status_code == 200
    change = mailbox.link("eve@example.com")
    enrolment = await enable_two_factor(stranger)
    assert enrolment.status_code == 200

    page = Page(await client.get(link, headers=BROWSER))
    assert (await client.post(f"{link}/form", headers=BROWSER)).status_code == 403
    reset = page.one("a")["href"]
    assert reset is not None
    form = Page(await client.get(reset, headers=BROWSER)).one("form")["action"]
    assert form is not None
    assert (await client.post(form, data={"new_password": NEW}, headers=BROWSER)).status_code == 200

    assert (await stranger.login()).status_code == 401
    assert (await stranger.me()).status_code == 401
    assert (await stranger.refresh()).status_code == 401
    assert (await client.get(change)).status_code == 400
    assert (await client.get(link)).status_code == 400
    owner = Account(client, mailbox, EMAIL, NEW)
    assert (await owner.login()).status_code == 200
    expected = {"email": EMAIL, "display_name": None, "is_verified": True}
    assert expected.items() <= (await owner.me()).json().items()
    assert await RecoveryCode.all().count() == 0


async def test_verifying_ends_what_was_begun_before_it(
    client: httpx.AsyncClient, mailbox: Mailbox, settings: AuthSettings
) -> None:
    """A-29: sessions and pending addresses."""
    settings.require_verified_email = False
    await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    link = mailbox.link()
    stranger = Account(client, mailbox, EMAIL, PASSWORD)
    await stranger.login()
    await client.patch("/account", json={"email": "eve@example.com"}, headers=stranger.headers)
    change = mailbox.link("eve@example.com")
    assert (await client.get(link)).status_code == 200
    assert (await stranger.me()).status_code == 401
    assert (await stranger.refresh()).status_code == 401
    assert (await client.get(change)).status_code == 400


async def test_the_verify_form_is_no_way_to_guess_passwords(
    client: httpx.AsyncClient, mailbox: Mailbox, settings: AuthSettings
) -> None:
    """A-21: every way to prove a password counts on the same counter."""
    settings.throttle_free_attempts = 2
    await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    link = mailbox.link()
    for status in (403, 403, 429):
        answer = await client.post(f"{link}/form", data={"password": "wrong"}, headers=BROWSER)
        assert answer.status_code == status
    assert "retry-after" in answer.headers


async def test_the_reset_form_sets_the_password_after_a_refused_try(
    account: Account, mailbox: Mailbox
) -> None:
    """A-38."""
    page = Page(await account.client.get(await forgot(account.client, mailbox), headers=BROWSER))
    for password, status in (("password1", 422), (NEW, 200), ("a third good one", 400)):
        action = page.one("form")["action"]
        assert action is not None
        answer = await account.client.post(action, data={"new_password": password}, headers=BROWSER)
        assert answer.status_code == status
        page = Page(answer) if status == 422 else page
    assert await login_status(account.client, NEW) == 200


async def test_an_api_client_may_look_at_a_reset_link_without_spending_it(
    account: Account, mailbox: Mailbox
) -> None:
    link = await forgot(account.client, mailbox)
    for _ in range(2):
        assert (await account.client.get(link)).json() == {"detail": "The link is valid."}
    assert (await account.client.get(link + "x")).status_code == 400


async def test_hostile_names_are_text(
    client: httpx.AsyncClient, settings: AuthSettings, mailbox: Mailbox
) -> None:
    """A-80, P-33, R-47."""
    settings.totp_issuer = "<script>alert(1)</script>{{7*7}}"
    await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    page = await client.get(mailbox.link(), headers=BROWSER)
    assert "<script>" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{7*7}}" in page.text


async def test_an_app_replaces_a_page_from_its_own_folder(
    client: httpx.AsyncClient, settings: AuthSettings, mailbox: Mailbox, template_dir: Path
) -> None:
    (template_dir / "page_verify.html").write_text(
        '{% extends "page_layout.html" %}{% block content %}Ours: {{ title }}{% endblock %}'
    )
    settings.template_dir = template_dir
    await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    page = await client.get(mailbox.link(), headers=BROWSER)
    assert "Ours: Verify your" in page.text
    assert not (await User.get()).is_verified
