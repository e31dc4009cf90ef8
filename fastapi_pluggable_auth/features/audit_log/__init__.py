"""The audit log: what happens to accounts, kept in the database to be read."""
