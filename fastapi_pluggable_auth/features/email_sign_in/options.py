"""How an app signs in by mail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...auth import Auth


class EmailSignInOptions(NamedTuple):
    """Whether anybody may sign up by a mail, and which users may sign in so."""

    signup: bool
    allowed: Callable[[Any], bool]


def options_of(auth: Auth) -> EmailSignInOptions:
    """Those of the app."""
    found: EmailSignInOptions = auth.features.options_of("email_sign_in")
    return found
