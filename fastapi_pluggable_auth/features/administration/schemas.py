"""Bodies of the routes for administrators."""

from __future__ import annotations

import secrets
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, TypeAlias, cast
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, Strict, create_model
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError, PydanticKnownError

from ...routes.bodies import Bodies, Following, without_ways
from ...routes.body_checks import is_not_stored
from ...schemas import Body, DisplayName, Email, Flag, Schema, UserCreate, proposed
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
    superuser: Flag = False


Roles = Annotated[list[Name], Field(default_factory=list, max_length=50)]


class InvitationRequest(Following):
    """Whom to invite, and the roles of the account. What the app asks for beside the address and the password
    of a signup, it asks for here too, where it is stored."""

    model_config = proposed(email="grace@example.com")

    email: Email
    roles: Roles
    display_name: DisplayName | None = None

    @classmethod
    def in_app(cls, bodies: Bodies) -> type[BaseModel]:
        """With the fields of the host's `user_create`."""
        create = without_ways(cast(type[UserCreate], bodies.get(UserCreate, UserCreate)))
        return cls if create is UserCreate else _invitation(create)


def _refused(value: object) -> object:
    raise PydanticKnownError("extra_forbidden")


_NotAsked: TypeAlias = Annotated[SkipJsonSchema[Any], BeforeValidator(_refused)]


def _chosen_later() -> str:
    """In the place of a password, for validators of the host that look at one."""
    return f"Aa1-{secrets.token_urlsafe(24)}"


@lru_cache(maxsize=16)
def _invitation(create: type[UserCreate]) -> type[BaseModel]:
    """The signup of an app, without the password, and without what is not stored: nobody agrees to terms for
    somebody else."""
    fields: dict[str, Any] = {
        "password": (_NotAsked, Field(default_factory=_chosen_later, repr=False)),
        "roles": (Roles, Field(alias="roles")),
    }
    if "display_name" not in create.model_fields:
        fields["display_name"] = (DisplayName | None, Field(default=None, alias="display_name"))
    for name, info in create.model_fields.items():
        if is_not_stored(info):
            fields[name] = (_NotAsked, None)
    name, about = InvitationRequest.__name__, InvitationRequest.__doc__
    return create_model(name, __base__=create, __module__=__name__, __doc__=about, **fields)


class AccountSummary(Schema):
    """An account, as administrators see it. Times are UTC. `two_factor`: a login needs a code of an
    authenticator app. `second_factors` are what the user has beside one: `passkey`, and `security_key` where
    a login always needs a passkey."""

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
    second_factors: list[str]
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
