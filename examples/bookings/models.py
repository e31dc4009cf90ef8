"""Members of the house, its rooms, and who has which room on which day."""

from tortoise import Model, fields

from fastapi_pluggable_auth.models import AbstractUser, tables_for


class Member(AbstractUser):
    flat = fields.CharField(max_length=10)


class Room(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=40, unique=True)


class Booking(Model):
    id = fields.IntField(primary_key=True)
    room: fields.ForeignKeyRelation[Room] = fields.ForeignKeyField(Room)
    member: fields.ForeignKeyRelation[Member] = fields.ForeignKeyField(Member)
    day = fields.DateField()

    class Meta:
        unique_together = (("room", "day"),)


__models__ = [*tables_for(Member), Room, Booking]
