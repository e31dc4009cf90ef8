"""What stands in for the bot check of an app under test."""

from __future__ import annotations

from ...errors import AuthError
from ..feature import Asked
from .names import BotCheckError


class FakeBotCheck:
    """What `bot_check` gives: everybody passes, also without a token, unless `passes` is False. `asked` are
    the actions that it was asked for."""

    def __init__(self) -> None:
        self.passes = True
        self.asked: list[str] = []

    async def require_human(self, asked: Asked) -> None:
        """As the check of the app. Raises `AuthError(BOT_CHECK_FAILED)`."""
        self.asked.append(asked.action)
        if not self.passes:
            raise AuthError(BotCheckError.BOT_CHECK_FAILED)
