"""Passwords, codes and tokens on their way to what digests them (ASVS 16.2.5, 14.2.6)."""

from __future__ import annotations


class Plaintext:
    """A secret in the clear, given up once: error trackers keep the local variables of every frame, and a
    frame may wait long for a database that fails. Its `repr` does not show it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value: str | None = value

    @classmethod
    def of(cls, secret: str | Plaintext) -> Plaintext:
        """The secret as a `Plaintext`, if it is not one already."""
        return secret if isinstance(secret, Plaintext) else cls(secret)

    def look(self) -> str:
        """The secret, which stays. Raises `ValueError` once it was taken."""
        if self._value is None:
            raise ValueError("This secret was taken already.")
        return self._value

    def copy(self) -> Plaintext:
        """Another one, for what takes it. Raises `ValueError` once it was taken."""
        return Plaintext(self.look())

    def take(self) -> str:
        """The secret, which is gone from here. Raises `ValueError` once it was taken."""
        value, self._value = self.look(), None
        return value

    def __repr__(self) -> str:
        return "Plaintext(...)"
