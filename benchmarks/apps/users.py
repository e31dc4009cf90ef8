"""fastapi-users on SQLAlchemy, as its documentation plugs it in; bcrypt of the same cost as this library's.

`STRATEGY` is `jwt` or `database`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.authentication.strategy.db import DatabaseStrategy
from fastapi_users.password import PasswordHelper
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase
from pwdlib import PasswordHash
from pwdlib.hashers.bcrypt import BcryptHasher

from .session import Session
from .tables import AccessToken, User

LIFETIME = 900
SECRET = os.environ["JWT_SECRET"]


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """The defaults."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


async def get_user_db(session: Session) -> AsyncIterator[SQLAlchemyUserDatabase[User, uuid.UUID]]:
    yield SQLAlchemyUserDatabase(session, User)


async def get_user_manager(
    user_db: SQLAlchemyUserDatabase[User, uuid.UUID] = Depends(get_user_db),
) -> AsyncIterator[UserManager]:
    yield UserManager(user_db, PasswordHelper(PasswordHash((BcryptHasher(rounds=12),))))


def jwt_strategy() -> JWTStrategy[User, uuid.UUID]:
    return JWTStrategy(secret=SECRET, lifetime_seconds=LIFETIME)


async def get_access_token_db(
    session: Session,
) -> AsyncIterator[SQLAlchemyAccessTokenDatabase[AccessToken]]:
    yield SQLAlchemyAccessTokenDatabase(session, AccessToken)


def database_strategy(
    tokens: SQLAlchemyAccessTokenDatabase[AccessToken] = Depends(get_access_token_db),
) -> DatabaseStrategy[User, uuid.UUID, AccessToken]:
    return DatabaseStrategy(tokens, lifetime_seconds=LIFETIME)


class UserRead(schemas.BaseUser[uuid.UUID]):
    """The defaults."""


class UserUpdate(schemas.BaseUserUpdate):
    """The defaults."""


strategies = {"jwt": jwt_strategy, "database": database_strategy}
backend = AuthenticationBackend(
    name="bearer",
    transport=BearerTransport(tokenUrl="auth/login"),
    get_strategy=strategies[os.environ["STRATEGY"]],
)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [backend])

app = FastAPI()
app.include_router(fastapi_users.get_auth_router(backend), prefix="/auth")
app.include_router(fastapi_users.get_users_router(UserRead, UserUpdate), prefix="/users")
