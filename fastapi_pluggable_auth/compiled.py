"""Statements that are built once: building one takes Tortoise longer than the database takes to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from pypika_tortoise.queries import Query, QueryBuilder, Table
from pypika_tortoise.terms import Criterion, Function, ValueWrapper
from pypika_tortoise.terms import Field as Column
from tortoise import Model
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.fields import Field

from ._frameworks import model_of_row
from .failures import WrongRowError

Row: TypeAlias = dict[str, Any]
Found: TypeAlias = dict[tuple[Any, ...], Row]


@dataclass(frozen=True, slots=True)
class _Value:
    column: str


def value(column: str) -> ValueWrapper:
    """Stands for what is given when the statement runs, and stored as this column is."""
    return ValueWrapper(_Value(column))


class Statement:
    """A statement on the table of a model, as `build` makes it in the dialect of a `Query`."""

    def __init__(self, model: type[Model], build: Callable[[type[Query], Table], QueryBuilder]) -> None:
        self._model, self._build = model, build
        self._built: dict[type[Query], tuple[str, list[Any]]] = {}

    def _prepare(self, values: Mapping[str, object]) -> tuple[Any, str, list[Any]]:
        meta = self._model._meta
        database = meta.db  # also to read: a replica lags behind
        dialect = database.query_class
        if dialect not in self._built:
            self._built[dialect] = self._build(dialect, meta.basetable).get_parameterized_sql()
        sql, places = self._built[dialect]
        given = [
            meta.fields_map[place.column].to_db_value(values[place.column], self._model)
            if isinstance(place, _Value)
            else place
            for place in places
        ]
        return database, sql, given

    async def run(self, **values: object) -> int:
        """Writes; how many rows have changed. Raises like a model that is saved."""
        database, sql, given = self._prepare(values)
        count, _ = await database.execute_query(sql, given)
        return int(count)


class Insert(Statement):
    """Stores a row of these columns, without a model, which takes longer to make than the row to store."""

    def __init__(self, model: type[Model], *columns: str) -> None:
        super().__init__(
            model, lambda query, table: query.into(table).columns(*columns).insert(*map(value, columns))
        )


class Select(Statement):
    """Reads the row that has the given values in its columns `by`: these `columns`, `more` of rows that it
    refers to (`active="user__is_active"`), and one of those as a `whole` model; all by their names."""

    def __init__(
        self,
        model: type[Model],
        by: Sequence[str],
        columns: Sequence[str],
        whole: str | None = None,
        **more: str,
    ) -> None:
        super().__init__(model, self._select)
        self._by, self._whole = by, whole
        self._paths = {**{name: name for name in columns}, **more}
        self._built_for_many: dict[tuple[type[Query], int], str] = {}

    @property
    def database(self) -> BaseDBAsyncClient:
        """The connection that this task reads on."""
        return self._model._meta.db

    async def first(self, **values: object) -> Row | None:
        """What the row says, or None. Raises `WrongRowError` where it is not the row that was asked for."""
        database, sql, given = self._prepare(values)
        rows = await database.execute_query_dict(sql, given)
        return self._say(rows[0], values) if rows else None

    async def all(self, database: BaseDBAsyncClient, asked: Sequence[Row]) -> Found:
        """The rows with the values asked for in the first column of `by`, which is unique, in one statement,
        for `pick`. Raises `WrongRowError` where one has another value."""
        field = self._read[self._by[0]]
        values = [field.to_db_value(each[self._by[0]], self._model) for each in asked]
        given: list[Any] = [values]
        arrays = database.capabilities.dialect == "postgres"
        if not arrays:  # as many places as the next power of two: the database sees few different statements
            given = [*values, *values[-1:] * ((1 << (len(values) - 1).bit_length()) - len(values))]
        kind = database.query_class, len(given)
        if kind not in self._built_for_many:
            self._built_for_many[kind] = self._select_many(*kind, arrays=arrays)
        rows = await database.execute_query_dict(self._built_for_many[kind], given)
        found = {self._key(row, "."): row for row in rows}
        if not {key[0] for key in found} <= {self._key(each)[0] for each in asked}:
            raise WrongRowError(self._model._meta.db_table)
        return found

    def pick(self, found: Found, values: Row) -> Row | None:
        """What `first` says, of what `all` has found."""
        row = found.get(self._key(values))
        return None if row is None else self._say(row, values)

    def _key(self, row: Row, prefix: str = "") -> tuple[Any, ...]:
        return tuple(self._read[name].to_python_value(row[f"{prefix}{name}"]) for name in self._by)

    def _say(self, row: Row, values: Row) -> Row:
        meta = self._model._meta
        try:
            found = {name: field.to_python_value(row[f".{name}"]) for name, field in self._read.items()}
            right = all(
                found[name] == meta.fields_map[name].to_python_value(values[name]) for name in self._by
            )
            if (relation := self._whole) is not None:
                found[relation] = whole = model_of_row(self._related(relation), row)
                right = right and whole.pk == found[str(meta.fields_map[relation].source_field)]
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # not even the columns
            raise WrongRowError(meta.db_table) from error
        if not right:
            raise WrongRowError(meta.db_table)
        return found

    @cached_property
    def _read(self) -> dict[str, Field[Any]]:
        """What makes values of Python's of the columns; known once Tortoise is initialised."""
        return {name: self._column(path)[0] for name, path in self._paths.items()}

    def _related(self, relation: str) -> type[Model]:
        field: Any = self._model._meta.fields_map[relation]
        related: type[Model] = field.related_model
        return related

    def _column(self, path: str) -> tuple[Field[Any], Column]:
        relation, _, name = path.rpartition("__")
        meta = (self._related(relation) if relation else self._model)._meta
        return meta.fields_map[name], meta.basetable[meta.fields_db_projection[name]]

    def _select(self, dialect: type[Query], table: Table) -> QueryBuilder:
        conditions = (self._column(name)[1] == value(name) for name in self._by)
        return self._from(dialect, table).where(Criterion.all(conditions))

    def _select_many(self, dialect: type[Query], places: int, *, arrays: bool) -> str:
        (_, column), place = self._column(self._by[0]), value(self._by[0])
        condition = column == Function("ANY", place) if arrays else column.isin([place] * places)
        query = self._from(dialect, self._model._meta.basetable).where(condition)
        sql, _ = query.get_parameterized_sql()
        return sql

    def _from(self, dialect: type[Query], table: Table) -> QueryBuilder:
        query = dialect.from_(table)
        paths = (*self._paths.values(), *([f"{self._whole}__"] if self._whole else ()))
        for relation in dict.fromkeys(path.rpartition("__")[0] for path in paths if "__" in path):
            there = self._related(relation)._meta
            _, reference = self._column(str(self._model._meta.fields_map[relation].source_field))
            query = query.left_join(there.basetable).on(reference == there.basetable[there.db_pk_column])
        query = query.select(*(self._column(path)[1].as_(f".{name}") for name, path in self._paths.items()))
        if self._whole:
            there = self._related(self._whole)._meta
            query = query.select(*(there.basetable[column] for column in there.db_fields))
        return query
