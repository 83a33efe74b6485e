"""An audit as a whole: JSON that can be read again, what fails, and two audits side by side."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tasks.core.audit import audit, compare
from tasks.core.audit.audit import Audit
from tasks.core.audit.sample import look
from tasks.core.report import audit_text
from tests.shared import audited


def of(layers, draws, **how):
    return audit.judge(look(audited.Model(layers, draws, **how)), "m:build")


@pytest.fixture(scope="module")
def right():
    return of(*audited.plain())


def test_an_audit_is_the_same_after_json(right):
    """What is written is read again; another schema or version is refused, and so is what is no JSON."""
    text = right.to_json()
    assert Audit.from_json(text, "a.json") == right
    passed = audited.Model(*audited.plain())
    blocks = (("b.0", 2.0, 1.0), ("b.1", np.inf, np.nan))
    passed.first_pass = lambda: replace(audited.passed(np.array([1, 1, np.inf, np.nan])), blocks=blocks)
    whole = audit.judge(look(passed), "m")
    assert [(each.name, each.forward, each.finite) for each in whole.flow.blocks] == [
        ("b.0", 2, True),
        ("b.1", None, False),
    ]
    assert whole.flow.wrong_at == "l2"
    assert Audit.from_json(whole.to_json(), "a.json") == whole
    raw = json.loads(text)
    assert (raw["schema"], raw["version"]) == ("initbench.audit", 1)
    for wrong in (json.dumps({**raw, "version": 2}), json.dumps({**raw, "schema": "x"}), "{}", "no"):
        with pytest.raises(ValueError, match=r"a\.json must be a snapshot of `initbench audit --save`.*version 1"):
            Audit.from_json(wrong, "a.json")


def test_severities_fail_as_asked(right):
    """A doubt fails where doubts are asked for, and not otherwise."""
    layers, draws = audited.plain(6)
    doubtful = of(layers, {**draws, "l1.bias": lambda _: np.ones(24)})
    assert (right.fails("note"), doubtful.fails(), doubtful.fails("doubt")) == (False, False, True)


def test_the_gain_is_that_of_the_operation(right):
    """He's law has gain √2, and a standard deviation of once He's."""
    row = right.rows[0]
    assert (row.gain, row.of_he) == pytest.approx((np.sqrt(2), 1), rel=0.05)


def test_the_verdict_counts_what_is_unknown(right):
    """Where nothing is found, parameters that no known law fits are counted: they are not right, but unknown."""
    assert audit_text.verdict(right) == "Nothing found."
    layers, draws = audited.plain()
    odd = {"a": lambda rng: rng.laplace(0, 1, (40, 40)), "b": lambda rng: rng.normal(3, 1, (40, 40))}
    found = of(layers, {**draws, **odd}, others=dict.fromkeys(odd, "Own"))
    assert audit_text.verdict(found) == "Nothing found; 2 parameters have no known law."


def test_texts_fit_a_terminal():
    """No line is wider than 100 columns, whatever the names; the worst comes first."""
    name = "a.very.long.name.of.a.layer." * 5
    layers = [*audited.plain()[0], audited.dense(name, 24, 24)]
    draws = {**audited.plain()[1], **audited.drawn(layers[-1]), f"{name}.weight": lambda _: np.ones((24, 24))}
    text = audit_text.text(of(layers, draws))
    assert max(map(len, text.splitlines())) <= 100
    rows = [line for line in text.splitlines() if "24×24" in line]
    assert rows[0].startswith("fault")
    other = audit_text.side_by_side(compare.compare(of(layers, draws), of(*audited.plain())), ("a.json", "b.json"))
    assert max(map(len, other.splitlines())) <= 100


def test_lines_tell_what_matters_first():
    """In one line, the worst findings and the first changes are told, and how many more there are."""
    layers, draws = audited.plain(6)
    wrong = {f"l{at}.weight": lambda _: np.ones((24, 24)) for at in range(5)}
    before, after = (
        of(layers, draws),
        of(
            [*layers[:5], audited.dense("new", 24, 24)],
            {
                **{path: draw for path, draw in draws.items() if not path.startswith("l5")},
                **audited.drawn(audited.dense("new", 24, 24)),
                **wrong,
            },
        ),
    )
    assert audit_text.worst(before) == ""
    first, *others = audit_text.worst(after).split("; ")
    assert first == "fault: all units alike: l0.weight"
    assert others[-1] == f"and {len(after.findings) - 3} more"
    compared = compare.compare(before, after)
    first, *others = audit_text.changes(compared).split("; ")
    assert first.startswith("l0.weight: law he_normal")
    assert first.endswith(", now ones")
    assert others[-1] == f"and {len(compared.changes) - 3} more"


def test_equal_audits_have_not_changed(right):
    """Two audits of one model are equal in every bit."""
    found = compare.compare(right, of(*audited.plain()))
    assert found.same
    assert audit_text.changes(found) == "Nothing changed."
    assert found.equal == found.matched == len(right.rows)


def test_changes_are_told(right):
    """Another law, and another standard deviation, are told; another draw of the same law is not."""
    layers, draws = audited.plain()

    def later(rng):
        rng.normal()
        return audited.drawn(layers[0])["l0.weight"](rng)

    found = compare.compare(right, of(layers, {**draws, "l0.weight": later}))
    assert found.same
    assert found.equal < found.matched
    narrow = audited.drawn(layers[2], "lecun_uniform")["l2.weight"]
    changed = compare.compare(right, of(layers, {**draws, "l2.weight": narrow}))
    assert [(each.name, each.what) for each in changed.changes] == [("l2.weight", "law"), ("l2.weight", "SD")]


def test_a_port_is_matched_by_order_and_shape(right):
    """Layers under other names are matched in their order; what has no partner is told."""
    layers = [audited.dense(f"block.{at}", 24, 24) for at in range(4)] + [audited.dense("head", 24, 5)]
    draws = {path: draw for layer in layers for path, draw in audited.drawn(layer).items()}
    found = compare.compare(right, of(layers, draws))
    assert found.matched == 8
    assert found.changes == ()
    assert found.only == ((), ("head.weight", "head.bias"))
