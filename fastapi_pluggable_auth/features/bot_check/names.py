"""The error codes of the bot check, and what it is asked for."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from ...errors import ErrorTable

NAME: Final = "bot_check"
FIELD: Final = "bot_token"
"""Of the bodies."""

MAXIMUM_LENGTH: Final = 8192
"""Of a token."""
PATTERN: Final = r"^[\x21-\x7e]+$"
"""What tokens are made of. Nothing else is sent to a service, which might not answer then."""

Action: TypeAlias = Literal["signup", "login", "forgot_password", "resend", "email_sign_in"]
"""What somebody wants; the widget in the form says the same."""

ACTIONS: Final = frozenset(get_args(Action))


class BotCheckError(ErrorTable):
    """Codes of the bot check."""

    BOT_CHECK_FAILED = (403, "Show that you are human, and try again.")
    BOT_CHECK_UNAVAILABLE = (503, "The check that you are human does not work just now. Try again shortly.")
