"""The settings, error codes, events, hooks and mails of passkeys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic
from uuid import UUID

from pydantic import Field, WrapValidator

from ...config import Settings
from ...config.urls import AnyOrigin, WebOrigin
from ...config.values import CommaSeparated
from ...errors import ErrorTable
from ...events import EventTable
from ...hooks import AfterEvent
from ...models.user import U
from ..feature import MailSpec, MailTable

FACTOR = "passkey"
"""The name of the factor, in sessions, events and tokens."""

SECOND_FACTOR_ONLY = "security_key"
"""What `second_factors` says as well where a login always asks for one: its owner has added a passkey that
does not sign in by itself."""


_ANDROID: Final = re.compile("android:apk-key-hash:[A-Za-z0-9_-]{43}")


def _passkey_origin(value: Any, otherwise: Any) -> str:
    return value if isinstance(value, str) and _ANDROID.fullmatch(value) else str(otherwise(value))


PasskeyOrigin = Annotated[AnyOrigin, WrapValidator(_passkey_origin)]
"""Also an Android app, by the digest of the certificate that it is signed with."""


class PasskeySettings(Settings):
    """Passkeys."""

    passkey_rp_id: str | None = Field(
        default=None,
        description="The domain that passkeys are made for: the host of `PUBLIC_BASE_URL`, unless set, or a"
        " parent of it. Another one later makes all passkeys useless.",
    )
    passkey_origins: CommaSeparated[PasskeyOrigin] = Field(
        default=[],
        description="Origins of the pages and apps that use passkeys; that of `PUBLIC_BASE_URL`, unless set.",
    )
    passkey_related_origins: CommaSeparated[WebOrigin] = Field(
        default=[], description="Origins of other domains that use the same passkeys."
    )
    max_passkeys: int = Field(default=20, ge=1, le=100, description="How many passkeys a user may have.")


class PasskeyError(ErrorTable):
    """Codes of passkeys."""

    PASSKEY_UNKNOWN = (401, "This passkey is not known here any more: sign in another way.")
    PASSKEY_EXPIRED = (400, "That took too long, or was done already: try again.")
    PASSKEY_REFUSED = (400, "This passkey is not accepted: try again, or sign in another way.")
    PASSKEY_HELD = (
        403,
        "The password of this account was reset: sign in with the new one, and keep or remove this passkey.",
    )
    PASSKEY_EXISTS = (409, "This passkey was added already.")
    TOO_MANY_PASSKEYS = (409, "Remove a passkey first: there are as many as allowed.")
    PASSKEY_NOT_FOUND = (404, "There is no such passkey.")


class PasskeyEventKind(EventTable):
    """Security events of passkeys."""

    PASSKEY_ADDED = "passkey_added"
    PASSKEY_REMOVED = "passkey_removed"
    PASSKEY_CHANGED = "passkey_changed"
    """It was renamed, or kept after all access had ended."""
    PASSKEY_COPIED = "passkey_copied"
    """Its counter went back, as that of a copy does: always a failure."""


class PasskeyMail(MailTable):
    """Mails of passkeys."""

    PASSKEY_ADDED = "passkey_added", MailSpec(page="security#passkeys", sample={"name": "Phone"})
    PASSKEY_REMOVED = "passkey_removed", MailSpec(page="security#passkeys", sample={"name": "Phone"})
    PASSKEY_COPIED = "passkey_copied", MailSpec(page="security#passkeys", sample={"name": "Phone"})


@dataclass(frozen=True, slots=True)
class PasskeyAdded(AfterEvent, Generic[U]):
    """A user has added a passkey."""

    user: U
    passkey_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class PasskeyRemoved(AfterEvent, Generic[U]):
    """A passkey of a user was removed, by the user or an administrator."""

    user: U
    passkey_id: UUID
    name: str
