"""Authenticated encryption of two-factor secrets at rest: AES-256-GCM (ASVS 11.3.2, 13.3.1)."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING, Final

from ..config import AuthSettings
from ..config import settings as default_settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_PREFIX: Final = "aes256gcm"
_NONCE_BYTES: Final = 12

_keys_of_process: dict[str, AESGCM] = {}
"""By key id: every key that an app of this process was configured with."""


class UnreadableSecretError(Exception):
    """A secret was sealed with a key that is not configured, or was changed at rest."""


class SecretBox:
    """Seals secrets with `totp_encryption_key` and opens them also with the previous keys.

    Without a key, secrets stay as they are. Sealed, they read `aes256gcm.<key id>.<nonce and ciphertext>`.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings
        self._ids: dict[str, str] = {}
        self._current()
        self._configured()

    def seal(self, secret: str) -> str:
        """The text to store."""
        key_id = self._current()
        if key_id is None or is_sealed(secret):
            return secret
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = _keys_of_process[key_id].encrypt(nonce, secret.encode(), key_id.encode())
        return f"{_PREFIX}.{key_id}.{base64.urlsafe_b64encode(nonce + ciphertext).decode()}"

    def open(self, stored: str) -> str:
        """The secret; one that was stored before there was a key reads as it is. Raises
        `UnreadableSecretError`."""
        if not is_sealed(stored):
            return stored
        return _open(stored, self._configured())

    def _current(self) -> str | None:
        key = self._settings.totp_encryption_key
        return None if key is None else self._key_id(key)

    def _configured(self) -> set[str]:
        current = self._current()
        return {*([current] if current else []), *map(self._key_id, self._settings.totp_previous_keys)}

    def _key_id(self, text: str) -> str:
        if text not in self._ids:
            # Here, as it takes 5 ms to import, and most apps start without a key.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            key = hashlib.sha256(b"totp secrets\0" + text.encode()).digest()
            key_id = hashlib.sha256(b"key id\0" + key).hexdigest()[:8]
            _keys_of_process.setdefault(key_id, AESGCM(key))
            self._ids[text] = key_id
        return self._ids[text]


def is_sealed(stored: str) -> bool:
    """Whether this is ciphertext: no base32 text has a full stop."""
    return stored.startswith(f"{_PREFIX}.")


def readable(stored: str) -> str:
    """The secret, for the model's attribute: opened with any key of this process, and left sealed where none
    fits, so that a wrong key never reads as two-factor switched off."""
    try:
        return _open(stored, set(_keys_of_process)) if is_sealed(stored) else stored
    except UnreadableSecretError:
        return stored


def _open(stored: str, key_ids: set[str]) -> str:
    from cryptography.exceptions import InvalidTag

    key_id, _, text = stored.removeprefix(f"{_PREFIX}.").partition(".")
    if key_id not in key_ids:
        raise UnreadableSecretError(f"TOTP_ENCRYPTION_KEY: no configured key has the id {key_id[:8]!r}.")
    try:
        data = base64.urlsafe_b64decode(text)
        nonce, ciphertext = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
        return _keys_of_process[key_id].decrypt(nonce, ciphertext, key_id.encode()).decode()
    except (InvalidTag, ValueError) as error:
        raise UnreadableSecretError("A two-factor secret was changed at rest.") from error


default_box = SecretBox(default_settings)
"""The box of the default settings; it also makes their keys known to the model's attribute."""
