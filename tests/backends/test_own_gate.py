"""Both backends on a network of one's own: equal weights where layers match, and the gate that compares them."""

import sys
from functools import partial
from itertools import combinations

import keras
import numpy as np
import pytest
from torch import nn

from tasks.backends import keras as on_keras
from tasks.backends import pytorch as on_pytorch
from tasks.core.design import grid
from tasks.core.training import datasets, own, own_parity, parity
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


class Gated(nn.Module):
    """A GRU, or another recurrent layer, whose last state is read."""

    def __init__(self, shape, outputs, kind="GRU"):
        super().__init__()
        self.rnn = getattr(nn, kind)(shape[1], 48, batch_first=True)
        self.head = nn.Linear(48, outputs)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def gated_in_keras(shape, outputs, kind="GRU"):
    return keras.Sequential([keras.Input(shape), getattr(L, kind)(48, name="rnn"), L.Dense(outputs, name="head")])


def of_sequences(framework, build):
    """Return the study of a recurrent network in both backends, with the settings and a cell of one of them."""
    both = {"backends": ("pytorch", "keras"), "network": {"build": BUILD}, "weights": "shared"}
    found = study("pytorch", "sequences", initializers=("lecun_normal",), **both)
    cell = next(each for each in grid.cells(found) if each.backend == framework.NAME)
    return framework, build, found.settings(framework.NAME, ()), cell


@pytest.mark.parametrize(
    ("framework", "build", "gates"),
    [(on_pytorch, Gated, ["r", "z", "n"]), (on_keras, gated_in_keras, ["z", "r", "h"])],
)
def test_each_gate_has_a_draw_of_its_own(framework, build, gates):
    """A GRU's gates are drawn one by one, from inputs and from the state, each with the fans of its own product."""
    *_, settings, cell = of_sequences(framework, build)
    data = datasets.load(settings.dataset)
    program = own.started(framework, build, settings, cell, data, data.x.astype(np.float32))
    layer = program.layers.layers[0]
    assert [kernel.name.rpartition(".")[2] for kernel in layer.kernels] == 2 * gates
    drawn = [kernel.place.view(program.read(layer.name, kernel.place.parameter)) for kernel in layer.kernels]
    for kernel, values in zip(layer.kernels, drawn, strict=True):
        assert (kernel.fan_in, kernel.fan_out) == (8 if values.size == 8 * 48 else 48, 48)
        assert values.var() * kernel.fan_in == pytest.approx(1, abs=5 * np.sqrt(2 / values.size))
    for one, other in combinations(drawn, 2):
        if one.shape == other.shape:
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(one.size)


@pytest.mark.parametrize(("kind", "words"), [("GRU", "the order of gates and biases"), ("LSTM", "biases")])
def test_recurrent_layers_of_two_frameworks_share_no_weights(kind, words):
    """Where the frameworks order gates otherwise, or have other biases, shared weights are refused with the reason."""
    found = {}
    for framework, build in ((on_pytorch, Gated), (on_keras, gated_in_keras)):
        sys.modules["tasks.backends.keras.own"]._kept.clear()
        _, made, settings, cell = of_sequences(framework, partial(build, kind=kind))
        found[framework.NAME] = own.examine(framework, made, settings, [cell])
    with pytest.raises(ValueError, match=rf"pytorch has rnn \({kind}, .*; they differ in {words}$"):
        own_parity.match(found)
