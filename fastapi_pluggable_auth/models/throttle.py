"""Counters of attempts."""

from __future__ import annotations

from tortoise import Model, fields

from .moments import MomentField
from .outward import Outward


class AbstractThrottle(Outward, Model):
    """How often something was tried. The key is a digest of what is tried and on what; `version` orders
    writers.

    `holder` is the digest of the name that has one of the rows which names without an account share.
    """

    id = fields.CharField(max_length=64, primary_key=True)
    holder = fields.CharField(max_length=64, null=True)
    count = fields.IntField()
    started_at = MomentField()
    blocked_until = MomentField(db_index=True)
    details = fields.TextField(null=True)
    version = fields.BigIntField(default=0)

    class Meta:
        abstract = True


class Throttle(AbstractThrottle):
    """A counter of attempts."""

    class Meta:
        table = "auth_throttle"
