"""The app's own tests."""

import pytest
from fastapi import WebSocketDisconnect
from models import Booking, Member, Room

from fastapi_pluggable_auth.testing import PASSWORD, AuthClient, Mailbox, UserFactory

TO_COME = {"room": "1", "day": "2999-12-31"}


@pytest.fixture
async def ada(auth_client: AuthClient, user_factory: UserFactory[Member]) -> Member:
    """A member who has signed in; there is a garden."""
    await Room.create(name="Garden")
    ada = await user_factory("ada@example.com", flat="3b")
    await auth_client.sign_in(ada)
    return ada


async def test_a_room_is_booked_once_a_day(auth_client: AuthClient, ada: Member) -> None:
    assert (await auth_client.post("/bookings", data=TO_COME)).status_code == 303
    assert "2999-12-31: Garden, flat 3b" in (await auth_client.get("/")).text
    assert (await auth_client.post("/bookings", data=TO_COME)).status_code == 409
    past = await auth_client.post("/bookings", data=TO_COME | {"day": "1999-12-31"})
    assert (past.status_code, await Booking.all().count()) == (400, 1)


async def test_members_give_back_their_own(
    auth_client: AuthClient, ada: Member, user_factory: UserFactory[Member]
) -> None:
    await auth_client.post("/bookings", data=TO_COME)
    booking = await Booking.get()
    await auth_client.sign_in(await user_factory(flat="4a"))
    assert (await auth_client.post(f"/bookings/{booking.id}/delete")).status_code == 404
    await auth_client.sign_in(ada)
    assert (await auth_client.post(f"/bookings/{booking.id}/delete")).status_code == 303
    assert not await Booking.exists()


async def test_a_stranger_signs_up_and_in_on_the_pages_and_gets_to_the_house(
    auth_client: AuthClient, mailbox: Mailbox
) -> None:
    to_sign_in = (await auth_client.get("/")).headers["location"]
    account = {"email": "ada@example.com", "new_password": PASSWORD, "flat": "3b"}
    await auth_client.submit("/account/sign-up", account)
    await auth_client.get(mailbox.link("ada@example.com"))
    known = {"email": "ada@example.com", "password": PASSWORD}
    entered = await auth_client.submit("/account/sign-in", known, page=to_sign_in)
    assert entered.headers["location"] == "/"
    assert "Flat 3b" in (await auth_client.get("/")).text
    await Room.create(name="Garden")
    assert (await auth_client.submit("/bookings", TO_COME, page="/")).status_code == 303


async def test_the_caretaker_adds_rooms(
    auth_client: AuthClient, ada: Member, user_factory: UserFactory[Member]
) -> None:
    assert (await auth_client.post("/rooms", params={"name": "Attic"})).status_code == 403
    await auth_client.sign_in(await user_factory(flat="0", roles=["caretaker"]))
    assert (await auth_client.post("/rooms", params={"name": "Attic"})).status_code == 201


async def test_nobody_leaves_with_rooms_booked(auth_client: AuthClient, ada: Member) -> None:
    await auth_client.post("/bookings", data=TO_COME)
    refused = await auth_client.delete("/account")
    assert (refused.status_code, refused.json()["code"]) == (409, "rooms_booked")
    await Booking.all().delete()
    assert (await auth_client.delete("/account")).status_code == 204


async def test_members_see_what_happens_until_they_sign_out(auth_client: AuthClient, ada: Member) -> None:
    async with auth_client.websocket("/feed") as feed:
        await auth_client.post("/bookings", data=TO_COME)
        assert await feed.receive_text() == "Flat 3b has Garden on 2999-12-31."
    await auth_client.post("/auth/logout")
    with pytest.raises(WebSocketDisconnect):
        async with auth_client.websocket("/feed"):
            pass
