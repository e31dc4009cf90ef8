"""E-mail addresses in one spelling (RFC 5321, RFC 6531): one mailbox, one account."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final

from email_validator import EmailNotValidError, validate_email

from .text import without_blanks_around

MAXIMUM_LENGTH: Final = 320
"""As it is shown; what is stored is shorter."""
MAXIMUM_TYPED_LENGTH: Final = 4 * MAXIMUM_LENGTH
"""Before it is normalised, which takes the square of the time."""

_STAND_IN: Final = ".com"

special_domains: Final[ContextVar[Iterable[str]]] = ContextVar("special_domains", default=())
"""The `EMAIL_SPECIAL_DOMAINS` of the app that answers, for bodies: those know no app."""


def normalise_email(address: str, special: Iterable[str] | None = None) -> str:
    """The address in Unicode normal form, lower-cased; blanks around it are cut, dots and plus tags are kept.
    A domain that no mail on the internet reaches (RFC 6761) is taken where it is one of the special ones, or
    below it. Raises `ValueError`."""
    address = without_blanks_around(address)
    if len(address) > MAXIMUM_TYPED_LENGTH:
        raise ValueError("not a valid e-mail address")
    address = unicodedata.normalize("NFC", address)  # in which its length counts
    # The library keeps its list of such domains for the process, so it is shown one that is not.
    ending = _STAND_IN if _is_below(address, special_domains.get() if special is None else special) else ""
    try:
        valid = validate_email(f"{address}{ending}", check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        raise ValueError("not a valid e-mail address") from error
    return valid.normalized.lower().removesuffix(ending)


def _is_below(address: str, domains: Iterable[str]) -> bool:
    domain = unicodedata.normalize("NFKC", address.rpartition("@")[2]).lower()
    return any(f".{domain}".endswith(f".{each}") for each in domains)
