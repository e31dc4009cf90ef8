"""The migrations of the package's tables, for `tortoise migrate`, under any app label:

"auth": {"models": ["fastapi_pluggable_auth.models"], "migrations": "fastapi_pluggable_auth.migrations"}
"""

from ._moments import StoreMomentsInUtc

__all__ = ["StoreMomentsInUtc"]
