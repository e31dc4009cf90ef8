"""What others make of the OpenAPI document: a client in TypeScript, and the page `/docs` in a browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, CurrentUser, include_auth
from fastapi_pluggable_auth.features import (
    Administration,
    AuditLog,
    BotCheck,
    Passkeys,
    PersonalTokens,
    Turnstile,
)

from . import browsers, node
from .conftest import EMAIL, PASSWORD, SECRET
from .live import serving
from .test_plugin import app_with_plain_init_in_lifespan

pytestmark = pytest.mark.skipif(node.missing() is not None, reason=str(node.missing()))

TYPESCRIPT = ("--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2023,dom")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of npm."""
    folder = tmp_path_factory.mktemp("node")
    node.install(folder, "openapi-fetch", "openapi-typescript", "swagger-ui-dist", "typescript")
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    """An app under a real server, with every JSON route."""
    app = app_with_plain_init_in_lifespan(f"sqlite://{tmp_path / 'test.sqlite3'}")
    settings = AuthSettings(
        _env_file=None,
        jwt_secret=SECRET,
        bcrypt_rounds=4,
        email_provider="memory",
        require_verified_email=False,
        database_timeout=60,
    )
    features = [Administration(), PersonalTokens(scopes={"notes:read": "Read"}), AuditLog(), Passkeys()]
    include_auth(app, settings=settings, features=features)

    @app.get("/hello")
    async def hello(user: CurrentUser) -> str:
        return f"Hello {user.email}"

    with serving(app) as base:
        yield base


def test_a_generated_typescript_client_compiles_and_signs_in(packages: Path, base: str) -> None:
    (packages / "openapi.json").write_text(httpx.get(f"{base}/openapi.json").text)
    shutil.copy(Path(__file__).parent / "client.ts", packages)
    node.run(packages, "node_modules/openapi-typescript/bin/cli.js", "openapi.json", "-o", "schema.d.ts")
    node.run(packages, "node_modules/typescript/bin/tsc", *TYPESCRIPT, "client.ts")
    httpx.post(f"{base}/auth/signup", json={"email": EMAIL, "password": PASSWORD}).raise_for_status()
    said = json.loads(node.run(packages, "client.js", base, EMAIL, PASSWORD))
    assert said == {"email": EMAIL, "verified": False, "hello": f"Hello {EMAIL}"}


def test_the_same_client_compiles_where_the_app_has_a_bot_check(packages: Path) -> None:
    """What it may send beside, it need not."""
    app = FastAPI()
    settings = AuthSettings(_env_file=None, jwt_secret=SECRET)
    include_auth(app, settings=settings, features=[BotCheck(Turnstile("site", "secret"))])

    @app.get("/hello")
    async def hello(user: CurrentUser) -> str:
        return user.email

    (packages / "openapi.json").write_text(json.dumps(app.openapi()))
    shutil.copy(Path(__file__).parent / "client.ts", packages)
    node.run(packages, "node_modules/openapi-typescript/bin/cli.js", "openapi.json", "-o", "schema.d.ts")
    assert "bot_token?: string | null" in (packages / "schema.d.ts").read_text()
    node.run(packages, "node_modules/typescript/bin/tsc", *TYPESCRIPT, "client.ts")


@pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing()))
async def test_swagger_signs_up_by_what_it_proposes_and_in_by_its_own_form(packages: Path, base: str) -> None:
    """Issue 20: "Authorize" took a token that one had to get elsewhere, and the proposed passwords were
    refused."""
    from playwright.async_api import async_playwright, expect

    async def serve_locally(route: Any) -> None:
        file = packages / "node_modules" / "swagger-ui-dist" / route.request.url.rpartition("/")[2]
        await (route.fulfill(path=file) if file.is_file() else route.abort())

    async with async_playwright() as playwright:
        expect.set_options(timeout=30_000)  # the machine of the tests may be busy
        browser = await browsers.launch(playwright)
        page = await browser.new_page()
        await page.route(lambda url: not url.startswith(base), serve_locally)
        await page.goto(f"{base}/docs")

        async def execute(operation: str, status: int) -> str:
            section = page.locator(f"#operations-auth-{operation}")
            await section.locator("button.opblock-summary-control").click()
            await section.get_by_role("button", name="Try it out").click()
            await section.get_by_role("button", name="Execute").click()
            answer = section.locator(".live-responses-table .response").first
            await expect(answer.locator(".response-col_status")).to_contain_text(str(status))
            return str(await answer.inner_text())

        assert EMAIL in await execute("auth_signup", 201)
        await page.locator(".auth-wrapper button.authorize").first.click()
        form = page.locator(".auth-container", has_text="docs-login")
        await form.locator("#oauth_username").fill(EMAIL)
        await form.locator("#oauth_password").fill("wrong")
        await form.locator("button.authorize").click()
        await expect(form.locator(".errors").first).to_contain_text("password or code is wrong")
        await form.locator("#oauth_password").fill(PASSWORD)
        await form.locator("button.authorize").click()
        await expect(form.get_by_role("heading", name="Authorized")).to_be_visible()
        await page.locator(".modal-ux-header .close-modal").click()
        assert EMAIL in await execute("auth_me", 200)
        await browser.close()
