"""What a sign-in elsewhere has to bring back: kept by the browser that began it, and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from ...auth import Auth
from ...errors import AuthError
from ...flows.pending import Unstored
from ...security.keys import SignatureError, key_set
from ...security.signed_text import open_text, sign_text
from .names import SocialError

LIFETIME: Final = timedelta(minutes=10)
NONCE_LIFETIME: Final = timedelta(minutes=10)

MOST: Final = 2900
"""Characters that a cookie has room for (RFC 6265 section 6.1), in Base64 and with a signature."""

_USE: Final = "social login"
_NONCE_USE: Final = "social login nonce"

Purpose = Literal["sign_in", "link", "reauthenticate"]


@dataclass(frozen=True, slots=True)
class State:
    """One sign-in that was begun: `value` is what the provider sends back, `verifier` the secret of PKCE (RFC
    7636), and `challenge` that of a client that takes its tokens by `exchange`. One that is for a user who is
    signed in names the session."""

    provider: str
    purpose: Purpose = "sign_in"
    next: str | None = None
    challenge: str | None = None
    remember: bool = True
    user_id: str | None = None
    session_id: str | None = None
    value: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)
    expires: int = 0

    @property
    def cookie(self) -> str:
        """The name of its cookie: each tab has its own."""
        return f"social_{self.value[:12]}"

    @property
    def spent(self) -> Unstored:
        """What `take` spends, once."""
        return Unstored("social_state", self.value.encode(), datetime.fromtimestamp(self.expires, UTC))


def cookie_of(value: str) -> str:
    """The name of the cookie for what a provider has sent back."""
    return f"social_{value[:12]}"


def sealed(auth: Auth, state: State) -> str:
    """What the browser keeps for ten minutes."""
    expires = int((auth.clock() + LIFETIME).timestamp())
    said = asdict(state) | {"expires": expires}
    if len(text := json.dumps(said)) > MOST:
        text = json.dumps(said | {"next": None})
    return sign_text(key_set(auth.settings), _USE, text)


def opened(auth: Auth, provider: str, value: str, cookie: str | None) -> State:
    """The state that this browser began with this provider, where it has not expired. Raises
    `AuthError(SOCIAL_EXPIRED)`."""
    try:
        state = State(**json.loads(open_text(key_set(auth.settings), _USE, cookie or "")))
    except (SignatureError, TypeError) as error:  # also of a version with other fields
        raise AuthError(SocialError.SOCIAL_EXPIRED) from error
    same = secrets.compare_digest(state.value.encode(), value.encode())
    if not same or state.provider != provider or auth.clock().timestamp() >= state.expires:
        raise AuthError(SocialError.SOCIAL_EXPIRED)
    return state


def new_nonce(auth: Auth, provider: str) -> str:
    """A nonce for a native app, good for ten minutes and one token."""
    expires = int((auth.clock() + NONCE_LIFETIME).timestamp())
    said = json.dumps([provider, secrets.token_urlsafe(24), expires])
    return sign_text(key_set(auth.settings), _NONCE_USE, said)


def open_nonce(auth: Auth, provider: str, nonce: str) -> Unstored:
    """What `take` spends. Raises `AuthError(SOCIAL_EXPIRED)`."""
    try:
        name, _, expires = json.loads(open_text(key_set(auth.settings), _NONCE_USE, nonce))
    except SignatureError as error:
        raise AuthError(SocialError.SOCIAL_EXPIRED) from error
    if name != provider or auth.clock().timestamp() >= expires:
        raise AuthError(SocialError.SOCIAL_EXPIRED)
    return Unstored("social_nonce", nonce.encode(), datetime.fromtimestamp(expires, UTC))


def s256(verifier: str) -> str:
    """The challenge of a verifier (RFC 7636 section 4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
