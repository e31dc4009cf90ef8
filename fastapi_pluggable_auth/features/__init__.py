"""Features: what not every app needs, each added by one value, as in
`include_auth(app, features=[Administration()])`.

Each name is imported when it is first used, so that a feature costs nothing where it is off.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # where a misspelt name is an error
    from .administration.feature import Administration
    from .audit_log.feature import AuditLog
    from .feature import Feature
    from .personal_tokens.feature import PersonalTokens

__all__ = ["Administration", "AuditLog", "Feature", "PersonalTokens"]

_HOMES: Final = {
    "Administration": ".administration.feature",
    "AuditLog": ".audit_log.feature",
    "Feature": ".feature",
    "PersonalTokens": ".personal_tokens.feature",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(import_module(_HOMES[name], __name__), name))
