"""A classification problem in a CSV file. A fault is told with the line and the column in which it is.

The file is read record by record with Python's csv module, so that every field is either used as it stands, or refused.
"""

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO, TextIOWrapper
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.float32 import LARGEST
from tasks.core.design.nearest import choice
from tasks.core.design.settings import CsvFile

FLAGS = {"true": 1.0, "false": 0.0}
TOLD = 3  # columns with a fault that are told; the first of each is told with its line


@dataclass(frozen=True)
class Record:
    """A line of a file that holds something: its number, counted from 1, and its fields without blanks around them."""

    line: int
    fields: list[str]


@dataclass(frozen=True)
class Table:
    """x: the features, (rows, features); labels: the class of each row as the file has it; names: of the features."""

    x: NDArray[np.float64]
    labels: list[str]
    names: tuple[str, ...]


def read(source: CsvFile) -> Table:
    """Return the features and the labels in a CSV file. TRUE and FALSE count as 1 and 0.

    Lines without any value are left out, and so are empty fields to the right of the last column.

    Raises:
        ValueError: if the file cannot be read, or is not the table that `source` says.
    """
    try:
        with open(source.path, "rb") as file:  # noqa: PTH123  # the core knows no paths
            return _table(source, file.read())
    except OSError as error:
        raise ValueError(f"dataset.path must be a file that can be read; {source.path}: {error.strerror}") from None


@lru_cache(maxsize=1)  # every batch of cells reads the file again, to see whether it has changed
def _table(source: CsvFile, content: bytes) -> Table:
    records = _records(source.path, content)
    first = next(records, None)
    if first is None:
        raise ValueError(f"{source.path} must have rows; it is empty")
    names, rows = _columns(source, first), records
    if not _has_header(source):
        rows = chain([first], records)
    target, features = _chosen(source, names)
    numbers, labels, lines = array("d"), list[str](), list[int]()
    for row in rows:
        _check_width(source.path, row, len(names))
        numbers.extend(_numbers([row.fields[at] for at in features]))
        labels.append(row.fields[target])
        lines.append(row.line)
    if not labels:
        raise ValueError(f"{source.path} must have rows below its header; it has none")
    if "" in labels:
        line = lines[labels.index("")]
        raise ValueError(f"{source.path} must have no empty field; line {line}, column {names[target]} is empty")
    x = np.frombuffer(numbers).reshape(len(labels), len(features))
    _check_numbers(source, content, x, lines, [(at, names[at]) for at in features])
    return Table(x, labels, tuple(names[at] for at in features))


def _records(path: str, content: bytes) -> Iterator[Record]:
    """Yield the lines of a file that hold something.

    Raises:
        ValueError: if the file is not UTF-8, or its quotes do not match.
    """
    reader = csv.reader(TextIOWrapper(BytesIO(content), "utf-8-sig", newline=""), skipinitialspace=True, strict=True)
    try:
        for fields in reader:
            stripped = [field.strip() for field in fields]
            if any(stripped):
                yield Record(reader.line_num, stripped)
    except csv.Error as error:
        raise ValueError(f"dataset.path must be a CSV file; line {reader.line_num} of {path}: {error}") from None
    except UnicodeDecodeError:
        raise ValueError(
            f"dataset.path must be a CSV file in UTF-8; {path} is not. Spreadsheets save it as CSV UTF-8"
        ) from None


def _has_header(source: CsvFile) -> bool:
    return not source.names if source.header is None else source.header


def _columns(source: CsvFile, first: Record) -> list[str]:
    """Return the names of the columns; a column without a name is called by its number, counted from 1.

    Raises:
        ValueError: if a name is there twice, or the first line cannot be the header that it has to be.
    """
    fields = first.fields[: _width(first.fields)]
    if len(fields) == 1 and (found := next((sign for sign in ";\t|" if sign in fields[0]), None)):
        raise ValueError(f"{source.path} must have commas between its fields; line {first.line} has {found!r}")
    numbered = [str(at) for at in range(1, len(fields) + 1)]
    if source.names and len(source.names) != len(fields):
        raise ValueError(
            f"dataset.names must name every column of {source.path}, which has {len(fields)}; got {len(source.names)}"
        )
    if not _has_header(source):
        return list(source.names) or numbered
    if source.header is None and (values := [name for name in fields if not np.isnan(_number(name))]):
        raise ValueError(
            f"line {first.line} of {source.path} must name the columns; it holds {values[0]}. For a file without a "
            f"header say `header: false`, which calls the columns 1 to {len(fields)}, or give their `names`; if "
            f"{values[0]} is a name, say `header: true`"
        )
    names = [" ".join(name.split()) or number for name, number in zip(fields, numbered, strict=True)]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise ValueError(
                f"columns of {source.path} must differ in their names; columns {names.index(name) + 1} and {at + 1} "
                f"are both called {name}"
            )
    return names


def _width(fields: Sequence[str]) -> int:
    """Return the number of fields up to the last one that is not empty.

    >>> _width(["a", "", "b", "", ""])
    3
    """
    return max((at for at, field in enumerate(fields, 1) if field), default=0)


def _chosen(source: CsvFile, names: Sequence[str]) -> tuple[int, list[int]]:
    """Return the places of the target and of the features.

    Raises:
        ValueError: if a column is not there, or no feature is left.
    """
    for setting, asked in (("target", [source.target]), ("exclude", source.exclude)):
        for name in asked:
            if name not in names:
                rule = f"dataset.{setting} must be in {source.path}"
                raise ValueError(f"{rule}, which has no column {name!r}; {choice(name, names)}")
    out = {source.target, *source.exclude}
    features = [at for at, name in enumerate(names) if name not in out]
    if not features:
        raise ValueError(f"{source.path} must have numeric features beside its target; it has no other column")
    return names.index(source.target), features


def _check_width(path: str, row: Record, columns: int) -> None:
    if len(row.fields) < columns or _width(row.fields) > columns:
        raise ValueError(
            f"line {row.line} of {path} must have as many fields as there are columns, {columns}; it has "
            f"{len(row.fields)}"
        )


def _numbers(fields: Sequence[str]) -> list[float]:
    """Return the numbers in fields, NaN for what is none."""
    together = "".join(fields)
    if together.isascii() and "_" not in together:  # else `float` would read 1_000 and ３, which are words here
        try:
            return list(map(float, fields))
        except ValueError:
            pass
    return list(map(_number, fields))


def _number(field: str) -> float:
    """Return the number in a field, NaN if it is none.

    >>> _number("1e3"), _number("TRUE"), _number("1_000")
    (1000.0, 1.0, nan)
    """
    if field.lower() in FLAGS:
        return FLAGS[field.lower()]
    try:
        return float(field) if field.isascii() and "_" not in field else np.nan
    except ValueError:
        return np.nan


def _check_numbers(
    source: CsvFile,
    content: bytes,
    x: NDArray[np.float64],
    lines: Sequence[int],
    features: Sequence[tuple[int, str]],
) -> None:
    """Check that all features are numbers that float32 can hold; features: the place and the name of each."""
    wrong = ~(np.abs(x) <= LARGEST)
    columns = np.flatnonzero(wrong.any(axis=0)).tolist()
    if not columns:
        return
    first = {column: lines[int(wrong[:, column].argmax())] for column in columns[:TOLD]}
    fields = {row.line: row.fields for row in _records(source.path, content) if row.line in first.values()}
    told = []
    for column, line in first.items():
        place, name = features[column]
        told.append(f"line {line}, column {name} is {fields[line][place]!r}")
    more = f", and in {len(columns) - TOLD} more columns" if len(columns) > TOLD else ""
    names = ", ".join(features[column][1] for column in columns)
    raise ValueError(
        f"features of {source.path} must be numbers of at most {LARGEST:.2g} in every line; {', '.join(told)}{more}. "
        f"To leave columns out, say `exclude: [{names}]`"
    )
