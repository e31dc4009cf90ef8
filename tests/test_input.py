"""Hostile input on every route: never a server error, never an echo, never stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.models import User

from .conftest import EMAIL, PASSWORD, SECRET, Account, on_one_database

PLANTED = "pl4nted-s3cret"
HOSTILE: dict[str, str] = {
    "null": "null",
    "true": "true",
    "an integer": "123456",
    "a float": "1.5",
    "an empty list": "[]",
    "a list": f'["{PLANTED}"]',
    "an object": f'{{"{PLANTED}": "{PLANTED}"}}',
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "5000 digits": "9" * 5000,
    "NUL": f'"{PLANTED}\\u0000@example.com"',
    "a lone surrogate": f'"{PLANTED}\\ud800@example.com"',
    "line breaks": f'"{PLANTED}\\r\\nBcc: eve@example.com"',
    "a template": f'"{PLANTED}{{{{7*7}}}}"',
    "SQL": f'"{PLANTED}\'; DROP TABLE user; --"',
    "a megabyte": f'"{PLANTED}{"x" * 1_000_000}"',
    "a deep list": "[" * 900 + "]" * 900,
    "nothing": '""',
}


def documented_bodies() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and field schemas of each route with a body, from the app's own OpenAPI document."""
    app = FastAPI()
    include_auth(app, settings=AuthSettings(jwt_secret=SECRET))
    document = app.openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                reference = schema.get("$ref") or schema["anyOf"][0]["$ref"]  # of a body that may be null
                name = reference.rsplit("/", 1)[1]
                yield method, path, document["components"]["schemas"][name]["properties"]


ROUTES = [(method, path.replace("{token}", "x"), fields) for method, path, fields in documented_bodies()]
VALID = {
    "email": EMAIL,
    "password": PASSWORD,
    "new_password": PASSWORD,
    "old_password": PASSWORD,
    "token": "x",
    "code": "123456",
    "display_name": "Ada",
    "device": "x",
    "remember": True,
    "trust_device": True,
    "everywhere": True,
    "challenge": "x",
    "mailed_code": True,
}


def test_the_routes_with_a_body_are_known() -> None:
    assert len(ROUTES) == 18
    assert {field for _, _, fields in ROUTES for field in fields} == set(VALID)


async def send(account: Account, method: str, path: str, content: bytes, **headers: str) -> httpx.Response:
    headers = {"Content-Type": "application/json"} | account.headers | headers
    answer = await account.client.request(method, path, content=content, headers=headers)
    assert answer.status_code < 500, answer.text
    assert PLANTED not in answer.text
    assert len(answer.content) < 2000
    return answer


@pytest.mark.parametrize(("method", "path", "fields"), ROUTES, ids=[path for _, path, _ in ROUTES])
async def test_no_field_of_any_route_takes_a_wrong_value(
    method: str, path: str, fields: dict[str, Any], account: Account
) -> None:
    """R-42 to R-46, A-85, A-86."""
    before = (await User.all().values())[0]
    nullable = {"code", "display_name", "device", "challenge"} | ({"email"} if method == "patch" else set())
    for field in fields:
        for name, value in HOSTILE.items():
            if VALID[field] is True and value == "true":
                continue
            others = {key: VALID[key] for key in fields if key != field}
            body = json.dumps(others | {field: "@"}).replace('"@"', value)
            text = name in {"a template", "SQL"} or (
                name == "line breaks" and ("password" in field or field in ("device", "challenge"))
            )
            harmless = (text and field not in {"email", "code"}) or (
                name == "line breaks" and field == "token"
            )
            empty = name == "nothing" and field in nullable | {"password", "old_password", "token"}
            if harmless and field in {"display_name", "new_password", "device"}:
                continue
            answer = await send(account, method, path, body.encode())
            if not harmless and not empty and not (name == "null" and field in nullable):
                assert answer.status_code in (400, 422), (field, name, answer.text)
            if answer.status_code == 422:
                assert_validation_body(answer)
    after = (await User.all().values())[0]
    assert PLANTED not in str(after)
    for key in ("last_login_at", "sessions_opened", "display_name"):
        del before[key], after[key]
    if path != "/account/change-password":
        assert after == before


def assert_validation_body(answer: httpx.Response) -> None:
    body = answer.json()
    if body["code"] == "validation_error":
        assert set(body) == {"detail", "code"}
        assert all(set(error) == {"loc", "msg", "type"} for error in body["detail"])


@on_one_database
@pytest.mark.parametrize(("method", "path", "fields"), ROUTES, ids=[path for _, path, _ in ROUTES])
async def test_no_route_takes_a_field_it_does_not_know(
    method: str, path: str, fields: dict[str, Any], account: Account
) -> None:
    """A-31."""
    if path == "/auth/logout":
        return  # which must not fail because of what else is in its body, as test_core.py holds
    body = {key: VALID[key] for key in fields}
    for field in ("is_verified", "is_superuser", "id", PLANTED, "\ud800", "x" * 5000):
        answer = await send(account, method, path, json.dumps(body | {field: PLANTED}).encode())
        assert answer.status_code == 422
        (error,) = answer.json()["detail"]
        assert error["type"] in {"extra_forbidden", "string_unicode"}
        told = {"is_verified", "is_superuser", "id"} & {field}
        assert error["loc"] in (["body", *told], ["body", *(told or "?")])


BODIES: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"nonsense", "application/json"),
    "cut JSON": (b'{"email": "', "application/json"),
    "a list": (b"[]", "application/json"),
    "a string": (b'"x"', "application/json"),
    "null": (b"null", "application/json"),
    "nothing": (b"", "application/json"),
    "invalid UTF-8": (b'{"email": "\xff\xfe"}', "application/json"),
    "overlong UTF-8": (b'{"email": "\xc0\xaf"}', "application/json"),
    "UTF-16": ('{"email": "x"}'.encode("utf-16"), "application/json"),
    "100000 deep": (b"[" * 100_000 + b"]" * 100_000, "application/json"),
    "100000 keys": (json.dumps({f"k{n}": n for n in range(100_000)}).encode(), "application/json"),
    "a form": (b"email=ada%40example.com&password=x", "application/x-www-form-urlencoded"),
    "text": (b'{"email": "ada@example.com"}', "text/plain"),
    "no type": (b'{"email": "ada@example.com"}', ""),
    "10 MB": (b'{"email": "' + b"x" * 10_000_000 + b'"}', "application/json"),
}


@on_one_database
@pytest.mark.parametrize("name", BODIES)
async def test_no_body_is_a_server_error(name: str, account: Account) -> None:
    """R-41, R-42, R-44."""
    content, media_type = BODIES[name]
    empty = name == "nothing" or media_type != "application/json"
    for method, path, _ in ROUTES:
        if path == "/auth/logout" and (empty or name in ("null", "100000 keys", "UTF-16")):
            continue  # counts as no body, which it does not need; what it does not know does no harm
        headers = {"Content-Type": media_type} | account.headers
        answer = await account.client.request(method, path, content=content, headers=headers)
        allowed = {413} if name == "10 MB" else {400, 422}
        assert answer.status_code in allowed, (path, answer.text)
        assert len(answer.content) < 1000


@on_one_database
@pytest.mark.parametrize(("more", "status"), [(0, 422), (1, 413)])
async def test_a_body_has_two_mebibytes_at_most(more: int, status: int, account: Account) -> None:
    content = b" " * (2 * 1024 * 1024 - 2 + more) + b"{}"
    headers = {"Content-Type": "application/json"}
    assert (await account.client.post("/auth/login", content=content, headers=headers)).status_code == status


@pytest.mark.parametrize(
    "token", ["%00", "%ed%a0%80", "%ff", "x" * 9000, "a.b.c", "..%2f..%2fetc%2fpasswd", "%0d%0aX: y"]
)
async def test_no_link_is_a_server_error(token: str, account: Account) -> None:
    """R-43."""
    for method, path in (
        ("GET", "/auth/verify/{}"),
        ("POST", "/auth/verify/{}"),
        ("GET", "/auth/email-change/{}"),
        ("POST", "/auth/email-change/{}"),
        ("GET", "/auth/stop-email-change/{}"),
        ("POST", "/auth/stop-email-change/{}"),
        ("GET", "/auth/reset-password/{}"),
        ("DELETE", "/account/sessions/{}"),
        ("DELETE", "/account/devices/{}"),
    ):
        answer = await account.client.request(method, path.format(token), headers=account.headers)
        assert answer.status_code in (400, 404)


@on_one_database
@pytest.mark.parametrize(
    "address",
    [
        "plain",
        "@example.com",
        "a@",
        "a@b",
        "a b@example.com",
        "a@example.com, b@example.com",
        "a@localhost",
        "Ada <ada@example.com>",
        "a@example..com",
        "a" * 65 + "@example.com",
        "a@[127.0.0.1]",
        '"a b"@example.com',
        "a@" + "x" * 250 + ".com",
        "a@exam_ple.com",
        "a\r\n@example.com",
    ],
)
async def test_what_is_no_address_is_refused_alike_everywhere(address: str, account: Account) -> None:
    """R-49."""
    for method, path, fields in ROUTES:
        if "email" in fields:
            body = {key: VALID[key] for key in fields} | {"email": address}
            answer = await send(account, method, path, json.dumps(body).encode())
            assert answer.status_code == 422, path
            assert [error["loc"] for error in answer.json()["detail"]] == [["body", "email"]]


@on_one_database
async def test_a_domain_is_normalised_before_anything_looks_at_it(account: Account) -> None:
    """R-49: an ideographic full stop is a dot."""
    body = {"email": "a@example.com\u3002evil.example.com", "password": PASSWORD}
    answer = await account.client.post("/auth/signup", json=body)
    assert answer.json()["email"] == "a@example.com.evil.example.com"


@on_one_database
@pytest.mark.parametrize(("method", "path", "fields"), ROUTES, ids=[path for _, path, _ in ROUTES])
async def test_other_methods_are_refused(
    method: str, path: str, fields: dict[str, Any], account: Account
) -> None:
    """A-78, A-89."""
    for other in ("PUT", "TRACE", "HEAD"):
        answer = await account.client.request(other, path, headers=account.headers)
        mailed = other == "HEAD" and path.startswith(
            ("/auth/verify/", "/auth/reset-password/", "/auth/invite/", "/auth/email-change/")
        )
        assert answer.status_code == (404 if mailed else 405)  # of no link
    override = {"X-HTTP-Method-Override": "DELETE"} | account.headers
    assert (await account.client.get("/account", headers=override)).status_code == 200
    assert await User.all().count() == 1
