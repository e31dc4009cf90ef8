"""Generations of tokens, known devices, factors of sessions, what waits between two requests, where what is
pending was begun, and moments in UTC."""

from uuid import uuid4

from tortoise import fields
from tortoise.fields.base import OnDelete

from ..models import MomentField
from ._locks import LockTables
from ._moments import StoreMomentsInUtc
from ._records import Migration as PackageMigration
from ._tables import AddColumn, CreateTable


class Migration(PackageMigration):
    """Adds Device and Pending, and columns of User, Session and RefreshToken; converts moments."""

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.dependencies = [(app_label, "0005_audit")]
        self.operations = [
            LockTables(),
            CreateTable(
                name="Device",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("digest", fields.CharField(unique=True, max_length=64)),
                    ("session_id", fields.UUIDField(null=True, db_index=True)),
                    ("user_agent", fields.CharField(default="", max_length=255)),
                    ("expires_at", MomentField(db_index=True)),
                    ("last_used_at", MomentField()),
                    ("created_at", MomentField(auto_now_add=True)),
                    (
                        "user",
                        fields.ForeignKeyField(
                            f"{app_label}.User",
                            source_field="user_id",
                            db_index=True,
                            db_constraint=True,
                            to_field="id",
                            related_name="auth_devices",
                            on_delete=OnDelete.CASCADE,
                        ),
                    ),
                ],
                options={
                    "table": "auth_device",
                    "pk_attr": "id",
                    "table_description": "A device that a `User` has signed in with.",
                },
                bases=["AbstractDevice"],
            ),
            CreateTable(
                name="Pending",
                fields=[
                    (
                        "id",
                        fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                    ),
                    ("kind", fields.CharField(max_length=32)),
                    ("binding", fields.CharField(null=True, max_length=64)),
                    ("data", fields.TextField()),
                    ("attempts", fields.IntField(default=0)),
                    ("expires_at", MomentField(db_index=True)),
                    ("spent_at", MomentField(null=True)),
                    (
                        "user",
                        fields.ForeignKeyField(
                            f"{app_label}.User",
                            source_field="user_id",
                            null=True,
                            db_index=True,
                            db_constraint=True,
                            to_field="id",
                            related_name="auth_pending",
                            on_delete=OnDelete.CASCADE,
                        ),
                    ),
                ],
                options={
                    "table": "auth_pending",
                    "pk_attr": "id",
                    "table_description": "What waits for a `User`, or for somebody who has yet to sign in.",
                },
                bases=["AbstractPending"],
            ),
            AddColumn("Throttle", "holder", fields.CharField(null=True, max_length=64)),
            AddColumn("Throttle", "details", fields.TextField(null=True)),
            AddColumn("User", "rehash_note", fields.CharField(null=True, max_length=64)),
            AddColumn("User", "signup_binding", fields.CharField(null=True, max_length=64)),
            AddColumn("User", "pending_email_session", fields.UUIDField(null=True)),
            AddColumn("User", "totp_pending_session", fields.UUIDField(null=True)),
            AddColumn("User", "access_epoch", fields.IntField(default=0, db_default=0)),
            AddColumn("User", "sessions_opened", fields.IntField(null=True)),
            AddColumn("User", "verified_at", MomentField(null=True)),
            AddColumn("Session", "begun_in", fields.UUIDField(null=True, db_index=True)),
            AddColumn("Session", "confirmed_gen", fields.IntField(default=0, db_default=0)),
            AddColumn("Session", "superseded", fields.CharField(default="", db_default="", max_length=1024)),
            AddColumn("Session", "factors", fields.CharField(default="", db_default="", max_length=255)),
            AddColumn("RefreshToken", "gen", fields.IntField(default=0, db_default=0)),
            AddColumn("RefreshToken", "superseded", fields.BooleanField(default=False, db_default=False)),
            StoreMomentsInUtc(),
        ]
