"""Request and response bodies: strict types, no unknown fields, nothing that a database cannot hold."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from ..errors import ErrorCode
from ..security.addresses import MAXIMUM_LENGTH as MAXIMUM_EMAIL_LENGTH
from ..security.addresses import normalise_email
from ..security.passwords import (
    MAXIMUM_LENGTH,
    MAXIMUM_TYPED_LENGTH,
    MINIMUM_LENGTH,
    normalise_password,
)
from ..security.plaintext import Plaintext
from ..security.recovery import PATTERN as RECOVERY_CODE
from ..security.text import is_single_line, is_unicode, without_blanks
from ..security.usernames import MAXIMUM_LENGTH as MAXIMUM_USERNAME_LENGTH
from ..security.usernames import fold_username, normalise_username

_PACKAGE: Final = __name__.partition(".")[0]

MAXIMUM_TOKEN_LENGTH: Final = 8192
MAXIMUM_FIELDS: Final = 50
MAXIMUM_CODE_LENGTH: Final = 128
"""With blanks."""

_PASSWORD: Final = "correct horse battery"  # noqa: S105  # an example
_OTHER_PASSWORD: Final = "a new horse battery"  # noqa: S105  # an example


def _unicode_text(value: str) -> str:
    """Refuses what no database takes."""
    if not is_unicode(value):
        raise PydanticCustomError("string_characters", "String contains characters that are not allowed")
    return value


def single_line(value: str) -> str:
    if not is_single_line(value):
        raise PydanticCustomError("string_characters", "String contains characters that are not allowed")
    return value.strip()


def _bounded(value: str) -> str:
    """Refuses what is too long in any spelling before normalising it takes the square of the time."""
    if len(value) > MAXIMUM_TYPED_LENGTH:
        raise PydanticCustomError("string_too_long", "String is too long")
    return value


def _is_no_longer(value: str) -> str:
    """As a password is looked at in the spelling that it was typed in too."""
    if len(normalise_password(_bounded(value))) > MAXIMUM_LENGTH:
        raise PydanticCustomError("string_too_long", "String is too long")
    return value


def code_without_blanks(value: object) -> object:
    """Without the blanks that apps and people put into it."""
    return without_blanks(value) if isinstance(value, str) and len(value) <= MAXIMUM_CODE_LENGTH else value


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
    """No username has an at sign, nor a sign that is folded to one."""
    if "@" in value:
        return _email(value)
    name = fold_username(value)
    return _email(name) if "@" in name else name


def _empty_as_none(value: object) -> object:
    """A form that was left empty."""
    return None if code_without_blanks(value) == "" else value


def documented(**schema: object) -> Any:
    """What the OpenAPI document says of a text, beside the validators that see to it."""
    return Field(json_schema_extra={"pattern": r"^[^\u0000]*$", **schema})  # type: ignore[dict-item]  # any JSON


Text = Annotated[str, Strict(), AfterValidator(_unicode_text), documented()]
Email = Annotated[
    Text,
    AfterValidator(_bounded),
    AfterValidator(_email),
    Field(
        max_length=MAXIMUM_EMAIL_LENGTH, examples=["ada@example.com"], json_schema_extra={"format": "email"}
    ),
]
Username = Annotated[
    Text,
    AfterValidator(_bounded),
    AfterValidator(_username),
    Field(min_length=1, max_length=MAXIMUM_USERNAME_LENGTH, examples=["ada"]),
]
NewPassword = Annotated[
    Text,
    AfterValidator(_bounded),
    AfterValidator(normalise_password),
    Field(min_length=MINIMUM_LENGTH, max_length=MAXIMUM_LENGTH, repr=False, examples=[_PASSWORD]),
    documented(format="password"),
]
OtherPassword = Annotated[NewPassword, Field(examples=[_OTHER_PASSWORD])]
Password = Annotated[
    Text,
    AfterValidator(_is_no_longer),
    Field(repr=False, examples=[_PASSWORD]),
    documented(format="password", maxLength=MAXIMUM_LENGTH),
]
LoginCode = Annotated[
    str,
    Strict(),
    Field(pattern=f"^(?:[0-9]{{6}}|{RECOVERY_CODE})$", examples=["123456"]),
    BeforeValidator(code_without_blanks),
]
MailedCode = Annotated[
    str,
    Strict(),
    Field(pattern="^[0-9]{6}$", examples=["123456"]),
    BeforeValidator(code_without_blanks),
]
"""The code of a mail."""
ChallengeText = Annotated[Text, Field(max_length=128, examples=["the-challenge"])]
"""What a client holds, and its code answers."""
OptionalCode = Annotated[LoginCode | None, BeforeValidator(_empty_as_none), Field(repr=False)]
DeviceValue = Annotated[Text, Field(max_length=128, examples=["the-device-of-the-last-login"])]
DisplayName = Annotated[
    Text,
    Field(max_length=64, examples=["Ada"]),
    AfterValidator(single_line),
    documented(pattern=r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"),
]
OwnName = Annotated[
    Text,
    Field(max_length=64),
    AfterValidator(single_line),
    Field(min_length=1),
    documented(
        pattern=r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*[^\u0000-\u0020\u007f-\u00a0\u2028\u2029]"
    ),
]
"""What users call something of theirs."""


@dataclass(frozen=True, slots=True)
class _NotStored:
    """See `NotStored`."""


NotStored: Final = _NotStored()
"""Marks a field of a `user_create` that has no column and is for hooks alone: `Annotated[str, NotStored]`."""


class Schema(BaseModel):
    """A body of this package. Its name in OpenAPI documents is one that no class of the host can have: where
    two share a name, FastAPI makes long module paths of both, and generated clients change."""

    model_config = ConfigDict(model_title_generator=lambda model: model.__qualname__.rpartition(".")[2])

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.partition(".")[0] == _PACKAGE:
            cls.__qualname__ = f"Auth-{cls.__name__}"
            # Where pickle looks for it; one that is made for an app does not take the place of it.
            vars(sys.modules[cls.__module__]).setdefault(cls.__qualname__, cls)


class Body(Schema):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        """Refuses a flood of fields as one fault: a fault each takes half a second of CPU for 100,000."""
        if isinstance(value, dict) and len(value) > MAXIMUM_FIELDS:
            raise PydanticCustomError("too_many_fields", "Request has too many fields")
        return value


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


Flag = Annotated[bool, Strict(), Field(json_schema_extra=_without_default)]
"""True or false. Clients that are generated would take one with a default for one that must be sent."""


def proposed(**example: object) -> ConfigDict:
    """The body that the OpenAPI document proposes, where one with all fields would be refused, or mean
    something else. Not for bodies to which hosts add fields."""
    return ConfigDict(json_schema_extra={"examples": [example]})  # type: ignore[list-item]  # any JSON


def taken(body: BaseModel, name: str) -> Plaintext:
    """A secret of a body, which is empty from here on: FastAPI keeps the body until the answer is sent."""
    secret = Plaintext(getattr(body, name))
    vars(body)[name] = ""
    return secret


class _Columns(Body):
    """What a host may add its own columns to."""

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


class Answering(Body):
    """A body that may answer for a second factor: with a `code`, or with what a feature takes in its place,
    which is a field of its own."""

    answers: ClassVar[tuple[str, ...]] = ()
    answer_code: ClassVar[str] = "code"
    """The field of the code, which has another name where `code` is that of a mail."""

    code: OptionalCode = None

    def take_answer(self) -> Plaintext | None:
        """The answer, which is taken out of the body."""
        if getattr(self, self.answer_code):
            return taken(self, self.answer_code)
        for name in self.answers:
            if (answer := getattr(self, name)) is not None:
                setattr(self, name, None)
                return Plaintext(answer.model_dump_json())
        return None


class Entering(Answering):
    """A body that starts a session. A client that keeps its tokens itself sends the `device` that it was
    given, null where it has none yet: others who guess do not delay it. With `trust_device`, where the app
    lets users trust devices, no second factor is asked for on it for a while."""

    device: DeviceValue | None = Field(default=None, repr=False)
    trust_device: Flag = False


class LoginData(Entering):
    """A login; `code` is needed while two-factor is active. A client that keeps its tokens itself sends the
    `device` that it was given, null where it has none yet: others who guess do not delay it. With
    `trust_device`, where the app lets users trust devices, no second factor is asked for on it for a while.
    With `remember` false, a browser forgets its cookies when it is closed."""

    model_config = proposed(email="ada@example.com", password=_PASSWORD)

    email: Email
    password: Password
    remember: Flag = True


class NamedUserCreate(UserCreate):
    """A signup with a username: letters, digits, `.`, `_` and `-`; case makes no difference."""

    username: Username


class UsernameRequest(Body):
    """A username to sign up with."""

    username: Username


class NamedLoginData(LoginData):
    """A login by address or username; `code` is needed while two-factor is active."""

    model_config = proposed(email="ada", password=_PASSWORD)

    email: Annotated[
        Text,
        AfterValidator(_bounded),
        AfterValidator(_login_name),
        Field(max_length=MAXIMUM_EMAIL_LENGTH, examples=["ada"]),
    ]


class RefreshRequest(Body):
    """A refresh token to spend."""

    token: Annotated[
        Text,
        Field(max_length=MAXIMUM_TOKEN_LENGTH, repr=False, examples=["the-refresh-token-of-the-last-pair"]),
    ]


class LogoutRequest(Schema):
    """Which sessions to end: all of the user, or with `everywhere` false the one that asks. What else clients
    send is not looked at: signing out does not fail because of it."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    everywhere: Flag = True


class EmailRequest(Body):
    """An address to mail a link to, if it belongs to an account. With `mailed_code` the mail has a code as
    well, and the answer the `challenge` that it answers."""

    model_config = proposed(email="ada@example.com")

    email: Email
    mailed_code: Flag = False


class VerificationRequest(EmailRequest):
    """The same for a link that verifies. A client that has the `challenge` of its signup sends it, and is
    known by it."""

    challenge: ChallengeText | None = Field(default=None, repr=False)


class ResetPassword(Body):
    """The password to set with a reset link; `device` is like that of a login."""

    model_config = proposed(new_password=_OTHER_PASSWORD)

    new_password: OtherPassword
    device: DeviceValue | None = Field(default=None, repr=False)


class CodeResetPassword(ResetPassword):
    """The same with the code of the mail, and the challenge of the client that asked for it."""

    model_config = proposed(challenge="the-challenge", code="123456", new_password=_OTHER_PASSWORD)

    challenge: Annotated[ChallengeText, Field(repr=False)]
    code: Annotated[MailedCode, Field(repr=False)]


class SetPassword(Body):
    """The first password of an account that has none."""

    new_password: OtherPassword


class VerifyRequest(Body):
    """Who opens a verification link elsewhere than in the browser that signed up: the one who knows the
    account's password, or the owner of the mailbox, who sets a new one."""

    model_config = proposed(password=_PASSWORD)

    # By factories, which documents do not show: clients that are generated would have to send a password, and
    # the new one would have to be long enough.
    password: Password = Field(default_factory=str, repr=False)
    new_password: OtherPassword = Field(default_factory=str, repr=False)


class CodeVerifyRequest(VerifyRequest):
    """The code of the mail, with the challenge of the client that asked for it. One that did not sign up
    sends the account's password as well, or a new one."""

    model_config = proposed(challenge="the-challenge", code="123456")

    challenge: Annotated[ChallengeText, Field(repr=False)]
    code: Annotated[MailedCode, Field(repr=False)]


class MailedCodeRequest(Body):
    """The code of a mail that was asked for in the same session."""

    code: Annotated[MailedCode, Field(repr=False)]


class ConfirmationCode(Body):
    """The code of a mail, with the challenge that it answers in the same session."""

    model_config = proposed(challenge="the-challenge", code="123456")

    challenge: Annotated[ChallengeText, Field(repr=False)]
    code: Annotated[MailedCode, Field(repr=False)]


class LoginCodeRequest(Body):
    """A code from the authenticator app, or a recovery code."""

    code: Annotated[LoginCode, Field(repr=False)]


class Reauthentication(Answering):
    """The password once more, where the account has one, with a code while two-factor is active."""

    model_config = proposed(password=_PASSWORD)

    password: Password = Field(default_factory=str, repr=False)


class ProfileUpdate(_Columns):
    """What to change; what is left out stays, as does an e-mail of null. A name of null is removed."""

    email: Email | None = None
    display_name: DisplayName | None = None


class ChangePassword(Body):
    """The current password and the one to set."""

    old_password: Password
    new_password: OtherPassword


class UserOut(Schema):
    """An account, as its owner sees it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    is_verified: bool
    display_name: str | None = None


class SignedUp(UserOut):
    """The account, and the `challenge` for the code that the client asked for."""

    challenge: str


class NamedUserOut(UserOut):
    """An account with a username, as its owner sees it."""

    username: str | None = None


class TokenPair(Schema):
    """The tokens of a session (RFC 6750): send the access token as `Authorization: Bearer ...`."""

    access_token: str
    refresh_token: str
    token_type: str = "bearer"  # noqa: S105


class DeviceTokenPair(TokenPair):
    """The tokens for a client that asked for a `device`: a secret to send with its next login."""

    device: str


class CookieSession(Schema):
    """What a browser gets instead: its tokens are in cookies, which no script reads. `expires_in` is the
    lifetime of the access token in seconds; any request after it renews both."""

    token_type: Literal["cookie"] = "cookie"  # noqa: S105
    expires_in: int


class PublicKeys(Schema):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, str]]


PageSize = Annotated[int, Field(ge=1, le=100)]
"""How many rows a page of a list may have."""

AfterSession = Annotated[
    UUID | None, Field(description="Where the page before ends, as its `Link` header has it.")
]


TextId = Annotated[str, Field(examples=["6f1cf5a0-b7e0-4f0d-9a3b-1d2c4e5f6071"])]
"""An id in a path, of which any text is one that nothing has."""


class SessionOut(Schema):
    """A sign-in on one device; `impersonated` where an administrator acts as the user. Times are UTC."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    user_agent: str
    address: str
    current: bool
    impersonated: bool


class DeviceOut(Schema):
    """A device that the account knows. Times are UTC."""

    id: UUID
    user_agent: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


class OwnDeviceOut(DeviceOut):
    """A device that the account knows: until `trusted_until`, where it is not null, no second factor is asked
    for there. `current` is the one that asks."""

    trusted_until: datetime | None
    current: bool


class MailOut(Schema):
    """A mail to the user, without its text. Times are UTC; `sent_at` is null where it was not sent yet."""

    id: UUID
    kind: str
    recipient: str
    state: str
    created_at: datetime
    sent_at: datetime | None


class AccountExport(Schema):
    """All that is kept of a user; features add their own parts. `profile` is what the user fills in and sees,
    `account` what happened to it."""

    model_config = ConfigDict(extra="allow")

    exported_at: datetime
    profile: dict[str, Any]
    account: dict[str, Any]
    sessions: list[SessionOut]
    devices: list[DeviceOut]
    mails: list[MailOut]


class Message(Schema):
    """A sentence for people."""

    detail: str


class ChallengeMessage(Message):
    """A sentence for people, and the `challenge` for the code that the client asked for."""

    challenge: str


class DeviceMessage(Message):
    """A sentence for people, and the `device` that the client asked for."""

    device: str


class Error(Schema):
    """A refusal: a sentence for people and a stable code for programs."""

    detail: str
    code: str


class SecondFactorNeeded(Error):
    """The refusal of a login that needs a second factor. `options` are there where the user has something to
    answer with in place of a code: what the client needs for it, by the field of the answer."""

    options: dict[str, dict[str, Any]] = Field(default={}, json_schema_extra=_without_default)


class InvalidField(Schema):
    """Where a request is not valid, and why; never what was sent."""

    loc: list[str | int]
    msg: str
    type: str


class ValidationFailure(Schema):
    """The refusal of a request that is not valid."""

    detail: list[InvalidField]
    code: str = ErrorCode.VALIDATION_ERROR.code
