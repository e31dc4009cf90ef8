"""The same, spelled otherwise: numbered tokens without an index, narrow columns, a token of any length."""

import uuid

from tortoise import Model, fields


class User(Model):
    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    email = fields.CharField(max_length=120, unique=True)
    hashed_password = fields.CharField(max_length=60)
    is_active = fields.BooleanField(default=True)
    is_verified = fields.BooleanField(default=False)
    totp_secret = fields.CharField(max_length=32, null=True)
    display_name = fields.CharField(max_length=50, null=True)
    created_at = fields.DatetimeField(auto_now_add=True)


class RefreshToken(Model):
    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(User, related_name="refresh_tokens")
    token = fields.TextField()
    jti = fields.CharField(max_length=36)
    expires_at = fields.DatetimeField()
    revoked = fields.BooleanField(default=False)
    created_at = fields.DatetimeField(auto_now_add=True)


class Note(Model):
    """A table of the host's own."""

    id = fields.IntField(primary_key=True)
    owner: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(User, related_name="notes")
