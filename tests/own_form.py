"""A host's user with a field of each kind that a page can ask for."""

from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import EmailStr, Field, field_validator
from tortoise import fields

from fastapi_pluggable_auth.models import AbstractUser, UsernameField, tables_for
from fastapi_pluggable_auth.schemas import NotStored, ProfileUpdate, Text, UserCreate, Username


class Plan(StrEnum):
    FREE = "free"
    TEAM = "team"


def _reference() -> str:
    return uuid4().hex


class Customer(AbstractUser):
    username = UsernameField()
    company = fields.CharField(max_length=20)
    plan = fields.CharEnumField(Plan)
    seats = fields.IntField()
    rate = fields.DecimalField(max_digits=6, decimal_places=2, null=True)
    born_on = fields.DateField(null=True)
    phone = fields.CharField(max_length=20, null=True, unique=True)
    invoices = fields.CharField(max_length=99, default="")
    about = fields.TextField(default="")
    country = fields.CharField(max_length=2, default="DE")
    news = fields.BooleanField(default=False)
    reference = fields.CharField(max_length=32, unique=True, default=_reference)

    class Meta:
        table = "customer"


class NewCustomer(UserCreate):
    username: Username
    company: Annotated[
        Text,
        Field(title="Company name", description="As on your invoices.", examples=["Engines"], min_length=2),
    ]
    plan: Plan
    seats: Annotated[int, Field(ge=1, le=50)]
    rate: Decimal | None = None
    born_on: date | None = None
    phone: Annotated[Text, Field(pattern="^[0-9 ]+$")] | None = None
    invoices: EmailStr | Literal[""] = ""
    about: Text = ""
    country: Literal["DE", "AT"] = "DE"
    news: bool = True
    terms: Annotated[Literal[True], Field(title="I accept the <terms>"), NotStored]
    tags: Annotated[list[str], NotStored] = Field(default_factory=list)

    @field_validator("company")
    @classmethod
    def _real(cls, value: str) -> str:
        if value == "none":
            raise ValueError("We know no such company.")
        return value


class CustomerProfile(ProfileUpdate):
    company: Annotated[Text, Field(min_length=2)] | None = None
    plan: Plan | None = None
    seats: Annotated[int, Field(ge=1, le=50)] | None = None
    born_on: date | None = None
    phone: Text | None = None
    about: Text | None = None
    news: bool | None = None


__models__ = [*tables_for(Customer)]
