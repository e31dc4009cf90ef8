"""Access tokens for other services, which check them by the public keys of the app (RFC 9068).

Each is a row, as every other one: its `jti` is the digest there, so that the app can end it, and a retry gets
the same claims again. What makes the digest is shown to nobody.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ...auth import Auth
from ...security.jwt import ACCESS
from ...security.keys import SignatureError, key_set
from .models import AbstractOAuthClientToken, AbstractOAuthToken
from .resources import issuer_of, services_of
from .settings import OAuthSettings


def service_in(auth: Auth, resources: frozenset[str]) -> str | None:
    """The other service that a token with these resources is for; None for one of this app."""
    services = services_of(auth)
    return next((each for each in sorted(resources) if each in services), None)


def access_ends(auth: Auth, resources: frozenset[str], now: datetime) -> datetime:
    """When an access token expires that is issued now: sooner where no request of another service finds out
    that it has ended."""
    settings = auth.features.settings_of(OAuthSettings)
    at_service = service_in(auth, resources) is not None
    return now + (settings.oauth_service_token_expires if at_service else settings.oauth_access_token_expires)


def shown_token(
    auth: Auth, row: AbstractOAuthToken | AbstractOAuthClientToken, secret: str, client_id: str, subject: str
) -> str:
    """What the client gets for this row: the secret or, for another service, signed claims (RFC 9068 section
    2.2). They have a `client_id` and the `aud` of the service: it is no session here, and no session is one
    there."""
    service = service_in(auth, row.resources)
    if service is None:
        return secret
    del secret  # nobody needs it
    return auth.signer.sign(
        ACCESS,
        subject,
        issued_at=row.created_at,
        expires_at=row.expires_at,
        jti=row.digest,
        iss=issuer_of(auth.settings),
        aud=service,
        client_id=client_id,
        scope=" ".join(sorted(row.scopes)),
    )


def digest_in(auth: Auth, token: str) -> str | None:
    """The digest of the row of a token that this app has signed for another service, whatever has become of
    it; None for all else, such as a session's or an id_token (RFC 8725 sections 3.11 and 3.12)."""
    try:
        claims: dict[str, Any] = key_set(auth.settings).open(token, ACCESS)
    except SignatureError:
        return None
    ours = claims.get("iss") == issuer_of(auth.settings) and claims.get("aud") in [*services_of(auth)]
    found = claims.get("jti")
    return found if ours and isinstance(claims.get("client_id"), str) and isinstance(found, str) else None
