"""The rest of the OAuth server: registration, devices, and clients that act for themselves."""

from typing import Any
from uuid import uuid4

from tortoise import fields
from tortoise.fields.base import OnDelete

from ..models import MomentField, NamesField
from ._locks import LockTables
from ._records import Migration as PackageMigration
from ._tables import AddColumn, CreateTable

CODE = frozenset({"authorization_code"})


class Migration(PackageMigration):
    """Adds OAuthDevice, OAuthClientToken and columns of OAuthClient."""

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.dependencies = [(app_label, "0012_oauth_server")]

        def reference(model: str, column: str, related_name: str, **options: Any) -> Any:
            return fields.ForeignKeyField(
                f"{app_label}.{model}",
                source_field=column,
                db_index=True,
                db_constraint=True,
                to_field="id",
                related_name=related_name,
                on_delete=OnDelete.CASCADE,
                **options,
            )

        by_code = NamesField(default=lambda: CODE, db_default=" authorization_code ", max_length=1024)
        after_logout = NamesField(default=frozenset, db_default="", max_length=4096)
        self.operations = [
            LockTables("OAuthClient"),
            AddColumn("OAuthClient", "grant_types", by_code),
            AddColumn("OAuthClient", "post_logout_redirect_uris", after_logout),
            AddColumn("OAuthClient", "registration_digest", fields.CharField(null=True, max_length=64)),
            CreateTable(
                name="OAuthDevice",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("digest", fields.CharField(unique=True, max_length=64)),
                    ("user_code_digest", fields.CharField(unique=True, max_length=64)),
                    ("scopes", NamesField(default=frozenset, db_default="", max_length=1024)),
                    ("resources", NamesField(default=frozenset, db_default="", max_length=4096)),
                    ("interval", fields.IntField(default=5)),
                    ("asked_at", MomentField(null=True)),
                    ("allowed_at", MomentField(null=True)),
                    ("denied_at", MomentField(null=True)),
                    ("expires_at", MomentField(db_index=True)),
                    ("created_at", MomentField(auto_now_add=True)),
                    ("user", reference("User", "user_id", "auth_oauth_devices", null=True)),
                    ("client", reference("OAuthClient", "client_id", "auth_oauth_devices")),
                ],
                options={
                    "table": "auth_oauth_device",
                    "pk_attr": "id",
                    "table_description": "A device that waits until a `User` allows it something.",
                },
                bases=["AbstractOAuthDevice"],
            ),
            CreateTable(
                name="OAuthClientToken",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("digest", fields.CharField(unique=True, max_length=64)),
                    ("scopes", NamesField(default=frozenset, db_default="", max_length=1024)),
                    ("resources", NamesField(default=frozenset, db_default="", max_length=4096)),
                    ("expires_at", MomentField(db_index=True)),
                    ("created_at", MomentField(auto_now_add=True)),
                    ("client", reference("OAuthClient", "client_id", "auth_client_tokens")),
                ],
                options={
                    "table": "auth_oauth_client_token",
                    "pk_attr": "id",
                    "table_description": "An access token by which a client acts for itself.",
                },
                bases=["AbstractOAuthClientToken"],
            ),
        ]
