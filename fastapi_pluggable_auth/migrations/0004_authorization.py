"""Roles and permissions of users, and personal access tokens."""

from uuid import uuid4

from tortoise import fields
from tortoise.fields.base import OnDelete

from ..models import MomentField, NamesField
from ._locks import LockTables
from ._records import Migration as PackageMigration
from ._tables import AddColumn, CreateTable


class Migration(PackageMigration):
    """Adds columns to User, and PersonalToken."""

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.dependencies = [(app_label, "0003_sessions_mails_two_factor")]
        self.operations = [
            LockTables(),
            AddColumn("User", "is_superuser", fields.BooleanField(default=False, db_default=False)),
            AddColumn("User", "roles", NamesField(default=frozenset, db_default="", max_length=1024)),
            AddColumn("User", "permissions", NamesField(default=frozenset, db_default="", max_length=1024)),
            CreateTable(
                name="PersonalToken",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("name", fields.CharField(max_length=64)),
                    ("digest", fields.CharField(unique=True, max_length=64)),
                    ("scopes", NamesField(default=frozenset, db_default="", max_length=1024)),
                    ("expires_at", MomentField(null=True, db_index=True)),
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
                            related_name="auth_personal_tokens",
                            on_delete=OnDelete.CASCADE,
                        ),
                    ),
                ],
                options={
                    "table": "auth_personal_token",
                    "pk_attr": "id",
                    "table_description": "A personal access token of a `User`.",
                },
                bases=["AbstractPersonalToken"],
            ),
        ]
