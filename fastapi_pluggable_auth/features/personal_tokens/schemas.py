"""Bodies of the routes for personal access tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import Field, Strict

from ...schemas import Body, OwnName, Schema
from ...security.names import PATTERN as NAME

MAXIMUM_LIFETIME: Final = 100 * 365 * 86400


Scope = Annotated[str, Strict(), Field(pattern=f"^{NAME}$", max_length=255, examples=["notes:read"])]
TokenName = Annotated[OwnName, Field(examples=["backup script"])]


class PersonalTokenCreate(Body):
    """A personal access token to make. `expires_in` is its lifetime in seconds, 0 for no end."""

    name: TokenName
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=100)]
    expires_in: Annotated[int, Strict(), Field(ge=0, le=MAXIMUM_LIFETIME, examples=[30 * 86400])] | None = (
        None
    )


class PersonalTokenOut(Schema):
    """A personal access token, without the token. Times are UTC; `expires_at` is null where it has no end."""

    id: UUID
    name: str
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class NewPersonalToken(PersonalTokenOut):
    """A personal access token that was just made: `token` is shown once."""

    token: str
