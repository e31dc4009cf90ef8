"""What a signup sends beside an address and a password."""

from typing import Annotated

from pydantic import Field

from fastapi_pluggable_auth.schemas import NotStored, Text, UserCreate


class NewUser(UserCreate):
    invitation: Annotated[Text, NotStored, Field(max_length=64)] = ""
