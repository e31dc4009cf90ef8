"""Whether all tables of an app are where one transaction writes them."""

from __future__ import annotations

from .._frameworks import routed_to
from .tables import Tables


def require_one_connection(tables: Tables) -> None:
    """Raises `RuntimeError` where one is in another database than the users, or a router of the host writes
    it elsewhere: a transaction is of one connection, that of the users. No router is asked where to read."""
    users = tables.user._meta
    for table in tables:
        meta = table._meta
        if meta.default_connection != users.default_connection:
            raise RuntimeError(
                f"{table.__name__} is in the database {meta.default_connection!r}, and {tables.user.__name__}"
                f" in {users.default_connection!r}: give the label {meta.app!r} the `default_connection` of"
                f" the label {users.app!r}, as one transaction writes both."
            )
        written = routed_to(table, "db_for_write")
        if written not in (None, meta.default_connection):
            raise RuntimeError(
                f"A router of Tortoise writes {table.__name__} by {written!r}: accounts are read and written"
                f" by {meta.default_connection!r}, the `default_connection` of the label {meta.app!r}. Make"
                f" {written!r} that, or let the router return None for the models in `auth.tables`."
            )
