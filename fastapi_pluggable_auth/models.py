"""The tables. Abstract bases hold the columns; the concrete classes beside them are what apps use."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, Final, Self

from tortoise import Model, fields
from tortoise.exceptions import ValidationError
from tortoise.fields.base import OnDelete
from tortoise.fields.relational import ForeignKeyFieldInstance

from .security.clock import utc_now
from .security.encryption import default_box, readable
from .security.identifiers import time_ordered_id
from .security.jwt import new_token_id
from .security.names import name_set
from .security.usernames import MAXIMUM_LENGTH as USERNAME_LENGTH
from .security.usernames import fold_username

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
    """A base32 secret: sealed in the database where `totp_encryption_key` is set, readable in Python."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 255)
        super().__init__(**kwargs)

    def to_db_value(self, value: Any, instance: Any) -> Any:
        """Sealed with the key of the default settings; the flows seal with their own app's beforehand."""
        return super().to_db_value(default_box.seal(value) if isinstance(value, str) else value, instance)

    def to_python_value(self, value: Any) -> Any:
        """The base32 text; ciphertext where this process has no key for it."""
        return super().to_python_value(readable(value) if isinstance(value, str) else value)


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
        """The text. Raises `ValidationError` for what is no name and for more than the column has room for:
        nothing is cut off."""
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
        return frozenset(value.split() if isinstance(value, str) else value)

    class _db_mysql:
        def __init__(self, field: NamesField) -> None:
            self._field = field

        @property
        def SQL_TYPE(self) -> str:
            return f"VARCHAR({self._field.max_length}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


class AbstractUser(Model):
    """The columns of an account."""

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    email = EmailField(unique=True)
    hashed_password = fields.CharField(max_length=255)
    is_active = fields.BooleanField(default=True)
    is_verified = fields.BooleanField(default=False)
    is_superuser = fields.BooleanField(default=False, db_default=False)
    roles = NamesField()
    permissions = NamesField()
    display_name = fields.CharField(max_length=64, null=True)
    pending_email = EmailField(null=True)
    totp_secret = TotpSecretField(null=True)
    totp_confirmed = fields.BooleanField(default=False, db_default=False)
    totp_last_step = fields.BigIntField(null=True)
    totp_enrolled_at = fields.DatetimeField(null=True)
    recovery_codes_at = fields.DatetimeField(null=True)
    password_reset_required = fields.BooleanField(default=False, db_default=False)
    language = fields.CharField(max_length=35, null=True)
    password_changed_at = fields.DatetimeField(null=True)
    last_login_at = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        abstract = True

    @property
    def two_factor_active(self) -> bool:
        """Whether a login needs a code: a secret is stored and a right code has confirmed it."""
        return self.totp_confirmed and self.totp_secret is not None


class AbstractSession(Model):
    """One sign-in on one device: the family of its refresh tokens. `revoked_at` ends it at once. In one that
    is `impersonated_by` an administrator, he acts as the user."""

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    authenticated_at = fields.DatetimeField()
    expires_at = fields.DatetimeField(db_index=True)
    revoked_at = fields.DatetimeField(null=True)
    user_agent = fields.CharField(max_length=255, default="")
    address = fields.CharField(max_length=45, default="")
    impersonated_by = fields.UUIDField(null=True, db_index=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        abstract = True


class AbstractRefreshToken(Model):
    """One refresh token. `revoked`: spent, or its session has ended; `rotated_at`: spent."""

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    session: Any
    session_id: uuid.UUID | None
    token = TokenDigestField(unique=True)
    jti = fields.CharField(max_length=36, unique=True, default=new_token_id)
    expires_at = fields.DatetimeField(db_index=True)
    revoked = fields.BooleanField(default=False)
    rotated_at = fields.DatetimeField(null=True)
    replaced_by = fields.CharField(max_length=36, null=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        abstract = True

    @classmethod
    async def create_for(cls, user_id: uuid.UUID | str, token: str, ttl: timedelta) -> Self:
        """Stores a refresh token that a host app minted; `/auth/refresh` gives it a session on first use."""
        return await cls.create(user_id=user_id, token=token, expires_at=utc_now() + ttl)


class MailState(StrEnum):
    """Where a mail is on its way."""

    WAITING = "waiting"
    SENDING = "sending"
    """A process has it, until `next_attempt_at`."""
    HANDED_OVER = "handed_over"
    """The task queue of the host app has it, until `next_attempt_at`."""
    SENT = "sent"
    DEAD = "dead"
    """Given up: refused for good, or older than `email_max_age`."""


class AbstractMail(Model):
    """One mail to send. It names its kind and address, not its link: that is made when the mail is sent."""

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID | None
    kind = fields.CharField(max_length=32)
    recipient = EmailField()
    context: Any = fields.JSONField(default=dict)
    state = fields.CharEnumField(MailState, max_length=16, default=MailState.WAITING)
    attempts = fields.IntField(default=0)
    next_attempt_at: datetime | None = fields.DatetimeField(null=True, db_index=True)
    give_up_at = fields.DatetimeField()
    sent_at = fields.DatetimeField(null=True)
    last_error = fields.CharField(max_length=255, default="")
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        abstract = True


class AbstractRecoveryCode(Model):
    """One unused recovery code, as its digest; using it deletes it."""

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    digest = fields.CharField(max_length=64, unique=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        abstract = True


class AbstractPersonalToken(Model):
    """One personal access token, as its digest. `expires_at` is null where it never does."""

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    name = fields.CharField(max_length=64)
    digest = fields.CharField(max_length=64, unique=True)
    scopes = NamesField()
    expires_at: datetime | None = fields.DatetimeField(null=True, db_index=True)
    last_used_at = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        abstract = True


class AbstractThrottle(Model):
    """How often something was tried. The key is a digest of what and on whom; `version` orders writers."""

    id = fields.CharField(max_length=64, primary_key=True)
    count = fields.IntField()
    started_at = fields.DatetimeField()
    blocked_until = fields.DatetimeField(db_index=True)
    version = fields.BigIntField(default=0)

    class Meta:
        abstract = True


def new_event_id() -> uuid.UUID:
    """The id of an event of this moment: ids are in the order of time."""
    return time_ordered_id(utc_now())


class AbstractAuditEvent(Model):
    """A security event that is kept: who did what to whose account, from where, and how it ended.

    It refers to accounts and sessions by their bare ids, as it outlives them. `actor_id` is the administrator
    who did it, null where it was the user, or whoever claimed to be. Address and browser are the actor's.
    """

    id = fields.UUIDField(primary_key=True, default=new_event_id)
    time = fields.DatetimeField()
    user_id = fields.UUIDField()
    actor_id = fields.UUIDField(null=True, db_index=True)
    session_id = fields.UUIDField(null=True)
    kind = fields.CharField(max_length=32)
    outcome = fields.CharField(max_length=16)
    reason = fields.CharField(max_length=64, null=True)
    factors = fields.CharField(max_length=32, default="")
    address = fields.CharField(max_length=45, default="")
    user_agent = fields.CharField(max_length=255, default="")

    class Meta:
        abstract = True


class User(AbstractUser):
    """An account."""


class Session(AbstractSession):
    """A sign-in of a `User`."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_sessions", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_session"


class RefreshToken(AbstractRefreshToken):
    """A refresh token of a `User`."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="refresh_tokens", on_delete=OnDelete.CASCADE, db_index=True
    )
    session: fields.ForeignKeyNullableRelation[Session] = fields.ForeignKeyField(
        Session, related_name="refresh_tokens", null=True, on_delete=OnDelete.CASCADE, db_index=True
    )


class Mail(AbstractMail):
    """A mail to or about a `User`."""

    user: fields.ForeignKeyNullableRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_mails", null=True, on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_mail"


class RecoveryCode(AbstractRecoveryCode):
    """A recovery code of a `User`."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_recovery_codes", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_recovery_code"


class PersonalToken(AbstractPersonalToken):
    """A personal access token of a `User`."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_personal_tokens", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_personal_token"


class Throttle(AbstractThrottle):
    """A counter of attempts."""

    class Meta:
        table = "auth_throttle"


class AuditEvent(AbstractAuditEvent):
    """A security event that is kept."""

    class Meta:
        table = "auth_audit_event"
        indexes: ClassVar = [("user_id", "id")]


@dataclass(frozen=True, slots=True)
class Tables:
    """The models that an app uses for its accounts; each refers to earlier ones only."""

    user: type[AbstractUser] = User
    session: type[AbstractSession] = Session
    refresh_token: type[AbstractRefreshToken] = RefreshToken
    mail: type[AbstractMail] = Mail
    recovery_code: type[AbstractRecoveryCode] = RecoveryCode
    personal_token: type[AbstractPersonalToken] = PersonalToken
    throttle: type[AbstractThrottle] = Throttle
    audit_event: type[AbstractAuditEvent] = AuditEvent

    def __iter__(self) -> Iterator[type[Model]]:
        """One after the other."""
        return (getattr(self, field.name) for field in dataclass_fields(self))


@cache
def tables_for(user_model: type[AbstractUser]) -> Tables:
    """The models around a user model: those of this module, or for another user copies that refer to it. The
    host lists them in the module of its user: `__models__ = [*tables_for(User), Note]`."""
    if user_model is User:
        return Tables()
    own: dict[type[Model], type[Model]] = {User: user_model}
    made: dict[str, Any] = {}
    for field, shipped in zip(dataclass_fields(Tables), Tables(), strict=True):
        made[field.name] = own[shipped] = own.get(shipped) or _copy_for(user_model, shipped, own)
    return Tables(**made)


def _copy_for(
    user_model: type[AbstractUser], shipped: type[Model], own: dict[type[Model], type[Model]]
) -> type[Model]:
    """The same table in the module of the user; its name leaves room for models of the host."""
    options = {"table": shipped._meta.db_table or shipped.__name__.lower(), "indexes": shipped._meta.indexes}
    attributes: dict[str, Any] = {
        "__module__": user_model.__module__,
        "__doc__": shipped.__doc__,
        "Meta": type("Meta", (), options),
    }
    for name in shipped._meta.fk_fields:
        foreign_key: Any = shipped._meta.fields_map[name]
        _, _, options = foreign_key.deconstruct()
        options["model_name"] = own[foreign_key.model_name]
        attributes[name] = ForeignKeyFieldInstance(**options)
    return type(f"Auth{shipped.__name__}", shipped.__bases__, attributes)
