"""Refusals as JSON, and in the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from fastapi import Request
from fastapi.responses import JSONResponse

from ..auth import Auth
from ..errors import AuthError, Code, ErrorCode, HostCode
from ..schemas import Error, Schema, SecondFactorNeeded, ValidationFailure
from ..security.passwords import MAXIMUM_LENGTH, MINIMUM_LENGTH
from ..words.languages import FALLBACK, preferred
from ..words.texts import UNFILLED, offered_languages, texts_of, words_in

Responses: TypeAlias = dict[int | str, dict[str, Any]]

EVERYWHERE: Final = (
    ErrorCode.DATABASE_UNAVAILABLE,
    ErrorCode.DATABASE_NOT_MIGRATED,
    ErrorCode.HOOK_UNAVAILABLE,
    ErrorCode.CHANGE_REFUSED,
)
"""How any route refuses where the database, or a hook, is not as it should be."""

UNREADABLE_BODY: Final = {"loc": ["body"], "msg": "Body cannot be read", "type": "body_unreadable"}

UNFIT_VALUE: Final = {"loc": ["body"], "msg": "Value does not fit", "type": "value_unfit"}

_OURS: Final = f"{__name__.partition('.')[0]}."

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,64}")


def error_response(error: AuthError, request: Request, auth: Auth) -> JSONResponse:
    """The JSON answer to a refusal, in the language that the client asks for."""
    if error.code is ErrorCode.VALIDATION_ERROR:
        where = ["body", error.field] if error.field else ["body"]
        return validation_response([{**UNFIT_VALUE, "loc": where}])
    detail, language = sentence_of(error, request.headers.get("accept-language", ""), auth)
    options = {"options": error.options} if error.options else {}
    return JSONResponse(
        {"detail": detail, "code": error.code.code, **options},
        error.code.status,
        {**error.headers, **({"Content-Language": language} if language else {}), "Vary": "Accept-Language"},
    )


def sentence_of(error: AuthError, accept_language: str, auth: Auth) -> tuple[str, str | None]:
    """What a refusal says, and in which language, None where nobody knows. The sentence of its code is said
    in the one that is asked for, where that has words for it; what says more than the code, and what a hook
    or another package says, stays as it is."""
    as_it_is = error.detail, FALLBACK if _is_ours(error) else None
    if not accept_language or error.detail != error.code.detail:
        return as_it_is
    language = preferred(accept_language, offered_languages(auth.settings))
    if language is None or (language == FALLBACK and as_it_is[1] is not None):
        return as_it_is
    folders, key = auth.features.folders, f"errors.{error.code.code}"
    if key not in texts_of(auth.settings.template_dir, language, folders):
        return as_it_is
    words = words_in(auth.settings.template_dir, language, folders)
    values = {"minimum": MINIMUM_LENGTH, "maximum": MAXIMUM_LENGTH, "wait": words.wait(error.retry_after)}
    try:
        return words(key, **values), language
    except UNFILLED:  # a text of the app with a place that only its own pages fill
        return as_it_is


def _is_ours(error: AuthError) -> bool:
    """Whether it says the sentence of a code of the library, which is English."""
    table = type(error.code)
    return error.detail == error.code.detail and table is not HostCode and table.__module__.startswith(_OURS)


def validation_response(errors: Sequence[Any]) -> JSONResponse:
    """The JSON answer to a request that is not valid: places and reasons, never the input (ASVS 16.5.1)."""
    detail = [
        {"loc": [_harmless(part) for part in error["loc"]], "msg": error["msg"], "type": error["type"]}
        for error in errors
    ]
    code = ErrorCode.VALIDATION_ERROR
    return JSONResponse({"detail": detail, "code": code.code}, code.status)


def _harmless(part: str | int) -> str | int:
    """A field name; the name of an unknown field is input too and may be anything."""
    return part if isinstance(part, int) or _PLAIN_NAME.fullmatch(part) else "?"


_BODIES: Final[Mapping[Code, type[Schema]]] = {
    ErrorCode.VALIDATION_ERROR: ValidationFailure,
    ErrorCode.TWO_FACTOR_REQUIRED: SecondFactorNeeded,
}
"""Those of refusals that say more."""


def documented(*codes: Code) -> Responses:
    """The OpenAPI `responses` of a route that may refuse with these codes, and as every route does."""
    responses: Responses = {}
    for code in (*codes, *EVERYWHERE):
        model = _BODIES.get(code, Error)
        response = responses.setdefault(code.status, {"model": model, "description": ""})
        response["model"] |= model
        response["description"] = f"{response['description']}\n\n`{code.code}`: {code.detail}".strip()
    return responses


def merged_responses(router: Responses, route: Responses) -> Responses:
    """The OpenAPI `responses` of a route with those of its router: where both have a status, the codes of
    both."""
    responses = {**router, **route}
    for status in router.keys() & route.keys():
        said = (router[status]["description"], route[status]["description"])
        codes = dict.fromkeys("\n\n".join(said).split("\n\n"))
        model = router[status]["model"] | route[status]["model"]
        responses[status] = {"model": model, "description": "\n\n".join(codes)}
    return responses


class SignInRequired(Exception):
    """The client has to sign in first, on a page: `location`."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location
