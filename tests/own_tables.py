"""A host's own user, and what belongs to it."""

from tortoise import Model, fields

from fastapi_pluggable_auth.models import AbstractUser, UsernameField, tables_for


class Company(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=40)


class User(AbstractUser):
    username = UsernameField(max_length=32)
    phone = fields.CharField(max_length=20, null=True, unique=True)
    city = fields.CharField(max_length=10, default="")
    level = fields.IntField(default=1)
    plan = fields.CharField(max_length=10, db_default="free")
    joined_at = fields.DatetimeField(auto_now_add=True)
    is_staff = fields.BooleanField(default=False)
    company: fields.ForeignKeyNullableRelation[Company] = fields.ForeignKeyField(
        Company, null=True, related_name="users"
    )

    class Meta:
        table = "member"


__models__ = [*tables_for(User), Company]
