"""Indexes for what administrators look for among many accounts."""

from ._indexes import IndexColumns, IndexParts
from ._locks import LockTables
from ._records import Migration as PackageMigration


class Migration(PackageMigration):
    """Adds indexes of User."""

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.dependencies = [(app_label, "0009_provider_tokens_and_trust")]
        self.operations = [
            LockTables("User", mode="SHARE"),
            IndexColumns("User", "is_active", "created_at"),
            IndexColumns("User", "is_verified", "created_at"),
            IndexParts(),
        ]
