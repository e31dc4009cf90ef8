"""The tables and columns that 0.2 adds."""

import functools
from json import dumps, loads
from typing import Any
from uuid import uuid4

from tortoise import fields
from tortoise.fields.base import OnDelete

from ..models import EmailField, MailState, MomentField
from ._locks import LockTables
from ._records import Migration as PackageMigration
from ._rows import ConfirmTwoFactor
from ._tables import AddColumn, AlignTable, CreateTable


class Migration(PackageMigration):
    """Aligns the tables of 0.1, and adds Session, Mail, RecoveryCode, Throttle and columns."""

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.dependencies = [(app_label, "0002_refresh_token_digests")]
        user = f"{app_label}.User"
        self.operations = [
            LockTables(),
            AlignTable("User"),
            AlignTable("RefreshToken"),
            CreateTable(
                name="Throttle",
                fields=[
                    (
                        "id",
                        fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                    ),
                    ("count", fields.IntField()),
                    ("started_at", MomentField()),
                    ("blocked_until", MomentField(db_index=True)),
                    ("version", fields.BigIntField(default=0)),
                ],
                options={
                    "table": "auth_throttle",
                    "pk_attr": "id",
                    "table_description": "A counter of attempts.",
                },
                bases=["AbstractThrottle"],
            ),
            CreateTable(
                name="Session",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("authenticated_at", MomentField()),
                    ("expires_at", MomentField(db_index=True)),
                    ("revoked_at", MomentField(null=True)),
                    ("user_agent", fields.CharField(default="", max_length=255)),
                    ("address", fields.CharField(default="", max_length=45)),
                    ("created_at", MomentField(auto_now_add=True)),
                    ("user", _owner(user, "auth_sessions")),
                ],
                options={
                    "table": "auth_session",
                    "pk_attr": "id",
                    "table_description": "A sign-in of a `User`.",
                },
                bases=["AbstractSession"],
            ),
            CreateTable(
                name="Mail",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("kind", fields.CharField(max_length=32)),
                    ("recipient", EmailField()),
                    (
                        "context",
                        fields.JSONField(
                            default=dict,
                            encoder=functools.partial(dumps, separators=(",", ":")),
                            decoder=loads,
                        ),
                    ),
                    (
                        "state",
                        fields.CharEnumField(
                            enum_type=MailState,
                            default=MailState.WAITING,
                            description="WAITING: waiting\nSENDING: sending\nHANDED_OVER: handed_over\n"
                            "SENT: sent\nDEAD: dead",
                            max_length=16,
                        ),
                    ),
                    ("attempts", fields.IntField(default=0)),
                    ("next_attempt_at", MomentField(null=True, db_index=True)),
                    ("give_up_at", MomentField()),
                    ("sent_at", MomentField(null=True)),
                    ("last_error", fields.CharField(default="", max_length=255)),
                    ("created_at", MomentField(auto_now_add=True)),
                    ("user", _owner(user, "auth_mails", null=True)),
                ],
                options={
                    "table": "auth_mail",
                    "pk_attr": "id",
                    "table_description": "A mail to or about a `User`.",
                },
                bases=["AbstractMail"],
            ),
            CreateTable(
                name="RecoveryCode",
                fields=[
                    ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                    ("digest", fields.CharField(unique=True, max_length=64)),
                    ("created_at", MomentField(auto_now_add=True)),
                    ("user", _owner(user, "auth_recovery_codes")),
                ],
                options={
                    "table": "auth_recovery_code",
                    "pk_attr": "id",
                    "table_description": "A recovery code of a `User`.",
                },
                bases=["AbstractRecoveryCode"],
            ),
            AddColumn("User", "pending_email", EmailField(null=True)),
            AddColumn("User", "totp_confirmed", fields.BooleanField(default=False, db_default=False)),
            ConfirmTwoFactor(),
            AddColumn("User", "totp_last_step", fields.BigIntField(null=True)),
            AddColumn("User", "totp_enrolled_at", MomentField(null=True)),
            AddColumn("User", "recovery_codes_at", MomentField(null=True)),
            AddColumn(
                "User", "password_reset_required", fields.BooleanField(default=False, db_default=False)
            ),
            AddColumn("User", "language", fields.CharField(null=True, max_length=35)),
            AddColumn("User", "password_changed_at", MomentField(null=True)),
            AddColumn("User", "last_login_at", MomentField(null=True)),
            AddColumn("RefreshToken", "rotated_at", MomentField(null=True)),
            AddColumn("RefreshToken", "replaced_by", fields.CharField(null=True, max_length=36)),
            AddColumn(
                "RefreshToken",
                "session",
                fields.ForeignKeyField(
                    f"{app_label}.Session",
                    source_field="session_id",
                    null=True,
                    db_index=True,
                    db_constraint=True,
                    to_field="id",
                    related_name="refresh_tokens",
                    on_delete=OnDelete.CASCADE,
                ),
            ),
        ]


def _owner(user: str, related_name: str, *, null: bool = False) -> Any:
    return fields.ForeignKeyField(  # type: ignore[call-overload]  # no literal
        user,
        source_field="user_id",
        null=null,
        db_index=True,
        db_constraint=True,
        to_field="id",
        related_name=related_name,
        on_delete=OnDelete.CASCADE,
    )
