"""Clients of 0.1.4, which took the fields of three bodies in the query."""

from __future__ import annotations

from typing import Any

import httpx
import pyotp
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth.models import User

from .conftest import EMAIL, PASSWORD, Account, Mailbox

DIALECTS = ("sqlite",)
ROUTES = ("/auth/forgot-password", "/auth/verify/resend")
EMPTY: list[dict[str, Any]] = [{}, {"json": {}}, {"json": None}, {"content": b""}]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("empty", EMPTY)
async def test_an_address_in_the_query_is_mailed_to(
    path: str, empty: dict[str, Any], client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    mailbox.clear()
    answer = await client.post(path, params={"email": EMAIL.upper()}, **empty)
    assert answer.status_code == 200, answer.text
    assert [mail["To"] for mail in mailbox.messages] == [EMAIL]
    same = await client.post(path, json={"email": "nobody@example.com"})
    assert same.content == answer.content


@pytest.mark.parametrize("path", ROUTES)
async def test_a_body_counts_before_the_query(path: str, client: httpx.AsyncClient, mailbox: Mailbox) -> None:
    await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    mailbox.clear()
    await client.post(path, params={"email": "nobody@example.com"}, json={"email": EMAIL})
    assert [mail["To"] for mail in mailbox.messages] == [EMAIL]
    for body in ({"email": "x"}, {"mail": EMAIL}, [EMAIL]):
        answer = await client.post(path, params={"email": EMAIL}, json=body)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"][0] == "body"


@pytest.mark.parametrize("path", [*ROUTES, "/auth/2fa/verify"])
async def test_neither_body_nor_query_is_refused_like_a_bad_body(path: str, account: Account) -> None:
    for params in ({}, {"mail": EMAIL}):
        answer = await account.client.post(path, params=params, headers=account.headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    answer = await account.client.post(path, params={"email": "x", "code": "x"}, headers=account.headers)
    assert (answer.status_code, answer.json()["detail"][0]["loc"][0]) == (422, "query")


async def test_a_code_in_the_query_finishes_the_enrolment(account: Account) -> None:
    enrolment = (await account.client.post("/auth/2fa/enable", headers=account.headers)).json()
    code = pyotp.parse_uri(enrolment["otpauth_uri"]).now()  # type: ignore[union-attr]  # it is a TOTP
    wrong = await account.client.post("/auth/2fa/verify", params={"code": "12345x"}, headers=account.headers)
    assert wrong.status_code == 422
    answer = await account.client.post("/auth/2fa/verify", params={"code": code}, headers=account.headers)
    assert answer.status_code == 200
    assert (await User.get()).two_factor_active


def test_the_openapi_document_asks_for_the_bodies(app: FastAPI) -> None:
    for path in (*ROUTES, "/auth/2fa/verify"):
        operation = app.openapi()["paths"][path]["post"]
        assert operation["requestBody"]["required"] is True
        assert operation["requestBody"]["content"]["application/json"]["schema"].keys() == {"$ref"}
        assert "parameters" not in operation
