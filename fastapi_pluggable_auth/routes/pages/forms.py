"""Forms: what people fill in, and what was wrong with it. Each is a model, and has a handler."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, Field, GetPydanticSchema, ValidationError, ValidatorFunctionWrapHandler
from pydantic_core.core_schema import no_info_wrap_validator_function

from ...errors import PASSWORD_REFUSALS, AuthError, Code, ErrorCode
from ...schemas import LoginCodeRequest, MailedCodeRequest, Text, taken
from ...security.plaintext import Plaintext
from ...security.text import without_blanks
from .faults import Fault, UnfilledError

Rejected: TypeAlias = ValidationError | AuthError
"""Why a form has to be shown again."""


def _keep(value: Any, text: ValidatorFunctionWrapHandler) -> Plaintext:
    """Older versions of FastAPI validate the default too, which is kept already."""
    return value if isinstance(value, Plaintext) else Plaintext(text(value))


Secret = Annotated[
    Plaintext,
    GetPydanticSchema(
        lambda _, handler: no_info_wrap_validator_function(_keep, handler.generate_schema(Text))
    ),
    Field(default_factory=lambda: Plaintext("")),
]
"""A field of a form with a password or a code, which is not shown again. As any other field, it counts as
empty where it was not sent."""

_FIELDS: Final[dict[Code, str]] = {
    ErrorCode.EMAIL_TAKEN: "email",
    ErrorCode.USERNAME_TAKEN: "username",
    ErrorCode.WRONG_PASSWORD: "password",
    ErrorCode.REAUTHENTICATION_FAILED: "password",
    ErrorCode.INVALID_CODE: "code",
    ErrorCode.MAILED_CODE_REFUSED: "code",
    ErrorCode.MAILED_CODE_EXPIRED: "code",
    **dict.fromkeys(PASSWORD_REFUSALS, "new_password"),
}
"""The field that a refusal is about, by the names that all pages use."""

_INVALID: Final = {
    "email": "invalid_email",
    "username": "invalid_username",
    "password": "password_length",
    "new_password": "password_length",
    "display_name": "invalid_display_name",
    "code": "invalid_code",
}
"""What is wrong with a field that is not valid."""

_FORM_NAMES: Final = {"password": "new_password"}
"""What the forms call a field of a body that sets a password."""

_ELSEWHERE: Final = frozenset(
    {
        ErrorCode.NOT_AUTHENTICATED,
        ErrorCode.INVALID_TOKEN,
        ErrorCode.INVALID_LINK,
        ErrorCode.REAUTHENTICATION_REQUIRED,
        ErrorCode.TWO_FACTOR_ENROLMENT_REQUIRED,
    }
)
"""Refusals that no other try in the same form puts right."""


class EmailForm(BaseModel):
    """Asks for an address."""

    email: Text = ""


class NextForm(BaseModel):
    """Carries the path to go on to."""

    next: Text = ""


class NewPasswordForm(BaseModel):
    """Asks for a password to be set."""

    new_password: Secret


class MailedCodeForm(BaseModel):
    """Asks for the code of a mail."""

    code: Secret

    def take(self) -> Plaintext:
        """What was typed. Raises `AuthError(MAILED_CODE_REFUSED)` for what is no such code."""
        try:
            return taken(MailedCodeRequest(code=self.code.take()), "code")
        except ValidationError:
            raise AuthError(ErrorCode.MAILED_CODE_REFUSED) from None


class CodeForm(BaseModel):
    """Asks for a code of the authenticator app or, in a field of its own, a recovery code. Without either, a
    script may have put another `answer` there, for a feature's factor."""

    code: Secret
    recovery_code: Secret
    answer: Secret

    @property
    def filled(self) -> str:
        """The name of the field in which something was typed."""
        return "recovery_code" if self.recovery_code.look().strip() else "code"

    def take(self) -> Plaintext | None:
        """What was typed, or what a script has put there; None where it was nothing. Raises `ValidationError`
        for what is not a code."""
        typed = code_from(self.recovery_code if self.filled == "recovery_code" else self.code)
        if typed is not None:
            return taken(LoginCodeRequest(code=typed), "code")
        return Plaintext(self.answer.take()) if self.answer.look() else None


@dataclass(frozen=True, slots=True)
class Problem:
    """What was wrong with the last try: a key of the words `errors`, the sentence for a code that has none
    there, and the form and field it belongs to. `faults` are said beside their fields; `retry_after` is in
    seconds, where known."""

    code: str
    field: str
    form: str
    status: int
    headers: dict[str, str]
    detail: str = ""
    faults: Mapping[str, Fault] = dataclasses.field(default_factory=dict)
    retry_after: int | None = None


def code_from(typed: Plaintext) -> str | None:
    """A code without the blanks that apps and people put into it; None where nothing was typed."""
    return without_blanks(typed.take()) or None


def problem_with(error: Rejected | None, form: str = "", code: str = "code") -> Problem | None:
    """What to say beside the form, the field of which that had the `code` is named; raises the error again
    where another page has to answer it."""
    problem = _problem_with(error, form)
    if problem is not None and problem.field == "code":
        return dataclasses.replace(problem, field=code)
    return problem


def _problem_with(error: Rejected | None, form: str) -> Problem | None:
    if error is None:
        return None
    if isinstance(error, ValidationError):
        name = str(error.errors(include_input=False, include_url=False)[0]["loc"][0])
        return Problem(_INVALID[name], name, form, ErrorCode.VALIDATION_ERROR.status, {})
    if error.code in _ELSEWHERE:
        raise error
    return problem_of(error, form)


def problem_with_fields(error: UnfilledError, form: str = "") -> Problem:
    """What to say of a form with faults, each beside its field. One in a field that every app has is said
    once, as any other refusal is."""
    faults = {_FORM_NAMES.get(name, name): fault for name, fault in error.faults.items()}
    status = ErrorCode.VALIDATION_ERROR.status
    (first, fault), *more = faults.items()
    if not more and (first in _INVALID or not first):
        code = "own_sentence" if fault.sentence else _INVALID.get(first, ErrorCode.VALIDATION_ERROR.code)
        return Problem(code, first, form, status, {}, fault.sentence)
    shown = {
        name: Fault(f"errors.{_INVALID[name]}") if name in _INVALID and not fault.sentence else fault
        for name, fault in faults.items()
    }
    return Problem("check_fields", next(name for name in shown if name), form, status, {}, faults=shown)


def problem_of(error: AuthError, form: str = "") -> Problem:
    """What to say of a refusal."""
    code = error.code
    if code is ErrorCode.VALIDATION_ERROR and error.field:
        return problem_with_fields(UnfilledError({error.field: Fault("not_valid")}), form)
    name = error.field or _FIELDS.get(code, "")
    headers, wait = error.headers, error.retry_after
    return Problem(code.code, name, form, code.status, headers, code.detail, retry_after=wait)
