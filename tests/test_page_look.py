"""Logo, icon, terms and other ways in, on the pages of an app."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import Feature, Slot

from .form_browser import BROWSER, Page

DIALECTS = ("sqlite",)
BASE = "http://localhost:8000"
WORDS = (
    '<form method="post" action="/go"><button type="submit" class="quiet">Continue with {}</button></form>'
)


async def page_of(app: FastAPI, path: str = "/account/sign-up", **headers: str) -> Page:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url=BASE, headers={**BROWSER, **headers}
    ) as client:
        page = Page(await client.get(path))
    assert page.status == 200
    return page


def pictures(page: Page) -> str:
    """What the content security policy says of pictures."""
    policy = page.answer.headers["content-security-policy"].split("; ")
    return next((part for part in policy if part.startswith("img-src")), "")


def app_with(settings: AuthSettings, *features: Feature, **values: object) -> FastAPI:
    for name, value in values.items():
        setattr(settings, name, value)
    app = FastAPI()
    include_auth(app, settings=settings, pages=True, features=features)
    return app


@pytest.mark.parametrize(
    ("logo", "favicon", "allowed"),
    [
        (None, None, ""),
        ("/static/logo.svg", None, "img-src 'self'"),
        (None, "https://cdn.example.com/i.png?v=2", "img-src https://cdn.example.com"),
        ("https://cdn.example.com:8443/l.svg", "/i.ico", "img-src 'self' https://cdn.example.com:8443"),
    ],
)
async def test_pictures_come_from_where_the_settings_say_and_from_nowhere_else(
    settings: AuthSettings,
    tortoise: TortoiseContext,
    logo: str | None,
    favicon: str | None,
    allowed: str,
) -> None:
    page = await page_of(app_with(settings, page_logo_url=logo, page_favicon_url=favicon))
    assert pictures(page) == allowed
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert images == ([{"src": logo, "alt": "MyApp"}] if logo else [])
    icons = [attributes["href"] for tag, attributes in page.tags if attributes.get("rel") == "icon"]
    assert icons == ([favicon] if favicon else [])


async def test_terms_and_privacy_policy_are_linked_from_sign_up_and_below_each_page(
    settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    without = await page_of(app_with(settings))
    assert "footer>" not in without.text
    app = app_with(settings, terms_url="/terms", privacy_url="https://example.com/privacy?lang=en&of=app")
    page = await page_of(app)
    assert page.links.count("/terms") == page.links.count("https://example.com/privacy?lang=en&of=app") == 2
    assert "By creating an account you accept our terms:" in page.text
    other = await page_of(app, "/account/sign-in")
    assert other.links.count("/terms") == other.links.count("https://example.com/privacy?lang=en&of=app") == 1
    assert "By creating" not in other.text


@pytest.mark.parametrize("name", ["page_logo_url", "page_favicon_url", "terms_url", "privacy_url"])
@pytest.mark.parametrize(
    "address",
    [
        "logo.svg",
        "//evil.example/logo.svg",
        "/\\evil.example",
        "http://example.com/logo.svg",
        "https://",
        "https://user@example.com/",
        "https://example.com/a; script-src *",
        "https://example.com/a b",
        "https://*.example.com,x/",
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
        "/logo\n.svg",
        "https://b\u00fccher.example/",
    ],
)
def test_another_address_is_refused_at_the_start(name: str, address: str) -> None:
    with pytest.raises(ValidationError, match=r"write a path such as /static/logo\.svg"):
        AuthSettings(_env_file=None, **{name: address})


async def test_other_ways_in_stand_below_an_or_which_is_not_there_without_them(
    settings: AuthSettings, tortoise: TortoiseContext, tmp_path: Path
) -> None:
    features = []
    for name in ("Acorn", "Birch"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.html").write_text(WORDS.format(name))
        slots = (
            Slot(place="sign_in", template=f"{name}.html"),
            Slot(place="sign_up", template=f"{name}.html"),
        )
        features.append(Feature(name=name.lower(), slots=slots, templates=folder))
    for path in ("/account/sign-in", "/account/sign-up"):
        alone = await page_of(app_with(settings), path)
        assert 'class="or"' not in alone.text
        assert 'class="ways"' not in alone.text
        page = await page_of(app_with(settings, *features), path)
        assert page.text.count('class="or"><span>or</span>') == 1
        first, second = page.text.index("Continue with Acorn"), page.text.index("Continue with Birch")
        assert page.text.index("</form>") < page.text.index('class="or"') < first < second
        german = await page_of(app_with(settings, *features), path, **{"Accept-Language": "de"})
        assert "<span>oder</span>" in german.text


async def test_a_way_in_that_shows_nothing_has_no_divider(
    settings: AuthSettings, tortoise: TortoiseContext, tmp_path: Path
) -> None:
    (tmp_path / "quiet.html").write_text("{% if false %}never{% endif %}\n")
    slots = (Slot(place="sign_in", template="quiet.html"),)
    app = app_with(settings, Feature(name="quiet", slots=slots, templates=tmp_path))
    assert 'class="or"' not in (await page_of(app, "/account/sign-in")).text
