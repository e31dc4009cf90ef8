"""Where the tables are, for the app and for `tortoise migrate`."""

import os

TORTOISE_ORM = {
    "connections": {"default": os.environ.get("DATABASE_URL", "sqlite://app.sqlite3")},
    "apps": {"app": {"models": ["models"], "migrations": "migrations"}},
}
