"""Whether a request comes from a human: what its token says, which counts once."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from ...auth import Auth, autonomous
from ...database import deadline_paused
from ...errors import AuthError
from ...flows.pending import Unstored, take
from ...hooks import got_no_answer
from ...security.plaintext import Plaintext
from ..feature import Asked
from .names import MAXIMUM_LENGTH, PATTERN, BotCheckError
from .options import Check, keys_of, options_of
from .remote import TIMEOUT, DownError, ask
from .services import SiteVerify

logger = logging.getLogger(__name__)

SPENT_FOR: Final = timedelta(days=1)
"""How long a token is remembered that was good; services forget theirs after some minutes."""

LATELY: Final = 10.0
"""Seconds for which a service that has answered is taken to be there."""

RETRY: Final = 5
"""Seconds after which a client may try again where the service is down."""


class BotChecker:
    """The check of one app."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._answered_at: float | None = None
        self._warned_at: float | None = None

    async def require_human(self, asked: Asked) -> None:
        """Raises `AuthError`: BOT_CHECK_FAILED, also without a token and for one that was good before;
        BOT_CHECK_UNAVAILABLE where nobody can tell, unless the app is open for this action then."""
        options = options_of(self._auth)
        token = _usable(asked.answer)
        spent = None if token is None else self._spent_by(token)
        try:
            passes = await self._passes(options.check, asked, token)
        except DownError as error:
            is_open = asked.action in options.open_when_down
            then = "goes on without it" if is_open else "is refused"
            self._warn("The bot check did not answer (%s): %s %s", error, asked.action, then)
            if is_open:
                return
            raise AuthError(BotCheckError.BOT_CHECK_UNAVAILABLE, retry_after=RETRY) from None
        if not passes or spent is None:
            raise AuthError(BotCheckError.BOT_CHECK_FAILED)
        if not self._takes_tests() and not await _spend(self._auth, spent):
            raise AuthError(BotCheckError.BOT_CHECK_FAILED)

    async def _passes(self, check: SiteVerify | Check, asked: Asked, token: Plaintext | None) -> bool:
        if isinstance(check, SiteVerify):
            return await self._passes_at(check, asked, token)
        return token is not None and await _says_yes(check, token, asked)

    async def _passes_at(self, service: SiteVerify, asked: Asked, token: Plaintext | None) -> bool:
        if token is None:
            # Where the service is down, nobody gets a token from it.
            if asked.action not in options_of(self._auth).open_when_down or self._answered_lately():
                return False
            token = Plaintext("")
        keys = keys_of(self._auth, service)
        said = await ask(self._auth.settings, service, keys.secret_key, token, asked.address)
        self._answered_at = asyncio.get_running_loop().time()
        return said is not None and (keys.are_for_tests or self._is_ours(service, said, asked.action))

    def _is_ours(self, service: SiteVerify, said: Any, action: str) -> bool:
        """Whether a token was made on a page of ours, in the form that was sent."""
        ours = self._hostnames(service)
        if (host := said.get("hostname")) not in ours:
            self._warn("A token of the bot check is of the host %.80r, not of %s", host, ", ".join(ours))
            return False
        if service.says_action and (made_for := said.get("action")) != action:
            self._warn("A token of the bot check is for the action %.80r, not for %s", made_for, action)
            return False
        return True

    def _hostnames(self, service: SiteVerify) -> list[str]:
        if service.hostnames is not None:
            return [*service.hostnames]
        settings = self._auth.settings
        return [urlsplit(url).hostname or "" for url in (settings.public_base_url, *settings.trusted_origins)]

    def _takes_tests(self) -> bool:
        """Whether the service has keys with which every token is the same."""
        check = options_of(self._auth).check
        return isinstance(check, SiteVerify) and keys_of(self._auth, check).are_for_tests

    def _spent_by(self, token: Plaintext) -> Unstored:
        return Unstored("bot_check", token.look().encode(), self._auth.clock() + SPENT_FOR)

    def _answered_lately(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._answered_at is not None and now - self._answered_at < LATELY

    def _warn(self, message: str, *values: object) -> None:
        """At most once a second, as anybody may send what is warned of."""
        now = asyncio.get_running_loop().time()
        if self._warned_at is None or now - self._warned_at >= 1:
            self._warned_at = now
            logger.warning(message, *values)


@autonomous
async def _spend(auth: Auth, /, spent: Unstored) -> bool:
    """Whether this request is the one that does. It stays spent, also where the request is refused then."""
    return await take(auth, spent)


def _usable(answer: Plaintext | None) -> Plaintext | None:
    if answer is None or len(answer.look()) > MAXIMUM_LENGTH or not re.fullmatch(PATTERN, answer.look()):
        return None
    return answer


async def _says_yes(check: Check, token: Plaintext, asked: Asked) -> bool:
    """What a function of the app says; one that is not asynchronous runs in a thread. Raises `DownError`
    where it got no answer, or not in time, and whatever else it raises."""
    function: Any = check
    is_async = any(map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None))))  # noqa: B004

    def call() -> Any:
        return function(token.take(), asked.action, asked.address)

    said = call() if is_async else asyncio.to_thread(call)
    try:
        with deadline_paused():
            async with asyncio.timeout(TIMEOUT):
                answer = await said
                if inspect.isawaitable(answer):
                    answer = await answer
    except Exception as error:
        if got_no_answer(error):
            raise DownError(type(error).__name__) from None
        raise
    return answer is True  # what says no in another way, such as an object, is no yes
