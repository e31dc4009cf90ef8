"""Every route, as the OpenAPI document has it."""

from __future__ import annotations

import json
import re
import secrets
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import Administration, AuditLog, OAuthServer, Passkeys, PersonalTokens

TITLES: Final = {
    "auth": "Signing up and in",
    "e-mail": "E-mail addresses",
    "password": "Passwords",
    "two-factor": "Two-factor",
    "passkeys": "Passkeys",
    "sessions": "Sessions",
    "account": "The account",
    "personal access tokens": "Personal access tokens",
    "applications": "Applications",
    "activity": "The audit log",
    "admin": "Administration",
}
"""The titles of the routes' tags, in the order of the page; a tag that is not here comes last, as it is."""


ROLES: Final = {"editor": ["notes:write"]}
FEATURES: Final = (
    Administration(),
    PersonalTokens(scopes={"notes:read": "Read your notes"}),
    OAuthServer(resources=["/api"]),
    AuditLog(),
    Passkeys(),
)
"""What the app of the examples has."""


@cache
def openapi() -> dict[str, Any]:
    """The document of an app with everything on."""
    app = FastAPI()
    options = AuthSettings(
        _env_file=None,  # type: ignore[call-arg]
        jwt_secret=secrets.token_urlsafe(48),
        public_base_url="https://app.example.com",
        email_provider="memory",
    )
    include_auth(app, settings=options, pages=True, roles=ROLES, features=FEATURES)
    return app.openapi()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each route, in the order of the page."""
    found = [
        (method.upper(), path, operation)
        for path, methods in openapi()["paths"].items()
        for method, operation in methods.items()
    ]
    order = {tag: number for number, tag in enumerate(TITLES)}
    yield from sorted(found, key=lambda each: order.get(each[2]["tags"][0], len(order)))


def entries() -> str:
    """Every route by tag."""
    by_tag = defaultdict(list)
    for method, path, operation in operations():
        by_tag[operation["tags"][0]].append(_operation(method, path, operation))
    return "\n\n".join("\n\n".join([f"## {TITLES.get(tag, tag)}", *routes]) for tag, routes in by_tag.items())


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    codes = list(codes_of(operation))
    parts = [
        f"### `{method} {path}` {{ #{anchor_of(method, path)} }}",
        " ".join(operation["description"].split()),
        f"```sh\n{command_of(method, path, operation)}\n```",
        f"**Who:** {_who(operation)}.",
    ]
    query = [each for each in operation.get("parameters", []) if each["in"] == "query"]
    if query:
        names = {each["name"]: each["schema"] for each in query}
        parts.append(f"**Query:**\n\n{_fields({'properties': names})}")
    body = _body(operation)
    if body:
        parts.append(f"**Body:**\n\n{_fields(body)}")
    parts += [
        _success(operation),
        "**Errors:** " + ", ".join(f"{status} {_linked(code)}" for status, code in codes),
    ]
    return "\n\n".join(parts)


def _who(operation: dict[str, Any]) -> str:
    if not operation.get("security"):
        return "anybody"
    if "permission_denied" in [code for _, code in codes_of(operation)]:
        return "[administrators](../admin.md#who-may)"
    return "a user who is signed in"


def anchor_of(method: str, path: str) -> str:
    """Such as `post-auth-signup`."""
    return re.sub(r"[^a-z0-9]+", "-", f"{method} {path}".lower()).strip("-")


def codes_of(operation: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """The status and code of each refusal of a route."""
    for status, response in sorted(operation["responses"].items()):
        if int(status) >= 400:
            for code in dict.fromkeys(re.findall(r"^`(\w+)`", response["description"], re.MULTILINE)):
                yield int(status), code


def command_of(method: str, path: str, operation: dict[str, Any]) -> str:
    """The request as a curl command; its variables are those of the page."""
    target = re.sub(r"\{(\w+)\}", lambda found: f"${found[1].upper()}", path)
    body = _body(operation)
    parts = ["curl"] if method in ("GET", "POST") and (method == "GET" or body) else ["curl", "-X", method]
    parts.append(f"$BASE{target}")
    if operation.get("security"):
        parts.append('-H "$AUTH"')
    if body:
        parts.append(f"-H \"$JSON\" -d '{json.dumps(_example(body))}'")
    command = " ".join(parts).replace(f'"{CREDENTIAL}"', "'\"$CREDENTIAL\"'")
    return command.replace("$REFRESH_TOKEN", "$TOKEN") if "/verify" in path else command


CREDENTIAL: Final = "what the browser gives"
"""In the place of a variable that holds an object."""

EXAMPLES: Final = {
    "credential": CREDENTIAL,
    "second_factor": False,
    "token": "'$REFRESH_TOKEN'",
    "challenge": "'$CHALLENGE'",
    "scopes": ["notes:read"],
    "redirect_uris": ["https://app.example.com/callback"],
    "roles": ["editor"],
    "everywhere": False,
}
"""Beside those of the document."""


def _example(body: dict[str, Any]) -> dict[str, Any]:
    """A body as the document proposes it; with what is required where it proposes none."""
    fields = body["properties"]
    (proposed,) = body.get("examples", [{}])
    wanted = [*proposed] or body.get("required") or [next(iter(fields))]
    if {"password", "credential"} <= fields.keys():  # either of them
        wanted = [*wanted, "password"]
    return {name: EXAMPLES.get(name, _proposed(body, name)) for name in wanted}


def _proposed(body: dict[str, Any], name: str) -> Any:
    (whole,) = body.get("examples", [{}])
    return whole.get(name, _parts(body["properties"][name])[0].get("examples", ["..."])[0])


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = openapi()["components"]["schemas"][name] if name else schema
    return found


def _parts(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What a value may be, one by one, without null."""
    return [_resolved(part) for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]


def _body(operation: dict[str, Any]) -> dict[str, Any] | None:
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return None
    return _parts(content["application/json"]["schema"])[0]


def _fields(body: dict[str, Any]) -> str:
    required = body.get("required", [])
    rows = [
        f"| `{name}` | {'yes' if name in required else ''} | {_value(schema)} |"
        for name, schema in body["properties"].items()
    ]
    return "\n".join(["| field | required | value |", "|---|---|---|", *rows])


def _value(schema: dict[str, Any]) -> str:
    part = _parts(schema)[0]
    said = part.get("format") or (
        "six digits, or a recovery code" if "[A-Za-z2-7]" in part.get("pattern", "") else ""
    )
    said = "six digits" if part.get("pattern") == "^[0-9]{6}$" else said
    kind = {"string": "text", "boolean": "true/false", "integer": "number", "array": "list"}
    words = [said or kind.get(part.get("type", ""), part.get("type", "any"))]
    lowest, highest = part.get("minLength"), part.get("maxLength")
    if lowest and highest:
        words.append(f"{lowest} to {highest} characters")
    elif highest:
        words.append(f"up to {highest} characters")
    if len(_parts(schema)) < len(schema.get("anyOf", [schema])):
        words.append("or null")
    return ", ".join(words)


def _success(operation: dict[str, Any]) -> str:
    ((status, response),) = [each for each in operation["responses"].items() if int(each[0]) < 400]
    content = response.get("content", {}).get("application/json", {}).get("schema")
    if not content:
        return f"**Success:** {status}, no body."
    said = []
    for part in _parts(content):
        listed = part.get("type") == "array"
        item = _resolved(part["items"]) if listed else part
        names = ", ".join(f"`{name}`" for name in item.get("properties", {}))
        said.append(f"a list of {{{names}}}" if listed else names)
    return f"**Success:** {status} with {'; or '.join(said)}."


def _linked(code: str) -> str:
    return f"[`{code}`](errors.md#{code})"
