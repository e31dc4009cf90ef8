"""What an app asks for that wants its user signed out here (OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from ...auth import Auth
from ...models import AbstractUser
from ...security.redirects import MAXIMUM_LENGTH
from .clients import find_client
from .models import AbstractOAuthClient
from .openid import Hint, hint_in
from .redirects import matches


@dataclass(frozen=True, slots=True)
class Logout:
    """A logout that a client asks for. `client` is None where nobody says which, or not truly; `location` is
    where the browser goes after it, None for nowhere else; `problem` is what is wrong with the request, for
    the makers of the client: the user can sign out all the same."""

    client: AbstractOAuthClient | None = None
    location: str | None = None
    redirect_uri: str = ""
    state: str = field(default="", repr=False)
    problem: str = ""


async def read_logout(auth: Auth, parameters: Sequence[tuple[str, str]], user: AbstractUser | None) -> Logout:
    """What the parameters of a request ask for, in the browser of this user."""
    given = {name: value for name, value in parameters if value}
    if any(count > 1 for count in Counter(name for name, _ in parameters).values()):
        return Logout(problem="it has a parameter twice")
    if sum(len(name) + len(value) for name, value in parameters) > 2 * MAXIMUM_LENGTH:
        return Logout(problem="it is too long")
    hint = hint_in(auth, given["id_token_hint"]) if "id_token_hint" in given else None
    if problem := _problem(given, hint, user):
        return Logout(problem=problem)
    client_id = given.get("client_id") or (hint and hint.client_id)
    if not client_id:
        unnamed = "post_logout_redirect_uri" in given
        return Logout(problem="it has a post_logout_redirect_uri, but no client_id" if unnamed else "")
    client = await find_client(auth, client_id)
    if client is None:
        return Logout(problem="its client_id is not known")
    redirect_uri, state = given.get("post_logout_redirect_uri", ""), given.get("state", "")
    if not redirect_uri:
        return Logout(client)
    if not matches(client.post_logout_redirect_uris, redirect_uri):
        return Logout(
            client, problem="its post_logout_redirect_uri is not one that the client has registered"
        )
    query = f"{'&' if '?' in redirect_uri else '?'}{urlencode({'state': state})}" if state else ""
    return Logout(client, redirect_uri + query, redirect_uri, state)


def _problem(given: dict[str, str], hint: Hint | None, user: AbstractUser | None) -> str:
    """What is wrong with the ID token that it brings; expired ones are good."""
    if "id_token_hint" not in given:
        return ""
    if hint is None:
        return "its id_token_hint is not an ID token of this server"
    if given.get("client_id", hint.client_id) != hint.client_id:
        return "its id_token_hint is of another client"
    if user is not None and str(user.id) != hint.user_id:
        return "its id_token_hint is of another user"
    return ""
