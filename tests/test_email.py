"""Verifying an address, and the links that are mailed."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth import config as config_module
from fastapi_pluggable_auth.email.tokens import Purpose, generate_verify_token
from fastapi_pluggable_auth.models import User

from .conftest import (
    EMAIL,
    PASSWORD,
    SECRET,
    SQLITE_UNLESS_FULL,
    Clock,
    Mailbox,
    on_each_database,
    on_one_database,
)
from .smtp_server import link_in
from .test_password import DEAD_LINK

DIALECTS = SQLITE_UNLESS_FULL

CREDENTIALS = {"email": EMAIL, "password": PASSWORD}


@pytest.fixture
async def link(client: httpx.AsyncClient, mailbox: Mailbox) -> str:
    """The verification link of a fresh signup."""
    assert (await client.post("/auth/signup", json=CREDENTIALS)).status_code == 201
    return mailbox.link()


async def is_verified() -> bool:
    return (await User.get(email=EMAIL)).is_verified


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_verification_link_works_once(method: str, client: httpx.AsyncClient, link: str) -> None:
    """A-26."""
    first = await client.request(method, link)
    assert (first.status_code, first.json()) == (200, {"detail": "Your e-mail address is verified."})
    assert await is_verified()
    for again in ("GET", "POST"):
        answer = await client.request(again, link)
        assert (answer.status_code, answer.content) == (400, DEAD_LINK)


@on_each_database
async def test_simultaneous_verifications_have_one_winner(client: httpx.AsyncClient, link: str) -> None:
    """R-13."""
    answers = await asyncio.gather(*(client.get(link) for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 19}


async def test_a_verification_link_expires(client: httpx.AsyncClient, link: str, clock: Clock) -> None:
    clock.advance(hours=24, seconds=1)
    assert (await client.get(link)).content == DEAD_LINK
    assert not await is_verified()


async def test_only_a_verification_link_verifies(client: httpx.AsyncClient, link: str, auth: Auth) -> None:
    """A-56."""
    user = await User.get()
    for token in (
        auth.links.generate(Purpose.RESET, user.id),
        auth.links.generate(Purpose.EMAIL_CHANGE, user.id),
        auth.signer.access_token(user.id),
        "x",
        "%00",
        "%ed%a0%80",
        "a.b.c",
        "x" * 9000,
    ):
        answer = await client.get(f"/auth/verify/{token}")
        assert (answer.status_code, answer.content) == (400, DEAD_LINK), token
    assert not await is_verified()


async def test_a_link_to_an_address_that_changed_is_dead(client: httpx.AsyncClient, link: str) -> None:
    await User.all().update(email="other@example.com")
    assert (await client.get(link)).content == DEAD_LINK


async def test_a_new_link_is_mailed_to_those_who_need_one_and_the_answer_is_one(
    client: httpx.AsyncClient, link: str, mailbox: Mailbox
) -> None:
    """A-19."""
    for email, changes in (
        ("done@example.com", {"is_verified": True}),
        ("off@example.com", {"is_active": False}),
    ):
        await client.post("/auth/signup", json={"email": email, "password": PASSWORD})
        await User.filter(email=email).update(**changes)
    mailbox.clear()
    answers = [
        await client.post("/auth/verify/resend", json={"email": email})
        for email in (EMAIL, "done@example.com", "off@example.com", "nobody@example.com")
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert [message["To"] for message in mailbox.messages] == [EMAIL]
    assert (await client.get(mailbox.link())).status_code == 200
    assert (await client.get(link)).status_code == 400


async def test_a_token_of_the_helper_verifies_once(
    client: httpx.AsyncClient, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_module.settings, "jwt_secret", SECRET)
    token = generate_verify_token((await User.get()).id)
    assert (await client.get(f"/auth/verify/{token}")).status_code == 200
    assert (await client.get(f"/auth/verify/{token}")).content == DEAD_LINK


@on_one_database
@pytest.mark.parametrize(
    "base", ["https://app.example.com", "https://app.example.com/", "https://app.example.com/sub//"]
)
async def test_links_join_the_public_address_with_one_slash(
    base: str, client: httpx.AsyncClient, settings: AuthSettings, mailbox: Mailbox
) -> None:
    """A-37, R-48: the Host header has no say."""
    settings.public_base_url = base
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    await client.post("/auth/signup", json=CREDENTIALS, headers=headers)
    assert mailbox.link().startswith(f"{base.rstrip('/')}/auth/verify/A")
    await client.post("/auth/verify/resend", json={"email": EMAIL}, headers=headers)
    await client.post("/auth/forgot-password", json={"email": EMAIL}, headers=headers)
    await User.all().update(is_verified=True)
    access_token = (await client.post("/auth/login", json=CREDENTIALS)).json()["access_token"]
    signed_in = headers | {"Authorization": f"Bearer {access_token}"}
    await client.patch("/account", json={"email": "new@example.com"}, headers=signed_in)
    assert len(mailbox.messages) == 5
    for message in mailbox.messages:
        assert link_in(message).startswith(f"{base.rstrip('/')}/auth/")
        assert "evil" not in str(message)


@on_one_database
async def test_the_verification_link_can_point_at_a_front_end(
    client: httpx.AsyncClient, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.verify_url = "https://front.example.com/verify/{token}"
    await client.post("/auth/signup", json=CREDENTIALS)
    assert mailbox.link().startswith("https://front.example.com/verify/A")
    assert (await client.post(f"/auth/verify/{mailbox.token()}")).status_code == 200


@on_one_database
async def test_mail_goes_to_the_stored_address(
    client: httpx.AsyncClient, link: str, mailbox: Mailbox
) -> None:
    """A-25."""
    mailbox.clear()
    for look_alike in ("\u0430da@example.com", "ada@ex\u0430mple.com", "\uff41da@example.com"):
        answer = await client.post("/auth/forgot-password", json={"email": look_alike})
        assert answer.status_code in (200, 422)
    assert mailbox.messages == []
