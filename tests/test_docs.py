"""The pages in docs/ are true: their code runs, no setting, route or error is left out, the site is whole."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastapi_pluggable_auth
from fastapi_pluggable_auth import AuthSettings

from . import browsers
from .docs_server import DocsServer
from .shipped import ALL_CODES, ALL_EVENT_KINDS, FEATURE_SETTINGS
from .snippets import RUN, blocks, snippets

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_site"))

import errors_page  # noqa: E402
import hooks  # noqa: E402
import routes_page  # noqa: E402
import settings_page  # noqa: E402

PAGES = {str(path.relative_to(DOCS)): path.read_text("utf-8") for path in sorted(DOCS.rglob("*.md"))}
LONG = {"benchmarks.md"}
"""Pages whose commands take an hour."""
SLOW = {"scripts.md"}
"""Whose commands take half a minute, and are tested elsewhere too."""
RUNNABLE = [
    pytest.param(name, marks=pytest.mark.full) if name in SLOW else name
    for name, text in PAGES.items()
    if name not in LONG and any(each.language in RUN for each in snippets(text))
]
NO_SETTINGS = re.compile(
    r"DATABASE_URL|FORWARDED_ALLOW_IPS|WEB_CONCURRENCY|ALL_ACCESS|RECENT_LOGIN|SIGNED_IN|(?:AUTH_)?INVITATION_\w+|TORTOISE_ORM|TOTP_ISSUER|JWT_SECERT|(?:TEST|BENCHMARK)_\w+|(?:LOGIN|REGISTER|UPDATE|RESET|VERIFY)_[A-Z]+_[A-Z_]+"
)
"""What looks like a setting and is the app's own, the development's, or a code of fastapi-users;
and the older name of one, one that a page misspells, and names that features import."""


needs_browser = pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing()))


def needs(package: str, version: str | None = None) -> None:
    """Skips where a package of the extra `docs` is missing or too old, unless it must be there."""
    if not os.environ.get("TEST_REQUIRE_DOCS"):
        pytest.importorskip(package, version, reason="pip install '.[docs]'")


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_snippet_of_a_page_works(name: str, tmp_path: Path) -> None:
    if name == "from-fastapi-users.md":
        needs("fastapi_users")
        needs("argon2", "23.1")  # that which fastapi-users hashes with
    binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        "PATH": binaries,
        "PYTHONPATH": str(ROOT),
        "AUTH_BCRYPT_ROUNDS": "4",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    result = subprocess.run(
        [sys.executable, "-m", "tests.snippets", str(DOCS / name)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_block_is_excused_for_a_reason_only() -> None:
    for name, text in PAGES.items():
        for snippet in snippets(text):
            if snippet.excuse is not None:
                assert len(snippet.excuse) > 10, (name, snippet.code)
        excuses = re.findall(r"^ *<!-- not executed", text, re.MULTILINE)
        assert len(excuses) == len([snippet for snippet in snippets(text) if snippet.excuse]), name


def test_every_error_code_has_one_entry_and_every_entry_is_a_code() -> None:
    entries = errors_page.ENTRY.findall(PAGES["reference/errors.md"])
    assert sorted(code for code, _ in entries) == sorted(code.code for code in ALL_CODES)
    for code, told in entries:
        assert len(told.split()) > 10, code


def test_every_setting_is_in_one_table_of_the_reference() -> None:
    listed = re.findall(r"^\| `([A-Z_0-9]+)`", settings_page.tables(), re.MULTILINE)
    assert listed == [f"AUTH_{name.upper()}" for name in (*AuthSettings.model_fields, *FEATURE_SETTINGS)]


def test_every_name_of_the_package_is_in_the_python_reference() -> None:
    assert set(fastapi_pluggable_auth.__all__) <= set(re.findall(r"`(\w+)`", PAGES["reference/python.md"]))


def test_every_route_is_in_the_reference_with_its_codes() -> None:
    page = hooks.on_page_markdown(PAGES["reference/http.md"])
    routes = list(routes_page.operations())
    assert len(re.findall(r"^### `", page, re.MULTILINE)) == len(routes) > 20
    for method, path, operation in routes:
        entry = page.split(f"### `{method} {path}` ", 1)[1].split("\n### ")[0]
        documented = set(re.findall(r"errors\.md#(\w+)", entry))
        assert documented == {code for _, code in routes_page.codes_of(operation)} >= {"database_unavailable"}


def test_every_command_of_the_http_reference_succeeds(docs_server: DocsServer) -> None:
    _, *commands = blocks("sh", hooks.on_page_markdown(PAGES["reference/http.md"]))
    assert len(commands) == len(list(routes_page.operations()))
    failed: dict[str, int] = {}
    for command in commands:
        docs_server.prepare(command)
        status = docs_server.run(command)
        if not 200 <= status < 300:
            failed[command] = status
    assert failed == {}


async def in_browser(base: str, script: str) -> tuple[Any, list[str]]:
    """What a script on a page of the app returns, and the paths that were asked for on its way."""
    from playwright.async_api import async_playwright

    paths: list[str] = []
    async with async_playwright() as playwright:
        browser = await browsers.launch(playwright)
        page = await browser.new_page()
        await page.goto(f"{base}/openapi.json")
        page.on("request", lambda request: paths.append(request.url.removeprefix(base)))
        result = await page.evaluate(f"async () => {{ {script} }}")
        await browser.close()
    return result, paths


@needs_browser
async def test_the_client_of_the_page_on_sessions_renews_once_for_several_requests(
    settings: AuthSettings, docs_server: DocsServer
) -> None:
    (client,) = blocks("js", PAGES["sessions.md"])
    settings.token_origins = [docs_server.base]
    await asyncio.to_thread(docs_server.prepare, "")
    tokens = {"access_token": "old", "refresh_token": docs_server.variables["REFRESH_TOKEN"]}
    requests = "Promise.all([api('/auth/me'), api('/account'), api('/account/sessions')])"
    use = f"tokens = {json.dumps(tokens)}; return (await {requests}).map((answer) => answer.status)"
    statuses, paths = await in_browser(docs_server.base, f"{client}\n{use}")
    assert statuses == [200, 200, 200]
    assert paths.count("/auth/refresh") == 1


@needs_browser
async def test_the_client_of_the_page_on_cookies_works_without_a_token(
    settings: AuthSettings, request: pytest.FixtureRequest
) -> None:
    (client,) = blocks("js", PAGES["cookies.md"])
    settings.cookies = True
    docs_server: DocsServer = request.getfixturevalue("docs_server")
    await asyncio.to_thread(docs_server.prepare, "")
    settings.public_base_url = docs_server.base
    me, paths = await in_browser(
        docs_server.base,
        client.replace(
            'await api("POST", "/auth/logout", {"everywhere": false})', "return await api('GET', '/auth/me')"
        ),
    )
    assert (me["email"], me["display_name"]) == ("ada@example.com", "Ada")
    assert paths == ["/auth/login", "/auth/me", "/account", "/auth/me"]


def test_every_code_and_every_setting_that_a_page_names_exists() -> None:
    codes = {code.code for code in ALL_CODES}
    names = {name.upper() for name in (*AuthSettings.model_fields, *FEATURE_SETTINGS)} | {
        code.name for code in ALL_CODES
    }
    for page, text in PAGES.items():
        assert set(re.findall(r"(?:40\d|409|422|429|503) `([a-z_]+)`", text)) <= codes, page
        found = re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", text)
        named = {name.removeprefix("AUTH_") for name in found} - names
        assert not [name for name in named if not NO_SETTINGS.fullmatch(name)], page


def test_every_line_and_event_that_is_to_be_watched_is_written() -> None:
    section = PAGES["production.md"].split("\n## What to watch\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| [A-Z]+ \| `([^`]+)` \|", section, re.MULTILINE)
    assert len(rows) > 10
    for module, line in rows:
        if line.startswith('"event"'):
            assert json.loads(f"{{{line}}}")["event"] in list(ALL_EVENT_KINDS)
            continue
        module = "events" if module == "security" else module.replace(".", "/")
        source = (ROOT / "fastapi_pluggable_auth" / f"{module}.py").read_text("utf-8")
        assert line.replace(" ... ", " %s (%s) ") in source, line


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    needs("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    index = (tmp_path / "llms.txt").read_text("utf-8")
    assert re.match(r"# fastapi-pluggable-auth\n\n> [^\n]+\n\n- \[Home\]", index)
    entries = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): (.{20,})$", index, re.MULTILINE)
    assert len({text for _, text in entries}) == len(entries) == len(PAGES)
    assert all((tmp_path / path).exists() for path, _ in entries)
    for page in tmp_path.rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.findall(
            r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>", text
        ), page
        links = re.findall(r"<link\b[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>", text)
        assert not [link for link in links if "canonical" not in link], page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text("utf-8")), style
