"""An index for those who count dead mails, list mails by state, and delete old ones."""

from ._indexes import IndexColumns
from ._locks import LockTables
from ._records import Migration as PackageMigration


class Migration(PackageMigration):
    """Adds an index of Mail."""

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.dependencies = [(app_label, "0010_search_indexes")]
        self.operations = [
            LockTables("Mail", mode="SHARE"),
            IndexColumns("Mail", "state", "created_at"),
        ]
