"""What the mails say, and where their links lead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.email.addresses import link_url
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.email.preview import sample, write_previews
from fastapi_pluggable_auth.email.provider import MemoryProvider
from fastapi_pluggable_auth.email.rendering import render
from fastapi_pluggable_auth.features.feature import MailTable
from fastapi_pluggable_auth.features.shipped import SHIPPED
from fastapi_pluggable_auth.flows.mailed_codes import LIFETIME
from fastapi_pluggable_auth.flows.pending import begin, id_of
from fastapi_pluggable_auth.models import Mail, User
from fastapi_pluggable_auth.security.hashing import unusable_hash

from .conftest import EMAIL, SECRET
from .shipped import ALL_MAILS, FEATURES, LINK_PATHS, PAGES

DIALECTS = ("sqlite",)

FRONT_END = {
    "sign_in_url": "https://www.example.com/login",
    "sign_up_url": "/join",
    "forgot_password_url": "https://www.example.com/forgot?from=mail",
    "security_url": "https://www.example.com/me",
}


async def delivered(auth: Auth, kind: MailTable) -> tuple[str, str]:
    """The text and the HTML of such a mail to a new account, sent by an app of the same settings."""
    context = sample(auth.settings, kind, pages=False)
    for name in ("email", "page_url", "url", "lifetime", "code", "code_lifetime"):
        context.pop(name, None)
    user = waiting = None
    if kind.spec.code:
        waiting = id_of("code", await begin(auth, "code", {}, user_id=None, lifetime=LIFETIME))
    if kind is not MailKind.SIGNUP_CLASH:
        pending = {"pending_email": context.get("new_email", EMAIL)}
        hashed = unusable_hash() if kind is MailKind.INVITE else ""
        user = await User.create(email=EMAIL, hashed_password=hashed, **pending)
    await auth.outbox.add(kind, EMAIL, user_id=user and user.id, waiting=waiting, **context)
    # A process that knows no app, as that of a command.
    sender = Auth(auth.settings, email_provider=MemoryProvider(), features=SHIPPED)
    await sender.dispatcher.deliver_due()
    (mail,) = sender.mailer.provider.mails  # type: ignore[attr-defined]
    return mail.body, mail.html


@pytest.mark.parametrize("kind", PAGES)
async def test_a_mail_that_asks_to_act_leads_to_the_page_for_it(
    kind: MailTable, settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    settings.route_prefix = "/api"
    base = settings.public_base_url
    built_in = f"{base}/api/account/{PAGES[kind]}"
    page = re.split("[/#]", PAGES[kind])[0]
    setting = "security_url" if page == "profile" else f"{page.replace('-', '_')}_url"
    own = FRONT_END[setting] if "://" in FRONT_END[setting] else base + FRONT_END[setting]
    for pages, values, link in ((True, {}, built_in), (False, {}, base), (True, FRONT_END, own)):
        chosen = settings.model_copy(update=values)
        text, html = await delivered(Auth(chosen, pages=pages), kind)
        assert re.findall(r"https?://\S+", text) == [link]
        assert set(re.findall(r'href="([^"]*)"', html)) == {link}
        await User.all().delete()


@pytest.mark.parametrize("kind", LINK_PATHS)
async def test_the_preview_shows_the_link_and_the_lifetime_of_the_mail(
    kind: MailTable, settings: AuthSettings, tortoise: TortoiseContext, tmp_path: Path
) -> None:
    settings.verify_token_ttl = settings.verify_token_ttl * 3
    settings.reset_token_ttl = settings.reset_token_ttl / 2
    settings.verify_url = "https://www.example.com/verify?token={token}"
    text, _ = await delivered(Auth(settings), kind)
    write_previews(settings, tmp_path, FEATURES, pages=False)
    shown = (tmp_path / "en" / f"{kind}.txt").read_text("utf-8")

    def without_token(mail: str) -> list[Any]:
        (link,) = re.findall(r"https?://\S+", mail)
        page = re.match(r".*[/=]", link)
        assert page
        return [page[0], len(link), re.findall(r"\d+ (?:hour|minute)s?", mail)]

    assert without_token(shown) == without_token(text)


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("verify_url", MailKind.VERIFY),
        ("reset_url", MailKind.RESET),
        ("email_change_url", MailKind.EMAIL_CHANGE),
    ],
)
def test_the_page_of_a_link_has_its_token_and_may_be_a_path(setting: str, kind: MailTable) -> None:
    base: dict[str, Any] = {
        "_env_file": None,
        "jwt_secret": SECRET,
        "public_base_url": "https://example.org/app",
    }
    chosen = AuthSettings(**base, **{setting: "/page?token={token}"})
    assert link_url(chosen, kind, "abc") == "https://example.org/page?token=abc"
    assert link_url(AuthSettings(**base, **{setting: ""}), kind, "abc").startswith("https://example.org/app/")
    with pytest.raises(ValueError, match=rf"(?s){setting}.*write \{{token\}}"):
        AuthSettings(**base, **{setting: "https://www.example.org/page"})


@pytest.mark.parametrize("kind", ALL_MAILS)
def test_an_english_mail_goes_on_with_a_capital_after_its_greeting(
    kind: MailTable, settings: AuthSettings
) -> None:
    mail = render(
        settings, kind, sample(settings, kind, pages=True), language="en", features=FEATURES.folders
    )
    assert mail.html is not None
    assert re.match(r"Hello,\n\n[A-Z]", mail.body)
    assert re.search(r"<p>Hello,</p>\s*<p>[A-Z]", mail.html)


async def test_a_mail_that_was_queued_by_an_earlier_release_still_goes(
    settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    provider = MemoryProvider()
    auth = Auth(settings, email_provider=provider, pages=True)
    user = await User.create(email=EMAIL, hashed_password="")
    await auth.outbox.add(MailKind.PASSWORD_CHANGED, EMAIL, user_id=user.id, when="now")
    await Mail.all().update(context={"when": "now"})
    await auth.dispatcher.deliver_due()
    assert settings.public_base_url in provider.mails[0].body
