"""Where the tables are, for the app, for commands and for `tortoise migrate`."""

import os

ACCOUNTS = "fastapi_pluggable_auth"

TORTOISE_ORM = {
    "connections": {"default": os.environ.get("DATABASE_URL", "sqlite://app.sqlite3")},
    "apps": {
        "models": {"models": [f"{ACCOUNTS}.models"], "migrations": f"{ACCOUNTS}.migrations"},
        "invitations": {"models": ["invitations.tables"], "migrations": "invitations.migrations"},
    },
}
