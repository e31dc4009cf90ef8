"""OAuth tokens: their form, and whom they stand for."""

from __future__ import annotations

import re
from typing import Final

from ...auth import Auth
from ...flows.authentication import Authentication

_ACCESS: Final = re.compile("oat_[A-Za-z0-9_-]{43}")


def is_access_token(token: str) -> bool:
    """Whether a token has the form of an OAuth access token."""
    return _ACCESS.fullmatch(token) is not None


async def authenticate_token(auth: Auth, token: str) -> Authentication:
    """Whom an access token stands for, in one query. Raises `AuthError(INVALID_TOKEN)`."""
    raise NotImplementedError
