"""Networks of one's own in PyTorch, against plain loops and by what must not matter."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from tasks.backends import pytorch
from tasks.backends.pytorch import losses
from tasks.core.design import grid
from tasks.core.training import datasets, own, seeds
from tests.shared.own import study
from tests.shared.programs import apart


class Residual(nn.Module):
    """A convolution with batch normalization and a way around it, dropout, and a head."""

    def __init__(self, shape, outputs, drop=0.0):
        super().__init__()
        self.stem = nn.Conv2d(shape[0], 4, 3, padding=1)
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.relu, self.drop, self.head = nn.ReLU(inplace=True), nn.Dropout(drop), nn.Linear(4, outputs)

    def forward(self, x):
        h = self.stem(x)
        h = h + self.relu(self.norm(self.conv(h)))
        return self.head(self.drop(h.mean((2, 3))))


class Encoder(nn.Module):
    """A transformer encoder with learned positions, which belong to no layer."""

    def __init__(self, shape, outputs):
        super().__init__()
        self.embed = nn.Linear(shape[1], 8)
        self.positions = nn.Parameter(torch.randn(shape[0], 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(self.block(self.embed(x) + self.positions).mean(1))


class Recurrent(nn.Module):
    """An LSTM whose last state is read."""

    def __init__(self, shape, outputs):
        super().__init__()
        self.lstm, self.head = nn.LSTM(shape[1], 8, batch_first=True), nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Tagger(nn.Module):
    """An embedding, and a class at each position."""

    def __init__(self, shape, outputs):
        super().__init__()
        self.embed, self.head = nn.Embedding(12, 8), nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(torch.tanh(self.embed(x)))


class Regressor(nn.Sequential):
    """A perceptron with real outputs."""

    def __init__(self, shape, outputs):
        super().__init__(nn.Linear(shape[0], 8), nn.Tanh(), nn.Linear(8, outputs))


MODELS = {"images": Residual, "sequences": Recurrent, "tokens": Tagger, "real": Regressor}


def train(asked, build, cell=None, rate=None):
    settings = asked.settings("pytorch", ())
    cell = cell or grid.cells(asked)[0]
    return own.train(pytorch, build, settings, cell, rate or settings.recipe.learning_rate, clock=time.perf_counter)


def plain(asked, build, cell):
    """Train the way anyone would write it, from the weights that the author's code draws under the cell's seed."""
    settings = asked.settings("pytorch", ())
    data = datasets.load(settings.dataset)
    fold = datasets.divide(data, settings.split, cell.seed)
    order = datasets.visits(len(fold.y_train), settings.recipe.epochs, cell.seed, shuffle=True)
    with torch.random.fork_rng():
        torch.manual_seed(seeds.integer(seeds.stream(cell.seed, "built")))
        model = build(data.problem.shape, data.problem.outputs)
    optimizer = torch.optim.Adam(model.parameters(), settings.recipe.learning_rate)
    x, y = torch.from_numpy(fold.x_train), torch.from_numpy(fold.y_train)
    for epoch in torch.from_numpy(order).long():
        for rows in epoch.split(settings.recipe.batch_size):
            optimizer.zero_grad()
            given = model(x[rows])
            if data.classes:
                loss = nn.functional.cross_entropy(given.flatten(0, -2), y[rows].flatten())
            else:
                loss = nn.functional.mse_loss(given, y[rows])
            loss.backward()
            optimizer.step()
    return {name: value.numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("data", MODELS)
def test_training_equals_a_plain_loop(data):
    """Without dropout, a cell's weights are those of a plain loop, bit for bit, whatever the layers, data and task."""
    asked = study("pytorch", data)
    cell = grid.cells(asked)[0]
    found, expected = train(asked, MODELS[data], cell).trained.weights, plain(asked, MODELS[data], cell)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_cell_depends_on_its_seed_alone():
    """With dropout, a cell's numbers do not depend on the cells before it or on global generators."""
    asked, build = study("pytorch", initializers=("own", "he_normal")), lambda *given: Residual(*given, drop=0.3)
    first, other, *_ = cells = grid.cells(asked)
    alone = train(asked, build, first).trained.weights
    train(asked, build, cells[-1])
    torch.manual_seed(7)
    again, differs = (train(asked, build, cell).trained.weights for cell in (first, other))
    np.testing.assert_equal(again, alone)
    assert not np.array_equal(differs["stem.weight"], alone["stem.weight"])
    still = train(asked, Residual, first).trained.weights
    assert not np.array_equal(still["stem.weight"], alone["stem.weight"])  # so dropout was on


def test_digests_tell_where_a_cell_first_differs(monkeypatch):
    """Start weights, the arithmetic behind the first gradient, and training each show in a stage of their own."""
    asked = study("pytorch", "real")
    first, other, *_ = grid.cells(asked)
    one = train(asked, Regressor, first)
    assert apart(one, train(asked, Regressor, first)) == [[], [], []]
    assert apart(one, train(asked, Regressor, other))[1] == ["0.weight", "2.weight"]

    def shifted(*given):
        model = Regressor(*given)
        nn.init.zeros_(model[2].bias)
        return model

    assert apart(one, train(asked, shifted, first))[0] == ["2.bias"]
    start, gradient, end = apart(one, train(asked, Regressor, first, rate=0.01001))
    assert (start, gradient, len(end)) == ([], [], 4)
    monkeypatch.setattr(losses, "loss", lambda *given, own=losses.loss: 1.001 * own(*given))
    start, gradient, end = apart(one, train(asked, Regressor, first))
    assert (start, gradient, len(end)) == ([], ["0.weight", "2.weight"], 4)


def test_a_builder_leaves_no_trace():
    """Whatever a builder does to global generators and settings is undone."""

    def build(shape, outputs):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        return Regressor(shape, outputs)

    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    outcome = train(study("pytorch", "real"), build)
    assert outcome.status == "finished"
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_layers_are_drawn_by_the_cells_initializer_and_by_rules():
    """An initializer goes on every weighted layer; a rule beats it, with the network's options in its expressions."""
    rules = {"head": "zeros", "conv": {"name": "constant", "value": "1/(depth*fan_in)"}, "positions": "ones"}
    network = {"build": {"pytorch": "mine:build"}, "options": {"depth": 4}, "rules": rules}
    asked = study("pytorch", initializers=("constant(value=0.5)",), network={**network, "rules": {**rules}})
    with pytest.raises(ValueError, match=r"'positions' must match a layer or a parameter; there are stem"):
        train(asked, Residual)
    del rules["positions"]
    asked = study("pytorch", initializers=("constant(value=0.5)",), network=network, recipe={"learning_rate": 1e-30})
    weights = train(asked, Residual).trained.weights
    assert np.unique(weights["stem.weight"]) == 0.5
    np.testing.assert_allclose(weights["conv.weight"], 1 / (4 * 36))
    assert np.abs(weights["head.weight"]).max() < 1e-20
    assert (weights["norm.weight"] == 1).all()


def test_what_belongs_to_no_layer_stays_as_built_unless_a_rule_names_it():
    """A parameter of no known layer is told by name, and a rule without fans may draw it."""
    asked = study("pytorch", "sequences", initializers=("he_normal",))
    settings = asked.settings("pytorch", ())
    found = own.examine(pytorch, Encoder, settings, grid.cells(asked)[:1])
    assert found.layers.left == ("positions",)
    names = [layer.name for layer in found.layers.layers]
    assert names.index("embed") < names.index("block.linear1") < names.index("head")
    ruled = study(
        "pytorch",
        "sequences",
        network={"build": {"pytorch": "mine:build"}, "rules": {"positions": "constant(value=2)"}},
    )
    tiny = ruled.model_copy(update={"recipe": ruled.recipe.model_copy(update={"learning_rate": 1e-30})})
    np.testing.assert_allclose(train(tiny, Encoder).trained.weights["positions"], 2)


def test_lsuv_gives_unit_variance():
    """LSUV rescales layer by layer, in order of execution, until outputs have variance 1 on the train rows."""
    outcome = train(study("pytorch", initializers=("lsuv",)), Residual)
    variances = outcome.trained.signals.start["pre_activation_variance"]
    np.testing.assert_allclose(variances, 1, atol=0.15)


def test_signals_of_layers():
    """Signals have the definitions of the perceptron's: variances of outputs and of their gradients, dead units."""
    asked = study("pytorch", "real", recipe={"batch_size": "full"})
    outcome = train(asked, Regressor)
    settings = asked.settings("pytorch", ())
    fold = datasets.divide(datasets.load(settings.dataset), settings.split, 0)
    with torch.random.fork_rng():
        torch.manual_seed(seeds.integer(seeds.stream(0, "built")))
        model = Regressor((5,), 2)
    x, y = torch.from_numpy(fold.x_train), torch.from_numpy(fold.y_train)
    z = model[0](x)
    z.retain_grad()
    a = torch.tanh(z)
    loss = nn.functional.mse_loss(model[2](a), y)
    loss.backward()
    start = outcome.trained.signals.start
    rows = len(x)
    assert start["pre_activation_variance"][0] == pytest.approx(z.var(correction=0).item(), rel=1e-4)
    assert start["activation_variance"][0] == pytest.approx(a.var(correction=0).item(), rel=1e-4)
    assert start["gradient_variance"][0] == pytest.approx((rows * z.grad).var(correction=0).item(), rel=1e-4)
    assert start["weight_gradient_norm"][0] == pytest.approx(model[0].weight.grad.norm().item(), rel=1e-4)
    assert outcome.trained.signals.first_loss == pytest.approx(loss.item(), rel=1e-4)
    assert outcome.trained.signals.uniform_loss == 1.0  # the variance of scaled targets
    jacobian = model[2].weight @ torch.diag(1 - a[0] ** 2) @ model[0].weight
    expected = torch.linalg.svdvals(jacobian)
    assert outcome.trained.signals.spectrum.largest == pytest.approx(expected[0].item(), rel=0.5)
    assert np.isfinite(outcome.trained.signals.gradient_quotient)


def test_an_exploding_network_names_the_layer():
    """A cell that diverges says in which layer an output was not finite first."""
    asked = study("pytorch", initializers=("random_normal(std=1e19)",))
    outcome = train(asked, Residual)
    assert outcome.status == "diverged"
    assert "pre-activations of layer" in outcome.reason
    assert "(conv)" in outcome.reason or "(head)" in outcome.reason or "(stem)" in outcome.reason


class Wide(nn.Module):
    def forward(self, x):
        return torch.zeros(len(x), 3)


BAD = {
    "no module": (lambda shape, outputs: 3, "must return a torch.nn.Module; it returned int"),
    "no layer": (lambda shape, outputs: nn.Sequential(nn.Flatten(), nn.Tanh()), "must give"),
    "wrong shape": (
        lambda shape, outputs: Residual(shape, outputs + 1),
        r"\(rows, 10\) .*gives \(rows, 11\)",
    ),
    "several tensors": (lambda shape, outputs: nn.Identity(), "must give"),
    "lazy": (
        lambda shape, outputs: nn.Sequential(nn.Flatten(), nn.LazyLinear(outputs)),
        r"lazy modules .* 1\.weight",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_models_that_cannot_be_trained_are_refused(name):
    """What a builder must not return is refused with the rule and what came."""
    build, words = BAD[name]
    asked = study("pytorch")
    with pytest.raises(ValueError, match=words):
        own.examine(pytorch, build, asked.settings("pytorch", ()), grid.cells(asked)[:1])


def test_another_seed_must_build_the_same_shapes():
    """A builder that draws its widths is refused: cells of one initializer would be other networks."""

    def build(shape, outputs):
        width = int(torch.randint(2, 64, ()))
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, outputs))

    asked = study("pytorch")
    with pytest.raises(ValueError, match="the same shapes under every seed; 1"):
        own.examine(pytorch, build, asked.settings("pytorch", ()), grid.cells(asked)[:1])


def test_fewer_rows_than_a_batch_are_refused():
    """A batch that is larger than the train rows is refused."""
    asked = study("pytorch", recipe={"batch_size": 2000})
    with pytest.raises(ValueError, match=r"recipe\.batch_size must be at most the number of train rows, 76; got 2000"):
        own.examine(pytorch, Residual, asked.settings("pytorch", ()), grid.cells(asked)[:1])
