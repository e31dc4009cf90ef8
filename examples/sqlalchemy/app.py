"""An app whose tables are in SQLAlchemy, beside accounts in the same PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from database import CurrentProfile, Session, execute_with_account, sessions
from fastapi import Depends, FastAPI
from models import Order, Profile, account
from pydantic import Field
from settings import SQLALCHEMY_URL, TORTOISE_ORM
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import create_async_engine
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import CurrentUser, include_auth, require
from fastapi_pluggable_auth.hooks import SigningUp
from fastapi_pluggable_auth.schemas import NotStored, Text, UserCreate

Line = Annotated[Text, Field(max_length=80)]


class NewUser(UserCreate):
    city: Annotated[Line, NotStored] = ""  # not a column of the accounts: the hook puts it into the profile


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    engine = create_async_engine(SQLALCHEMY_URL)
    sessions.configure(bind=engine)
    async with RegisterTortoise(app, config=TORTOISE_ORM):
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
auth = include_auth(app, user_create=NewUser)


@auth.on(SigningUp)
async def begin(event: SigningUp) -> None:
    """Account and profile are stored together, or not at all."""
    profile = insert(Profile).values(user_id=event.user.id, city=event.extra.get("city", ""))
    await execute_with_account(profile)


@app.get("/profile")
async def show_profile(profile: CurrentProfile) -> dict[str, str]:
    return {"city": profile.city}


@app.put("/profile")
async def change_profile(city: Line, profile: CurrentProfile) -> dict[str, str]:
    profile.city = city
    return {"city": profile.city}


@app.post("/orders", status_code=201)
async def order(item: Line, user: CurrentUser, session: Session) -> dict[str, str]:
    session.add(Order(user_id=user.id, item=item))
    return {"item": item}


@app.get("/orders", dependencies=[Depends(require(role="staff"))])
async def orders(session: Session) -> list[dict[str, str | None]]:
    """Those of all, with the addresses: one query over the tables of both."""
    rows = await session.execute(select(Order.item, account.c.email).outerjoin(account).order_by(Order.id))
    return [{"item": item, "email": email} for item, email in rows]
