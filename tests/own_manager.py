"""A host's user that is deleted by a mark, and hidden by the model's own manager from then on."""

from contextvars import ContextVar

from tortoise import fields
from tortoise.manager import Manager
from tortoise.queryset import QuerySet

from fastapi_pluggable_auth.models import AbstractUser, UsernameField, tables_for

tenant: ContextVar[str] = ContextVar("tenant", default="north")


class Kept(Manager):
    """Those of this tenant that are not deleted."""

    def get_queryset(self) -> QuerySet["Guest"]:
        return super().get_queryset().filter(is_deleted=False, tenant=tenant.get())


class Guest(AbstractUser):
    username = UsernameField()
    is_deleted = fields.BooleanField(default=False)
    tenant = fields.CharField(max_length=10, default="north")

    class Meta:
        table = "guest"
        manager = Kept()


__models__ = [*tables_for(Guest)]
