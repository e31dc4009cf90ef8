"""Passwords."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .base import Settings
from .values import CommaSeparated


def _domain(text: str) -> str:
    domain = text.strip().strip(".").lower()
    if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", domain):
        raise ValueError("not a domain")
    return domain


Domain = Annotated[str, AfterValidator(_domain)]
"""A name in the DNS, in lower case."""


class PasswordSettings(Settings):
    """Passwords."""

    password_scheme: Literal["bcrypt", "argon2"] = Field(
        default="bcrypt", description="Hash for new passwords; argon2 needs the `argon2` extra."
    )
    bcrypt_rounds: int = Field(default=12, ge=4, le=31, description="Cost of bcrypt: 2 to this power.")
    hashing_threads: int = Field(
        default=0, ge=0, description="Threads that hash passwords; 0 is one per core."
    )
    hashing_queue_size: int = Field(
        default=64, ge=1, description="Hashes that may wait for a thread before requests get 503."
    )

    email_special_domains: CommaSeparated[Domain] = Field(
        default=[],
        description="Domains, by commas, whose addresses are taken though the internet does not know them"
        " (RFC 6761), with all below them: `test`, `local`, `internal`, `localhost`.",
    )

    password_context_words: CommaSeparated[str] = Field(
        default=[],
        description="Words, by commas, that no password may consist of, beside app name and address.",
    )
    check_breaches: bool = Field(
        default=False,
        description="Refuse passwords from known breaches; five hex digits of a hash leave the app.",
    )
    breach_url: str = Field(
        default="https://api.pwnedpasswords.com/range",
        description="The range service that is asked for breaches.",
    )
