"""What the page tells of networks of one's own."""

import numpy as np

from tasks.core.audit import audit
from tasks.core.audit.sample import look
from tasks.core.report import networks
from tests.shared import audited

NETWORK = {
    "backend": "pytorch",
    "options": {"depth": 2},
    "layers": [
        {"name": "stem", "kind": "Conv2d", "fans": [["weight", 9.0, 36.0]]},
        {"name": "lstm", "kind": "LSTM", "fans": [[f"weight_ih_l0.{gate}", 4.0, 8.0] for gate in "ifgo"]},
    ],
    "left": ["positions", "scale"],
    "notes": ["head.weight is embed.weight, and follows its law"],
    "native_factors": {"he_normal": {}, "glorot_uniform": {"stem": 0.25, "lstm": 0.4}},
}


def test_nothing_is_left_as_built_in_silence():
    """Parameters that no law decides are named, and so are notes, and laws whose native variance is another one."""
    left, note, native = networks.remarks({"networks": [NETWORK]})
    assert left == "pytorch: these parameters belong to no layer of a known kind and stay as built: positions, scale."
    assert note == "pytorch: head.weight is embed.weight, and follows its law."
    assert native.startswith(
        "pytorch: native glorot_uniform has ×0.25 the variance of its law in stem, and differs in 1"
    )
    assert networks.remarks({}) == []


def test_layers_are_listed_with_their_fans():
    """Each layer is a row with its kind and fans, equal fans once, and the factor of native variance."""
    table = networks.layers({"networks": [NETWORK]})
    rows = [[entry.text for entry in row] for row in table.rows]
    assert rows == [
        ["pytorch", "depth 2", "1", "stem", "Conv2d", "9 → 36", "×0.25 under glorot_uniform"],
        ["pytorch", "depth 2", "2", "lstm", "LSTM", "4 → 8", "×0.4 under glorot_uniform"],
    ]


def test_audits_are_told_worst_first():
    """Each finding is a row that leads to the audit's own page; a network without any is a row; all are counted."""
    layers, draws = audited.plain(6)
    wrong = {**draws, "l1.weight": lambda _: np.ones((24, 24)), "l2.bias": lambda _: np.ones(24)}
    found = {
        "pytorch-1": audit.judge(look(audited.Model(layers, wrong)), "m:build(depth=4)"),
        "pytorch-2": audit.judge(look(audited.Model(layers, draws)), "m:build"),
    }
    table = networks.audited(found, "http://run")
    rows = [[entry.text for entry in row] for row in table.rows]
    assert [row[:5] for row in rows] == [
        ["pytorch", "m:build(depth=4)", "fault", "all units alike", "l1.weight"],
        ["pytorch", "m:build(depth=4)", "doubt", "biases not zero", "l2.bias"],
        ["pytorch", "m:build", "", "nothing found", ""],
    ]
    assert [row[1].link for row in table.rows[1:]] == [f"http://run/artifacts/audit/pytorch-{at}.html" for at in (1, 2)]
    assert "pytorch m:build(depth=4): Found 1 fault, 1 doubt. pytorch m:build: Nothing found." in table.caption
    assert networks.audited({}, "http://run").rows == []
