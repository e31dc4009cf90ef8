"""Queries of the hot paths, whose SQL Tortoise builds once.

Building the SQL of a join takes Tortoise 450 us of CPU each time, three times as long as all else about
reading a row does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar

from tortoise import Model
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.fields import DatetimeField, Field
from tortoise.queryset import QuerySet, UpdateQuery

M = TypeVar("M", bound=Model)
Q = TypeVar("Q", QuerySet[Any], UpdateQuery)


_Part: TypeAlias = tuple[str, type[Model], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Statement:
    """The SQL of one dialect. Its parameters: a constant, or a value's name and the field that encodes it. Of
    a SELECT also the models that its columns make up, one after the other: the attribute of the first one
    that each is, and its columns."""

    sql: str
    parameters: tuple[tuple[Any, Field[Any] | None], ...]
    models: tuple[_Part, ...]


class _Compiled(Generic[M, Q]):
    """A query of named values; each is encoded like the column of the model that is given for it."""

    def __init__(self, model: type[M], query: Callable[..., Q], **columns: str) -> None:
        self._model = model
        self._query: Callable[..., Q] = query
        self._columns = columns
        self._statements: dict[str, _Statement] = {}

    def _prepare(
        self, for_write: bool, values: dict[str, Any]
    ) -> tuple[BaseDBAsyncClient, _Statement, list[Any]]:
        database = self._model._choose_db(for_write)
        dialect = database.capabilities.dialect
        statement = self._statements.get(dialect)
        if statement is None:
            statement = self._statements[dialect] = self._build()
        parameters = [
            value if field is None else field.to_db_value(values[value], self._model)
            for value, field in statement.parameters
        ]
        return database, statement, parameters

    def _build(self) -> _Statement:
        """Asks Tortoise for the SQL, with marks in place of the values to see the order of the parameters."""
        fields = {name: self._model._meta.fields_map[column] for name, column in self._columns.items()}
        marks = {name: _mark(place, field) for place, (name, field) in enumerate(fields.items())}
        query = self._query(**marks)
        query.sql()
        models = self._models_in(query)
        sql, values = query.query.get_parameterized_sql()
        names = {field.to_db_value(marks[name], self._model): name for name, field in fields.items()}
        parameters = tuple(
            (names[value], fields[names[value]]) if value in names else (value, None) for value in values
        )
        return _Statement(sql, parameters, models)

    def _models_in(self, query: Q) -> tuple[_Part, ...]:
        """The models that the columns of the query make up."""
        return ()


class Select(_Compiled[M, QuerySet[Any]]):
    """Reads a row, with those it refers to (one level of `select_related`)."""

    def _models_in(self, query: QuerySet[Any]) -> tuple[_Part, ...]:
        return _selected_models(query)

    async def first(self, **values: object) -> M | None:
        """The row, or None."""
        database, statement, parameters = self._prepare(False, values)
        rows = await database.execute_query_dict(statement.sql, parameters)
        if not rows:
            return None
        cells = iter(rows[0].values())
        _, _, columns = statement.models[0]
        first = self._model._init_from_db(**dict(zip(columns, cells, strict=False)))
        for attribute, model, columns in statement.models[1:]:
            related = dict(zip(columns, cells, strict=False))
            exists = any(value is not None for value in related.values())
            object.__setattr__(first, f"_{attribute}", model._init_from_db(**related) if exists else None)
        return first


class SelectRelated(_Compiled[M, QuerySet[Any]]):
    """Reads a row that another one refers to, and some columns of that one: a model less to make."""

    def __init__(
        self, model: type[M], query: Callable[..., QuerySet[Any]], only: Sequence[str], **columns: str
    ) -> None:
        super().__init__(model, query, **columns)
        self._only = only

    async def first(self, **values: object) -> tuple[dict[str, Any], Any] | None:
        """The columns and the related row, or None."""
        database, statement, parameters = self._prepare(False, values)
        rows = await database.execute_query_dict(statement.sql, parameters)
        if not rows:
            return None
        (_, _, own), (_, model, columns) = statement.models
        cells, fields = iter(rows[0].values()), self._model._meta.fields_map
        read = {name: fields[name].to_python_value(cell) for name, cell in zip(own, cells, strict=False)}
        return read, model._init_from_db(**dict(zip(columns, cells, strict=False)))

    def _models_in(self, query: QuerySet[Any]) -> tuple[_Part, ...]:
        (attribute, model, columns), related = _selected_models(query)
        selected = query.query._selects
        kept = [selected[columns.index(name)] for name in self._only]
        query.query._selects = [*kept, *selected[len(columns) :]]
        return (attribute, model, tuple(self._only)), related


class Update(_Compiled[M, UpdateQuery]):
    """Changes rows."""

    async def run(self, **values: object) -> int:
        """How many rows were changed."""
        database, statement, parameters = self._prepare(True, values)
        count, _ = await database.execute_query(statement.sql, parameters)
        return count


def _mark(place: int, field: Field[Any]) -> object:
    if isinstance(field, DatetimeField):
        return datetime(2000, 1, 1, microsecond=place, tzinfo=UTC)
    return f"mark {place}"


def _selected_models(query: QuerySet[Any]) -> tuple[_Part, ...]:
    columns = iter(query.query._selects)
    parts = []
    for model, count, _, _, path in query._select_related_idx:
        names = ((column.alias or column.name).rpartition(".")[2] for column in islice(columns, count))
        parts.append((list(path)[-1] or "", model, tuple(names)))
    return tuple(parts)
