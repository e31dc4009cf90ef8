"""The rooms of a house: members book them by the day, the caretaker adds rooms, and all see it happen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import date
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.templating import Jinja2Templates
from feed import heard, tell
from models import Booking, Member, Room
from schemas import MemberOut, MemberUpdate, NewMember
from settings import TORTOISE_ORM
from tortoise.contrib.fastapi import RegisterTortoise
from tortoise.exceptions import IntegrityError

from fastapi_pluggable_auth import (
    CurrentWebSocketUser,
    PageUser,
    Refused,
    csrf_token,
    include_auth,
    require,
    still_signed_in,
)
from fastapi_pluggable_auth.hooks import BeforeAccountDeletion, EmailVerified
from fastapi_pluggable_auth.schemas import Text


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with RegisterTortoise(app, config=TORTOISE_ORM):
        yield


app = FastAPI(lifespan=lifespan)
auth = include_auth(
    app,
    user_model=Member,
    user_create=NewMember,
    profile_update=MemberUpdate,
    user_out=MemberOut,
    roles={"caretaker": ["rooms:write"]},
    pages=True,
)
templates = Jinja2Templates("templates")
templates.env.globals["csrf_token"] = csrf_token


@auth.on(EmailVerified)
def welcome(event: EmailVerified[Member]) -> None:
    tell(f"Flat {event.user.flat} has joined.")


@auth.on(BeforeAccountDeletion)
async def no_open_bookings(event: BeforeAccountDeletion[Member]) -> None:
    if await Booking.exists(member=event.user, day__gte=date.today()):
        raise Refused("Give your rooms back first.", code="rooms_booked", status=409)


@app.get("/", response_class=HTMLResponse)
async def house(request: Request, member: PageUser[Member]) -> HTMLResponse:
    bookings = await Booking.filter(day__gte=date.today()).order_by("day").select_related("room", "member")
    values = {"member": member, "rooms": await Room.all().order_by("name"), "bookings": bookings}
    return templates.TemplateResponse(request, "house.html", values)


@app.post("/bookings")
async def book(
    member: PageUser[Member], room: Annotated[int, Form()], day: Annotated[date, Form()]
) -> RedirectResponse:
    if day < date.today():
        raise HTTPException(400, "That day is over.")
    try:
        booking = await Booking.create(room_id=room, member=member, day=day)
    except IntegrityError:
        raise HTTPException(409, "Somebody has this room on that day.") from None
    await booking.fetch_related("room")
    tell(f"Flat {member.flat} has {booking.room.name} on {day}.")
    return RedirectResponse("/", 303)


@app.post("/bookings/{booking_id}/delete")
async def give_back(booking_id: int, member: PageUser[Member]) -> RedirectResponse:
    if not await Booking.filter(id=booking_id, member=member).delete():
        raise HTTPException(404, "You have no such booking.")
    return RedirectResponse("/", 303)


@app.post("/rooms", status_code=201, dependencies=[Depends(require(permission="rooms:write"))])
async def add_room(name: Text) -> dict[str, int]:
    return {"id": (await Room.create(name=name)).id}


async def send_news(websocket: WebSocket) -> None:
    """Until the session ends."""
    with heard() as news, suppress(WebSocketDisconnect):
        while await still_signed_in(websocket):
            with suppress(TimeoutError):
                await websocket.send_text(await asyncio.wait_for(news.get(), 30))
        await websocket.close(1008)


@app.websocket("/feed")
async def feed(websocket: WebSocket, member: CurrentWebSocketUser[Member]) -> None:
    await websocket.accept()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(send_news(websocket))
        async for _ in websocket.iter_text():  # ends when the client leaves, which sending does not notice
            pass
        sending.cancel()
