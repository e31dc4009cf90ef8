"""What members tell about themselves, and what they see."""

from typing import Annotated

from pydantic import Field

from fastapi_pluggable_auth.schemas import ProfileUpdate, Text, UserCreate, UserOut

Flat = Annotated[Text, Field(min_length=1, max_length=10, title="Flat", description="As on your door.")]


class NewMember(UserCreate):
    flat: Flat


class MemberUpdate(ProfileUpdate):
    flat: Flat | None = None


class MemberOut(UserOut):
    flat: str
    roles: set[str]
