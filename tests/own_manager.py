"""A host's user that is deleted by a mark, and hidden by the model's own manager from then on."""

from contextvars import ContextVar

from tortoise import Model, fields
from tortoise.expressions import Q
from tortoise.manager import Manager
from tortoise.queryset import QuerySet

from fastapi_pluggable_auth.models import AbstractUser, UsernameField, tables_for

tenant: ContextVar[str] = ContextVar("tenant", default="north")


class Club(Model):
    id = fields.IntField(primary_key=True)
    closed = fields.BooleanField(default=False)


class Kept(Manager):
    """Those of this tenant that are not deleted, and whose clubs are not all closed, if they have any."""

    def get_queryset(self) -> QuerySet["Guest"]:
        kept = super().get_queryset().filter(is_deleted=False, tenant=tenant.get())
        return kept.filter(Q(clubs__id__isnull=True) | Q(clubs__closed=False)).distinct()


class Guest(AbstractUser):
    username = UsernameField()
    is_deleted = fields.BooleanField(default=False)
    tenant = fields.CharField(max_length=10, default="north")
    clubs: fields.ManyToManyRelation[Club] = fields.ManyToManyField(Club, related_name="sessions")

    class Meta:
        table = "guest"
        manager = Kept()


__models__ = [*tables_for(Guest), Club]
