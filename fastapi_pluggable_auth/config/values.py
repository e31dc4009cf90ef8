"""What the values of settings are read as."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

MINIMUM_SECRET_BYTES: Final = 32
"""RFC 7518 section 3.2: an HS256 key is at least as long as its hash."""

LANGUAGE: Final = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"
"""A language tag (RFC 5646), such as `en` or `pt-BR`, roughly."""

T = TypeVar("T")


def parts(text: str) -> list[str]:
    """What stands between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_number(value: object) -> bool:
    return isinstance(value, str) and value.replace(".", "", 1).isdecimal()


def _text(key: str) -> str:
    """Bytes that are not UTF-8 come from the environment as what no secret can be made of."""
    if any("\ud800" <= each <= "\udfff" for each in key):
        raise ValueError("not UTF-8; make one: openssl rand -base64 48")
    return key


def _long_enough(key: str) -> str:
    if len(key.encode()) < MINIMUM_SECRET_BYTES:
        raise ValueError(f"shorter than {MINIMUM_SECRET_BYTES} bytes; make one: openssl rand -base64 48")
    return key


def _zone_name(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError(f"{name}: not a time zone such as Europe/Berlin") from None
    return name


Duration = Annotated[
    timedelta,
    BeforeValidator(lambda value: float(value) if _is_number(value) else value),
    Field(ge=timedelta(0), le=timedelta(days=36_525)),
]
"""Seconds (also as text, which is all that an environment variable can be), ISO 8601, or `HH:MM:SS`. Up to a
century: dates end with the year 9999."""

CommaSeparated = Annotated[
    list[T],
    NoDecode,
    BeforeValidator(lambda value: parts(value) if isinstance(value, str) else value),
]
"""A list; in the environment its items are separated by commas."""

Secret = Annotated[str, AfterValidator(_text)]
"""Text with UTF-8 bytes, of which keys are made."""

EncryptionKey = Annotated[Secret, AfterValidator(_long_enough)]

LanguageTag = Annotated[str, Field(pattern=LANGUAGE)]

OneLine = Annotated[
    str, BeforeValidator(lambda value: value.rstrip("\r\n") if isinstance(value, str) else value)
]
"""Text without the line break that ends the file it comes from."""

ZoneName = Annotated[str, AfterValidator(_zone_name)]
"""A time zone of the IANA database."""
