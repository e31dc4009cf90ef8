"""Whether the tables of the package are read where they are written."""

from __future__ import annotations

from tortoise.router import router

from .tables import Tables


def require_one_connection(tables: Tables) -> None:
    """Raises `RuntimeError` where one is in another database than the users, or a router of the host sends
    it elsewhere. A replica lags behind: there, a session that has ended would live on; and a transaction is
    of one connection, that of the users."""
    users = tables.user._meta
    for table in tables:
        meta = table._meta
        if meta.default_connection != users.default_connection:
            raise RuntimeError(
                f"{table.__name__} is in the database {meta.default_connection!r}, and {tables.user.__name__}"
                f" in {users.default_connection!r}: give the label {meta.app!r} the `default_connection` of"
                f" the label {users.app!r}, as one transaction writes both."
            )
        for does, client in (("reads", router.db_for_read(table)), ("writes", router.db_for_write(table))):
            if client is not None and client.connection_name != meta.default_connection:
                raise RuntimeError(
                    f"A router of Tortoise {does} {table.__name__} by {client.connection_name!r}: accounts "
                    f"are read and written by {meta.default_connection!r}, the `default_connection` of the "
                    f"label {meta.app!r}. Let the router return None for the models in `auth.tables`."
                )
