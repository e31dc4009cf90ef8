"""Where the tables are, for the app and for `tortoise migrate`."""

import os

TORTOISE_ORM = {
    "connections": {"default": os.environ["DATABASE_URL"]},
    "apps": {
        "auth": {
            "models": ["fastapi_pluggable_auth.models"],
            "migrations": "fastapi_pluggable_auth.migrations",
        },
    },
}
