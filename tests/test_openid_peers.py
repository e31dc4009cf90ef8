"""OpenID Connect, registration, devices and services with clients that others have written, under a real
server: `openid-client` of npm, and Authlib."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from . import live, node, peers
from .conftest import EMAIL, PASSWORD
from .form_browser import BROWSER, FormBrowser, Page
from .operated import OPENID_APP, Operated, openid_environment

with_node = pytest.mark.skipif(node.missing() is not None, reason=str(node.missing()))


@dataclass(frozen=True)
class Site(Operated):
    """The app under a real server."""

    base: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("openid"), live.free_port()
    environment = openid_environment(folder, f"sqlite://{folder / 'app.sqlite3'}", port)
    with live.served(folder, environment, folder / "log", OPENID_APP, port) as (base, _):
        site = Site(folder, environment, OPENID_APP, base)
        site.add_user()
        yield site


class User:
    """Somebody with a browser without JavaScript."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.browser = FormBrowser(client)

    async def _signed_in(self, url: str) -> Page:
        page = await self.browser.open(url)
        if page.path == "/account/sign-in":
            page = await self.browser.submit("sign-in", email=EMAIL, password=PASSWORD)
        assert page.status == 200, page.text
        return page

    async def goes(self, url: str) -> str:
        """Does what the page at this address is for, and gives where the browser is led to."""
        page = await self._signed_in(url)
        if "/oauth/authorize" in url:
            page = await self.browser.submit("authorize", decision="allow")
        else:
            page = await self.browser.submit("logout")
        return page.one("meta", **{"http-equiv": "refresh"})["content"].partition("url=")[2]

    async def types(self, code: str, address: str) -> None:
        """Types the code of a device on its page, and allows it."""
        await self._signed_in(address)
        page = await self.browser.submit("device", user_code=code)
        assert "Peer" in page.text
        page = await self.browser.submit("decide", decision="allow")
        assert page.status == 200, page.text


@with_node
async def test_openid_client_registers_itself_and_goes_every_way(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("node")
    node.install(folder, "openid-client")
    shutil.copy(Path(__file__).parent / "openid_peer.mjs", folder)
    operated = site.client("--confidential", "--grant", "client-credentials", "--scope", "notes")
    (folder / "peer.json").write_text(json.dumps({"issuer": site.base, "operated": operated}))
    process = await asyncio.create_subprocess_exec(
        "node", "openid_peer.mjs", "peer.json", cwd=folder, stdout=-1, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    said, report = "", {}
    async with httpx.AsyncClient(base_url=site.base, headers=BROWSER) as client, asyncio.timeout(90):
        user = User(client)
        async for line in process.stdout:
            said += line.decode()
            kind, _, rest = line.decode().strip().partition(" ")
            if kind == "visit":
                async with httpx.AsyncClient() as elsewhere:
                    await elsewhere.get(await user.goes(rest))
            elif kind == "type":
                code, address, _ = rest.split()
                await user.types(code, address)
            elif kind == "report":
                report = json.loads(rest)
        assert (await user.browser.open("/account/profile")).path == "/account/sign-in", "signed out"
    assert await process.wait() == 0, said
    subject = report["claims"]["sub"]
    assert {"client_id", "registration_access_token", "registration_client_uri"} <= {*report["registered"]}
    assert not {"client_secret", "logo_uri"} & {*report["registered"]}
    assert report["claims"]["iss"] == site.base
    assert report["claims"]["amr"] == ["pwd"]
    assert report["claims"]["auth_time"] <= report["claims"]["iat"]
    assert report["userinfo"].items() >= {"sub": subject, "email": EMAIL, "email_verified": True}.items()
    assert report["notes"] == {"of": EMAIL}
    assert report["onDevice"]["sub"] == subject
    assert "email" not in report["onDevice"], "it was not asked for"
    service = report["service"]
    assert (service["sub"], service["client_id"], service["alg"]) == (operated["client_id"],) * 2 + ("ES256",)
    assert report["live"].items() >= {"active": True, "sub": subject, "iss": site.base}.items()
    assert report["dead"] == {"active": False}
    assert report["left"] == "/over?state=s1"


@pytest.mark.skipif(peers.missing() is not None, reason=str(peers.missing()))
async def test_authlib_signs_a_user_in_and_checks_the_id_token(site: Site) -> None:
    from authlib.integrations.httpx_client import AsyncOAuth2Client
    from joserfc import jwt
    from joserfc.jwk import KeySet

    callback = "https://app.example/callback"
    made = site.client("--confidential", "--redirect-uri", callback)
    async with httpx.AsyncClient(base_url=site.base, headers=BROWSER) as client:
        found: dict[str, Any] = (await client.get("/.well-known/openid-configuration")).json()
        keys = KeySet.import_key_set((await client.get(found["jwks_uri"])).json())
        async with AsyncOAuth2Client(
            made["client_id"],
            made["client_secret"],
            scope="openid email",
            redirect_uri=callback,
            code_challenge_method="S256",
            token_endpoint=found["token_endpoint"],
        ) as authlib:
            verifier = "v" * 64
            url, state = authlib.create_authorization_url(
                found["authorization_endpoint"], code_verifier=verifier, nonce="n-1"
            )
            back = await User(client).goes(url)
            tokens = await authlib.fetch_token(
                found["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier
            )
            token = jwt.decode(tokens["id_token"], keys, algorithms=["ES256"])
            assert token.claims["aud"] in (made["client_id"], [made["client_id"]])
            assert (token.claims["nonce"], token.claims["email"]) == ("n-1", EMAIL)
            who = (await authlib.get(found["userinfo_endpoint"])).json()
            assert who["sub"] == token.claims["sub"]
            assert re.fullmatch("[0-9a-f-]{36}", who["sub"])
