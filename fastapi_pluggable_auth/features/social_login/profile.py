"""What a provider says of somebody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Profile:
    """Somebody at a provider. `subject` is what they are known by there, for good; `vouched` is whether the
    provider says that the address is theirs."""

    subject: str
    email: str | None = None
    vouched: bool = False
    name: str | None = None


def profile_of(claims: Mapping[str, Any]) -> Profile:
    """As OpenID Connect Core section 5.1 has it; what is of another type counts as not there."""
    name = claims.get("name")
    return Profile(
        subject=text_of(claims.get("sub")) or "",
        email=text_of(claims.get("email")),
        vouched=claims.get("email_verified") is True,
        name=name if isinstance(name, str) else None,
    )


def text_of(value: object) -> str | None:
    """A text, also of a number, as some providers number their users."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None
