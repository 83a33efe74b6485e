from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.design.faults import faults


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: str
    rows: int = 1


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")

    data: Literal["iris", "wine"] | Part = "iris"
    parts: tuple[Part, ...] = ()
    by_name: dict[str, Part] = {}
    level: bool | int | float | str | None = None
    part: Part = Part(path="")


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        (
            {"data": "irs"},
            ["data: Input should be 'iris' or 'wine' or a mapping of settings; got 'irs'; did you mean 'iris'?"],
        ),
        ({"data": {"path": 1}}, ["data.path: Input should be text; got 1"]),
        ({"data": {"rows": 1}}, ["data: path is required; got {'rows': 1}"]),
        (
            {"data": {"path": "a", "row": 1}},
            ["data.row: no such setting; did you mean 'rows'? Choose one of path, rows; got 1"],
        ),
        ({"parts": [{"path": "a", "x": 1}]}, ["parts.0.x: no such setting; choose one of path, rows; got 1"]),
        ({"by_name": {"a": {"path": "a", "x": 1}}}, ["by_name.a.x: no such setting; choose one of path, rows; got 1"]),
        ({"parts": "a"}, ["parts: Input should be a list, like [a]; got 'a'"]),
        ({"level": [1]}, ["level: Input should be a single value; got [1]"]),
        (
            {"rows": 1},
            ["rows: no such setting; did you mean 'part.rows'? Choose one of data, parts, by_name, level, part; got 1"],
        ),
        (
            {"part": None, "by_name": 3},
            ["by_name: Input should be a mapping; got 3", "part: Input should be a mapping of settings; got None"],
        ),
        (3, ["study: Input should be a mapping of settings"]),
    ],
)
def test_a_line_for_each_wrong_setting(given, lines):
    """Each wrong setting is one line: the part that is wrong or what is allowed, and the name that is near."""
    with pytest.raises(ValidationError) as error:
        Whole.model_validate(given)
    assert faults(error.value, given, Whole) == lines
