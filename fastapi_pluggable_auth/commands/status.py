"""`status`: how the app is doing, as far as its database and its settings tell."""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from tortoise.migrations.recorder import MigrationRecorder

from ..auth import Auth
from ..flows.guesses import count_slowed
from .database import SHIPPED_MIGRATIONS, add_database, migrations_folder, with_auth
from .output import add_json, plain


def add_to(parser: argparse.ArgumentParser) -> None:
    """Fills in the parser of the command."""
    add_database(parser)
    add_json(parser, "as an object")
    parser.set_defaults(run=lambda options: with_auth(options, partial(_status, options)))


async def _status(options: argparse.Namespace, auth: Auth) -> int:
    slowed = await count_slowed(auth)
    settings = auth.settings
    status = {
        "outbox": await _outbox(auth),
        # The queue itself is in the memory of each worker.
        "hashing": {
            "threads_per_worker": settings.hashing_threads or os.cpu_count() or 1,
            "queue_size_per_worker": settings.hashing_queue_size,
        },
        "limits": {"waiting": slowed.waiting, "locked": slowed.locked},
        "migrations": await _migrations(options.database_url, auth),
    }
    if options.json:
        print(json.dumps(status))
        return 0
    for part, values in status.items():
        for name, value in values.items():
            shown = " ".join(value) if isinstance(value, list) else value
            print(f"{part:<10}  {name.replace('_', ' '):<21}  {'-' if shown in (None, '') else shown}")
    return 0


async def _outbox(auth: Auth) -> dict[str, Any]:
    figures = await auth.outbox.figures()
    return {
        "waiting": figures.waiting,
        "under_way": figures.under_way,
        "failed": figures.dead,
        "oldest": plain(figures.oldest),
    }


async def _migrations(where: str, auth: Auth) -> dict[str, list[str]]:
    """Those of the package by name, under whatever label. Tables that `generate_schemas` made have none."""
    meta = auth.tables.user._meta
    folder = migrations_folder(where, auth.tables.user) or SHIPPED_MIGRATIONS
    recorded = await MigrationRecorder(meta.db).applied_migrations()
    applied = {key.name for key in recorded if folder == SHIPPED_MIGRATIONS or key.app_label == meta.app}
    names = sorted(
        each.name for each in iter_modules(import_module(folder).__path__) if each.name[:1].isdigit()
    )
    return {
        "applied": [name for name in names if name in applied],
        "missing": [name for name in names if name not in applied],
    }
