"""Identities that come along with users from another system."""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID

from ...auth import Auth
from ...models import exact
from ...security.addresses import normalise_email
from ...security.text import is_unicode
from .app_providers import providers_of
from .models import Identity, digest_of
from .profile import text_of

COLUMN: Final = "identities"
"""Of a file with users: a JSON list, such as `[{"provider": "google", "subject": "1184"}]`."""

FORM: Final = "not a JSON list of objects with provider, subject, and email where it is known"
MOST: Final = 255


def imported_identities(auth: Auth, user_id: UUID, text: str) -> list[Identity]:
    """The identities of one user. No token comes along, and no address is vouched for. Raises `ValueError`
    with what is wrong."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(FORM) from error
    if not isinstance(said, list):
        raise ValueError(FORM)
    found = [_identity(auth, user_id, each) for each in said]
    if len({each.digest for each in found}) < len(found):
        raise ValueError("the same one twice")
    return found


def _identity(auth: Auth, user_id: UUID, said: Any) -> Identity:
    if not isinstance(said, dict) or not {"provider", "subject"} <= said.keys() <= {
        "provider",
        "subject",
        "email",
    }:
        raise ValueError(FORM)
    name, subject, now = said["provider"], text_of(said["subject"]), auth.clock()
    if subject is None or len(subject) > MOST or not is_unicode(subject):
        raise ValueError(f"a subject is a text of 1 to {MOST} characters")
    provider = providers_of(auth).get(name) if isinstance(name, str) else None
    if provider is None:
        raise ValueError(f"the app has no provider {name!r:.60}: name it in SocialLogin(...), and pass --app")
    if provider.issuer_of is not None:
        raise ValueError(f"{name} has many issuers, of which the file names none: leave its identities out")
    return auth.tables.of(Identity)(
        user_id=user_id,
        provider=name,
        issuer=provider.identifies,
        subject=subject,
        digest=digest_of(provider.identifies, subject),
        email=_address(said.get("email")),
        created_at=now,
    )


def _address(said: object) -> str | None:
    try:
        return normalise_email(said) if isinstance(said, str) else None
    except ValueError:
        return None


async def taken(auth: Auth, identities: list[Identity]) -> Identity | None:
    """One of them that an account has already."""
    for identity in identities:
        if await exact(auth.tables.of(Identity).all(), digest=identity.digest) is not None:
            return identity
    return None
