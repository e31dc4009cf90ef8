"""A host's own user whose database has rules that the models do not know, and rows that refer to it."""

from __future__ import annotations

from typing import Any

from tortoise import Model, fields
from tortoise.fields.base import OnDelete

from fastapi_pluggable_auth.models import AbstractUser, tables_for


class Company(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=40)


class User(AbstractUser):
    nick = fields.CharField(max_length=40, null=True, unique=True)
    badge = fields.IntField(null=True)
    word = fields.CharField(max_length=40, null=True, db_default="none")
    score = fields.BigIntField(null=True)
    company: fields.ForeignKeyNullableRelation[Company] = fields.ForeignKeyField(
        Company, null=True, related_name="members"
    )

    class Meta:
        table = "member"


class Invoice(Model):
    id = fields.IntField(primary_key=True)
    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="invoices", on_delete=OnDelete.RESTRICT
    )


__models__ = [*tables_for(User), Company, Invoice]

RULES = {
    "sqlite": """
        ALTER TABLE member DROP COLUMN badge; ALTER TABLE member ADD COLUMN badge INT CHECK (badge < 10);
        ALTER TABLE member DROP COLUMN word;
        ALTER TABLE member ADD COLUMN word TEXT NOT NULL DEFAULT 'none' CHECK (length(word) < 6);
        ALTER TABLE member DROP COLUMN score; ALTER TABLE member ADD COLUMN score INT CHECK (score < 32768);
        CREATE TRIGGER no_i BEFORE INSERT ON member WHEN NEW.nick = 'trigger'
            BEGIN SELECT RAISE(ABORT, 'no such nick'); END;
        CREATE TRIGGER no_u BEFORE UPDATE ON member WHEN NEW.nick = 'trigger'
            BEGIN SELECT RAISE(ABORT, 'no such nick'); END;
    """,
    "postgres": """
        ALTER TABLE member ADD CHECK (badge < 10);
        ALTER TABLE member ALTER COLUMN word TYPE VARCHAR(5), ALTER COLUMN word SET NOT NULL;
        ALTER TABLE member ALTER COLUMN score TYPE SMALLINT;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.nick = 'trigger' THEN RAISE EXCEPTION 'no such nick'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER no BEFORE INSERT OR UPDATE ON member FOR EACH ROW EXECUTE FUNCTION refuse();
        ALTER TABLE member ADD CONSTRAINT later UNIQUE (badge) DEFERRABLE INITIALLY DEFERRED;
    """,
    "mysql": """
        ALTER TABLE member ADD CHECK (badge < 10);
        ALTER TABLE member MODIFY word VARCHAR(5) NOT NULL DEFAULT 'none';
        ALTER TABLE member MODIFY score SMALLINT NULL;
        CREATE TRIGGER no_i BEFORE INSERT ON member FOR EACH ROW
            IF NEW.nick = 'trigger' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no such nick'; END IF;
        CREATE TRIGGER no_u BEFORE UPDATE ON member FOR EACH ROW
            IF NEW.nick = 'trigger' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no such nick'; END IF;
    """,
}
"""What each server says no to: a check, no value, too long a text, too great a number, a trigger."""


async def add_rules(client: Any, dialect: str) -> None:
    """Makes the rules."""
    if dialect != "mysql":
        await client.execute_script(RULES[dialect])
        return
    ends = ("ALTER", "CREATE")
    statement: list[str] = []
    for line in [*RULES[dialect].strip().splitlines(), "ALTER"]:
        if statement and line.strip().startswith(ends):
            await client.execute_script(" ".join(statement).rstrip("; "))
            statement = []
        statement.append(line.strip().replace("END IF;", "END IF"))
