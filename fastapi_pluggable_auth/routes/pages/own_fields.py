"""The fields that the bodies of a host add to the forms of pages, and what was entered into them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from types import NoneType
from typing import Annotated, Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.fields import FieldInfo
from starlette.datastructures import FormData
from tortoise.fields import TextField

from ...errors import AuthError, ErrorCode
from ...models import AbstractUser
from ...schemas import ProfileUpdate, UserCreate
from ...security.text import is_unicode
from ..body_checks import value_types
from .faults import MISSING, Fault, UnfilledError, faults_of

RESERVED: Final = frozenset({"csrf_token", "form", "shown", "new_password", "next"})
"""What the forms send themselves."""

_ASKED_ALREADY: Final[dict[type[BaseModel], set[str]]] = {
    UserCreate: {"email", "password"},
    ProfileUpdate: {"email", "display_name"},
}

_AUTOCOMPLETE: Final = {
    token: token_names.split()
    for token, token_names in {
        "username": "username",
        "name": "name full_name",
        "given-name": "given_name first_name forename",
        "family-name": "family_name last_name surname",
        "nickname": "nickname",
        "organization": "organization organisation company company_name employer",
        "organization-title": "job_title position",
        "tel": "phone phone_number tel telephone mobile",
        "street-address": "address street street_address",
        "postal-code": "postal_code postcode zip zip_code",
        "address-level2": "city town",
        "address-level1": "state province region",
        "country": "country_code",
        "country-name": "country country_name",
        "bday": "birthday birth_date birthdate date_of_birth born_on",
        "url": "website homepage url",
        "language": "language locale",
    }.items()
}
"""The purposes of fields (HTML section 4.10.18.7), and the names that such fields go by."""

_WIDGETS: Final = {"date": "date", "time": "time", "email": "email", "uri": "url", "password": "password"}
"""How a text of a format is asked for; a moment needs a zone, which no browser asks for."""

_YES_OR_NO: Final = {"true": True, "false": False}

_TEXTS: Final = frozenset({"text", "textarea", "email", "url", "password"})


@dataclass(frozen=True, slots=True)
class OwnField:
    """A field of a form: `label`, `hint` and `example` are the host's, `values` those that can be chosen, by
    the text that stands for each; `default` is what a new account has where nothing else is entered."""

    name: str
    key: str
    widget: str
    label: str
    hint: str = ""
    example: str = ""
    required: bool = False
    nullable: bool = False
    default: str | None = None
    autocomplete: str = "off"
    values: Mapping[str, Any] | None = None
    whole: bool = False
    length: int | None = None
    minimum: float | None = None
    maximum: float | None = None

    def value(self, text: str) -> Any:
        """What JSON would say for what was entered; a text that does not fit stays as it is."""
        if self.widget == "select" and self.values is not None:
            return self.values.get(text, text)
        if self.widget != "number":
            return text
        try:
            return int(text)
        except ValueError:
            return text


@lru_cache(maxsize=64)
def own_fields(body: type[BaseModel], user_model: type[AbstractUser]) -> tuple[OwnField, ...]:
    """Those of a body that the page asks for beside its own. Raises `ValueError` for one that has to be given
    and cannot be asked for in a form."""
    shipped: type[BaseModel] = UserCreate if issubclass(body, UserCreate) else ProfileUpdate
    found = []
    for name, info in body.model_fields.items():
        if name in _ASKED_ALREADY[shipped]:
            continue
        if name in RESERVED:
            raise ValueError(f"{body.__name__}.{name} cannot be asked for on a page: choose another name")
        field = _field(name, info, user_model, profile=shipped is ProfileUpdate)
        if field is not None:
            found.append(field)
        elif info.is_required():
            raise ValueError(
                f"{body.__name__}.{name} cannot be asked for on a page: give it a default, or leave pages out"
            )
    return tuple(found)


def _field(name: str, info: FieldInfo, user_model: type[AbstractUser], *, profile: bool) -> OwnField | None:
    """None for what no simple field of HTML can ask for, and for what has one value only."""
    types = {*value_types(info.annotation)}
    schema = _schema(info)
    look = _look(schema, types - {NoneType})
    if look is None or (look.get("constant") and not info.is_required()):
        return None
    look.pop("constant", None)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    column = user_model._meta.fields_map.get(name)
    if look["widget"] == "text" and isinstance(column, TextField):
        look["widget"] = "textarea"
    kept = profile and column is not None and not column.null  # an empty one would change nothing
    if kept and look.get("values") == _YES_OR_NO:  # None would change nothing
        look = {"widget": "checkbox"}
    tick = look.pop("tick", False)
    known = next((token for token, names in _AUTOCOMPLETE.items() if name in names), "off")
    return OwnField(
        name=name,
        key=_key(name, info),
        label=info.title or name.replace("_", " ").capitalize(),
        hint=info.description or "",
        example=_text_of(info.examples[0]) if info.examples and name != "username" else "",
        required=tick
        or (look["widget"] != "checkbox" and info.is_required())
        or (kept and look["widget"] not in (*_TEXTS, "checkbox")),
        nullable=NoneType in types and not kept,
        default=None if profile else _default(info),
        autocomplete=str(extra.get("autocomplete", known)),
        **look,
    )


def _key(name: str, info: FieldInfo) -> str:
    """What the body calls a field."""
    return info.validation_alias if isinstance(info.validation_alias, str) else info.alias or name


def _default(info: FieldInfo) -> str:
    if info.is_required() or info.default_factory is not None:
        return ""
    return _text_of(info.default)


def _text_of(value: Any) -> str:
    """As a field of a form has it."""
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _schema(info: FieldInfo) -> dict[str, Any]:
    """The JSON schema of the values of one field, {} where they have none."""
    annotation: Any = info.annotation
    try:
        adapter = TypeAdapter(Annotated[annotation, *info.metadata] if info.metadata else annotation)
        return adapter.json_schema()
    except PydanticInvalidForJsonSchema:
        return {}


def _look(schema: dict[str, Any], types: set[type], definitions: Any = None) -> dict[str, Any] | None:
    """The options of `OwnField` that a schema says."""
    definitions = schema.get("$defs", definitions or {})
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema or "oneOf" in schema:
        every = schema.get("anyOf") or schema["oneOf"]
        parts = [part for part in every if part.get("type") != "null" and part.get("const") != ""]
        if types and types <= {int, float, Decimal}:
            looks = [_look(part, set(), definitions) for part in parts if part.get("type") != "string"]
            return looks[0] and looks[0] | {"whole": types == {int}}
        if len(parts) != 1:
            return {"widget": "text"} if str in types and types <= {str, int, float, bool} else None
        look = _look(parts[0], types, definitions)
        if look is not None and look["widget"] == "checkbox" and len(every) > 1:
            return {"widget": "select", "values": _YES_OR_NO}
        return look
    if "const" in schema or "enum" in schema:
        choices = schema.get("enum", [schema.get("const")])
        if choices == [True]:
            return {"widget": "checkbox", "tick": True}
        values = {_text_of(choice): choice for choice in choices if choice is not None}
        return {"widget": "select", "values": values, "constant": len(values) == 1}
    match schema.get("type"):
        case "boolean":
            return {"widget": "checkbox"}
        case "integer" | "number":
            bounds = {"minimum": schema.get("minimum"), "maximum": schema.get("maximum")}
            return {"widget": "number", "whole": schema["type"] == "integer", **bounds}
        case "string" if schema.get("format") != "date-time":
            widget = _WIDGETS.get(schema.get("format", ""), "text")
            return {"widget": widget, "length": schema.get("maxLength")}
    return None


def entered_in(fields: tuple[OwnField, ...], form: FormData) -> dict[str, str]:
    """What was entered into each field, by its name; nothing for fields that the form did not have. Raises
    `AuthError(VALIDATION_ERROR)` for what can neither be stored nor shown."""
    entered = {}
    shown = " ".join(text for text in form.getlist("shown") if isinstance(text, str)).split()
    for field in fields:
        texts = [text for text in form.getlist(field.name) if isinstance(text, str)]
        if field.widget == "checkbox":
            if texts or field.name in shown:
                entered[field.name] = "true" if any(text not in ("", "false") for text in texts) else "false"
        elif texts:
            text = texts[-1].replace("\r\n", "\n")  # as forms send the ends of lines
            entered[field.name] = text if field.widget in ("textarea", "password") else text.strip()
    if not all(is_unicode(text) for text in entered.values()):
        raise AuthError(ErrorCode.VALIDATION_ERROR)
    return entered


def shown_in(fields: tuple[OwnField, ...], user: AbstractUser) -> dict[str, str]:
    """What the fields have at first on a profile."""
    return {field.name: _text_of(getattr(user, field.name, None)) for field in fields}


def filled(
    body: type[BaseModel], fields: tuple[OwnField, ...], entered: Mapping[str, str], given: Mapping[str, Any]
) -> Any:
    """The body that a form makes, with what the page asks for itself. Raises `UnfilledError`."""
    names = {_key(name, info): name for name, info in body.model_fields.items()}
    values = {key: given[name] for key, name in names.items() if name in given}
    faults: dict[str, Fault] = {}
    for field in fields:
        if field.name not in entered:
            if field.widget == "checkbox" and body.model_fields[field.name].is_required():
                values[field.key] = False  # browsers send nothing for a box that is not ticked
            continue
        text = entered[field.name]
        if not text and field.required:
            faults[field.name] = Fault(MISSING)
        elif not text and field.nullable:
            values[field.key] = None
        elif field.widget == "checkbox":
            values[field.key] = text == "true"
        elif (text or field.widget in _TEXTS) and not (text == field.default and not field.required):
            values[field.key] = field.value(text)
    try:
        made = body.model_validate(values)
    except ValidationError as error:
        faults = faults_of(error, names) | faults
    if faults:
        raise UnfilledError(_told({field.name: field for field in fields}, faults))
    return made


def _told(fields: Mapping[str, OwnField], faults: Mapping[str, Fault]) -> dict[str, Fault]:
    """As people say it of such a field."""
    told = dict(faults)
    for name, fault in faults.items():
        widget = fields[name].widget if name in fields else ""
        if widget == "checkbox" and fault.code in (MISSING, "choice"):
            told[name] = Fault("tick")
        elif widget == "select" and fault.code == MISSING:
            told[name] = Fault("choice")
        elif widget == "email" and fault.code == "not_valid":
            told[name] = Fault("email")
    return told
