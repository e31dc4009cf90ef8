"""The error codes, events, hooks and mails of social login."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic
from uuid import UUID

from ...errors import ErrorTable
from ...events import EventTable
from ...hooks import AfterEvent, BeforeEvent
from ...models.user import U
from ..feature import MailSpec, MailTable, Reader
from .profile import Profile

FEATURE: Final = "social_login"


class SocialError(ErrorTable):
    """Codes of social login."""

    PROVIDER_UNKNOWN = (404, "There is no such provider.")
    SOCIAL_DENIED = (400, "You have not signed in there: try again, or sign in another way.")
    SOCIAL_EXPIRED = (400, "That took too long, was done already, or was begun elsewhere: try again.")
    SOCIAL_REFUSED = (400, "The answer of the provider is not valid: try again, or sign in another way.")
    PROVIDER_UNAVAILABLE = (503, "The provider does not answer: try again later, or sign in another way.")
    EMAIL_UNVOUCHED = (
        403,
        "The provider does not say that the address is yours: sign up with it, then connect the provider.",
    )
    SIGN_IN_TO_LINK = (
        409,
        "There is an account with this address: sign in to it, then connect the provider.",
    )
    NO_ACCOUNT = (403, "There is no account for this identity, and none can be made this way.")
    IDENTITY_TAKEN = (409, "This identity is connected to another account.")
    IDENTITY_HELD = (
        403,
        "The password of this account was reset: sign in with the new one, and keep or remove this identity.",
    )
    IDENTITY_NOT_FOUND = (404, "There is no such identity.")
    PROVIDER_TOKEN_NEEDED = (409, "Sign in at the provider again: this app has no access there any more.")
    CODE_CHALLENGE_NEEDED = (400, "Send a code_challenge: this app gives browsers no cookies.")


class SocialEventKind(EventTable):
    """Security events of social login."""

    IDENTITY_LINKED = "identity_linked"
    IDENTITY_REMOVED = "identity_removed"
    IDENTITY_KEPT = "identity_kept"


class SocialMail(MailTable):
    """Mails of social login."""

    IDENTITY_LINKED = (
        "identity_linked",
        MailSpec(page="security#identities", sample={"provider": "Example"}),
    )
    SOCIAL_CODE = "social_code", MailSpec(reader=Reader.ADDRESS, code=True)
    IDENTITY_REMOVED = (
        "identity_removed",
        MailSpec(page="security#identities", sample={"provider": "Example"}),
    )


@dataclass(frozen=True, slots=True)
class BeforeSocialSignup(BeforeEvent):
    """Somebody whom a provider knows is to get an account. What a handler puts into `columns` is stored with
    it: each column of the app's own that needs a value must be there, such as a username, or nobody new gets
    an account."""

    profile: Profile
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class IdentityLinked(AfterEvent, Generic[U]):
    """An identity was connected to an account."""

    user: U
    identity_id: UUID
    provider: str


@dataclass(frozen=True, slots=True)
class IdentityRemoved(AfterEvent, Generic[U]):
    """An identity of a user was removed."""

    user: U
    identity_id: UUID
    provider: str
