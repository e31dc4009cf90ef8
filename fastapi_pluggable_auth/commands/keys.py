"""`keys`: changes the keys that sign tokens, and seals two-factor secrets."""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..auth import Auth
from ..config import PREFIX, AuthSettings
from ..features.two_factor.sealing import Sealing, seal_secrets
from ..security.clock import utc_now
from ..security.encryption import SecretBox
from ..security.key_rotation import rotated_keys
from ..security.keys import key_set, sharing_problem
from .database import add_database, with_auth
from .env_file import names_in, rewrite
from .faults import CommandError, read_settings
from .modules import add_app, auth_of_app
from .options import add_command, count
from .output import add_json


def add_to(parser: argparse.ArgumentParser) -> None:
    """Fills in the parser of the command."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listed = add_command(commands, "list", "list the keys that sign and verify, and that seal, by id")
    add_app(listed)
    add_json(listed)
    listed.set_defaults(run=_list)
    rotate = add_command(commands, "rotate", "make a new signing key; tokens of the present one stay good")
    rotate.add_argument(
        "--env-file", type=Path, metavar="FILE", help="change the settings in this file (default: print them)"
    )
    rotate.add_argument(
        "--keep", type=count, default=1, metavar="N", help="how many earlier keys stay good (default: 1)"
    )
    rotate.set_defaults(run=lambda options: _rotate(options.env_file, options.keep))
    purpose = "seal every two-factor secret with AUTH_TOTP_ENCRYPTION_KEY, for its user"
    seal = add_command(commands, "seal", purpose)
    add_database(seal)
    seal.set_defaults(run=lambda options: with_auth(options, _seal))


async def _seal(auth: Auth) -> int:
    if auth.settings.totp_encryption_key is None:
        print("Set AUTH_TOTP_ENCRYPTION_KEY: openssl rand -base64 48", file=sys.stderr)
        return 1
    total = Sealing()
    async for done in seal_secrets(auth):
        total.sealed += done.sealed
        total.up_to_date += done.up_to_date
        for user_id in done.unreadable:
            print(f"No configured key opens the secret of user {user_id} for that user.", file=sys.stderr)
        total.unreadable += done.unreadable
    print(f"{total.sealed} sealed, {total.up_to_date} were up to date, {len(total.unreadable)} unreadable")
    return 1 if total.unreadable else 0


def _list(options: argparse.Namespace) -> int:
    """No key is shown, nor anything that tells of one."""
    auth = auth_of_app(options.app)
    settings = read_settings() if auth is None else auth.settings
    if (problem := sharing_problem(settings)) is not None:
        raise CommandError(problem)
    signing, sealing = key_set(settings), SecretBox(settings).key_ids()
    found = [
        *(
            ("tokens", key_id, signing.algorithm, key_id == signing.signing_id)
            for key_id in signing.verifying
        ),
        *(("two-factor", key_id, "A256GCM", current) for key_id, current in sealing),
    ]
    for purpose, key_id, algorithm, current in found:
        if options.json:
            row = {"purpose": purpose, "id": key_id, "algorithm": algorithm, "current": current}
            print(json.dumps(row))
        else:
            print(f"{purpose:<10}  {'current' if current else 'earlier'}  {algorithm:<7}  {key_id}")
    return 0


def _rotate(path: Path | None, keep: int) -> int:
    try:
        settings = read_settings() if path is None else read_settings(_env_file=path)
        values = rotated_keys(settings, keep=keep)
        if path is None:
            for name, value in values.items():
                print(f"{PREFIX}{name}={value}")
        elif (fixed := _fixed(variables := _variables(path, values))) is not None:
            print(f"{fixed} is set in the environment, which counts for more than a file.", file=sys.stderr)
            return 1
        else:
            rewrite(path, {variables[name]: value for name, value in values.items()})
            if path.stat().st_mode & stat.S_IROTH:
                print(f"Everyone on this machine can read {path}: chmod 600 it.", file=sys.stderr)
    except ValueError as error:  # also of keys that cannot sign
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{path}: {error.strerror}.", file=sys.stderr)
        return 1
    print(_advice(settings, values), file=sys.stderr)
    return 0


def _variables(path: Path, names: Iterable[str]) -> dict[str, str]:
    """Under which name each setting is to be in the file: without the prefix only where it is read so now."""
    there = names_in(path)
    bare = {name for name in names if name.lower() in AuthSettings.BARE and name in there}
    return {name: name if name in bare and PREFIX + name not in there else PREFIX + name for name in names}


def _fixed(variables: Mapping[str, str]) -> str | None:
    """A variable of the environment that would be read instead of one in the file."""
    environment = {each.upper() for each in os.environ}
    counting = [each for name, variable in variables.items() for each in (PREFIX + name, variable)]
    return next((each for each in counting if each in environment), None)


def _advice(settings: AuthSettings, values: dict[str, str]) -> str:
    if not values["JWT_PREVIOUS_KEYS"]:
        return "Restart the app: every session and mailed link ends."
    lifetime = max(
        settings.refresh_token_expires,
        settings.access_token_expires,
        settings.verify_token_ttl,
        settings.reset_token_ttl,
    )
    days = str(lifetime).removesuffix(", 0:00:00")
    return (
        f"Restart the app; its last tokens of the earlier key expire {days} later"
        f" ({utc_now() + lifetime:%Y-%m-%d %H:%M} UTC), when AUTH_JWT_PREVIOUS_KEYS can be emptied."
    )
