"""The tables of 0.1, with the columns of today. Who has them already records this step by `--fake`."""

from uuid import uuid4

from tortoise import fields
from tortoise.fields.base import OnDelete

from ..models import EmailField, MomentField, TokenDigestField, TotpSecretField
from ..security.jwt import new_token_id
from ._locks import LockTables
from ._records import Migration as PackageMigration
from ._tables import CreateTable


class Migration(PackageMigration):
    """Creates User and RefreshToken."""

    initial = True

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.operations = [
            LockTables(),
            CreateTable(
                name="User",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("email", EmailField(unique=True)),
                    ("hashed_password", fields.CharField(max_length=255)),
                    ("is_active", fields.BooleanField(default=True)),
                    ("is_verified", fields.BooleanField(default=False)),
                    ("display_name", fields.CharField(null=True, max_length=64)),
                    ("totp_secret", TotpSecretField(null=True)),
                    ("created_at", MomentField(auto_now_add=True, db_index=True)),
                ],
                options={"table": "user", "pk_attr": "id", "table_description": "An account."},
                bases=["AbstractUser"],
            ),
            CreateTable(
                name="RefreshToken",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("token", TokenDigestField(unique=True)),
                    ("jti", fields.CharField(default=new_token_id, unique=True, max_length=36)),
                    ("expires_at", MomentField(db_index=True)),
                    ("revoked", fields.BooleanField(default=False)),
                    ("created_at", MomentField(auto_now_add=True)),
                    (
                        "user",
                        fields.ForeignKeyField(
                            f"{app_label}.User",
                            source_field="user_id",
                            db_index=True,
                            db_constraint=True,
                            to_field="id",
                            related_name="refresh_tokens",
                            on_delete=OnDelete.CASCADE,
                        ),
                    ),
                ],
                options={
                    "table": "refreshtoken",
                    "pk_attr": "id",
                    "table_description": "A refresh token of a `User`.",
                },
                bases=["AbstractRefreshToken"],
            ),
        ]
