"""Passkeys, and which second factors a user has beside an authenticator app."""

from uuid import uuid4

from tortoise import fields
from tortoise.fields.base import OnDelete

from ..models import MomentField
from ..models.columns import NamesField
from ._locks import LockTables
from ._records import Migration as PackageMigration
from ._tables import AddColumn, CreateTable


class Migration(PackageMigration):
    """Adds Passkey, and a column of User."""

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.dependencies = [(app_label, "0006_generations_and_devices")]
        self.operations = [
            LockTables(),
            AddColumn("User", "second_factors", NamesField(default=frozenset, db_default="", max_length=255)),
            CreateTable(
                name="Passkey",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("digest", fields.CharField(unique=True, max_length=64)),
                    ("credential_id", fields.CharField(max_length=1364)),
                    ("public_key", fields.TextField()),
                    ("counter", fields.BigIntField(default=0)),
                    ("transports", NamesField(default=frozenset, db_default="", max_length=255)),
                    ("aaguid", fields.UUIDField()),
                    ("backup_eligible", fields.BooleanField()),
                    ("backed_up", fields.BooleanField()),
                    ("discoverable", fields.BooleanField(null=True)),
                    ("verifies_user", fields.BooleanField()),
                    ("held_since", MomentField(null=True)),
                    ("name", fields.CharField(max_length=64)),
                    ("last_used_at", MomentField(null=True)),
                    ("created_at", MomentField(auto_now_add=True)),
                    (
                        "user",
                        fields.ForeignKeyField(
                            f"{app_label}.User",
                            source_field="user_id",
                            db_index=True,
                            db_constraint=True,
                            to_field="id",
                            related_name="auth_passkeys",
                            on_delete=OnDelete.CASCADE,
                        ),
                    ),
                ],
                options={
                    "table": "auth_passkey",
                    "pk_attr": "id",
                    "table_description": "A passkey of a `User`.",
                },
                bases=["AbstractPasskey"],
            ),
        ]
