"""What leaves the app of a row that a route returns: never a secret, whatever encodes it (ASVS 15.3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, ClassVar, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from tortoise.exceptions import ConfigurationError

from ..database import PatientMeta, read_where_written
from .moments import MomentField

__all__ = ["Outward", "SecretColumn"]


class _Sealed:
    """A secret in the `__dict__` of its row. No encoder takes it for a text, and no `repr` shows it."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sealed) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return "<secret>"


class SecretColumn:
    """The attribute of a secret: read and written as any other, and sealed where encoders look."""

    def __init__(self, name: str) -> None:
        self.name: Final = name

    def __get__(self, row: object | None, owner: type) -> Any:
        if row is None:
            return self
        try:
            kept = vars(row)[self.name]
        except KeyError:
            raise AttributeError(f"{owner.__name__} was read without {self.name}") from None
        return kept.value if isinstance(kept, _Sealed) else kept

    def __set__(self, row: object, value: object) -> None:
        vars(row)[self.name] = self.seal(value)

    @staticmethod
    def seal(value: object) -> object:
        """What the `__dict__` of a row keeps; that there is none is not a secret."""
        return None if value is None else _Sealed(value)


class Outward:
    """A base of the tables. `_withheld` are the columns that are secret, `_shown` those that leave, by
    default all others: `dict(row)` has these, and so do the answers of FastAPI and Pydantic."""

    _withheld: ClassVar[frozenset[str]] = frozenset()
    _shown: ClassVar[tuple[str, ...] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Tortoise lets all subclasses share the fields of an abstract model, which then know one of them.
        columns = cls._meta.fields_map  # type: ignore[attr-defined]  # of the model beside this
        columns.update({name: copy(column) for name, column in columns.items()})
        for name, column in columns.items():
            if _is_moment(cls, name) and not isinstance(column, MomentField):
                raise ConfigurationError(f"{cls.__name__}.{name} must be a MomentField, as what it replaces.")
        read_where_written(cls)  # type: ignore[arg-type]  # the model beside this
        cls._meta.__class__ = PatientMeta  # type: ignore[attr-defined]  # Tortoise has made it already
        for name in cls._withheld:
            if not isinstance(getattr(cls, name, None), SecretColumn):
                setattr(cls, name, SecretColumn(name))
        # Tortoise's `pydantic_model_creator` reads this.
        own = getattr(cls, "PydanticMeta", object)
        excluded = {*getattr(own, "exclude", ()), *cls._withheld}
        cls.PydanticMeta = type("PydanticMeta", (own,), {"exclude": tuple(sorted(excluded))})  # type: ignore[attr-defined]

    @classmethod
    def _outward(cls) -> list[str]:
        columns = cls._meta.fields_db_projection  # type: ignore[attr-defined]  # of the model beside this
        return [name for name in cls._shown or columns if name in columns and name not in cls._withheld]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """The columns that leave, with their values."""
        return ((name, getattr(self, name)) for name in self._outward() if name in vars(self))

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in self._withheld]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Lets a route say `-> User`, or a response model have one."""
        fields = cls._meta.fields_map  # type: ignore[attr-defined]
        columns = {
            name: core_schema.typed_dict_field(
                handler.generate_schema(
                    fields[name].field_type | None if fields[name].null else fields[name].field_type
                ),
                required=False,
            )
            for name in cls._outward()
        }
        return core_schema.is_instance_schema(
            cls,
            serialization=core_schema.plain_serializer_function_ser_schema(
                _leaving, info_arg=True, return_schema=core_schema.typed_dict_schema(columns)
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The same in and out: FastAPI can be set to have one schema for both."""
        serialization: Any = schema["serialization"]
        return handler(serialization["return_schema"])


def _is_moment(model: type, name: str) -> bool:
    """Whether a base has a moment of this name."""
    known = [vars(base)["_meta"].fields_map.get(name) for base in model.__mro__[1:] if "_meta" in vars(base)]
    return any(isinstance(column, MomentField) for column in known)


def _leaving(row: Outward, info: SerializationInfo) -> dict[str, Any]:
    """Pydantic leaves `response_model_include` and `response_model_exclude` to the serializer."""
    included, excluded = info.include, info.exclude or ()
    return {
        name: value for name, value in row if name not in excluded and (included is None or name in included)
    }
