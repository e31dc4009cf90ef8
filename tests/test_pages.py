"""The pages behind mailed links."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import httpx
import pytest

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.models import RecoveryCode, User
from fastapi_pluggable_auth.routes.pages.rendering import TEMPLATES

from .conftest import EMAIL, PASSWORD, Account, Mailbox, on_each_database
from .form_browser import BROWSER, Page
from .shipped import FEATURES
from .test_notices import enable_two_factor
from .test_password import NEW, forgot, login_status

DIALECTS = ("sqlite",)


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
    refused |= {"wrong": 403, "too long": 422}
    assert statuses == {name: refused.get(name, 200) for name in pages}
    for name in bad:
        assert "does not work any more" in pages[name].answer.text
    assert "among the most common" in pages["weak"].answer.text
    assert "8 to 1024 characters" in pages["short"].answer.text
    assert "not the right password" in pages["wrong"].answer.text
    assert "is verified" in pages["verified"].answer.text
    assert "was changed" in pages["changed"].answer.text


async def test_every_page_has_the_security_headers_and_nothing_from_elsewhere(pages: dict[str, Page]) -> None:
    """A-39, A-79."""
    assert len(pages) > 10
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
        for tag in ("style", "script"):
            (source,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page.answer.text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
        assert "http" not in page.answer.text
        assert {tag for tag, _ in page.tags}.isdisjoint({"link", "img", "iframe"})
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


async def test_the_password_field_is_kind_to_password_managers(pages: dict[str, Page]) -> None:
    """A-12."""
    for name in ("reset", "weak", "short"):
        field = pages[name].one("input", type="password")
        assert field["autocomplete"] == "new-password"
        assert pages[name].one("label")["for"] == field["id"]
        assert pages[name].one("input", autocomplete="username")["value"] == EMAIL
        assert "password1" not in pages[name].answer.text


async def test_the_owner_of_an_address_never_activates_the_password_of_a_stranger(
    client: httpx.AsyncClient, mailbox: Mailbox, settings: AuthSettings
) -> None:
    """A-29: a click on the link asks for the password, and leads on to a password of one's own, which
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
    (reset,) = [link for link in page.links if "reset-password" in link]
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


@on_each_database
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
    assert "Too many attempts" in answer.text
    assert Page(answer).one("form")["action"] == f"{link}/form"


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
    """A-80, R-47."""
    settings.totp_issuer = "<script>alert(1)</script>{{7*7}}"
    await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    page = await client.get(mailbox.link(), headers=BROWSER)
    assert "<script>alert" not in page.text
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


async def test_an_app_changes_colours_and_words(
    client: httpx.AsyncClient, settings: AuthSettings, template_dir: Path
) -> None:
    (template_dir / "page_extra.css").write_text(":root { --auth-accent: #0a7 }")
    (template_dir / "en").mkdir()
    (template_dir / "en" / "page_words.toml").write_text('[dead_link]\ntitle = "Too late"')
    settings.template_dir = template_dir
    page = Page(await client.get("/auth/verify/x", headers=BROWSER))
    assert "--auth-accent: #0a7 }" in page.answer.text
    assert "<h1>Too late</h1>" in page.answer.text
    assert "It was used already" in page.answer.text


@pytest.mark.parametrize(
    ("accept_language", "language", "title"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de", "Dieser Link gilt nicht mehr"),
        ("nl,en;q=0.5", "en", "This link does not work any more"),
        ("", "en", "This link does not work any more"),
    ],
)
async def test_pages_speak_the_language_of_the_browser(
    client: httpx.AsyncClient, accept_language: str, language: str, title: str
) -> None:
    headers = BROWSER | {"Accept-Language": accept_language}
    page = Page(await client.get("/auth/verify/x", headers=headers))
    assert page.one("html")["lang"] == page.answer.headers["content-language"] == language
    assert "Accept-Language" in page.answer.headers["vary"]
    assert f"<h1>{title}</h1>" in page.answer.text


async def test_a_language_that_has_mails_only_falls_back(
    client: httpx.AsyncClient, settings: AuthSettings, template_dir: Path
) -> None:
    (template_dir / "nl").mkdir()
    (template_dir / "nl" / "verify.subject.txt").write_text("Dag")
    settings.template_dir, settings.default_language = template_dir, "de"
    page = await client.get("/auth/verify/x", headers=BROWSER | {"Accept-Language": "nl"})
    assert page.headers["content-language"] == "de"


async def test_a_language_that_an_app_adds_says_the_rest_in_english(
    client: httpx.AsyncClient, settings: AuthSettings, template_dir: Path
) -> None:
    (template_dir / "nl").mkdir()
    (template_dir / "nl" / "page_words.toml").write_text('[dead_link]\ntitle = "Te laat"')
    settings.template_dir = template_dir
    page = await client.get("/auth/verify/x", headers=BROWSER | {"Accept-Language": "nl-BE"})
    assert page.headers["content-language"] == "nl"
    assert "<h1>Te laat</h1>" in page.text
    assert "It was used already" in page.text


async def test_a_refusal_before_the_page_is_a_page_too(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """A-79."""
    settings.rate_limits = {"verify": "1/hour"}
    link = "/auth/verify/x"
    answers = [await client.get(link, headers=BROWSER) for _ in range(2)]
    page = answers[1]
    assert (page.status_code, page.headers["content-type"]) == (429, "text/html; charset=utf-8")
    assert "Too many requests" in page.text
    assert "retry-after" in page.headers
    assert page.headers["content-security-policy"] == answers[0].headers["content-security-policy"]
    assert (await client.get(link)).json()["code"] == "rate_limited"


async def test_a_form_that_is_no_text_gets_a_page(client: httpx.AsyncClient) -> None:
    files = {"password": ("x", b"x")}
    page = await client.post("/auth/verify/x/form", files=files, headers=BROWSER)
    assert page.status_code == 422
    assert "not complete" in page.text


def test_the_document_names_every_template_and_variable() -> None:
    document = (Path(__file__).parent.parent / "docs" / "pages.md").read_text("utf-8")
    named = set(re.findall(r"page_\w+\.(?:html|css)", document))
    files = [path for folder in (TEMPLATES, *FEATURES.folders.templates) for path in folder.glob("page_*")]
    assert named == {path.name for path in files if path.suffix in (".html", ".css")}
    variables = set(re.findall(r"--auth-[\w-]+", (TEMPLATES / "page.css").read_text("utf-8")))
    assert set(re.findall(r"`(--auth-[\w-]+)`", document)) == variables
    pictures = set(re.findall(r"pages/([\w-]+\.webp)", document))
    assert all((Path(__file__).parent.parent / "docs" / "pages" / name).exists() for name in pictures)
