"""The authorization request of a client, and the decision of the user (RFC 6749 section 4.1, RFC 7636)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...auth import Auth
from ...flows.authentication import Authentication
from .models import AbstractOAuthClient


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What a client asks for, after it was checked."""

    client: AbstractOAuthClient
    redirect_uri: str
    scopes: frozenset[str]
    resources: tuple[str, ...]
    """Absolute addresses."""
    state: str | None = field(repr=False)
    code_challenge: str = field(repr=False)
    prompt: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Consent:
    """What the consent page shows. `value` finds the request again: the form posts it as `request`."""

    value: str = field(repr=False)
    request: AuthorizationRequest
    scopes: Mapping[str, str]
    """Those asked for, each with its sentence."""
    redirect_host: str
    loopback: bool
    """Whether the answer goes to a program on the user's machine, which any program there could be."""


class RedirectedError(Exception):
    """A refusal that the client gets, by the redirect to `location`."""

    def __init__(self, location: str) -> None:
        super().__init__()
        self.location = location


async def read_request(auth: Auth, parameters: Sequence[tuple[str, str]]) -> AuthorizationRequest:
    """What the parameters of a request ask for. Raises `AuthError(OAUTH_REQUEST_REFUSED)` for a client or
    redirect URI that is not known and for one without PKCE S256, which is never redirected, and
    `RedirectedError` for everything else."""
    raise NotImplementedError


async def remembered(auth: Auth, authentication: Authentication, request: AuthorizationRequest) -> str | None:
    """Where the browser goes with a code at once, as the user has allowed all of it before, and the client is
    trusted; None where the user has to be asked. Raises `RedirectedError`."""
    raise NotImplementedError


async def ask(auth: Auth, authentication: Authentication, request: AuthorizationRequest) -> Consent:
    """Keeps the request until the user has decided, in this session."""
    raise NotImplementedError


async def decide(auth: Auth, authentication: Authentication, value: str, *, allow: bool) -> str:
    """Where the browser goes after the decision, with a code or an error. Raises `AuthError`:
    OAUTH_REQUEST_EXPIRED, IMPERSONATION_FORBIDDEN."""
    raise NotImplementedError
