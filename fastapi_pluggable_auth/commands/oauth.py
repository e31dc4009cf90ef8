"""`oauth`: the clients of the OAuth server, and what clients see of it."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

from ..auth import Auth
from ..errors import AuthError
from .database import add_database, with_auth
from .faults import CommandError
from .options import add_command
from .output import add_json, plain, print_facts, print_looks, printable
from .prompts import confirm

# The clients are imported where they are used: what fetches their documents takes long to import.

Work: TypeAlias = Callable[[argparse.Namespace, Auth], Awaitable[int]]


def add_to(parser: argparse.ArgumentParser) -> None:
    """Fills in the parser of the command."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    clients = add_command(
        commands, "clients", "register applications that users may let in, list and delete them"
    )
    _add_clients(clients.add_subparsers(required=True, metavar="COMMAND"))
    checking = add_command(
        commands, "check", "look at an OAuth server as a client sees it, by a resource of it"
    )
    checking.add_argument("url", metavar="URL", help="the resource, such as https://app.example.com/mcp")
    checking.set_defaults(run=lambda options: asyncio.run(_check(options.url)))


def _add_clients(commands: Any) -> None:
    def command(name: str, purpose: str, work: Work) -> argparse.ArgumentParser:
        added = add_command(commands, name, purpose)
        added.set_defaults(run=partial(_run, work))
        return added

    create = command("create", "register a client", _create)
    create.add_argument("name", metavar="NAME", help="what users read when it asks them")
    create.add_argument(
        "--redirect-uri",
        action="append",
        default=[],
        dest="redirect_uris",
        metavar="URI",
        help="where its answers may go, which it needs for a code; may be repeated",
    )
    create.add_argument(
        "--post-logout-redirect-uri",
        action="append",
        default=[],
        dest="post_logout_redirect_uris",
        metavar="URI",
        help="where users may go whom it has signed out here (OpenID Connect); may be repeated",
    )
    create.add_argument(
        "--grant",
        action="append",
        choices=("code", "device", "client-credentials"),
        dest="grants",
        help="how it gets tokens: by a code in a browser (default), for a device without one, or for itself;"
        " may be repeated",
    )
    create.add_argument(
        "--scope",
        action="append",
        dest="scopes",
        metavar="SCOPE",
        help="what it may ask for at most (default: all scopes of the app); may be repeated",
    )
    kind = create.add_mutually_exclusive_group()
    kind.add_argument("--confidential", action="store_true", help="it has a server that keeps a secret")
    kind.add_argument(
        "--id",
        dest="client_id",
        metavar="URL",
        help="the address by which it names itself, where its document is not to be had",
    )
    add_json(create, "as an object")
    add_json(command("list", "list all clients, the newest first", _list))
    show = command("show", "show a client", _show)
    add_json(show, "as an object")
    rotate = command("rotate", "make a new secret in the place of the old one", _rotate)
    add_json(rotate, "as an object")
    remove = command("delete", "delete a client and all that users have allowed it", _delete)
    remove.add_argument("--yes", action="store_true", help="do not ask")
    for named in (show, rotate, remove):
        named.add_argument("client_id", metavar="CLIENT", help="the client id")
    for added in commands.choices.values():
        add_database(added)


def _run(work: Work, options: argparse.Namespace) -> int:
    async def refusable(auth: Auth) -> int:
        if "oauth_server" not in auth.features:
            raise CommandError(
                f"{options.app} has no OAuth server: name OAuthServer(...) among its features."
            )
        try:
            return await work(options, auth)
        except AuthError as error:
            raise CommandError(str(error)) from error

    return with_auth(options, refusable)


async def _create(options: argparse.Namespace, auth: Auth) -> int:
    from ..features.oauth_server.clients import create_client
    from ..features.oauth_server.models import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, DEVICE_CODE

    kinds = {
        "code": AUTHORIZATION_CODE,
        "device": DEVICE_CODE,
        "client-credentials": CLIENT_CREDENTIALS,
    }
    made = await create_client(
        auth,
        options.name,
        options.redirect_uris,
        options.scopes,
        confidential=options.confidential,
        client_id=options.client_id,
        grant_types=[kinds[each] for each in options.grants or ["code"]],
        post_logout_redirect_uris=options.post_logout_redirect_uris,
    )
    return _print_secret(options, made.client.client_id, made.secret)


async def _rotate(options: argparse.Namespace, auth: Auth) -> int:
    from ..features.oauth_server.clients import rotate_secret

    return _print_secret(options, options.client_id, (await rotate_secret(auth, options.client_id)).secret)


def _print_secret(options: argparse.Namespace, client_id: str, secret: str | None) -> int:
    if options.json:
        print(json.dumps({"client_id": client_id, "client_secret": secret}))
        return 0
    print(f"client_id      {client_id}")
    if secret is not None:
        print(f"client_secret  {secret}  (not shown again)")
    return 0


async def _list(options: argparse.Namespace, auth: Auth) -> int:
    from ..features.oauth_server.clients import list_clients, shown

    for client in await list_clients(auth):
        facts = _facts(shown(client))
        if options.json:
            print(json.dumps(facts))
            continue
        kind = "secret" if facts["confidential"] else "public"
        state = "disabled" if facts["disabled"] else "active"
        names = f"{facts['client_id']}  {printable(client.name)}"
        print(f"{client.created_at:%Y-%m-%dT%H:%M:%SZ}  {client.origin:<10}  {kind}  {state:<8}  {names}")
    return 0


async def _show(options: argparse.Namespace, auth: Auth) -> int:
    from ..features.oauth_server.clients import client_named, count_grants, shown

    client = await client_named(auth, options.client_id)
    facts = {**_facts(shown(client)), "grants": await count_grants(auth, client)}
    if options.json:
        print(json.dumps(facts))
        return 0
    print_facts({**facts, "scopes": "all" if client.scopes is None else facts["scopes"]})
    return 0


async def _delete(options: argparse.Namespace, auth: Auth) -> int:
    from ..features.oauth_server.clients import client_named, delete_client

    client = await client_named(auth, options.client_id)
    if not options.yes:
        confirm(f"Delete {printable(client.name)} and all that users have allowed it? [y/N] ")
    await delete_client(auth, client.client_id)
    print(f"{client.client_id}  deleted")
    return 0


async def _check(url: str) -> int:
    from ..features.oauth_server.probing import look_at

    return 1 if print_looks(await look_at(url)) else 0


def _facts(shown: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in shown.items()}
