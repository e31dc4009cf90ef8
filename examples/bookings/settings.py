"""Where the tables are, for the app and for `tortoise migrate`."""

import os

DATABASE_URL = os.environ.get("DATABASE_URL", "postgres://postgres@localhost:5432/bookings")
TORTOISE_ORM = {
    "connections": {"default": DATABASE_URL},
    "apps": {"app": {"models": ["models"], "migrations": "migrations"}},
}
