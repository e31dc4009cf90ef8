"""As `makemigrations` writes it, and after the migrations of the accounts, which it does not know."""

from uuid import uuid4

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from fastapi_pluggable_auth.features import MomentField

INVITER = fields.ForeignKeyField(
    "models.User", source_field="inviter_id", to_field="id", related_name="invitations"
)
COLUMNS = [
    ("id", fields.UUIDField(primary_key=True, default=uuid4)),
    ("inviter", INVITER),
    ("digest", fields.CharField(max_length=64, unique=True)),
    ("expires_at", MomentField(db_index=True)),
]
OPTIONS = {"table": "invitation", "app": "invitations", "pk_attr": "id"}


class Migration(migrations.Migration):
    dependencies = [("models", "0013_devices_and_client_tokens")]  # noqa: RUF012
    initial = True
    operations = [ops.CreateModel("Invitation", COLUMNS, OPTIONS, ["Model"])]  # noqa: RUF012
