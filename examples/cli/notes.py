"""A command line that its user signs in to in any browser, by the device grant (RFC 8628)."""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

SERVER = os.environ.get("NOTES_SERVER", "http://localhost:8000")
CLIENT_ID = os.environ.get("NOTES_CLIENT_ID", "")
TOKENS = Path(os.environ.get("NOTES_TOKENS", Path.home() / ".config" / "notes" / "tokens.json"))
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


class Refused(Exception):
    """What the server has refused, by the name that OAuth has for it."""


def post(http: httpx.Client, path: str, **form: str) -> Any:
    """The answer to a request of this client."""
    answer = http.post(path, data={"client_id": CLIENT_ID, **form})
    if answer.is_error:
        raise Refused(answer.json()["error"])
    return answer.json() if answer.content else None


def keep(tokens: dict[str, Any]) -> None:
    """Writes the tokens to a file that nobody else can read, at once or not at all."""
    TOKENS.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=TOKENS.parent)  # which makes it with mode 0600
    with os.fdopen(handle, "w") as file:
        json.dump(tokens, file)
    os.replace(name, TOKENS)


def kept() -> dict[str, Any]:
    """The tokens of the last sign-in."""
    if not TOKENS.exists():
        sys.exit("You have not signed in: run `python notes.py login`.")
    tokens: dict[str, Any] = json.loads(TOKENS.read_text())
    return tokens


def login(http: httpx.Client) -> None:
    """Shows a code, and waits until its user has typed it in a browser."""
    begun = post(http, "/oauth/device_authorization", scope="notes:read")
    print(f"Open {begun['verification_uri']} and type {begun['user_code']}", flush=True)
    wait, end = begun["interval"], time.monotonic() + begun["expires_in"]
    while time.monotonic() < end:
        time.sleep(wait)
        try:
            tokens = post(http, "/oauth/token", grant_type=DEVICE_CODE, device_code=begun["device_code"])
        except Refused as error:
            match str(error):
                case "authorization_pending":
                    continue
                case "slow_down":
                    wait += 5
                    continue
                case "access_denied":
                    sys.exit("It was not allowed.")
                case "expired_token":
                    break
                case _:
                    raise
        keep(tokens)
        print("You are signed in.")
        return
    sys.exit("That took too long: begin again.")


def notes(http: httpx.Client) -> None:
    """Prints the notes of its user, with new tokens where the old ones have expired."""
    tokens = kept()
    answer = read(http, tokens)
    if answer.status_code == 401:
        token = tokens["refresh_token"]
        try:
            tokens = post(http, "/oauth/token", grant_type="refresh_token", refresh_token=token)
        except Refused:
            TOKENS.unlink(missing_ok=True)
            sys.exit("Your access has ended: run `python notes.py login`.")
        keep(tokens)
        answer = read(http, tokens)
    print(*answer.raise_for_status().json(), sep="\n")


def read(http: httpx.Client, tokens: dict[str, Any]) -> httpx.Response:
    return http.get("/api/notes", headers={"Authorization": f"Bearer {tokens['access_token']}"})


def logout(http: httpx.Client) -> None:
    """Gives back all that was allowed, and forgets the tokens."""
    post(http, "/oauth/revoke", token=kept()["refresh_token"])
    TOKENS.unlink()
    print("You are signed out.")


COMMANDS = {"login": login, "notes": notes, "logout": logout}


def main() -> None:
    command = COMMANDS.get(" ".join(sys.argv[1:]))
    if command is None:
        sys.exit(f"Commands: {', '.join(COMMANDS)}")
    if not CLIENT_ID:
        sys.exit("Set NOTES_CLIENT_ID to the id that the server has given this program.")
    with httpx.Client(base_url=SERVER, timeout=30) as http:
        try:
            command(http)
        except Refused as error:
            sys.exit(f"The server refused: {error}")


if __name__ == "__main__":
    main()
