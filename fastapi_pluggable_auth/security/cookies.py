"""The cookies of the library: their names, and the headers that set and delete them (RFC 6265)."""

from __future__ import annotations

from http.cookies import SimpleCookie


class Cookies:
    """Cookies that no script reads, that other sites send along with links only, and that, where `secure`,
    belong to this host alone (`__Host-`, ASVS 3.3.1 to 3.3.4)."""

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        prefix = "__Host-" if secure else ""
        self.access = f"{prefix}access_token"
        self.refresh = f"{prefix}refresh_token"
        self.visitor = f"{prefix}visitor"

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
