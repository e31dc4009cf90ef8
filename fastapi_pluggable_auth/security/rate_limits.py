"""Rate limits per client, through the `limits` package: how often, not how wrongly, somebody asks."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from importlib import import_module
from math import ceil
from typing import Any, Final

from ..config import RECOMMENDED_RATES, AuthSettings

STORE_TIMEOUT: Final = 0.5
"""Seconds that the store may take before it counts as down."""
STORE_PAUSE: Final = 10.0
"""Seconds for which a store that is down is left alone."""
PREFIX: Final = "pluggable-auth"

_SCHEMES: Final = frozenset({"redis", "rediss", "valkey", "valkeys", "unix"})


class RateConfigurationError(ValueError):
    """The limits in the settings cannot be applied."""


class StoreDownError(Exception):
    """The store of the counters does not answer."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests per period."""

    amount: int
    period: timedelta
    item: Any
    """The same, as the `limits` package has it."""


class RateLimiter:
    """Counts requests by route and client.

    `engine` is a strategy of `limits`, sync or async, or a SlowAPI `Limiter`; without it, one is made for
    `rate_limit_storage`. `recommended` has the names of all limits of the app. Raises
    `RateConfigurationError`.
    """

    def __init__(
        self,
        settings: AuthSettings,
        engine: Any = None,
        recommended: Mapping[str, str] = RECOMMENDED_RATES,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._strategy = getattr(engine, "limiter", engine)
        self._clients: list[Any] = []
        self._recommended = recommended
        self._down_until = 0.0
        if unknown := settings.rate_limits.keys() - recommended.keys():
            names = ", ".join(sorted(unknown))
            raise RateConfigurationError(f"AUTH_RATE_LIMITS: {names}: no route has such a limit.")
        if [rule for rule in recommended if self.rates(rule)]:
            self._prepare()

    @property
    def is_per_worker(self) -> bool:
        """Whether each worker counts for itself what it limits."""
        in_memory = self._settings.rate_limit_storage.startswith("memory:")
        return self._engine is None and in_memory and bool(self._settings.rate_limits)

    def rates(self, rule: str) -> tuple[Rate, ...]:
        """What applies to a route; nothing where limits are off."""
        text = self._limit(rule)
        return () if text is None or not getattr(self._engine, "enabled", True) else _parse(text)

    async def hit(self, rule: str, client: str, rate: Rate) -> int | None:
        """Counts one request; the seconds to wait when it is one too many. Raises `StoreDownError`."""
        if time.monotonic() < self._down_until:
            raise StoreDownError
        key = (PREFIX, rule, client)
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                if await self._call("hit", rate.item, *key):
                    return None
                stats = await self._call("get_window_stats", rate.item, *key)
        except Exception as error:  # each store has its own errors
            self._down_until = time.monotonic() + STORE_PAUSE
            raise StoreDownError(f"{type(error).__name__}: {error}") from error
        wait: float = stats.reset_time - time.time()
        return max(1, ceil(wait))

    async def close(self) -> None:
        """Closes the connections to the store; a later use opens them again."""
        for client in self._clients:
            await client.aclose()

    def _limit(self, rule: str) -> str | None:
        """Where every route of the library has a limit, those of features have what they recommend."""
        asked = self._settings.rate_limits
        all_of_ours = RECOMMENDED_RATES.keys() <= asked.keys() if asked else self._engine is not None
        return asked.get(rule) or (self._recommended.get(rule) if all_of_ours else None)

    def _prepare(self) -> Any:
        if self._strategy is None:
            if self._settings.rate_limit_storage.startswith("memory:"):
                self._strategy = _memory()
            elif (made := _redis(self._settings.rate_limit_storage)) is not None:
                self._strategy, self._clients = made
            else:
                raise RateConfigurationError("AUTH_RATE_LIMIT_STORAGE is neither memory:// nor a Redis URL.")
        return self._strategy

    async def _call(self, method: str, *arguments: Any) -> Any:
        strategy = self._prepare()
        function = getattr(strategy, method)
        if inspect.iscoroutinefunction(function):
            return await function(*arguments)
        if type(strategy.storage).__name__ == "MemoryStorage":
            return function(*arguments)
        return await asyncio.to_thread(function, *arguments)


@lru_cache(maxsize=64)
def _parse(text: str) -> tuple[Rate, ...]:
    try:
        from limits import parse_many

        items = parse_many(text)
    except ImportError as error:
        raise RateConfigurationError(
            "AUTH_RATE_LIMITS needs the package: pip install 'fastapi-pluggable-auth[limits]'"
        ) from error
    except ValueError as error:
        raise RateConfigurationError(
            f"AUTH_RATE_LIMITS: {text!r} is not a rate such as 30/minute."
        ) from error
    return tuple(Rate(item.amount, timedelta(seconds=item.get_expiry()), item) for item in items)


def _memory() -> Any:
    from limits.storage import MemoryStorage
    from limits.strategies import SlidingWindowCounterRateLimiter

    return SlidingWindowCounterRateLimiter(MemoryStorage())


def _redis(url: str) -> tuple[Any, list[Any]] | None:
    """The strategy, and its clients; None for what is not the URL of a store, which no error repeats: it may
    hold a password. Valkey speaks as Redis does, and one client serves both."""
    scheme, mark, rest = url.partition("://")
    if scheme.removesuffix("+unix").removesuffix("+cluster").removesuffix("+sentinel") not in _SCHEMES:
        return None
    scheme = "redis+unix" if scheme == "unix" else scheme.replace("valkey", "redis", 1)
    # What replicas say of a counter may be old.
    options: dict[str, Any] = {"use_replicas": False} if scheme == "redis+sentinel" else {}
    try:
        import_module("redis.asyncio")
        from limits.aio.strategies import SlidingWindowCounterRateLimiter
        from limits.errors import ConfigurationError
        from limits.storage import storage_from_string
    except ImportError as error:
        raise RateConfigurationError(
            "AUTH_RATE_LIMIT_STORAGE needs a package: pip install 'fastapi-pluggable-auth[redis]'"
        ) from error
    try:
        storage: Any = storage_from_string(f"async+{scheme}{mark}{rest}", implementation="redispy", **options)
    except (ValueError, ConfigurationError):
        return None
    bridge = storage.bridge
    sentinel = getattr(bridge, "sentinel", None)
    return SlidingWindowCounterRateLimiter(storage), [
        bridge.storage,
        *(sentinel.sentinels if sentinel else ()),
    ]
