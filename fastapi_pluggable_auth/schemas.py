"""Request and response bodies: strict types, no unknown fields, nothing that a database cannot hold."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from .errors import ErrorCode
from .flows.users import Cursor
from .security.addresses import normalise_email
from .security.names import PATTERN as NAME
from .security.passwords import MAXIMUM_LENGTH, MINIMUM_LENGTH
from .security.recovery import PATTERN as RECOVERY_CODE
from .security.text import is_single_line, is_unicode
from .security.usernames import MAXIMUM_LENGTH as MAXIMUM_USERNAME_LENGTH
from .security.usernames import fold_username, normalise_username

MAXIMUM_TOKEN_LENGTH: Final = 8192
MAXIMUM_FIELDS: Final = 50
MAXIMUM_LIFETIME: Final = 100 * 365 * 86400


def _unicode_text(value: str) -> str:
    """Refuses what no database takes."""
    if not is_unicode(value):
        raise PydanticCustomError("string_characters", "String contains characters that are not allowed")
    return value


def _single_line(value: str) -> str:
    if not is_single_line(value):
        raise PydanticCustomError("string_characters", "String contains characters that are not allowed")
    return value.strip()


def _email(value: str) -> str:
    try:
        return normalise_email(value)
    except ValueError as error:
        raise PydanticCustomError("email", "Value is not a valid e-mail address") from error


def _username(value: str) -> str:
    try:
        return normalise_username(value)
    except ValueError as error:
        raise PydanticCustomError("username", "Value is not a valid username") from error


def _login_name(value: str) -> str:
    """No username has an at sign."""
    return _email(value) if "@" in value else fold_username(value)


def _empty_as_none(value: object) -> object:
    """A form that was left empty."""
    return None if value == "" else value


def _documented(**schema: object) -> Any:
    """What the OpenAPI document says of a text, beside the validators that see to it."""
    return Field(json_schema_extra={"pattern": r"^[^\u0000]*$", **schema})  # type: ignore[dict-item]  # any JSON


Text = Annotated[str, Strict(), AfterValidator(_unicode_text), _documented()]
Email = Annotated[
    Text,
    Field(max_length=320, examples=["ada@example.com"], json_schema_extra={"format": "email"}),
    AfterValidator(_email),
]
Username = Annotated[
    Text,
    Field(min_length=1, max_length=MAXIMUM_USERNAME_LENGTH, examples=["ada"]),
    AfterValidator(_username),
]
NewPassword = Annotated[
    Text,
    Field(min_length=MINIMUM_LENGTH, max_length=MAXIMUM_LENGTH),
    _documented(format="password"),
]
Password = Annotated[Text, Field(max_length=MAXIMUM_LENGTH), _documented(format="password")]
Code = Annotated[str, Strict(), Field(pattern="^[0-9]{6}$", examples=["123456"])]
LoginCode = Annotated[str, Strict(), Field(pattern=f"^(?:[0-9]{{6}}|{RECOVERY_CODE})$", examples=["123456"])]
OptionalCode = Annotated[LoginCode | None, BeforeValidator(_empty_as_none)]
DisplayName = Annotated[
    Text,
    Field(max_length=64),
    AfterValidator(_single_line),
    _documented(pattern=r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"),
]
Scope = Annotated[str, Strict(), Field(pattern=f"^{NAME}$", max_length=255, examples=["notes:read"])]
TokenName = Annotated[
    Text,
    Field(max_length=64, examples=["backup script"]),
    AfterValidator(_single_line),
    Field(min_length=1),
    _documented(
        pattern=r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*[^\u0000-\u0020\u007f-\u00a0\u2028\u2029]"
    ),
]


PageSize = Annotated[int, Field(ge=1, le=100)]
"""How many rows a page of a list may have."""

AfterEvent = Annotated[UUID | None, Field(description="The `next` of the page before.")]


def _account_cursor(value: str) -> str:
    try:
        Cursor.parse(value)
    except ValueError as error:
        raise PydanticCustomError("cursor", "Value is not a cursor") from error
    return value


AfterAccount = Annotated[
    Annotated[str, Field(pattern="^[0-9]{1,17}-[0-9a-f]{32}$"), AfterValidator(_account_cursor)] | None,
    Field(description="The `next` of the page before."),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        """Refuses a flood of fields as one fault: a fault each takes half a second of CPU for 100,000."""
        if isinstance(value, dict) and len(value) > MAXIMUM_FIELDS:
            raise PydanticCustomError("too_many_fields", "Request has too many fields")
        return value


class _Columns(_Body):
    """What a host may add columns of its own to."""

    @model_validator(mode="after")
    def _storable(self) -> Self:
        """The host's texts too are such that each database can store them."""
        _require_unicode(self.model_dump())
        return self


def _require_unicode(value: object) -> None:
    if isinstance(value, str):
        _unicode_text(value)
    elif isinstance(value, dict):
        for part in (*value.keys(), *value.values()):
            _require_unicode(part)
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            _require_unicode(part)


class UserCreate(_Columns):
    """A signup. A password has 8 to 1024 characters and is not a common one."""

    email: Email
    password: NewPassword


class LoginData(_Body):
    """A login; `code` is needed while two-factor is active."""

    email: Email
    password: Password
    code: OptionalCode = None


class NamedUserCreate(UserCreate):
    """A signup with a username: letters, digits, `.`, `_` and `-`; case makes no difference."""

    username: Username


class UsernameRequest(_Body):
    """A username to sign up with."""

    username: Username


class NamedLoginData(LoginData):
    """A login by address or username; `code` is needed while two-factor is active."""

    email: Annotated[Text, Field(max_length=320, examples=["ada"]), AfterValidator(_login_name)]


class RefreshRequest(_Body):
    """A refresh token to spend."""

    token: Annotated[Text, Field(max_length=MAXIMUM_TOKEN_LENGTH)]


class EmailRequest(_Body):
    """An address to mail to, if it belongs to an account."""

    email: Email


class ResetPassword(_Body):
    """The password to set with a reset link."""

    new_password: NewPassword


class CodeRequest(_Body):
    """A code from the authenticator app."""

    code: Code


class LoginCodeRequest(_Body):
    """A code from the authenticator app, or a recovery code."""

    code: LoginCode


class Reauthentication(_Body):
    """The password once more, with a code while two-factor is active."""

    password: Password
    code: OptionalCode = None


class ProfileUpdate(_Columns):
    """What to change; what is left out stays, as does an e-mail of null. A name of null is removed."""

    email: Email | None = None
    display_name: DisplayName | None = None


class ChangePassword(_Body):
    """The current password and the one to set."""

    old_password: Password
    new_password: NewPassword


class PersonalTokenCreate(_Body):
    """A personal access token to make. `expires_in` is its lifetime in seconds, 0 for no end."""

    name: TokenName
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=100)]
    expires_in: Annotated[int, Strict(), Field(ge=0, le=MAXIMUM_LIFETIME)] | None = None


class UserOut(BaseModel):
    """An account, as its owner sees it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    is_verified: bool
    display_name: str | None = None


class NamedUserOut(UserOut):
    """An account with a username, as its owner sees it."""

    username: str | None = None


class TokenPair(BaseModel):
    """The tokens of a session (RFC 6750): send the access token as `Authorization: Bearer ...`."""

    access_token: str
    refresh_token: str
    token_type: str = "bearer"  # noqa: S105


class CookieSession(BaseModel):
    """What a browser gets instead: its tokens are in cookies, which no script reads. `expires_in` is the
    lifetime of the access token in seconds; any request after it renews both."""

    token_type: Literal["cookie"] = "cookie"  # noqa: S105
    expires_in: int


class TwoFactorEnrolment(BaseModel):
    """What an authenticator app needs: an `otpauth` address, and its QR code as a PNG in base64."""

    otpauth_uri: str
    qr_base64: str


class RecoveryCodes(BaseModel):
    """New recovery codes: shown once, each works once."""

    codes: list[str]


class RecoveryCodesLeft(BaseModel):
    """How many recovery codes are unused."""

    remaining: int


class PublicKeys(BaseModel):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, str]]


class SessionOut(BaseModel):
    """A sign-in on one device; `impersonated` where an administrator acts as the user. Times are UTC."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    user_agent: str
    address: str
    current: bool
    impersonated: bool


class ActivityEvent(BaseModel):
    """Something that happened to the account. The time is UTC. Address and browser are those of the user."""

    id: UUID
    time: datetime
    event: str
    outcome: str
    reason: str | None
    factors: list[str]
    session_id: UUID | None
    by_administrator: bool
    address: str
    user_agent: str


class Activity(BaseModel):
    """A page of what happened, the newest first. `next` is `after` of the next page, null on the last."""

    events: list[ActivityEvent]
    next: UUID | None


Name = Annotated[str, Strict(), Field(pattern=f"^{NAME}$", max_length=64, examples=["editor"])]


class Rights(_Body):
    """Roles and permissions to give or take, and whether it is about being a superuser as well."""

    roles: Annotated[list[Name], Field(max_length=50)] = []
    permissions: Annotated[list[Name], Field(max_length=50)] = []
    superuser: Annotated[bool, Strict()] = False


class AccountSummary(BaseModel):
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


class AccountPage(BaseModel):
    """A page of accounts, the newest first. `next` is `after` of the next page, null on the last."""

    users: list[AccountSummary]
    next: str | None


class AccountSession(BaseModel):
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


class AuditEventOut(BaseModel):
    """A security event. `actor_id` is the administrator who did it, null where it was the user. The time is
    UTC. Address and browser are those of whoever acted."""

    id: UUID
    time: datetime
    event: str
    outcome: str
    reason: str | None
    factors: list[str]
    user_id: UUID
    actor_id: UUID | None
    session_id: UUID | None
    address: str
    user_agent: str


class AuditPage(BaseModel):
    """A page of events, the newest first. `next` is `after` of the next page, null on the last."""

    events: list[AuditEventOut]
    next: UUID | None


class PersonalTokenOut(BaseModel):
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


class Message(BaseModel):
    """A sentence for people."""

    detail: str


class Error(BaseModel):
    """A refusal: a sentence for people and a stable code for programs."""

    detail: str
    code: str


class InvalidField(BaseModel):
    """Where a request is not valid, and why; never what was sent."""

    loc: list[str | int]
    msg: str
    type: str


class ValidationFailure(BaseModel):
    """The refusal of a request that is not valid."""

    detail: list[InvalidField]
    code: str = ErrorCode.VALIDATION_ERROR.code
