"""The app's own tables, in SQLAlchemy, and as much of the accounts' as they refer to."""

from uuid import UUID

from sqlalchemy import Column, ForeignKey, String, Table, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


account = Table("user", Base.metadata, Column("id", Uuid, primary_key=True), Column("email", String(254)))
"""For foreign keys and joins. Tortoise makes this table and changes it; nothing here writes to it."""


class Profile(Base):
    """What this app knows of an account. It goes with the account."""

    __tablename__ = "profile"

    user_id: Mapped[UUID] = mapped_column(ForeignKey(account.c.id, ondelete="CASCADE"), primary_key=True)
    city: Mapped[str] = mapped_column(String(80), server_default="")


class Order(Base):
    """It stays when the account goes, without an owner."""

    __tablename__ = "order"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey(account.c.id, ondelete="SET NULL"), index=True)
    item: Mapped[str] = mapped_column(String(80))
