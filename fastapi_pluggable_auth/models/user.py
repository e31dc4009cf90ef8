"""The accounts."""

from __future__ import annotations

import uuid
from typing import ClassVar

from tortoise import Model, fields
from typing_extensions import TypeVar

from ..security.rehashes import password_id
from .columns import EmailField, NamesField, TotpSecretColumn, TotpSecretField
from .moments import MomentField
from .outward import Outward


class AbstractUser(Outward, Model):
    """The columns of an account. What is pending was begun in the session beside it; `signup_binding` is the
    digest of the value that the browser of the signup holds, until the address is verified; None where no
    signup made the account. `rehash_note` says that a login has replaced the hash. `access_epoch` counts the
    ends of all access, `second_factors` names what features have enrolled beside an authenticator app,
    `sessions_opened` is how many sessions there may be, at most: None until they are
    counted."""

    _withheld = frozenset({"hashed_password", "rehash_note", "totp_secret", "signup_binding"})
    _shown = ("id", "email", "is_verified", "display_name", "username")

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    email = EmailField(unique=True)
    hashed_password = fields.CharField(max_length=255)
    rehash_note = fields.CharField(max_length=64, null=True)
    is_active = fields.BooleanField(default=True)
    is_verified = fields.BooleanField(default=False)
    is_superuser = fields.BooleanField(default=False, db_default=False)
    roles = NamesField()
    permissions = NamesField()
    display_name = fields.CharField(max_length=64, null=True)
    signup_binding = fields.CharField(max_length=64, null=True)
    pending_email = EmailField(null=True)
    pending_email_session = fields.UUIDField(null=True)
    totp_secret = TotpSecretField(null=True)
    totp_confirmed = fields.BooleanField(default=False, db_default=False)
    totp_last_step = fields.BigIntField(null=True)
    totp_enrolled_at = MomentField(null=True)
    totp_pending_session = fields.UUIDField(null=True)
    recovery_codes_at = MomentField(null=True)
    second_factors = NamesField(max_length=255)
    access_epoch = fields.IntField(default=0, db_default=0)
    sessions_opened = fields.IntField(null=True)
    password_reset_required = fields.BooleanField(default=False, db_default=False)
    language = fields.CharField(max_length=35, null=True)
    verified_at = MomentField(null=True)
    password_changed_at = MomentField(null=True)
    last_login_at = MomentField(null=True)
    created_at = MomentField(auto_now_add=True, db_index=True)

    class Meta:
        abstract = True

    @property
    def password_id(self) -> str:
        """Which password it is, whatever hash of it is stored."""
        return password_id(self.hashed_password, self.rehash_note)

    @property
    def two_factor_active(self) -> bool:
        """Whether a login needs a code: a secret is stored and a right code has confirmed it."""
        return self.totp_confirmed and self.totp_secret is not None

    @property
    def has_second_factor(self) -> bool:
        """Whether there is anything that the user can show beside a password."""
        return self.two_factor_active or bool(self.second_factors)


setattr(AbstractUser, "totp_secret", TotpSecretColumn("totp_secret"))  # noqa: B010 - the field is of the class


class User(AbstractUser):
    """An account."""

    class Meta:
        indexes: ClassVar = [("is_active", "created_at"), ("is_verified", "created_at")]


U = TypeVar("U", bound=AbstractUser, default=User)
"""The user model of an app, where the package's own is meant unless another one is named."""

U_co = TypeVar("U_co", bound=AbstractUser, default=AbstractUser, covariant=True)
"""The same where any is meant."""
