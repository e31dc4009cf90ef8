"""The app's own tests: what is in one transaction with the account, and what is not."""

from typing import Any
from uuid import UUID

import pytest
from database import sessions
from models import Order, Profile
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from fastapi_pluggable_auth import Auth, Refused
from fastapi_pluggable_auth.hooks import SignedUp, SigningUp
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.testing import PASSWORD, AuthClient, UserFactory

ADA = {"email": "ada@example.com", "password": PASSWORD, "city": "London"}


async def rows(table: Any) -> list[Any]:
    """All of a table of the app's, as a session sees them."""
    async with sessions() as session:
        return [*await session.scalars(select(table))]


async def test_a_signup_makes_a_profile(auth_client: AuthClient) -> None:
    assert (await auth_client.post("/auth/signup", json=ADA)).status_code == 201
    ada = await User.get(email="ada@example.com")
    assert [(profile.user_id, profile.city) for profile in await rows(Profile)] == [(ada.id, "London")]
    await auth_client.sign_in(ada)
    assert (await auth_client.put("/profile", params={"city": "Paris"})).status_code == 200
    assert (await auth_client.get("/profile")).json() == {"city": "Paris"}


async def test_account_and_profile_are_stored_together_or_not_at_all(
    auth_client: AuthClient, pluggable_auth: Auth
) -> None:
    @pluggable_auth.on(SigningUp)
    async def refuse(event: SigningUp) -> None:
        raise Refused("Not today.")

    assert (await auth_client.post("/auth/signup", json=ADA)).status_code == 403
    assert (await User.all().count(), await rows(Profile)) == (0, [])


async def welcome(user_id: UUID) -> None:
    """Stores an order by a session of its own."""
    async with sessions.begin() as session:
        session.add(Order(user_id=user_id, item="a welcome"))


async def test_a_session_is_another_connection_which_sees_the_account_once_it_is_committed(
    auth_client: AuthClient, pluggable_auth: Auth
) -> None:
    stored: list[type[object]] = []

    @pluggable_auth.on(SigningUp)
    async def too_early(event: SigningUp) -> None:
        with pytest.raises(IntegrityError, match='is not present in table "user"'):
            await welcome(event.user.id)
        stored.append(SigningUp)

    @pluggable_auth.on(SignedUp)
    async def in_time(event: SignedUp) -> None:
        await welcome(event.user.id)
        stored.append(SignedUp)
        raise RuntimeError("which the account and the order outlive")

    assert (await auth_client.post("/auth/signup", json=ADA)).status_code == 201
    assert stored == [SigningUp, SignedUp]
    assert [order.item for order in await rows(Order)] == ["a welcome"]


async def test_an_account_that_no_signup_made_gets_its_profile_when_it_comes(
    auth_client: AuthClient, user_factory: UserFactory[User]
) -> None:
    await auth_client.sign_in(await user_factory())
    for _ in range(2):
        assert (await auth_client.get("/profile")).json() == {"city": ""}
    assert len(await rows(Profile)) == 1


async def test_the_profile_goes_with_the_account_and_orders_stay(
    auth_client: AuthClient, user_factory: UserFactory[User]
) -> None:
    staff = await user_factory("staff@example.com", roles=["staff"])
    await auth_client.sign_in(await user_factory("ada@example.com"))
    await auth_client.get("/profile")
    await auth_client.post("/orders", params={"item": "tea"})
    assert (await auth_client.get("/orders")).status_code == 403
    await auth_client.sign_in(staff)
    assert (await auth_client.get("/orders")).json() == [{"item": "tea", "email": "ada@example.com"}]
    await auth_client.sign_in(await User.get(email="ada@example.com"))
    assert (await auth_client.delete("/account")).status_code == 204
    assert await rows(Profile) == []
    await auth_client.sign_in(staff)
    assert (await auth_client.get("/orders")).json() == [{"item": "tea", "email": None}]
