"""The tables of the features of the package, which every database has: one chain of migrations makes them."""

from __future__ import annotations

from typing import Final

from tortoise import Model

from .audit import AuditEvent
from .personal_token import PersonalToken
from .recovery_code import RecoveryCode

TABLES: Final[tuple[type[Model], ...]] = (RecoveryCode, PersonalToken, AuditEvent)
"""Whether or not an app has the feature."""
