"""Both backends on a network of one's own: equal weights where layers match, and the gate that compares them."""

import sys

import keras
import pytest
from torch import nn

from tasks.backends import keras as on_keras
from tasks.backends import pytorch as on_pytorch
from tasks.core.design import grid
from tasks.core.training import own, own_parity, parity
from tasks.core.training.parity import Asked, Level
from tests.shared.keys import HERE
from tests.shared.own import study

L = keras.layers
BUILD = {"pytorch": "mine:build", "keras": "mine:build"}


@pytest.fixture(autouse=True)
def nothing_kept():
    """Have no program of an earlier test, whose builder has the same name."""
    sys.modules["tasks.backends.keras.own"]._kept.clear()


def in_pytorch(shape, outputs, *, slope=0.0):
    return nn.Sequential(nn.Linear(shape[0], 8), nn.LeakyReLU(slope) if slope else nn.ReLU(), nn.Linear(8, outputs))


def in_keras(shape, outputs, layers=1, units=8):
    hidden = [L.Dense(units, activation="relu") for _ in range(layers)]
    return keras.Sequential([keras.Input(shape), *hidden, L.Dense(outputs)])


def asked(**changes):
    both = {"backends": ("pytorch", "keras"), "network": {"build": BUILD}, "weights": "shared"}
    return study("pytorch", "real", **both, **changes)


def level():
    found = asked(initializers=("he_normal",))
    batches = [grid.Batch.of(settings, cells, HERE_WITH_DATA, 0.4, "cell") for settings, cells in grid.resolved(found)]
    (only,) = Asked.of(batches).levels
    return only


HERE_WITH_DATA = grid.Platform(HERE.frameworks, "cpu", {}, "0.1", {"mine:real": "a"})


def traces(only: Level, build=in_pytorch):
    return {
        "pytorch": own_parity.trace(on_pytorch, build, only),
        "keras": own_parity.trace(on_keras, in_keras, only),
    }


def test_two_builders_of_one_network_pass_the_gate():
    """From shared weights both backends give equal outputs, before training and after a few steps."""
    only = level()
    findings = parity.between(only, traces(only))
    assert [finding.what.partition(",")[0] for finding in findings] == ["outputs before training", "losses", "outputs"]
    parity.judge(findings)


def test_the_gate_finds_two_networks():
    """A builder whose activation has another slope is another network, and the gate says so."""
    only = level()
    with pytest.raises(parity.ParityError, match="outputs before training, against each other"):
        parity.judge(parity.between(only, traces(only, lambda *given: in_pytorch(*given, slope=0.1))))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"units": 9}, r"pytorch has 0 \(Linear, fans 5 and 8\), keras dense \(Dense, fans 5 and 9\)"),
        ({"layers": 2}, r"pytorch has 2 \(Linear, fans 8 and 2\), keras dense_1 \(Dense, fans 8 and 8\)"),
    ],
)
def test_layers_that_do_not_match_share_no_weights(options, words):
    """Shared weights need layers that match one to one; the first that does not is told."""
    found = {}
    for framework, build in ((on_pytorch, in_pytorch), (on_keras, lambda *given: in_keras(*given, **options))):
        settings = asked(initializers=("he_normal",))
        cells = [cell for cell in grid.cells(settings) if cell.backend == framework.NAME][:1]
        found[framework.NAME] = own.examine(framework, build, settings.settings(framework.NAME, ()), cells)
    with pytest.raises(ValueError, match=words):
        own_parity.match(found)
