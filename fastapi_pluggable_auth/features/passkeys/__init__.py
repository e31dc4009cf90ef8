"""Passkeys (WebAuthn): signing in without a password, and a second factor that no look-alike site gets.

Here are the names that an app needs; each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # where a misspelt name is an error
    from .names import PasskeyAdded, PasskeyError, PasskeyRemoved, PasskeySettings

__all__ = ["PasskeyAdded", "PasskeyError", "PasskeyRemoved", "PasskeySettings"]

_HOME: Final = ".names"

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(import_module(_HOME, __name__), name))
