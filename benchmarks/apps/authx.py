"""AuthX, which signs and checks tokens; users and passwords are the app's, here on SQLAlchemy.

It looks no session up: a token lives until it expires.
"""

from __future__ import annotations

import os
import uuid
from typing import Annotated

import bcrypt
from authx import AuthX, AuthXConfig, TokenPayload
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from .session import Session
from .tables import User

config = AuthXConfig(
    JWT_ALGORITHM="HS256", JWT_SECRET_KEY=os.environ["JWT_SECRET"], JWT_TOKEN_LOCATION=["headers"]
)
auth = AuthX(config=config)
app = FastAPI()
auth.handle_errors(app)


class Login(BaseModel):
    email: str
    password: str


class UserOut(BaseModel):
    id: uuid.UUID
    email: str
    is_verified: bool


@app.post("/auth/login")
async def login(body: Login, session: Session) -> dict[str, str]:
    user = await session.scalar(select(User).where(User.email == body.email))
    if user is None or not await run_in_threadpool(
        bcrypt.checkpw, body.password.encode(), user.hashed_password.encode()
    ):
        raise HTTPException(401)
    return {"access_token": auth.create_access_token(uid=str(user.id))}


@app.get("/users/me", response_model=UserOut)
async def me(session: Session, payload: Annotated[TokenPayload, Depends(auth.access_token_required)]) -> User:
    user = await session.get(User, uuid.UUID(payload.sub))
    if user is None:
        raise HTTPException(401)
    return user
