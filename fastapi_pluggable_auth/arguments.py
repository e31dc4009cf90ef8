"""Arguments of the app that are not what was asked for: found at the start, each reported in one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any


def require_instance(name: str, value: object, wanted: type, cure: str) -> None:
    """Raises `TypeError` where a value is not of this class; the cure says what to write."""
    if not isinstance(value, wanted):
        raise TypeError(f"{name} is {_described(value)}, but has to be of type {wanted.__name__}: {cure}")


def require_subclass(name: str, value: object, wanted: type) -> None:
    """Raises `TypeError` where a value is not this class or one that inherits from it."""
    if not (isinstance(value, type) and issubclass(value, wanted)):
        raise TypeError(
            f"{name} is {_described(value)}, but has to be a class that inherits from {wanted.__name__}: "
            f"write `class Mine({wanted.__name__})` and pass the class."
        )


def require_all(name: str, values: object, wanted: type, cure: str) -> None:
    """Raises `TypeError` where these are not several values of this class, to be looked at more than once."""
    if not isinstance(values, Collection) or isinstance(values, str):
        raise TypeError(f"{name} is {_described(values)}, but has to be a list: {cure}")
    for value in values:
        require_instance(f"one of {name}", value, wanted, cure)


def require_bool(name: str, value: object) -> None:
    """Raises `TypeError` for what is neither True nor False: the text of an environment variable is always
    true, also where it says no."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {_described(value)}, but has to be True or False.")


def require_callable(name: str, value: object, example: str) -> None:
    """Raises `TypeError` where a value is not a function."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} is {_described(value)}, but has to be a function, such as `{example}`.")


def require_clock(clock: Callable[[], datetime]) -> None:
    """Raises `TypeError` for a clock without a zone."""
    require_callable("clock", clock, "lambda: datetime.now(UTC)")
    now: object = clock()
    if not isinstance(now, datetime) or now.tzinfo is None:
        raise TypeError(
            "clock has to return a datetime with a zone, such as `lambda: datetime.now(UTC)` does."
        )


def require_limiter(limiter: object) -> None:
    """Raises `TypeError` for what counts nothing."""
    if limiter is not None and not hasattr(getattr(limiter, "limiter", limiter), "hit"):
        raise TypeError(
            f"limiter is {_described(limiter)}, but has to be a strategy of `limits` or a SlowAPI `Limiter`: "
            f"how much is allowed is said by AUTH_RATE_LIMITS."
        )


def require_roles(roles: object) -> None:
    """Raises `TypeError` unless these are names of permissions by the name of a role."""
    if not isinstance(roles, Mapping):
        raise TypeError(
            f"roles is {_described(roles)}, but has to name the permissions of each role: write "
            f"roles={_as_mapping(roles, ())}."
        )
    for role, permissions in roles.items():
        if not isinstance(permissions, Iterable):
            raise TypeError(
                f"roles[{role!r}] is {_described(permissions)}, but has to be a list of permissions."
            )


def require_scopes(scopes: object) -> None:
    """Raises `TypeError` unless these are sentences by the name of a scope."""
    if not isinstance(scopes, Mapping):
        raise TypeError(
            f"scopes is {_described(scopes)}, but has to tell users what each scope allows: write "
            f"scopes={_as_mapping(scopes, 'What it allows')}."
        )
    for scope, about in scopes.items():
        if not isinstance(about, str):
            raise TypeError(f"scopes[{scope!r}] has to be a text that tells users what it allows.")


def require_handler(handler: object, event: str, *, wait: bool) -> None:
    """Raises `TypeError` where a handler cannot be called with an event, or would not run when it is: where
    nothing can `wait` for it, as it is async."""
    cure = f"write `{'async ' if wait else ''}def handler(event: {event}) -> None`."
    if not callable(handler):
        raise TypeError(f"{handler!r} is not a function that hears {event}: {cure}")
    function = inspect.unwrap(handler)
    for each in (function, getattr(function, "__call__", None)):  # noqa: B004  # not whether, but what
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise TypeError(f"{name_of(handler)} yields, and nobody would take what it yields: {cure}")
        if not wait and inspect.iscoroutinefunction(each):
            raise TypeError(f"{name_of(handler)} is async, and nothing waits for it: {cure}")
    try:
        signature = inspect.signature(handler)
    except ValueError:  # of a function in C
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise TypeError(
            f"{name_of(handler)}{signature} is not called with the event alone: {cure}"
        ) from error


def name_of(function: object) -> str:
    """What a function is called in messages."""
    function = getattr(function, "func", function)  # of a `partial`
    return getattr(function, "__qualname__", None) or repr(function)


def _as_mapping(names: object, value: object) -> str:
    given = names if isinstance(names, Iterable) and not isinstance(names, str) else [names]
    return str({name: value for name in given if isinstance(name, str)} or {"name": value})


def _described(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"of type {type(value).__name__}"
