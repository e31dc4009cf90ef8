"""The app's own table."""

from tortoise import Model, fields

from fastapi_pluggable_auth.models import User


class Note(Model):
    id = fields.IntField(primary_key=True)
    owner: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(User, related_name="notes")
    text = fields.CharField(max_length=200)
