"""What is wrong with the fields of a form, each by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from pydantic import ValidationError
from pydantic_core import core_schema

MISSING: Final = "missing"

_OWN_WORDS: Final = {"value_error", "assertion_error"}
"""What a validator of the host raises; its sentence is for people."""

_KNOWN: Final = frozenset(get_args(core_schema.ErrorType)) - _OWN_WORDS

_CODES: Final = {
    "missing": MISSING,
    "string_too_short": "too_short",
    "too_short": "too_short",  # where another validator stands before the bound
    "string_too_long": "too_long",
    "too_long": "too_long",
    "url_too_long": "too_long",
    "greater_than": "more_than",
    "greater_than_equal": "at_least",
    "less_than": "less_than",
    "less_than_equal": "at_most",
    "int_type": "whole_number",
    "int_parsing": "whole_number",
    "int_parsing_size": "whole_number",
    "int_from_float": "whole_number",
    "float_type": "number",
    "float_parsing": "number",
    "decimal_type": "number",
    "decimal_parsing": "number",
    "date_past": "past",
    "date_future": "future",
    "literal_error": "choice",
    "enum": "choice",
}
"""Keys of the words `field_errors` for types of Pydantic."""

_OURS: Final = {"email": "email", "username": "username", "string_characters": "not_valid"}
"""Those of the package's own types."""

_BOUNDS: Final = ("min_length", "max_length", "gt", "ge", "lt", "le")


@dataclass(frozen=True, slots=True)
class Fault:
    """A key of the words `field_errors`, or the host's own sentence; `bound` is the one that was passed."""

    code: str
    bound: object = ""
    sentence: str = ""


@dataclass(slots=True)
class UnfilledError(Exception):
    """A form that has to be shown again: what is wrong, by the names of its fields, and on the whole ("")."""

    faults: dict[str, Fault] = field(default_factory=dict)


def fault_of(error: Any) -> Fault:
    """What one error of Pydantic says."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _KNOWN:
        code = _CODES.get(kind) or next(
            (prefix for prefix in ("date", "time", "url") if kind.startswith(f"{prefix}_")), "not_valid"
        )
        bound = next((context[name] for name in _BOUNDS if name in context), "")
        return Fault(MISSING) if (code, bound) == ("too_short", 1) else Fault(code, bound)
    if kind in _OURS:
        return Fault(_OURS[kind])
    if kind in _OWN_WORDS:
        cause = context.get("error")
        return Fault("not_valid", sentence=str(cause or ""))
    return Fault("not_valid", sentence=error["msg"])


def faults_of(error: ValidationError, names: Mapping[str, str]) -> dict[str, Fault]:
    """The first fault of each field, by the names that a form has for the keys of its body."""
    faults: dict[str, Fault] = {}
    for each in error.errors(include_input=False, include_url=False):
        key = str(each["loc"][0]) if each["loc"] else ""
        faults.setdefault(names.get(key, key), fault_of(each))
    return faults
