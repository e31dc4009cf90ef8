"""The audit log, and sessions in which an administrator acts as the user."""

from tortoise import fields
from tortoise.indexes import Index

from ..features.audit_log.models import new_event_id
from ..models import MomentField
from ._locks import LockTables
from ._records import Migration as PackageMigration
from ._tables import AddColumn, CreateTable


class Migration(PackageMigration):
    """Adds AuditEvent, and a column of Session."""

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.dependencies = [(app_label, "0004_authorization")]
        self.operations = [
            LockTables(),
            CreateTable(
                name="AuditEvent",
                fields=[
                    (
                        "id",
                        fields.UUIDField(primary_key=True, default=new_event_id, unique=True, db_index=True),
                    ),
                    ("time", MomentField()),
                    ("user_id", fields.UUIDField()),
                    ("actor_id", fields.UUIDField(null=True, db_index=True)),
                    ("session_id", fields.UUIDField(null=True)),
                    ("kind", fields.CharField(max_length=32)),
                    ("outcome", fields.CharField(max_length=16)),
                    ("reason", fields.CharField(null=True, max_length=64)),
                    ("factors", fields.CharField(default="", max_length=32)),
                    ("address", fields.CharField(default="", max_length=45)),
                    ("user_agent", fields.CharField(default="", max_length=255)),
                ],
                options={
                    "table": "auth_audit_event",
                    "indexes": [Index(fields=["user_id", "id"])],
                    "pk_attr": "id",
                    "table_description": "A security event that is kept.",
                },
                bases=["AbstractAuditEvent"],
            ),
            AddColumn("Session", "impersonated_by", fields.UUIDField(null=True, db_index=True)),
        ]
