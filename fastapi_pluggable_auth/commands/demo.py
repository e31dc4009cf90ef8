"""`demo`: serves the whole product on a SQLite file."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from ..config import is_local
from ..demo import ADMINISTRATOR, demo_app
from ..routes.pages.rendering import MAILBOX
from .database import connected
from .faults import CommandError, valid_settings

DEMO_DATABASE: Final = "pluggable-auth-demo.sqlite3"

WALK_THROUGH: Final = """
  {base}/        what there is to see
  {base}/docs    every route as JSON

Create an account, open the link that is mailed to you, and sign in. {mails}
Sign in as {administrator} with the password {password} to see the administration.
The accounts are kept in {database}. Press Ctrl-C to stop.
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Fills in the parser of the command."""
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="HOST", help="address to listen on (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=_port, default=8000, metavar="PORT", help="port; 0 takes a free one (default: 8000)"
    )
    parser.set_defaults(run=lambda options: _demo(options.host, options.port))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def _demo(host: str, port: int) -> int:
    try:
        import uvicorn
    except ImportError as error:
        raise CommandError("The demo needs uvicorn: pip install 'fastapi-pluggable-auth[demo]'") from error
    database = Path.cwd() / DEMO_DATABASE
    with _listening(host, port) as listener, _without_warnings():
        port = listener.getsockname()[1]
        base_url = f"http://{_name_of(host)}:{port}"
        try:
            with valid_settings():
                app = demo_app(database, base_url)
        except ImportError as error:
            raise CommandError("The demo needs fido2: pip install 'fastapi-pluggable-auth[demo]'") from error
        if database.exists():
            asyncio.run(_require_own_tables(database, app))

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                _tell(base_url, database, app)

        with suppress(KeyboardInterrupt):
            Server(uvicorn.Config(app, log_level="warning")).run([listener])
    return 0


def _name_of(host: str) -> str:
    """As browsers write it; they have passkeys for names only."""
    if host == "127.0.0.1":
        return "localhost"
    return f"[{host}]" if ":" in host else host


@contextmanager
def _without_warnings() -> Iterator[None]:
    """A newcomer need not be warned that the demo is no production."""
    logger = logging.getLogger("fastapi_pluggable_auth")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _listening(host: str, port: int) -> socket.socket:
    """Taken before anything else is done. Raises `CommandError`."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sentence = f"Port {port} of {host} is taken: stop what listens there, or pass another --port."
        elif error.errno == errno.EACCES:
            sentence = f"You may not listen on port {port}: pass a --port above 1023."
        else:
            sentence = f"There is no listening on port {port} of {host}: pass another --host or --port."
        raise CommandError(sentence) from error


async def _require_own_tables(database: Path, app: FastAPI) -> None:
    """Raises `CommandError` for a file that another version has made."""
    try:
        async with connected(f"sqlite://{database}", app.state.pluggable_auth):
            pass
    except CommandError as error:
        raise CommandError(
            f"{database.name} is not of this version of the demo: delete it, or start elsewhere."
        ) from error


def _tell(base_url: str, database: Path, app: FastAPI) -> None:
    mails = f"Your mails are at {base_url}{MAILBOX}" if is_local(base_url) else "Mails are printed here."
    told = WALK_THROUGH.format(
        base=base_url,
        mails=mails,
        administrator=ADMINISTRATOR,
        password=app.state.administrator_password,
        database=database.name,
    )
    print(told, flush=True)
