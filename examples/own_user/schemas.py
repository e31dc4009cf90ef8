"""What users tell about themselves, and what they see."""

from datetime import date
from typing import Annotated

from pydantic import Field

from fastapi_pluggable_auth.schemas import ProfileUpdate, Text, UserCreate, Username, UserOut

City = Annotated[Text, Field(max_length=80)]


class NewUser(UserCreate):
    username: Username
    city: City = ""


class Profile(ProfileUpdate):
    username: Username | None = None
    city: City | None = None
    born_on: date | None = None


class Me(UserOut):
    username: str
    city: str
    born_on: date | None
    is_staff: bool
