"""A host's user with a column of every type."""

from enum import IntEnum, StrEnum
from typing import Any

from tortoise import fields

from fastapi_pluggable_auth.models import AbstractUser, tables_for


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Plan(IntEnum):
    FREE = 1
    PAID = 2


class Member(AbstractUser):
    text = fields.TextField(default="")
    short = fields.CharField(max_length=5, default="")
    small = fields.SmallIntField(default=0)
    big = fields.BigIntField(default=0)
    price = fields.DecimalField(max_digits=6, decimal_places=2, default=0)
    ratio = fields.FloatField(default=0)
    news = fields.BooleanField(default=False)
    colour = fields.CharEnumField(Colour, default=Colour.RED)
    plan = fields.IntEnumField(Plan, default=Plan.FREE)
    born_on = fields.DateField(null=True)
    key = fields.UUIDField(null=True)
    options = fields.JSONField[dict[str, Any]](default=dict)

    class Meta:
        table = "member"


__models__ = [*tables_for(Member)]
