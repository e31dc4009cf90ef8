"""Authenticated encryption at rest, of two-factor secrets and of what waits between two requests: AES-256-GCM
(ASVS 11.3.2, 13.3.1)."""

from __future__ import annotations

import base64
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .. import config
from ..config import AuthSettings
from .keys import KeySet

_PREFIX: Final = "aes256gcm"
_BOUND: Final = "user."
SEALED: Final = f"{_PREFIX}."
"""How what is sealed begins."""
_NONCE_BYTES: Final = 12

_keys_of_process: dict[str, AESGCM] = {}
"""By key id: every key that an app of this process was configured with."""


class UnreadableSecretError(Exception):
    """A secret was sealed with a key that is not configured, or was changed at rest."""


class StoredSecret(str):
    """The text of a column, as it is or is to be in the database."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """A secret, and whether it is to be sealed anew: it was plain, bound to no user, or sealed with an
    earlier key."""

    secret: str = field(repr=False)
    outdated: bool


class SecretBox:
    """Seals the secrets of users with `totp_encryption_key` and opens them also with the previous keys.

    Without a key, secrets stay as they are. Sealed, they read `aes256gcm.<key id>.user.<nonce and
    ciphertext>`, and are good in the row of their user only (associated data). Those without `user`, of
    earlier versions, are bound to none.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings
        self._ids: dict[str, str] = {}
        self._current()
        self._configured()

    def seal(self, secret: str, owner: object) -> StoredSecret:
        """The text to store for this user, whose id is the owner."""
        key_id = self._current()
        if key_id is None or is_sealed(secret):
            return StoredSecret(secret)
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = _keys_of_process[key_id].encrypt(nonce, secret.encode(), _bound(key_id, owner))
        text = base64.urlsafe_b64encode(nonce + ciphertext).decode()
        return StoredSecret(f"{_PREFIX}.{key_id}.{_BOUND}{text}")

    def open(self, stored: str, owner: object) -> Opened:
        """The secret of this user. Raises `UnreadableSecretError` where it was sealed with another key, for
        another user, or was changed at rest."""
        current = self._current()
        if not is_sealed(stored):
            return Opened(stored, current is not None)
        up_to_date = current is not None and stored.startswith(f"{_PREFIX}.{current}.{_BOUND}")
        return Opened(_open(stored, self._configured(), owner), current is not None and not up_to_date)

    def key_ids(self) -> list[tuple[str, bool]]:
        """The ids of the configured keys, and whether each is the one that seals, which comes first."""
        current = self._current()
        earlier = [self._key_id(key) for key in self._settings.totp_previous_keys]
        return [*([] if current is None else [(current, True)]), *((key, False) for key in earlier)]

    def _current(self) -> str | None:
        key = self._settings.totp_encryption_key
        return None if key is None else self._key_id(key)

    def _configured(self) -> set[str]:
        current = self._current()
        return {*([current] if current else []), *map(self._key_id, self._settings.totp_previous_keys)}

    def _key_id(self, text: str) -> str:
        if text not in self._ids:
            key = hashlib.sha256(b"totp secrets\0" + text.encode()).digest()
            key_id = hashlib.sha256(b"key id\0" + key).hexdigest()[:8]
            _keys_of_process.setdefault(key_id, AESGCM(key))
            self._ids[text] = key_id
        return self._ids[text]


def is_sealed(stored: str) -> bool:
    """Whether this is ciphertext: no base32 text has a full stop."""
    return stored.startswith(SEALED)


def readable(stored: str, owner: object) -> str:
    """The secret, for the model's attribute: opened with any key of this process, and left sealed where none
    fits, so that a wrong key never reads as two-factor switched off."""
    if not is_sealed(stored):
        return str(stored)
    if _parts(stored)[0] not in _keys_of_process:
        default_box()  # in a script that has no `Auth`, nothing else knows the keys
    try:
        return _open(stored, set(_keys_of_process), owner)
    except UnreadableSecretError:
        return str(stored)


def _bound(key_id: str, owner: object) -> bytes:
    return f"{key_id}\0{owner}".encode()


def _parts(stored: str) -> tuple[str, str]:
    """The id of the key, and what was made with it."""
    key_id, _, text = stored.removeprefix(f"{_PREFIX}.").partition(".")
    return key_id, text


def _open(stored: str, key_ids: set[str], owner: object) -> str:
    key_id, text = _parts(stored)
    if key_id not in key_ids:
        raise UnreadableSecretError(f"AUTH_TOTP_ENCRYPTION_KEY: no configured key has the id {key_id[:8]!r}.")
    associated = _bound(key_id, owner) if text.startswith(_BOUND) else key_id.encode()
    try:
        data = base64.urlsafe_b64decode(text.removeprefix(_BOUND))
        nonce, ciphertext = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
        return _keys_of_process[key_id].decrypt(nonce, ciphertext, associated).decode()
    except (InvalidTag, ValueError) as error:
        raise UnreadableSecretError(
            "A two-factor secret was changed at rest, or is that of another user."
        ) from error


def seal_text(keys: KeySet, use: str, text: str, place: str) -> str:
    """Ciphertext for this use, good in this place only, such as the row of an id."""
    nonce = os.urandom(_NONCE_BYTES)
    ciphertext = AESGCM(keys.derive(use)).encrypt(nonce, text.encode(), place.encode())
    return base64.urlsafe_b64encode(nonce + ciphertext).decode()


def open_sealed(keys: KeySet, use: str, sealed: str, place: str) -> str:
    """The text, also where an earlier key has sealed it. Raises `UnreadableSecretError` where none has, or
    not for this place."""
    with suppress(ValueError):
        data = base64.urlsafe_b64decode(sealed)
        for key in keys.derive_each(use):
            with suppress(InvalidTag):
                return AESGCM(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], place.encode()).decode()
    raise UnreadableSecretError("What was sealed is for another place, or no configured key opens it.")


@cache
def default_box() -> SecretBox:
    """The box of the default settings."""
    return SecretBox(config.settings)
