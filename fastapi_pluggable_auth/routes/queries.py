"""Fields that clients of 0.1.4 send in the query: it took three of its documented bodies there."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

from fastapi import Body, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError, WrapValidator

from ..schemas import EmailRequest, VerificationRequest

B = TypeVar("B", bound=BaseModel)

# Some HTTP clients send an empty object where they are given parameters alone.
Emptiable: Final = WrapValidator(lambda value, validate: validate(value) if value else None)

EmailBody = Annotated[EmailRequest, Body(), Emptiable]
VerificationBody = Annotated[VerificationRequest, Body(), Emptiable]
FORMER: Final = frozenset({"email", "code"})
"""What 0.1.4 took there."""
REQUIRED: Final[dict[str, Any]] = {"requestBody": {"required": True}}
"""What the OpenAPI document says: the body alone is for new clients."""


def given(request: Request, body: B | None, model: type[B]) -> B:
    """The body; where there is none, one with the fields of the query. Raises `RequestValidationError`."""
    if body is not None:
        return body
    names = FORMER & model.model_fields.keys()
    query = {name: request.query_params[name] for name in names if name in request.query_params}
    try:
        return model.model_validate(query)
    except ValidationError as error:
        place = "query" if query else "body"
        errors = [{**each, "loc": (place, *each["loc"])} for each in error.errors(include_url=False)]
        raise RequestValidationError(errors) from None
