"""Ids in paths and forms, of which any text is one that nothing has."""

from __future__ import annotations

from uuid import UUID

from ..errors import AuthError, ErrorTable


def id_from(text: str, missing: ErrorTable) -> UUID:
    """The id; raises `AuthError` with the code for what is not there, where the text is not one."""
    try:
        return UUID(text)
    except ValueError as error:
        raise AuthError(missing) from error
