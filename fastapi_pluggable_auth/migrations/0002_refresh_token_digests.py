"""What rows of 0.1 hold becomes what is looked up today. No step of it locks a table or is done twice."""

from ._locks import LockTables
from ._records import Migration as PackageMigration
from ._rows import DigestRefreshTokens, LowerCaseAddresses


class Migration(PackageMigration):
    """Lower-cases addresses and digests refresh tokens, in batches that are committed one by one."""

    atomic = False

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        self.dependencies = [(app_label, "0001_initial")]
        self.operations = [LockTables(), LowerCaseAddresses(), DigestRefreshTokens()]
