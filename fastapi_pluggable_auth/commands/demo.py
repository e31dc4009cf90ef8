"""`demo`: serves the whole product on a SQLite file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from ..config import is_local
from ..demo import demo_app
from ..routes.pages.rendering import MAILBOX
from .faults import valid_settings

DEMO_DATABASE: Final = "pluggable-auth-demo.sqlite3"

WALK_THROUGH: Final = """
  {base}/        sign up and in: the account pages
  {base}/docs    every route as JSON, with an "Authorize" button
  {base}/hello   an example route that needs a login

Create an account, open the link that is mailed to you, and sign in. {mails}
The accounts are kept in {database}. Press Ctrl-C to stop.
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Fills in the parser of the command."""
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.set_defaults(run=lambda options: _demo(options.host, options.port))


def _demo(host: str, port: int) -> int:
    try:
        import uvicorn
    except ImportError:
        print("The demo needs uvicorn: pip install 'fastapi-pluggable-auth[demo]'", file=sys.stderr)
        return 1
    database = Path.cwd() / DEMO_DATABASE
    base_url = f"http://{host}:{port}"
    mails = f"Your mails are at {base_url}{MAILBOX}" if is_local(base_url) else "Mails are printed here."
    print(WALK_THROUGH.format(base=base_url, mails=mails, database=database.name), flush=True)
    with valid_settings():
        app = demo_app(database, base_url)
    uvicorn.run(app, host=host, port=port, log_level="warning")
    return 0
