# ruff: noqa: RUF012
"""As `makemigrations` writes it."""

from uuid import uuid4

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.migrations import operations as ops

from fastapi_pluggable_auth.models.moments import MomentField


class Migration(migrations.Migration):
    dependencies = [("models", "0013_devices_and_client_tokens")]

    initial = True

    operations = [
        ops.CreateModel(
            name="Door",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("name", fields.CharField(max_length=40)),
            ],
            options={
                "table": "door",
                "app": "doors",
                "pk_attr": "id",
                "table_description": "What passes are for.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Pass",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                ("digest", fields.CharField(unique=True, max_length=64)),
                ("session_id", fields.UUIDField(null=True)),
                ("expires_at", MomentField(db_index=True, auto_now=False, auto_now_add=False)),
                (
                    "user",
                    fields.ForeignKeyField(
                        "models.User",
                        source_field="user_id",
                        db_index=True,
                        db_constraint=True,
                        to_field="id",
                        related_name="passes",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                (
                    "door",
                    fields.ForeignKeyField(
                        "doors.Door",
                        source_field="door_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name="passes",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
            ],
            options={
                "table": "door_pass",
                "app": "doors",
                "pk_attr": "id",
                "table_description": "A pass of a `User`.",
            },
            bases=["AbstractPass"],
        ),
    ]
