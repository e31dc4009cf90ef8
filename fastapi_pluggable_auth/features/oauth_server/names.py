"""The error codes, events, hooks and mails of the OAuth server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic
from uuid import UUID

from ...errors import ErrorTable
from ...events import EventTable
from ...hooks import AfterEvent, BeforeEvent
from ...models.user import U
from ..feature import MailSpec, MailTable

FEATURE: Final = "oauth_server"


class OAuthError(ErrorTable):
    """Codes of the OAuth server, on its pages and the routes of users and administrators."""

    OAUTH_REQUEST_REFUSED = (
        400,
        "The application has asked in a way that is not valid: nothing was allowed. Tell its makers.",
    )
    OAUTH_REQUEST_EXPIRED = (
        400,
        "That took too long, was done already, or was begun elsewhere: begin again in the application.",
    )
    DEVICE_CODE_REFUSED = (
        400,
        "The code is not known, or has expired: compare it with the device, or begin there again.",
    )
    APPLICATION_NOT_FOUND = (404, "There is no such application.")
    OAUTH_CLIENT_NOT_FOUND = (404, "There is no such client.")
    OAUTH_CLIENT_REFUSED = (400, "The client is not valid: see what is wrong in the answer.")
    OAUTH_CLIENT_UNAVAILABLE = (
        503,
        "The application cannot be asked who it is now: try again in a few minutes.",
    )


class OAuthEventKind(EventTable):
    """Security events of the OAuth server."""

    APPLICATION_AUTHORISED = "application_authorised"
    APPLICATION_REMOVED = "application_removed"
    OAUTH_TOKEN = "oauth_token"  # noqa: S105
    """A client asked for tokens by a code; by a refresh token it is `token_refresh`, as there are many."""
    OAUTH_TOKEN_REVOKED = "oauth_token_revoked"  # noqa: S105
    OAUTH_CLIENT_REGISTERED = "oauth_client_registered"
    """A client has registered itself: always a success."""
    OAUTH_REUSE = "oauth_reuse"
    """A code or refresh token was used twice, as one that was stolen is: always a failure."""


class OAuthMail(MailTable):
    """Mails of the OAuth server."""

    APPLICATION_AUTHORISED = (
        "application_authorised",
        MailSpec(
            page="security/applications",
            sample={
                "name": "Example",
                "host": "app.example.com",
                "scopes": "Read your notes, Change your notes",
            },
        ),
    )
    OAUTH_REUSE = "oauth_reuse", MailSpec(page="security/applications", sample={"name": "Example"})


@dataclass(frozen=True, slots=True)
class BeforeConsent(BeforeEvent, Generic[U]):
    """A user is about to allow an application these scopes: also where that is remembered. What a handler
    takes out of `scopes` is not given; it may raise `Refused`."""

    user: U
    client_id: str
    scopes: set[str]


@dataclass(frozen=True, slots=True)
class ApplicationAuthorised(AfterEvent, Generic[U]):
    """A user has allowed an application these scopes."""

    user: U
    grant_id: UUID
    client_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class ApplicationRemoved(AfterEvent, Generic[U]):
    """A user, or an administrator, has taken back all that an application was allowed."""

    user: U
    client_id: str
