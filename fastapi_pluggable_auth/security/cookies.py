"""The cookies of the library: their names, the headers that set and delete them, and the one that brings them
back (RFC 6265)."""

from __future__ import annotations

from collections.abc import Iterable
from http.cookies import SimpleCookie


def received_cookies(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """The values of all cookies by their exact names, in the order of the headers of an ASGI scope.

    Read from the bytes: `Request.cookies` strips what Unicode calls blank, so that a name with a no-break
    space in front, whose prefix no browser guards, would count as ours; and of two of one name the last wins.
    """
    received: dict[str, list[str]] = {}
    for header, line in headers:
        if header == b"cookie":
            for pair in line.split(b";"):
                name, equals, value = pair.strip(b" ").partition(b"=")
                if equals:
                    received.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return received


def received_cookie(headers: Iterable[tuple[bytes, bytes]], name: str) -> str | None:
    """The value of the one cookie of this name; None also where there are several, since one of them was set
    by another host of the same domain and nothing tells which."""
    values = received_cookies(headers).get(name, [])
    return values[0] if len(values) == 1 else None


class Cookies:
    """Cookies that no script reads, that other sites send along with links only, and that, where `secure`,
    belong to this host alone (`__Host-`, ASVS 3.3.1 to 3.3.4)."""

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        prefix = "__Host-" if secure else ""
        self._prefix = prefix
        self.access = f"{prefix}access_token"
        self.refresh = f"{prefix}refresh_token"
        self.visitor = f"{prefix}visitor"
        self.signup = f"{prefix}signup_binding"
        self.mail_note = f"{prefix}mail_note"
        self.until_closed = f"{prefix}until_closed"
        self.device = f"{prefix}device"

    def of_feature(self, name: str) -> str:
        """The name of a cookie that a feature sets."""
        return self._prefix + name

    def set(self, name: str, value: str, max_age: int | None = None) -> str:
        """The `Set-Cookie` header for a value that lives so many seconds, or as long as the browser runs."""
        cookie: SimpleCookie = SimpleCookie()
        cookie[name] = value
        morsel = cookie[name]
        morsel["path"] = "/"
        morsel["httponly"] = True
        morsel["samesite"] = "Lax"
        morsel["secure"] = self._secure
        if max_age is not None:
            morsel["max-age"] = max_age
        return morsel.OutputString()

    def delete(self, name: str) -> str:
        """The `Set-Cookie` header that deletes: browsers want the attributes with which it was set."""
        return self.set(name, "", 0)
