"""The codes, as digests, and how long they live."""

from uuid import UUID, uuid4

from tortoise import Model, fields
from tortoise.expressions import Q

from fastapi_pluggable_auth.features import ALL_ACCESS, AccessEnded, Expired, MomentField
from fastapi_pluggable_auth.models import User


class Invitation(Model):
    id = fields.UUIDField(primary_key=True, default=uuid4)
    inviter: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(User, related_name="invitations")
    inviter_id: UUID
    digest = fields.CharField(max_length=64, unique=True)
    expires_at = MomentField(db_index=True)


EXPIRED = Expired(Invitation, lambda now, _: Q(expires_at__lt=now))
ACCESS_ENDED = AccessEnded(Invitation, ALL_ACCESS, user="inviter_id")

__models__ = [Invitation]  # without this line Tortoise would take the imported User as well
