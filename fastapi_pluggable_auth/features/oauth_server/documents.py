"""Clients that are known by the address of a document (OAuth Client ID Metadata Document)."""

from __future__ import annotations

from ...auth import Auth
from .models import AbstractOAuthClient


async def client_of_document(auth: Auth, client_id: str) -> AbstractOAuthClient | None:
    """The client that the document at this address describes; None where there is no valid one. The row is
    its cache."""
    raise NotImplementedError
