"""Networks and data of one's own in a study: what a study may ask for, and what belongs to a cell's key."""

import pytest
from pydantic import ValidationError

from tasks.core.design import expressions, grid
from tasks.core.design.own import Watched, watched_once
from tasks.core.design.rules import Rules
from tasks.core.design.settings import CsvFile
from tasks.core.design.study import R2_TARGET, Study
from tests.shared.keys import key

NETWORK = {"build": {"pytorch": "mine:build"}, "options": {"width": 8, "depth": 4}}


def own(**changes):
    network = {**NETWORK, **changes.pop("network", {})}
    return Study(backends=("pytorch",), seeds=1, initializers=("own", "zeros"), network=network, **changes)


def test_expressions_are_arithmetic_alone():
    """An expression has numbers, names, operators and a few functions; nothing else is computed, and no code runs."""
    assert expressions.evaluate("-2 ** 2 + max(1, min(depth, 3)) / 4", {"depth": 9}) == -3.25
    for wrong in (
        "__import__('os')",
        "depth.real",
        "[1][0]",
        "depth if depth else 1",
        "lambda: 1",
        "'a'",
        "True",
        "1 +",
    ):
        with pytest.raises(ValueError, match=r"an expression|a value must be"):
            expressions.evaluate(wrong, {"depth": 1})
    for wrong in ("1/0", "10.0**400", "sqrt(-1)"):
        with pytest.raises(ValueError, match="must be a number"):
            expressions.evaluate(wrong, {})


def test_the_first_rule_that_matches_counts():
    """Patterns are tried in the order of the study, against a layer's name and its parameters' names."""
    rules = Rules({"*.out.weight": "ones", "block*": "zeros"}, {})
    assert [rules.of(names) for names in (["block.out", "block.out.weight"], ["block.in"], ["head"])] == [
        "ones",
        "zeros",
        None,
    ]
    with pytest.raises(ValueError, match="'gone' must match a layer or a parameter; there are head"):
        Rules({"gone": "zeros"}, {}).check([["head", "head.weight"]])


def test_rules_may_be_a_factor():
    """Named sets of rules are levels, so that schemes compete."""
    study = own(factors={"network.rules": {"none": {}, "small": {"head": {"name": "random_normal", "std": "1/depth"}}}})
    assert [study.at(levels).network.rules for levels in study.levels()] == [
        {},
        {"head": "random_normal(std=1/depth)"},
    ]


def test_options_may_be_factors():
    """An option is a setting, so that it may be a factor; one that the network lacks may not."""
    study = own(factors={"network.options.width": [4, 8]})
    assert [study.at(levels).network.options["width"] for levels in study.levels()] == [4, 8]
    with pytest.raises(ValidationError, match=r"no setting 'network.options.height'"):
        own(factors={"network.options.height": [4, 8]})


def test_keys_cover_code_options_and_rules():
    """Another checksum of the code, option or rule is another cell; another backend's builder is none."""
    cell = grid.Cell("pytorch", "own", 0)
    plain = key(own(), cell)
    changed = (
        {"code": {"pytorch": "abc"}},
        {"options": {"width": 9, "depth": 4}},
        {"rules": {"head": "zeros"}},
        {"build": {"pytorch": "mine:other"}},
    )
    assert len({plain, *(key(own(network=each), cell) for each in changed)}) == 5
    both = {"build": {"pytorch": "mine:build", "keras": "theirs:build"}, "code": {"keras": "abc"}}
    assert key(own(network=both), cell) == plain
    assert key(own(audit=True), cell) == plain


def test_watched_models_have_names_of_their_own():
    """A nightly tells models apart by builder and options, so no two may have both in common."""
    narrow, wide = (Watched(build="m:build", options={"width": width}) for width in (8, 64))
    assert watched_once((narrow, wide)) == (narrow, wide)
    with pytest.raises(ValueError, match=r"given more than once: m:build\(width=8\)"):
        watched_once((narrow, wide, Watched(build="m:build", options={"width": 8}, shape=(3,))))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"network": {"build": {"pytorch": "no such thing"}}}, "code is named module:function"),
        ({"network": {"build": {}}}, "at least 1 item"),
        ({"backends": ("pytorch", "keras")}, "must name a builder for keras"),
        ({"network": {"rules": {"head": "he_norml"}}}, "unknown initializer 'he_norml'"),
        ({"network": {"rules": {"head": {"name": "random_normal", "std": "1/height"}}}}, "no value 'height'"),
        ({"network": {"rules": {"head": {"name": "random_normal", "std": "open('x')"}}}}, "no value 'open'"),
        ({"network": {"rules": {"head": {"name": "random_normal", "std": -1}}}}, "greater than 0"),
        ({"network": {"options": {"fan_in": 1}}}, "one of Python's"),
        ({"factors": {"network.rules": ["a"]}}, "named sets of rules"),
        ({"initializers": ("orthogonal(gain=activation)",)}, "gain must be a number"),
        ({"dataset": {"load": "a b"}}, "code is named module:function"),
        ({"dataset": {"path": "x.npz", "target": "y"}}, "Extra inputs"),
        ({"dataset": {"path": "x.parquet", "target": "y", "header": True}}, "a Parquet file names its columns"),
    ],
)
def test_wrong_networks_and_data_are_refused(wrong, words):
    """What no network of one's own could be is refused where it enters."""
    given = {"backends": ("pytorch",), "network": NETWORK, **wrong}
    given["network"] = {**NETWORK, **wrong.get("network", {})}
    with pytest.raises(ValidationError, match=words):
        Study.model_validate(given)


def test_own_needs_an_author():
    """The initializer `own` is for a network that somebody built."""
    with pytest.raises(ValidationError, match=r"own needs network\.build"):
        Study(initializers=("own",))


def test_a_study_can_be_written_and_read():
    """A study of a network of one's own is the same after a trip through JSON."""
    study = own(dataset={"path": "x.npz", "scaling": "channels_last"}, factors={"network.options.width": [4, 8]})
    assert Study.model_validate(study.model_dump(mode="json")) == study
    assert {hash(settings) for settings, _ in grid.resolved(study)} == {hash(each) for each, _ in grid.resolved(study)}


def test_real_targets_have_a_target_of_their_own():
    """Where targets are real, the R² to reach is lower than the accuracy, unless the study says what to reach."""
    real = {"load": "mine:load", "task": "regression"}
    assert [Study(dataset=data).target for data in ("diabetes", real, "iris")] == [R2_TARGET, R2_TARGET, 0.9]
    assert Study(dataset="diabetes", target=0.2).target == 0.2
    assert Study(dataset={"path": "a.csv", "target": "y"}).dataset == CsvFile(path="a.csv", target="y")
    with pytest.raises(ValidationError, match="datasets must be of one task"):
        Study(factors={"dataset": ["iris", "diabetes"]})
