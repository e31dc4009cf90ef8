"""`oauth clients`: an operator's clients; `oauth check`: what clients see of a server."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends

from fastapi_pluggable_auth import AuthSettings, include_auth, require
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.features import OAuthServer

from .conftest import SECRET
from .live import free_port, serving
from .test_command_line import url
from .test_plugin import app_with_plain_init_in_lifespan

__all__ = ["url"]

CALLBACK = "https://app.example.com/callback"

Printed = Callable[..., tuple[int, str]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """Runs a command; gives its status, and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        status = main(["oauth", *arguments])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def test_a_client_is_registered_listed_shown_and_deleted(url: str, printed: Printed) -> None:
    status, text = printed("clients", "create", "Reports", "--redirect-uri", CALLBACK, "--confidential")
    found = re.fullmatch(r"client_id      (c_\S+)\nclient_secret  (ocs_\S+)  \(not shown again\)\n", text)
    assert (status, bool(found)) == (0, True), text
    assert found is not None
    client_id, secret = found.groups()
    assert (
        printed("clients", "create", "CLI", "--redirect-uri", "http://127.0.0.1/cb", "--scope", "a:read")[0]
        == 0
    )
    status, text = printed("clients", "list")
    newest, oldest = text.splitlines()
    assert re.fullmatch(rf"\S+Z  operator    secret  active    {client_id}  Reports", oldest)
    assert newest.endswith("  CLI")
    assert "  public  " in newest
    listed = [json.loads(line) for line in printed("clients", "list", "--json")[1].splitlines()]
    assert [(each["name"], each["scopes"], each["confidential"]) for each in listed] == [
        ("CLI", ["a:read"], False),
        ("Reports", None, True),
    ]
    status, text = printed("clients", "show", client_id)
    facts = dict(line.split(maxsplit=1) for line in text.splitlines())
    wanted = {"redirect_uris": CALLBACK, "scopes": "all", "grants": "0", "last_used_at": "-"}
    assert facts.items() >= wanted.items()
    shown = json.loads(printed("clients", "show", client_id, "--json")[1])
    assert (shown["client_id"], shown["redirect_uris"]) == (client_id, [CALLBACK])
    status, text = printed("clients", "rotate", client_id, "--json")
    rotated = json.loads(text)["client_secret"]
    assert rotated.startswith("ocs_")
    assert rotated != secret
    for command in ("list", "show"):
        arguments = [client_id] if command == "show" else []
        assert not [each for each in (secret, rotated) if each in printed("clients", command, *arguments)[1]]
    assert printed("clients", "delete", client_id) == (1, "There is no terminal to ask on: pass --yes.\n")
    assert printed("clients", "delete", client_id, "--yes") == (0, f"{client_id}  deleted\n")
    for command in ("show", "rotate", "delete"):
        assert printed("clients", command, client_id) == (1, "There is no such client.\n")


def test_what_is_wrong_with_a_client_is_said_in_a_sentence(url: str, printed: Printed) -> None:
    assert printed("clients", "create", "Reports", "--redirect-uri", "http://app.example.com/cb") == (
        1,
        "The client is not valid: the redirect URI 'http://app.example.com/cb' is http, which only an address"
        " of the user's own machine may be: use https.\n",
    )
    made = json.loads(printed("clients", "create", "CLI", "--redirect-uri", CALLBACK, "--json")[1])
    assert made["client_secret"] is None
    assert "is public" in printed("clients", "rotate", made["client_id"])[1]


def test_a_client_whose_document_is_not_to_be_had_is_registered_by_its_address(
    url: str, printed: Printed
) -> None:
    address = "https://claude.ai/oauth/claude-code-client-metadata"
    status, text = printed(
        *("clients", "create", "Claude Code", "--id", address, "--redirect-uri", "http://localhost/callback")
    )
    assert (status, text) == (0, f"client_id      {address}\n")
    assert (
        "uri                        -\nredirect_uris              http://localhost/callback\n"
        in printed("clients", "show", address)[1]
    )


APP = f"""
from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import OAuthServer

app, plain = FastAPI(), FastAPI()
settings = AuthSettings(jwt_secret="{SECRET}")
server = OAuthServer(resources=["/mcp"], scopes={{"notes:read": "Read your notes"}})
include_auth(app, settings=settings, features=[server], pages=True)
include_auth(plain, settings=settings)
"""


def test_with_the_app_its_scopes_are_known(
    url: str, printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app_with_oauth.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    create = ("clients", "create", "Reports", "--redirect-uri", CALLBACK, "--scope", "notes:raed", "--app")
    assert printed(*create, "app_with_oauth:app") == (
        1,
        "The app has no scope notes:raed: it has notes:read.\n",
    )
    assert printed(*create, "app_with_oauth:plain") == (
        1,
        "app_with_oauth:plain has no OAuth server: name OAuthServer(...) among its features.\n",
    )


class Server:
    """A resource and its OAuth server, as they should be; a test changes what they say."""

    def __init__(self, base: str) -> None:
        self.resource = f"{base}/mcp"
        self.protected: Any = {"resource": self.resource, "authorization_servers": [base]}
        self.described: Any = {
            "issuer": base,
            "authorization_endpoint": f"{base}/oauth/authorize",
            "token_endpoint": f"{base}/oauth/token",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
            "authorization_response_iss_parameter_supported": True,
            "client_id_metadata_document_supported": True,
        }
        where = f"{base}/.well-known/oauth-protected-resource/mcp"
        self.challenge: str | None = f'Bearer resource_metadata="{where}", scope="notes:read"'
        self.refuses = ("GET", "POST")
        self.open = {"Access-Control-Allow-Origin": "*"}
        self.refused: Any = {"error": "invalid_client"}
        self.kept = "no-store"

    def answer(self, method: str, path: str) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON."""
        if path == "/mcp":
            if method not in self.refuses:
                return (405, {}, None)
            return (401, {} if self.challenge is None else {"WWW-Authenticate": self.challenge}, {})
        if path == "/.well-known/oauth-protected-resource/mcp":
            return (404 if self.protected is None else 200, self.open, self.protected)
        if path == "/.well-known/oauth-authorization-server":
            return (404 if self.described is None else 200, self.open, self.described)
        if path == "/oauth/token" and method == "POST":
            return (401, {"Cache-Control": self.kept, **self.open}, self.refused)
        return (404, {}, None)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, said = served.answer(self.command, self.path)
            body = b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json" if body else "text/html")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        served = Server(f"http://127.0.0.1:{serving.server_address[1]}")
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield served
        serving.shutdown()
        thread.join()


LOOKED = (
    *("challenge", "resource metadata", "resource metadata for browsers", "authorization server", "issuer"),
    *("server metadata for browsers", "endpoints", "PKCE", "iss", "clients", "token endpoint"),
)


def test_a_server_that_is_set_up_well_passes(server: Server, printed: Printed) -> None:
    everything = "".join(f"ok    {each}\n" for each in LOOKED)
    assert printed("check", server.resource) == (0, everything)
    server.refuses = ("POST",)
    assert printed("check", server.resource) == (0, everything), "an MCP server that answers POST alone"


def test_the_server_of_an_app_passes(settings: AuthSettings, tmp_path: Path, printed: Printed) -> None:
    port = free_port()
    settings.public_base_url = f"http://127.0.0.1:{port}"
    app = app_with_plain_init_in_lifespan(f"sqlite://{tmp_path / 'app.sqlite3'}")
    oauth = OAuthServer(resources=["/mcp"], scopes={"notes:read": "Read your notes"})
    include_auth(app, settings=settings, features=[oauth], pages=True)

    @app.get("/mcp/notes", dependencies=[Depends(require(scope="notes:read"))])
    async def notes() -> None: ...

    with serving(app, port=port) as base:
        assert printed("check", f"{base}/mcp/notes") == (0, "".join(f"ok    {each}\n" for each in LOOKED))
        status, text = printed("check", f"{base}/elsewhere")
        why = "it answers 404 without a token, and no 401: ask for a scope there by require(scope=...)."
        assert (status, text.splitlines()[0]) == (1, f"FAIL  challenge: {why}")


def change(name: str, value: object) -> Callable[[Server], None]:
    return lambda server: setattr(server, name, value)


def describe(name: str, value: object) -> Callable[[Server], None]:
    return lambda server: server.described.update({name: value})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (change("refuses", ()), "challenge: it answers 405 without a token, and no 401: ask for a scope"),
        (change("challenge", None), "challenge: its WWW-Authenticate has no resource_metadata: ask for a"),
        (change("challenge", 'Basic realm="x"'), "challenge: its WWW-Authenticate has no resource_metadata"),
        (
            change("challenge", 'Bearer resource_metadata="/x"'),
            "challenge: its resource_metadata is '/x': set",
        ),
        (
            change("protected", None),
            "resource metadata: http://{host}/.well-known/oauth-protected-resource/mcp",
        ),
        (
            change("protected", []),
            "resource metadata: http://{host}/.well-known/oauth-protected-resource/mcp",
        ),
        (
            lambda server: server.protected.update(resource="http://localhost:8000/mcp"),
            "resource metadata: it is that of 'http://localhost:8000/mcp', so that clients refuse it: set",
        ),
        (
            lambda server: server.protected.update(authorization_servers=["http://10.0.0.1"]),
            "authorization server: the resource names none that has https: set AUTH_PUBLIC_BASE_URL",
        ),
        (change("described", None), "server metadata: http://{host}/.well-known/oauth-authorization-server"),
        (
            describe("issuer", "http://127.0.0.1/"),
            "issuer: it says to be 'http://127.0.0.1/', and the resource",
        ),
        (describe("token_endpoint", None), "endpoints: token_endpoint is None: set AUTH_PUBLIC_BASE_URL"),
        (
            describe("response_types_supported", ["token"]),
            "endpoints: response_types_supported is without code",
        ),
        (
            describe("code_challenge_methods_supported", ["plain"]),
            "PKCE: code_challenge_methods_supported is",
        ),
        (describe("code_challenge_methods_supported", None), "PKCE: code_challenge_methods_supported is"),
        (
            describe("authorization_response_iss_parameter_supported", "true"),
            "iss: authorization_response_iss",
        ),
        (
            describe("token_endpoint_auth_methods_supported", ["client_secret_basic"]),
            "clients: token_endpoint_auth_methods_supported is without none",
        ),
        (change("refused", None), "token endpoint: http://{host}/oauth/token answers 401 to a code that was"),
        (
            change("kept", "public"),
            "token endpoint: its answers may be kept: have no proxy take Cache-Control",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_server_is_said_with_what_to_do(
    wrong: Callable[[Server], None], said: str, server: Server, printed: Printed
) -> None:
    wrong(server)
    status, text = printed("check", server.resource)
    failed = [line.removeprefix("FAIL  ") for line in text.splitlines() if line.startswith("FAIL")]
    host = server.resource.removeprefix("http://").removesuffix("/mcp")
    assert (status, failed[0].startswith(said.format(host=host))) == (1, True), text
    assert failed[0].endswith(".")


def test_what_only_some_clients_need_is_noted_and_passes(server: Server, printed: Printed) -> None:
    server.open = {}
    del server.described["client_id_metadata_document_supported"]
    status, text = printed("check", server.resource)
    noted = [line.partition(":")[0] for line in text.splitlines() if line.startswith("note")]
    assert (status, len(noted), noted[2]) == (0, 4, "note  clients")


@pytest.mark.parametrize("address", ["http://app.example.com/mcp", "app.example.com", "https://[::1", ""])
def test_an_address_without_https_is_refused(address: str, printed: Printed) -> None:
    status, text = printed("check", address)
    assert (status, text.startswith("FAIL  address: ")) == (1, True)
    assert "is not an address with https: name one such as https://app.example.com/mcp." in text


def test_a_server_that_does_not_answer_is_said(printed: Printed) -> None:
    status, text = printed("check", "http://127.0.0.1:1/mcp")
    assert status == 1
    assert text.startswith("FAIL  address: http://127.0.0.1:1/mcp does not answer (")
