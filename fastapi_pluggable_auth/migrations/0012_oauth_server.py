"""The OAuth server: clients, what users have allowed them, and their tokens."""

from typing import Any
from uuid import uuid4

from tortoise import fields
from tortoise.fields.base import OnDelete

from ..models import MomentField, NamesField
from ._locks import LockTables
from ._records import Migration as PackageMigration
from ._tables import CreateTable


class Migration(PackageMigration):
    """Adds OAuthClient, OAuthGrant and OAuthToken."""

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.dependencies = [(app_label, "0011_mail_states")]

        def reference(model: str, column: str, related_name: str) -> Any:
            return fields.ForeignKeyField(
                f"{app_label}.{model}",
                source_field=column,
                db_index=True,
                db_constraint=True,
                to_field="id",
                related_name=related_name,
                on_delete=OnDelete.CASCADE,
            )

        self.operations = [
            LockTables(),
            CreateTable(
                name="OAuthClient",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("client_id", fields.CharField(max_length=255)),
                    ("digest", fields.CharField(unique=True, max_length=64)),
                    ("name", fields.CharField(max_length=64)),
                    ("client_uri", fields.CharField(null=True, max_length=255)),
                    ("redirect_uris", NamesField(default=frozenset, db_default="", max_length=4096)),
                    ("scopes", NamesField(null=True, default=None, db_default=None, max_length=1024)),
                    ("secret_digest", fields.CharField(null=True, max_length=64)),
                    ("origin", fields.CharField(default="operator", max_length=16)),
                    ("fetched_at", MomentField(null=True)),
                    ("fresh_until", MomentField(null=True)),
                    ("disabled_at", MomentField(null=True)),
                    ("last_used_at", MomentField(null=True)),
                    ("created_at", MomentField(auto_now_add=True)),
                ],
                options={
                    "table": "auth_oauth_client",
                    "pk_attr": "id",
                    "table_description": "An application that users let in.",
                },
                bases=["AbstractOAuthClient"],
            ),
            CreateTable(
                name="OAuthGrant",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("scopes", NamesField(default=frozenset, db_default="", max_length=1024)),
                    ("resources", NamesField(default=frozenset, db_default="", max_length=4096)),
                    ("expires_at", MomentField(db_index=True)),
                    ("authorized_at", MomentField()),
                    ("last_used_at", MomentField(null=True)),
                    ("created_at", MomentField(auto_now_add=True)),
                    ("user", reference("User", "user_id", "auth_oauth_grants")),
                    ("client", reference("OAuthClient", "client_id", "auth_oauth_grants")),
                ],
                options={
                    "table": "auth_oauth_grant",
                    "pk_attr": "id",
                    "table_description": "What a `User` has allowed a client.",
                },
                bases=["AbstractOAuthGrant"],
            ),
            CreateTable(
                name="OAuthToken",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("kind", fields.CharField(max_length=8)),
                    ("digest", fields.CharField(unique=True, max_length=64)),
                    ("scopes", NamesField(default=frozenset, db_default="", max_length=1024)),
                    ("resources", NamesField(default=frozenset, db_default="", max_length=4096)),
                    ("details", fields.TextField(null=True, unique=False)),
                    ("parent", fields.CharField(null=True, db_index=True, max_length=64)),
                    ("attempt", fields.IntField(default=0)),
                    ("superseded", fields.BooleanField(default=False)),
                    ("expires_at", MomentField(db_index=True)),
                    ("spent_at", MomentField(null=True)),
                    ("used_at", MomentField(null=True)),
                    ("created_at", MomentField(auto_now_add=True)),
                    ("user", reference("User", "user_id", "auth_oauth_tokens")),
                    ("grant", reference("OAuthGrant", "grant_id", "auth_tokens")),
                ],
                options={
                    "table": "auth_oauth_token",
                    "pk_attr": "id",
                    "table_description": "A token by which a client acts for a `User`.",
                },
                bases=["AbstractOAuthToken"],
            ),
        ]
