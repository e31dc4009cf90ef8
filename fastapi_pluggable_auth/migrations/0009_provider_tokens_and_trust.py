"""Tokens of providers, and since when a device is trusted."""

from tortoise import fields

from ..models import MomentField
from ._locks import LockTables
from ._records import Migration as PackageMigration
from ._tables import AddColumn


class Migration(PackageMigration):
    """Adds columns of Identity and of Device."""

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.dependencies = [(app_label, "0008_identities")]
        self.operations = [
            LockTables(),
            AddColumn("Identity", "tokens", fields.TextField(null=True)),
            AddColumn("Identity", "renewing_until", MomentField(null=True)),
            AddColumn("Device", "trusted_at", MomentField(null=True)),
        ]
