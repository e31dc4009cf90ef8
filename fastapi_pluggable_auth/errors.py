"""The errors that users of the API can meet: stable codes, those of the kernel in one table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Any, Final, TypeAlias

MAXIMUM_CODE_LENGTH: Final = 64


class ErrorTable(Enum):
    """A table of stable codes, each with its HTTP status and its sentence: the base of the kernel's and of
    those of features. The code on the wire is the name in lower case.

    Raises `ValueError` for two codes with the same status and sentence, which would be one code.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        unique(cls)
        long = [each.code for each in cls if len(each.code) > MAXIMUM_CODE_LENGTH]
        if long:
            raise ValueError(f"{long[0]!r} has more than {MAXIMUM_CODE_LENGTH} characters.")

    @property
    def status(self) -> int:
        """HTTP status."""
        status: int = self.value[0]
        return status

    @property
    def detail(self) -> str:
        """One sentence for people."""
        detail: str = self.value[1]
        return detail

    @property
    def code(self) -> str:
        """The stable code on the wire."""
        return self.name.lower()


class ErrorCode(ErrorTable):
    """The codes of the kernel."""

    VALIDATION_ERROR = (422, "The request is not valid.")
    EMAIL_TAKEN = (400, "An account with this e-mail address already exists.")
    USERNAME_TAKEN = (400, "This username is taken.")
    VALUE_REFUSED = (400, "A value belongs to another account already, or refers to nothing.")
    CHANGE_REFUSED = (409, "The data of the application does not allow this change.")
    ACCOUNT_IN_USE = (409, "Other data of the application refers to this account: remove that first.")
    PASSWORD_TOO_COMMON = (422, "This password is among the most common ones. Choose another.")
    PASSWORD_TOO_PERSONAL = (422, "This password is the address, or the name of the app, and little more.")
    PASSWORD_BREACHED = (422, "This password was published in a breach elsewhere. Choose another.")
    INVALID_CREDENTIALS = (401, "The e-mail address, password or code is wrong.")
    EMAIL_NOT_VERIFIED = (401, "Verify the e-mail address first: a link was mailed to it.")
    PASSWORD_RESET_REQUIRED = (401, "Reset the password first: a link can be mailed.")
    TWO_FACTOR_REQUIRED = (401, "A two-factor code is required.")
    NOT_AUTHENTICATED = (401, "An access token is required.")
    INVALID_TOKEN = (401, "The token is not valid.")
    REFRESH_RACED = (
        401,
        "A request has used this refresh token before: take the tokens that it got, or sign in again.",
    )
    SIGNUP_CLOSED = (403, "Sign-up is closed: ask an administrator of this app for an account.")
    CSRF_REFUSED = (403, "The request does not come from a page of this app.")
    INVALID_LINK = (400, "The link is not valid or no longer valid.")
    SIGNUP_ELSEWHERE = (
        403,
        "This browser did not sign up: send the account's `password`, or a `new_password` to start afresh.",
    )
    INVALID_CODE = (400, "The two-factor code is wrong.")
    MAILED_CODE_REFUSED = (400, "This code is wrong: take that of the newest mail.")
    MAILED_CODE_EXPIRED = (400, "This code no longer works: ask for a new mail.")
    WRONG_PASSWORD = (403, "The current password is wrong.")
    PASSWORD_NOT_SET = (409, "This account has no password: set one first, or sign in again.")
    PASSWORD_EXISTS = (409, "This account has a password already: change it with the old one.")
    REAUTHENTICATION_FAILED = (403, "The password or code is wrong.")
    CONFIRM_OTHERWISE = (
        409,
        "Confirm with your password or second factor: codes are mailed to verified accounts without either.",
    )
    REAUTHENTICATION_REQUIRED = (403, "Confirm your password first: the last login is too long ago.")
    IMPERSONATION_FORBIDDEN = (403, "Only the user can do that, not an administrator in the user's place.")
    TWO_FACTOR_ENROLMENT_REQUIRED = (403, "Set up two-factor authentication first.")
    TWO_FACTOR_UNAVAILABLE = (503, "Two-factor codes cannot be checked at the moment.")
    STEP_UP_REQUIRED = (403, "Confirm first that it is you with a passkey, or another second factor.")
    LAST_WAY_IN = (409, "This is the only way into the account: set a password or add another one first.")
    VERIFICATION_REQUIRED = (403, "Verify the e-mail address first: a link can be mailed to it.")
    PERMISSION_DENIED = (403, "This account is not allowed to do that.")
    INSUFFICIENT_SCOPE = (403, "The token does not have the scope for that.")
    UNKNOWN_ROLE = (400, "There is no such role.")
    USER_NOT_FOUND = (404, "There is no such user.")
    DEVICE_NOT_FOUND = (404, "There is no such device.")
    SESSION_NOT_FOUND = (404, "There is no such session.")
    THROTTLED = (429, "Too many attempts. Try again later.")
    PASSWORD_LOCKED = (
        429,
        "Too many wrong passwords for this account. Reset the password by mail, or sign in on a device that "
        "you have used before.",
    )
    CODES_LOCKED = (
        429,
        "Too many wrong codes for this account. Sign in with a recovery code, or ask for it to be unlocked.",
    )
    RATE_LIMITED = (429, "Too many requests. Try again later.")
    OVERLOADED = (503, "Too many requests at once. Try again shortly.")
    DATABASE_UNAVAILABLE = (503, "The service is temporarily unavailable.")
    DATABASE_NOT_INITIALISED = (503, "The application has not initialised its database.")
    DATABASE_NOT_MIGRATED = (503, "The application has not migrated its database.")
    HOOK_UNAVAILABLE = (503, "Something that the application asks first does not answer. Try again shortly.")


PASSWORD_REFUSALS: Final = (
    ErrorCode.PASSWORD_TOO_COMMON,
    ErrorCode.PASSWORD_TOO_PERSONAL,
    ErrorCode.PASSWORD_BREACHED,
)
"""Why a new password that is long enough may be refused."""


@dataclass(frozen=True, slots=True)
class HostCode:
    """A code of the host app, beside those of the tables."""

    status: int
    detail: str
    code: str


Code: TypeAlias = ErrorTable | HostCode
"""What a refusal has: a status, a sentence, and the code on the wire."""


class AuthError(Exception):
    """A refusal that the client gets to see; raised by flows and dependencies, answered as JSON.

    `retry_after` is in seconds and becomes the header of that name; `scope` is what the token would need,
    divided by spaces; `detail` says more than the sentence of the code; `field` is that of the body that it
    is about, where it could be any; `options` are what the client needs to answer for a second factor, by the
    field of the answer. `challenge` is what `WWW-Authenticate` says more, set by what knows the route.
    """

    def __init__(
        self,
        code: Code,
        *,
        retry_after: int | None = None,
        scope: str = "",
        detail: str | None = None,
        field: str = "",
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.challenge: Mapping[str, str] = {}
        self.detail = detail or code.detail
        super().__init__(self.detail)
        self.code = code
        self.retry_after = retry_after
        self.scope = scope
        self.field = field
        self.options = options

    @property
    def headers(self) -> dict[str, str]:
        """The response headers: `WWW-Authenticate` on 401 and for a scope (RFC 6750 section 3), `Retry-After`
        where known."""
        headers = {}
        said: dict[str, str] | None = {} if self.code.status == 401 else None
        if self.code is ErrorCode.INVALID_TOKEN:
            said = {"error": "invalid_token"}
        elif self.code is ErrorCode.INSUFFICIENT_SCOPE:
            said = {"error": "insufficient_scope", "scope": self.scope}
        if said is not None:
            parameters = ", ".join(f'{name}="{value}"' for name, value in {**self.challenge, **said}.items())
            headers["WWW-Authenticate"] = f"Bearer {parameters}".rstrip()
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return headers


class Refused(AuthError):
    """A refusal of the host app, raised by its hooks: the client gets `detail`, a sentence, and `code`.

    The status is that of a client's error, except 401, on which clients log in again, and 422, whose `detail`
    is a list. Raises `ValueError` for another status, and for a code that is not in snake_case, has more than
    64 characters or is one of the kernel's. A code of one of the app's features is refused when it is raised.
    """

    def __init__(self, detail: str, *, code: str = "refused", status: int = 403) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", code) or code.upper() in ErrorCode.__members__:
            raise ValueError(f"{code!r} is not in snake_case, or is a code of the library.")
        if len(code) > MAXIMUM_CODE_LENGTH:  # of its column in the audit log
            raise ValueError(f"{code!r} has more than {MAXIMUM_CODE_LENGTH} characters.")
        if not 400 <= status <= 499 or status in (401, 422):
            raise ValueError(
                f"{status} is not a status for a refusal: take one from 400 to 499, except 401 and 422."
            )
        super().__init__(HostCode(status, detail, code))
