"""The app's own tables: users with a username, a city and a birthday, and notes."""

from tortoise import Model, fields

from fastapi_pluggable_auth.models import AbstractUser, UsernameField, tables_for


class User(AbstractUser):
    username = UsernameField()
    city = fields.CharField(max_length=80, default="")
    born_on = fields.DateField(null=True)
    is_staff = fields.BooleanField(default=False)


class Note(Model):
    id = fields.IntField(primary_key=True)
    owner: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(User, related_name="notes")
    text = fields.TextField()


__models__ = [*tables_for(User), Note]
