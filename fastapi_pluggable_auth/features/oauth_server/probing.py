"""Looks at an OAuth server as a client sees it that knows nothing but the address of a resource (RFC 9728,
RFC 8414, RFC 9207, MCP authorization)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from ...config.urls import is_local
from ...security.outgoing import bounded
from ...security.tls import https_context
from ..looks import Look

TIMEOUT: Final = 10.0
MAXIMUM_BYTES: Final = 64 * 1024
RESOURCE: Final = "/.well-known/oauth-protected-resource"
SERVER: Final = "/.well-known/oauth-authorization-server"
PAGE: Final = "https://client.example"
"""Where a client may be that runs in a browser."""

_PARAMETER: Final = re.compile(r'([a-z_]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))')


class UnseenError(Exception):
    """Nothing more is to be seen; says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server has answered."""

    status: int
    headers: httpx.Headers
    said: Any


async def look_at(url: str) -> list[Look]:
    """What is right with the resource at this address and with its server, and what is not. Nobody is signed
    in; a code that was never given is sent to the token endpoint."""
    looks: list[Look] = []
    try:
        async with httpx.AsyncClient(
            verify=await https_context(), timeout=TIMEOUT, headers={"Origin": PAGE}
        ) as client:
            await _look(client, url, looks)
    except UnseenError as error:
        looks.append(Look("address", str(error)))
    return looks


async def _look(client: httpx.AsyncClient, url: str, looks: list[Look]) -> None:
    challenge, where = await _challenge(client, url)
    looks.append(challenge)
    resource = await _get(client, where)
    if (issuer := _resource(url, where, resource, looks)) is None:
        return
    where = _well_known(issuer, SERVER)
    server = await _get(client, where)
    if server.status != 200 or not isinstance(server.said, dict):
        found = f"{where} answers {server.status}, and no JSON object: serve the app there"
        looks.append(Look("server metadata", f"{found}, the path of the issuer at its end."))
        return
    said: dict[str, Any] = server.said
    looks += [
        _issuer(issuer, said),
        _browsers("server metadata for browsers", server),
        _endpoints(said),
        _pkce(said),
        _iss(said),
        _clients(said),
    ]
    looks.append(await _token_endpoint(client, said))


async def _challenge(client: httpx.AsyncClient, url: str) -> tuple[Look, str]:
    """What the resource says to one who has no token, and where its metadata is by that."""
    answer = await _send(client, "GET", url)
    if answer.status != 401:  # an MCP server may answer those alone who begin as one does
        begin = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
        accept = {"Accept": "application/json, text/event-stream"}
        answer = await _send(client, "POST", url, json=begin, headers=accept)
    usual = _well_known(url, RESOURCE)
    if answer.status != 401:
        why = f"it answers {answer.status} without a token, and no 401"
        return Look("challenge", f"{why}: ask for a scope there by require(scope=...)."), usual
    scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
    said = {name: quoted or bare for name, quoted, bare in _PARAMETER.findall(rest)}
    where = said.get("resource_metadata")
    if scheme.lower() != "bearer" or not where:
        why = (
            "its WWW-Authenticate has no resource_metadata: ask for a scope there by require(scope=...), and"
        )
        return Look("challenge", f"{why} let no proxy take that header away."), usual
    if not _is_address(where):
        return Look("challenge", f"its resource_metadata is {where!r:.120}: set AUTH_PUBLIC_BASE_URL."), usual
    return Look("challenge"), where


def _resource(url: str, where: str, answer: Answer, looks: list[Look]) -> str | None:
    """The issuer that the resource names."""
    said = answer.said
    if answer.status != 200 or not isinstance(said, dict):
        why = f"{where} answers {answer.status}, and no JSON object: let /.well-known reach the app"
        looks.append(Look("resource metadata", f"{why}, and name the path in OAuthServer(resources=[...])."))
        return None
    named = said.get("resource")
    if not isinstance(named, str) or not _covers(named, url):
        why = f"it is that of {named!r:.120}, so that clients refuse it"
        looks.append(Look("resource metadata", f"{why}: set AUTH_PUBLIC_BASE_URL to the address they use."))
    else:
        looks.append(Look("resource metadata"))
    looks.append(_browsers("resource metadata for browsers", answer))
    servers = said.get("authorization_servers")
    if not isinstance(servers, list) or not servers or not _is_address(servers[0]):
        looks.append(
            Look("authorization server", "the resource names none that has https: set AUTH_PUBLIC_BASE_URL.")
        )
        return None
    looks.append(Look("authorization server"))
    return str(servers[0])


def _issuer(issuer: str, said: Mapping[str, Any]) -> Look:
    """RFC 8414 section 3.3: letter by letter."""
    if said.get("issuer") == issuer:
        return Look("issuer")
    why = f"it says to be {said.get('issuer')!r:.120}, and the resource names {issuer!r:.120}"
    return Look(
        "issuer", f"{why}: set AUTH_PUBLIC_BASE_URL to the one address of the app in all its workers."
    )


def _browsers(subject: str, answer: Answer) -> Look:
    if answer.headers.get("Access-Control-Allow-Origin") in ("*", PAGE):
        return Look(subject)
    why = "pages of other hosts may not read it: have no proxy take Access-Control-Allow-Origin away."
    return Look(subject, why, uncertain=True)


def _endpoints(said: Mapping[str, Any]) -> Look:
    for name in ("authorization_endpoint", "token_endpoint"):
        if not _is_address(said.get(name)):
            return Look(
                "endpoints", f"{name} is {said.get(name)!r:.120}: set AUTH_PUBLIC_BASE_URL to one with https."
            )
    for name, needed in (
        ("response_types_supported", "code"),
        ("grant_types_supported", "authorization_code"),
    ):
        if needed not in _list(said, name, ["code", "authorization_code"]):
            return Look("endpoints", f"{name} is without {needed}: clients cannot use the server.")
    return Look("endpoints")


def _pkce(said: Mapping[str, Any]) -> Look:
    """MCP clients go no further without it."""
    if "S256" in _list(said, "code_challenge_methods_supported", []):
        return Look("PKCE")
    return Look("PKCE", "code_challenge_methods_supported is without S256, which clients of MCP insist on.")


def _iss(said: Mapping[str, Any]) -> Look:
    if said.get("authorization_response_iss_parameter_supported") is True:
        return Look("iss")
    why = "authorization_response_iss_parameter_supported is not true: clients cannot tell servers apart"
    return Look("iss", f"{why} (RFC 9207), and ChatGPT has another address for each connection.")


def _clients(said: Mapping[str, Any]) -> Look:
    if "none" not in _list(said, "token_endpoint_auth_methods_supported", ["client_secret_basic"]):
        return Look(
            "clients", "token_endpoint_auth_methods_supported is without none: public clients are refused."
        )
    if said.get("client_id_metadata_document_supported") is True or "registration_endpoint" in said:
        return Look("clients")
    why = "clients that nobody has registered are not known: each has to be, by `oauth clients create`."
    return Look("clients", why, uncertain=True)


async def _token_endpoint(client: httpx.AsyncClient, said: Mapping[str, Any]) -> Look:
    where = said.get("token_endpoint")
    if not isinstance(where, str) or not _is_address(where):
        return Look("token endpoint", "there is none to ask.")
    never_given = {"grant_type": "authorization_code", "code": "never-given", "client_id": "nobody"}
    try:
        answer = await _send(client, "POST", where, data=never_given)
    except UnseenError as error:
        return Look("token endpoint", str(error))
    if answer.status not in (400, 401) or not isinstance(answer.said, dict) or "error" not in answer.said:
        why = f"{where} answers {answer.status} to a code that was never given, and no error in JSON"
        return Look("token endpoint", f"{why}: let the proxy in front pass POST requests on to the app.")
    if "no-store" not in answer.headers.get("Cache-Control", ""):
        return Look("token endpoint", "its answers may be kept: have no proxy take Cache-Control away.")
    return _browsers("token endpoint", answer)


async def _get(client: httpx.AsyncClient, url: str) -> Answer:
    return await _send(client, "GET", url, headers={"Accept": "application/json"})


async def _send(client: httpx.AsyncClient, method: str, url: str, **options: Any) -> Answer:
    if not _is_address(url):
        raise UnseenError(
            f"{url!r:.120} is not an address with https: name one such as https://app.example.com/mcp."
        )
    try:
        async with client.stream(method, url, **options) as answer:
            # What is no JSON may be a stream without end.
            is_json = "json" in answer.headers.get("Content-Type", "")
            body = await bounded(answer.aiter_bytes(), MAXIMUM_BYTES) if is_json else b""
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        why = str(error) or type(error).__name__
        raise UnseenError(
            f"{url} does not answer ({why:.120}): check the address, and the network."
        ) from error
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    return Answer(answer.status_code, answer.headers, said)


def _is_address(url: object) -> bool:
    """With https, or on this machine."""
    if not isinstance(url, str):
        return False
    try:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname
    except ValueError:
        return False
    return bool(host) and (scheme == "https" or (scheme == "http" and is_local(url)))


def _well_known(url: str, name: str) -> str:
    """Between the host and the path (RFC 8414 section 3.1, RFC 9728 section 3.1)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{name}{parts.path.rstrip('/')}"


def _covers(resource: str, url: str) -> bool:
    """Whether an address is the resource, or below it."""
    return f"{url.rstrip('/')}/".startswith(f"{resource.rstrip('/')}/")


def _list(said: Mapping[str, Any], name: str, otherwise: list[str]) -> list[Any]:
    found = said.get(name, otherwise)
    return found if isinstance(found, list) else []
