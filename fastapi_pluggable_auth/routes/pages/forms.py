"""Forms: what people typed, and what was wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from fastapi import Form
from pydantic import GetPydanticSchema, ValidationError
from pydantic_core.core_schema import no_info_after_validator_function

from ...errors import PASSWORD_REFUSALS, AuthError, ErrorCode, HostCode
from ...schemas import Text
from ...security.plaintext import Plaintext

Rejected: TypeAlias = ValidationError | AuthError
"""Why a form has to be shown again."""

Typed = Annotated[Text, Form()]
"""A field of a form; one that was not sent counts as empty. It may be shown again, so it can be."""

_Kept = Annotated[
    Plaintext,
    GetPydanticSchema(
        lambda _, handler: no_info_after_validator_function(Plaintext, handler.generate_schema(Text))
    ),
]
TypedSecret = Annotated[_Kept, Form(default_factory=lambda: Plaintext(""))]
"""A field with a password or a code, which is not shown again."""

_FIELDS: Final = {
    ErrorCode.EMAIL_TAKEN: "email",
    ErrorCode.USERNAME_TAKEN: "username",
    ErrorCode.WRONG_PASSWORD: "password",
    ErrorCode.REAUTHENTICATION_FAILED: "password",
    ErrorCode.INVALID_CODE: "code",
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


@dataclass(frozen=True, slots=True)
class Problem:
    """What was wrong with the last try: a key of the words `errors`, the sentence for a code that has none
    there, and the form and field it belongs to."""

    code: str
    field: str
    form: str
    status: int
    headers: dict[str, str]
    detail: str = ""


def code_from(typed: Plaintext) -> str | None:
    """A code without the blanks that apps and people put into it; None where nothing was typed."""
    return "".join(typed.take().split()) or None


def problem_with(error: Rejected | None, form: str = "") -> Problem | None:
    """What to say beside the form; raises the error again where another page has to answer it."""
    if error is None:
        return None
    if isinstance(error, ValidationError):
        name = str(error.errors(include_input=False, include_url=False)[0]["loc"][0])
        return Problem(_INVALID[name], name, form, ErrorCode.VALIDATION_ERROR.status, {})
    if error.code in _ELSEWHERE:
        raise error
    return problem_of(error, form)


def problem_of(error: AuthError, form: str = "") -> Problem:
    """What to say of a refusal."""
    code = error.code
    name = "" if isinstance(code, HostCode) else _FIELDS.get(code, "")
    return Problem(code.code, name, form, code.status, error.headers, code.detail)
