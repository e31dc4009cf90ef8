"""The OAuth server with clients that others have written, at `examples/mcp` under a real server: the SDKs of
MCP in Python and TypeScript, `openid-client` of npm, and Authlib.

Each goes the whole way: it finds the server, sends its user there, gets tokens, uses them, renews them, and
gives them back. It is known by its document, by what the command line has registered, or registers itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from . import databases, live, node, peers
from .conftest import EMAIL, PASSWORD, SECRET
from .document_host import DocumentHost, write_authority
from .form_browser import BROWSER, FormBrowser
from .hosts import copied
from .operated import Operated
from .spare_database import SpareDatabase

HOST = "agent.example"
DOCUMENT = f"https://{HOST}/oauth/client.json"
CALLBACK = "http://127.0.0.1/callback"
"""Of programs on the user's machine, which listen at any port (RFC 8252 section 7.3)."""

OAUTH_PAGE = Path(__file__).parent.parent / "docs" / "oauth-server.md"
OF_NPM = ("@modelcontextprotocol/sdk", "@modelcontextprotocol/client", "openid-client")
BEGIN = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "peer", "version": "1.0"},
    },
}

pytestmark = pytest.mark.skipif(peers.missing() is not None, reason=str(peers.missing()))
with_node = pytest.mark.skipif(node.missing() is not None, reason=str(node.missing()))


@dataclass(frozen=True)
class Registration:
    """Who a client is at the server: by its document, or by an id that the operator has given it; with
    neither, it registers itself."""

    document: str | None = None
    client_id: str | None = None
    client_secret: str | None = None

    @property
    def name(self) -> str:
        """What the server knows it by."""
        return str(self.document or self.client_id)

    def is_of(self, client_id: str) -> bool:
        """Whether it has this id at the server."""
        itself = self.document is None and self.client_id is None
        return client_id.startswith("c_") if itself else client_id == self.name


@dataclass(frozen=True)
class Site(Operated):
    """The example under a real server."""

    base: str

    @property
    def server(self) -> str:
        return f"{self.base}/mcp"

    def registered(self, kind: str) -> Registration:
        """One by its document, or that registers `itself`; else one that the command line makes, with a
        secret or `public`."""
        if kind == "document":
            return Registration(document=DOCUMENT)
        if kind == "itself":
            return Registration()
        secretive = ("--confidential",) if kind == "secret" else ()
        return Registration(**self.client("--redirect-uri", CALLBACK, *secretive))


@dataclass
class User:
    """Somebody with a browser without JavaScript, whom clients send to the server."""

    browser: FormBrowser
    visits: int = 0
    asked: list[str] = field(default_factory=list)
    """The consent pages."""

    async def goes(self, url: str) -> str:
        """Signs in where that is asked for, allows everything, and gives where the browser is led to."""
        self.visits += 1
        page = await self.browser.open(url)
        if page.path == "/account/sign-in":
            page = await self.browser.submit("sign-in", email=EMAIL, password=PASSWORD)
        assert page.status == 200, page.text
        self.asked.append(page.text)
        page = await self.browser.submit("authorize", decision="allow")
        _, _, location = page.one("meta", **{"http-equiv": "refresh"})["content"].partition("url=")
        return location

    async def applications(self) -> list[dict[str, Any]]:
        """What the user has let in."""
        answer = await self.browser.client.get(
            "/account/applications", headers={"Accept": "application/json"}
        )
        applications: list[dict[str, Any]] = answer.json()
        return applications


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.full)], ids=lambda name: name
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    dialect = request.param
    if dialect != "sqlite" and not databases.answers(dialect):
        pytest.skip(f"no {dialect} server answers")
    parent = tmp_path_factory.mktemp("peers")
    spare = SpareDatabase(dialect, databases.spare(dialect, parent))
    asyncio.run(spare.create(models=None))
    folder = copied("mcp", parent)
    shutil.copy(Path(__file__).parent / "app_with_documents.py", folder)
    app = folder / "app.py"  # with a second resource, whose tokens are not good at the MCP server
    app.write_text(app.read_text().replace('resources=["/mcp"]', 'resources=["/mcp", "/api"]'))
    write_authority(parent / "authority.pem")
    host = DocumentHost(HOST)
    host.documents[DOCUMENT] = {
        "client_id": DOCUMENT,
        "client_name": "Peer",
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
    }
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(host.serving()):
        port = live.free_port()
        environment = {
            "DATABASE_URL": spare.url,
            "JWT_SECRET": SECRET,
            "AUTH_BCRYPT_ROUNDS": "4",
            "AUTH_EMAIL_PROVIDER": "memory",
            "AUTH_PUBLIC_BASE_URL": f"http://127.0.0.1:{port}",
            "AUTH_OAUTH_REGISTRATION": "true",
            "DOCUMENTS_PORT": str(host.port),
            "DOCUMENTS_CA": str(parent / "authority.pem"),
        }
        serving = live.served(folder, environment, parent / "log", "app_with_documents:app", port)
        with serving as (base, _):
            site = Site(folder, environment, "app:app", base)
            site.add_user()
            yield site


@pytest.fixture(scope="module")
def of_npm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clients of npm."""
    folder = tmp_path_factory.mktemp("node")
    node.install(folder, *OF_NPM)
    shutil.copy(Path(__file__).parent / "oauth_peer.mjs", folder)
    return folder


@pytest.fixture
async def user(site: Site) -> AsyncIterator[User]:
    async with httpx.AsyncClient(base_url=site.base, headers=BROWSER) as client:
        yield User(FormBrowser(client))


@pytest.fixture
def registration(request: pytest.FixtureRequest, site: Site) -> Registration:
    return site.registered(request.param)


def known_by(*always: str) -> pytest.MarkDecorator:
    """By each kind of registration, these in every run."""
    others = [kind for kind in ("document", "public", "secret") if kind not in always]
    kinds = [*always, *(pytest.param(kind, marks=pytest.mark.full) for kind in others)]
    return pytest.mark.parametrize("registration", kinds, indirect=True)


async def reported(folder: Path, user: User, **told: object) -> dict[str, Any]:
    """What a client of npm reports, after its user has gone where it says."""
    file = folder / "peer.json"
    file.write_text(json.dumps({name: value for name, value in told.items() if value is not None}))
    process = await asyncio.create_subprocess_exec(
        "node", "oauth_peer.mjs", str(file), cwd=folder, stdout=-1, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    said = ""
    try:
        async with asyncio.timeout(60):
            async for line in process.stdout:
                kind, _, rest = line.decode().strip().partition(" ")
                said += line.decode()
                if kind == "visit" and user.visits == 0:
                    async with httpx.AsyncClient() as elsewhere:
                        await elsewhere.get(await user.goes(rest))
                elif kind == "report":
                    return dict(json.loads(rest))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    raise AssertionError(said)


@with_node
@pytest.mark.parametrize("peer", OF_NPM[:2])
@known_by("document", "itself")
async def test_an_agent_in_typescript_acts_for_a_user(
    peer: str, registration: Registration, site: Site, user: User, of_npm: Path
) -> None:
    told = {"peer": peer, "server": site.server, **vars(registration)}
    report = await reported(of_npm, user, **told)
    assert f"by {peer}" in report["notes"]
    assert (report["refreshed"], report["scope"]) == (True, "notes")
    assert registration.is_of(report["client_id"])
    assert report["visits"] == 2, "after the end of its access, it asks again"
    assert "Read and write your notes" in user.asked[0]
    assert ("agent.example" in user.asked[0]) == (registration.document is not None)
    assert await user.applications() == []


@with_node
@known_by("secret")
async def test_openid_client_gets_and_renews_and_gives_back_tokens(
    registration: Registration, site: Site, user: User, of_npm: Path
) -> None:
    told = {"peer": "openid-client", "server": site.server, **vars(registration)}
    report = await reported(of_npm, user, **told)
    assert (report["refreshed"], report["scope"], report["client_id"]) == (True, "notes", registration.name)
    assert await user.applications() == []


class Kept:
    """Where the SDK of Python keeps what it has been given."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.tokens: list[Any] = []

    async def get_tokens(self) -> Any:
        return self.tokens[-1] if self.tokens else None

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens.append(tokens)

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info


@known_by("document", "itself")
async def test_an_agent_in_python_acts_for_a_user(registration: Registration, site: Site, user: User) -> None:
    from mcp import Client
    from mcp.client.auth import OAuthClientProvider
    from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client
    from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata
    from pydantic import AnyUrl

    redirects = [AnyUrl(CALLBACK.replace("127.0.0.1", "127.0.0.1:41234"))]
    method: Any = "client_secret_post" if registration.client_secret else "none"

    led: list[str] = []

    async def visit(url: str) -> None:
        led.append(await user.goes(url))

    async def came_back() -> AuthorizationCodeResult:
        answer = {name: values[0] for name, values in parse_qs(urlsplit(led[-1]).query).items()}
        return AuthorizationCodeResult(**answer)

    registered = registration.client_id and OAuthClientInformationFull(
        client_id=registration.client_id,
        client_secret=registration.client_secret,
        redirect_uris=redirects,
        token_endpoint_auth_method=method,
    )
    kept = Kept(registered)
    provider = OAuthClientProvider(
        site.server,
        OAuthClientMetadata(redirect_uris=redirects, client_name="Peer", token_endpoint_auth_method=method),
        kept,
        visit,
        came_back,
        client_metadata_url=registration.document,
    )

    async def revoke(token: str | None) -> None:
        shown = {"client_id": kept.client.client_id, "client_secret": registration.client_secret}
        form = {name: value for name, value in shown.items() if value} | {"token": token}
        async with httpx.AsyncClient(base_url=site.base) as client:
            (await client.post("/oauth/revoke", data=form)).raise_for_status()

    async with (
        create_mcp_http_client(auth=provider) as http,
        Client(streamable_http_client(site.server, http_client=http)) as agent,
    ):
        await agent.call_tool("add_note", {"text": "by Python"})
        provider.context.token_expiry_time = 1.0
        notes = await agent.call_tool("notes", {})
        assert "by Python" in str(notes.content)
        first, second = kept.tokens
        assert not {first.access_token, first.refresh_token} & {second.access_token, second.refresh_token}
        assert (first.scope, user.visits) == ("notes", 1)
        (application,) = await user.applications()
        assert application["client_id"] == kept.client.client_id
        assert registration.is_of(application["client_id"])
        await revoke(second.refresh_token)
        await agent.call_tool("notes", {})
        assert user.visits == 2, "after the end of its access, it asks again"
        await revoke(kept.tokens[-1].refresh_token)


@known_by("public")
async def test_authlib_gets_and_renews_and_gives_back_tokens(
    registration: Registration, site: Site, user: User
) -> None:
    from authlib.integrations.base_client import OAuthError
    from authlib.integrations.httpx_client import AsyncOAuth2Client

    async with httpx.AsyncClient(base_url=site.base) as client:
        found = (await client.get("/.well-known/oauth-authorization-server")).json()
    method = "client_secret_basic" if registration.client_secret else "none"
    async with AsyncOAuth2Client(
        registration.name,
        registration.client_secret,
        token_endpoint_auth_method=method,
        scope="notes",
        redirect_uri="http://127.0.0.1:41235/callback",
        code_challenge_method="S256",
        token_endpoint=found["token_endpoint"],
        leeway=0,
    ) as authlib:
        verifier = "v" * 64
        url, state = authlib.create_authorization_url(
            found["authorization_endpoint"], code_verifier=verifier, resource=site.server
        )
        back = await user.goes(url)
        first = await authlib.fetch_token(
            found["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier
        )

        async def used() -> int:
            answer = await authlib.post(
                site.server, json=BEGIN, headers={"Accept": "application/json, text/event-stream"}
            )
            return int(answer.status_code)

        assert await used() == 200
        second = await authlib.refresh_token(found["token_endpoint"])
        assert first["access_token"] != second["access_token"]
        assert await used() == 200
        await authlib.revoke_token(found["revocation_endpoint"], second["access_token"])
        assert await used() == 401
        await authlib.revoke_token(found["revocation_endpoint"], second["refresh_token"])
        with pytest.raises(OAuthError, match="invalid_grant"):
            await authlib.refresh_token(found["token_endpoint"], refresh_token=second["refresh_token"])
    assert await user.applications() == []


async def test_mcp_authlab_gives_its_best_grade(site: Site, user: User, tmp_path: Path) -> None:
    """All checks but those whose loss the docs explain; it has a token for another resource, too."""
    environment = {
        **os.environ,
        "MCP_AUTHLAB_TOKENS": str(tmp_path / "tokens.json"),
        "PYTHONUNBUFFERED": "1",
        "BROWSER": "true",  # the user reads the address where it is printed
    }
    command = [sys.executable, "-m", "mcp_authlab"]
    known = ["--client-id", DOCUMENT, "--foreign-resource", f"{site.base}/api", "--thorough"]
    login = [*command, "login", site.server, *known]
    process = await asyncio.create_subprocess_exec(
        *login, env=environment, stdout=-1, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(60), httpx.AsyncClient() as elsewhere:
        async for line in process.stdout:
            said += line.decode()
            if (url := line.decode().strip()).startswith(f"{site.base}/oauth/authorize?"):
                await elsewhere.get(await user.goes(url))
    assert await process.wait() == 0, said
    scan = [*command, "scan", site.server, "--tool", "notes", "--format", "json"]
    report = json.loads(subprocess.run(scan, env=environment, capture_output=True, text=True).stdout)
    lost = {each["id"] for each in report["results"] if each["status"] != "pass"}
    assert (report["grade"], lost) == ("A", {"TLS-01", "CHAL-03"}), report
    page = OAUTH_PAGE.read_text("utf-8")
    assert f"{report['score']} of 100" in page
    assert f"{len(report['results'])} checks" in page
    assert {each for each in lost if f"- `{each}`" in page} == lost


def test_the_docs_name_the_versions_of_the_clients() -> None:
    page = OAUTH_PAGE.read_text("utf-8")
    for name in OF_NPM:
        assert re.search(rf"`{name}`\].*\| {re.escape(node.PACKAGES[name])} \|", page), name
    for name, row in (("mcp", "| {} |"), ("authlib", "| {} |"), ("mcp-authlab", "mcp-authlab/) {} ")):
        assert row.format(version(name).rpartition(".")[0]) in page, name
