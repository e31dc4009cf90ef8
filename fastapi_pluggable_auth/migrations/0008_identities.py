"""Identities at other providers."""

from uuid import uuid4

from tortoise import fields
from tortoise.fields.base import OnDelete

from ..models import MomentField
from ..models.columns import EmailField
from ._locks import LockTables
from ._records import Migration as PackageMigration
from ._tables import CreateTable


class Migration(PackageMigration):
    """Adds Identity."""

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.dependencies = [(app_label, "0007_passkeys")]
        self.operations = [
            LockTables(),
            CreateTable(
                name="Identity",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("provider", fields.CharField(max_length=32)),
                    ("issuer", fields.CharField(max_length=255)),
                    ("subject", fields.CharField(max_length=255)),
                    ("digest", fields.CharField(unique=True, max_length=64)),
                    ("email", EmailField(null=True)),
                    ("vouched", fields.BooleanField(default=False)),
                    ("held_since", MomentField(null=True)),
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
                            related_name="auth_identities",
                            on_delete=OnDelete.CASCADE,
                        ),
                    ),
                ],
                options={
                    "table": "auth_identity",
                    "pk_attr": "id",
                    "table_description": "An identity of a `User`.",
                },
                bases=["AbstractIdentity"],
            ),
        ]
