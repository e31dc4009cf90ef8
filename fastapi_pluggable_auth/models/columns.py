"""Columns that keep what they hold in one form."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from tortoise import Model, fields
from tortoise.exceptions import ValidationError

from ..security.encryption import StoredSecret, default_box, readable
from ..security.names import name_set
from ..security.usernames import MAXIMUM_LENGTH as USERNAME_LENGTH
from ..security.usernames import fold_username
from .outward import SecretColumn

EMAIL_LENGTH: Final = 254
"""RFC 5321 section 4.5.3.1.3: the longest address that fits a path."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def token_digest(token: str) -> str:
    """SHA-256, in hex, of what a token's signature covers; a digest is returned as it is.

    The signature itself is left out: its encoding can be varied without breaking it, and some algorithms
    sign the same claims differently each time.
    """
    if _DIGEST.fullmatch(token):
        return token
    return hashlib.sha256(token.rpartition(".")[0].encode() or token.encode()).hexdigest()


class EmailField(fields.CharField[str]):
    """A lower-cased address. It compares byte by byte, which MariaDB's default collation does not."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", EMAIL_LENGTH)
        super().__init__(**kwargs)

    def to_db_value(self, value: Any, instance: Any) -> Any:
        """Lower-cased in Python: SQLite knows ASCII only."""
        return super().to_db_value(value.lower() if isinstance(value, str) else value, instance)

    class _db_mysql:
        SQL_TYPE = f"VARCHAR({EMAIL_LENGTH}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


class UsernameField(fields.CharField[str]):
    """A username, folded as it is looked up. With a field of the name `username`, users log in by it too."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", USERNAME_LENGTH)
        kwargs.setdefault("unique", True)
        super().__init__(**kwargs)

    def to_db_value(self, value: Any, instance: Any) -> Any:
        """Folded."""
        return super().to_db_value(fold_username(value) if isinstance(value, str) else value, instance)

    class _db_mysql:
        def __init__(self, field: UsernameField) -> None:
            self._field = field

        @property
        def SQL_TYPE(self) -> str:
            return f"VARCHAR({self._field.max_length}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


class TokenDigestField(fields.CharField[str]):
    """Stores the digest of a token: `get(token=raw)` and `create(token=raw)` keep no secret at rest."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 512)
        super().__init__(**kwargs)

    def to_db_value(self, value: Any, instance: Any) -> Any:
        """The digest, whatever was given."""
        return super().to_db_value(token_digest(value) if isinstance(value, str) else value, instance)


class TotpSecretField(fields.CharField[str]):
    """A base32 secret: sealed in the database where `totp_encryption_key` is set, for the row that it is in.
    The attribute of the model reads in Python (`TotpSecretColumn`); `values()` gives what is stored."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 255)
        super().__init__(**kwargs)

    def to_db_value(self, value: Any, instance: Any) -> Any:
        """What is stored already stays as it is, that of a saved row too. A plain secret of a row is sealed
        with the key of the default settings; the flows seal with their own app's beforehand. One without a
        row, as in `filter(...).update(...)`, is stored as it is, and sealed when it is used."""
        if isinstance(value, str) and not isinstance(value, StoredSecret) and isinstance(instance, Model):
            kept = stored_totp_secret(instance)
            same = kept is not None and readable(kept, instance.pk) == value
            value = kept if same else default_box().seal(value, instance.pk)
        return super().to_db_value(value, instance)

    def to_python_value(self, value: Any) -> Any:
        """As it is stored: only its row can open it."""
        return StoredSecret(value) if isinstance(value, str) else super().to_python_value(value)


class TotpSecretColumn(SecretColumn):
    """The attribute of such a field: base32, and ciphertext where this process has no key for it."""

    def __get__(self, row: Any, owner: type) -> Any:
        value = super().__get__(row, owner)
        return readable(value, row.pk) if isinstance(value, StoredSecret) else value


def stored_totp_secret(user: Model) -> StoredSecret | None:
    """What the row of this user has as its secret, sealed or not."""
    value = SecretColumn("totp_secret").__get__(user, type(user))
    return None if value is None else StoredSecret(value)


class NamesField(fields.Field[frozenset[str]]):
    """A set of names (RFC 6749 section 3.3), in one column that is read with its row. They are stored in
    order, with a space around each, so that `filter(roles__contains=" editor ")` finds one."""

    field_type = str

    def __init__(self, max_length: int = 1024, **kwargs: Any) -> None:
        kwargs.setdefault("default", frozenset)
        kwargs.setdefault("db_default", "")
        self.max_length = max_length
        super().__init__(**kwargs)

    @property
    def constraints(self) -> dict[str, Any]:
        """The most characters, spaces included."""
        return {"max_length": self.max_length}

    @property
    def SQL_TYPE(self) -> str:  # type: ignore[override]  # as in Tortoise's own fields
        """Text."""
        return f"VARCHAR({self.max_length})"

    def to_db_value(self, value: Any, instance: Any) -> Any:
        """The text. Raises `ValidationError` for what is not a name and for more than the column has room
        for: nothing is cut off."""
        if value is None and self.null:
            return None
        try:
            names = name_set(value)
        except (TypeError, ValueError) as error:
            raise ValidationError(f"{self.model_field_name}: {error}") from error
        text = f" {' '.join(sorted(names))} " if names else ""
        if len(text) > self.max_length:
            raise ValidationError(
                f"{self.model_field_name}: the names take {len(text)} characters, and there is room for "
                f"{self.max_length}"
            )
        return text

    def to_python_value(self, value: Any) -> Any:
        """The set."""
        if value is None and self.null:
            return None
        return frozenset(value.split() if isinstance(value, str) else value)

    class _db_mysql:
        def __init__(self, field: NamesField) -> None:
            self._field = field

        @property
        def SQL_TYPE(self) -> str:
            return f"VARCHAR({self._field.max_length}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
