"""Bodies of the routes for administrators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, Strict
from pydantic_core import PydanticCustomError

from ...schemas import Body, DisplayName, Email, Schema, Username, proposed
from ...security.names import PATTERN as NAME
from .users import Cursor

Name = Annotated[str, Strict(), Field(pattern=f"^{NAME}$", max_length=64, examples=["editor"])]


def _account_cursor(value: str) -> str:
    try:
        Cursor.parse(value)
    except ValueError as error:
        raise PydanticCustomError("cursor", "Value is not a cursor") from error
    return value


AfterAccount = Annotated[
    Annotated[
        str,
        Field(
            pattern="^[0-9]{1,17}-[0-9a-f]{32}$",
            examples=["1767225600000000-6f1cf5a0b7e04f0d9a3b1d2c4e5f6071"],
        ),
        AfterValidator(_account_cursor),
    ]
    | None,
    Field(description="The `next` of the page before."),
]


class Rights(Body):
    """Roles and permissions to give or take, and whether it is about being a superuser as well."""

    model_config = proposed(roles=["editor"])

    roles: list[Name] = Field(default_factory=list, max_length=50)
    permissions: list[Name] = Field(default_factory=list, max_length=50)
    superuser: Annotated[bool, Strict()] = False


class InvitationRequest(Body):
    """Whom to invite, and the roles of the account. `username` is for apps whose users have one."""

    model_config = proposed(email="grace@example.com")

    email: Email
    roles: list[Name] = Field(default_factory=list, max_length=50)
    display_name: DisplayName | None = None
    username: Username | None = None


class AccountSummary(Schema):
    """An account, as administrators see it. Times are UTC. `two_factor`: a login needs a code."""

    id: UUID
    email: str
    username: str | None
    display_name: str | None
    is_active: bool
    is_verified: bool
    is_superuser: bool
    roles: list[str]
    permissions: list[str]
    two_factor: bool
    password_reset_required: bool
    created_at: datetime
    last_login_at: datetime | None
    password_changed_at: datetime | None


class AccountPage(Schema):
    """A page of accounts, the newest first. `next` is `after` of the next page, null on the last."""

    users: list[AccountSummary]
    next: str | None


class AccountSession(Schema):
    """A sign-in on one device, as administrators see it; `impersonated_by` one of them or by the user."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    user_agent: str
    address: str
    impersonated_by: UUID | None


class AccountOut(AccountSummary):
    """An account with the sessions in which it is signed in, and how many recovery codes are left."""

    recovery_codes: int
    sessions: list[AccountSession]
