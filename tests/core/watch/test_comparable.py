"""Which nights are comparable, and what is told of the others."""

import pytest

from tasks.core.design.study import Study
from tasks.core.watch.comparable import attributed, incomparable

ENVIRONMENT = {
    "packages": {"initbench": "0.4.0", "torch": "2.13"},
    "system": "Linux 6.1",
    "processor": "one",
    "gpus": [],
    "data": {"iris": "a"},
    "commit": "1",
}
GPU = {"index": 0, "uuid": "u", "name": "H200", "driver": "570"}


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"gpus": [GPU]}, "Environment, device: cpu before, H200 after"),
        ({"data": {"iris": "b"}}, "Data, iris: a before, b after"),
        ({"packages": {"initbench": "0.5.0"}}, "Environment, initbench: 0.4 before, 0.5 after"),
    ],
)
def test_what_keeps_nights_apart(changed, line):
    """Another kind of device, other data and another minor release of initbench make nights incomparable."""
    assert incomparable(Study(), Study(), ENVIRONMENT, ENVIRONMENT | changed) == [line]


def test_what_is_attributed():
    """Packages, kernel, processor, driver and commit may differ, and are told."""
    changed = {
        "packages": {"initbench": "0.4.1", "torch": "2.14"},
        "system": "Linux 6.2",
        "processor": "two",
        "commit": "2",
    }
    before, after = (
        ENVIRONMENT | {"gpus": [GPU]},
        ENVIRONMENT | changed | {"gpus": [GPU | {"driver": "580", "uuid": "v"}]},
    )
    assert incomparable(Study(), Study(), before, after) == []
    assert [line.partition(":")[0].removeprefix("Environment, ") for line in attributed(before, after)] == [
        *("packages.initbench", "packages.torch", "system", "processor", "commit", "driver")
    ]


def test_unlike_machines_of_workers_are_told():
    """Where chance decides which of two unlike machines trains a cell, it may be the cause of what differs."""
    mixed = ENVIRONMENT | {"mixed": ["keras"]}
    (line,) = attributed(mixed, mixed)
    assert line == attributed(ENVIRONMENT, mixed)[-1]
    assert line.startswith("the workers of keras have unlike machines")


def test_settings_that_change_no_number_do_not_count():
    """How a study is recorded, spread over tasks and judged keeps no nights apart; its recipe does."""
    judged = Study(record="group", max_tasks=1, margins={"test_loss": 0.2}, controls=None)
    assert incomparable(Study(), judged, ENVIRONMENT, ENVIRONMENT) == []
    longer = Study(recipe={"epochs": 21})
    assert incomparable(Study(), longer, ENVIRONMENT, ENVIRONMENT) == ["Study, recipe.epochs: 20 before, 21 after"]
