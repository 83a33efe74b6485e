"""The signals that a vectorised program returns, against plain autograd and against the other backend."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from tasks.backends import keras, pytorch
from tasks.core.design.columns import START
from tasks.core.design.grid import Cell
from tasks.core.design.settings import Network, Recipe
from tasks.core.design.study import Study
from tasks.core.training import backend, batch
from tasks.core.training.signals import FLOW, GQ_EPSILON
from tests.shared.plain import plain_module
from tests.shared.programs import SETTINGS, cells_of, inputs, train

each_framework = pytest.mark.parametrize("framework", [pytorch, keras], ids=["pytorch", "keras"])

NETWORKS = {
    "relu": Network(hidden=(12, 12, 7)),
    "tanh, residual": Network(width=9, depth=4, activation="tanh", residual=True),
    "gelu, layer normalization": Network(hidden=(12, 9), activation="gelu", normalization="layer"),
    "sigmoid, batch normalization": Network(width=8, depth=3, activation="sigmoid", normalization="batch"),
    "no hidden layer": Network(hidden=()),
}


@cache
def probed(framework, name):
    """Return the signals of one untrained cell under shared weights, and its fold, weights and sizes."""
    study = Study(network=NETWORKS[name], weights="shared", recipe=Recipe(epochs=1, learning_rate=1e-9))
    (outcome,) = train(framework, study, [Cell(framework.NAME, "he_normal", 1)])
    fold, _, weights, sizes = inputs(framework, study, outcome.cell)
    return outcome.trained.signals, fold, weights, sizes


def reference(name):
    """Return START by layer, gradient quotient, loss and Jacobians of a plain torch module in float64, by autograd."""
    network = NETWORKS[name]
    _, fold, weights, sizes = probed(pytorch, name)
    model, load = plain_module(network, sizes)
    load(weights)
    model.double()
    x = torch.from_numpy(fold.x_train).double()
    seen = []

    def watch(part, given, output):
        output.retain_grad()
        seen.append(output)

    watched = model.norms if network.normalization != "none" else model.hidden
    for part in (*watched, model.output):
        part.register_forward_hook(watch)
    y = torch.from_numpy(fold.y_train)
    kernels = [part.weight for part in (*model.hidden, model.output)]
    loss = nn.functional.cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, kernels, create_graph=True)
    products = torch.autograd.grad(sum((g**2).sum() for g in gradients) / 2, kernels)
    layers = list(seen)
    seen.clear()
    nn.functional.cross_entropy(model(x), y).backward()
    act = {"relu": torch.relu, "tanh": torch.tanh, "gelu": nn.functional.gelu, "sigmoid": torch.sigmoid}
    rows = {start: [] for start in START}
    for at, (z, taken, g) in enumerate(zip(layers, seen, gradients, strict=True)):
        activated = z if at == len(layers) - 1 else act[network.activation](z)
        found = (z.mean(), z.var(correction=0), activated.mean(), activated.var(correction=0))
        found += ((len(x) * taken.grad).var(correction=0), g.norm(), torch.zeros(()))  # no units are alike here
        for start, value in zip(START, found, strict=True):
            rows[start].append(value.item())
    total = sum(
        ((g - p) / (g + GQ_EPSILON * (2 * (g >= 0).double() - 1)) - 1).abs().sum()
        for g, p in zip(gradients, products, strict=True)
    )
    quotient = (total / sum(kernel.numel() for kernel in kernels)).item()
    return rows, quotient, loss.item(), jacobians(model, x)


def jacobians(model, x):
    """Return the Jacobian of each row's logits, (rows, outputs, features), by autograd."""
    for norm in model.norms:  # evaluation with the statistics of these rows, held constant
        if isinstance(norm, nn.BatchNorm1d):
            norm.momentum = None
            norm.reset_running_stats()
    model(x)
    for norm in model.norms:
        if isinstance(norm, nn.BatchNorm1d):
            norm.running_var *= (len(x) - 1) / len(x)
    model.eval()
    return np.array([torch.autograd.functional.jacobian(lambda row: model(row[None])[0], row).numpy() for row in x])


@each_framework
@pytest.mark.parametrize("name", NETWORKS)
def test_start_is_plain_autograds(framework, name):
    """At initialization every layer's signals are those of a plain module in float64, in both backends."""
    signals, *_ = probed(framework, name)
    rows, quotient, loss, _ = reference(name)
    for start, expected in rows.items():
        np.testing.assert_allclose(signals.start[start], expected, rtol=1e-3, atol=1e-6, err_msg=start)
    assert signals.first_loss == pytest.approx(loss, rel=1e-5)
    assert signals.gradient_quotient == pytest.approx(quotient, rel=2e-3)


@each_framework
@pytest.mark.parametrize("name", NETWORKS)
def test_jacobians_are_autograds(framework, name):
    """The Jacobian's singular values are those of torch's own jacobian, row by row."""
    signals, *_ = probed(framework, name)
    *_, jacobians = reference(name)
    values = np.linalg.svd(jacobians, compute_uv=False)
    spectrum = signals.spectrum
    assert spectrum.largest == pytest.approx(np.median(values[:, 0]), rel=1e-3)
    assert spectrum.smallest == pytest.approx(np.median(values[:, -1]), rel=2e-3)
    assert spectrum.mean_square == pytest.approx(np.median((values**2).mean(1)), rel=1e-3)
    conditions = [row[0] / row[-1] if row[-1] > 0 else np.inf for row in values]
    assert spectrum.condition == pytest.approx(np.median(conditions), rel=2e-3)


@pytest.mark.parametrize(
    "setting", ["batch normalization", "layer normalization", "adamw", "clipped by value, then L2"]
)
def test_backends_agree(setting):
    """From one draw of weights both backends train alike and measure alike, where their own ways differ most."""
    study = SETTINGS[setting]
    network = study.network.model_copy(update={"bias": "zeros"})
    study = study.model_copy(
        update={
            "weights": "shared",
            "network": network,
            "recipe": study.recipe.model_copy(
                update={"epsilon": 1e-6, "learning_rate": study.recipe.learning_rate / 10}
            ),
        }
    )
    ours, theirs = (
        train(framework, study, [Cell(framework.NAME, name, 0) for name in study.initializers])
        for framework in (pytorch, keras)
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.trained.curves.train_loss, other.trained.curves.train_loss, rtol=2e-4)
        assert one.trained.signals.health == other.trained.signals.health
        for name, values in one.trained.signals.curves().items():
            np.testing.assert_allclose(values, other.trained.signals.curves()[name], rtol=5e-3, atol=1e-6, err_msg=name)


@each_framework
def test_flow_is_the_mean_over_steps(framework):
    """Under SGD a kernel moves by the learning rate times its gradient, and so say the two signals of it."""
    study = Study(network=Network(hidden=(8,)), recipe=Recipe(optimizer="sgd", epochs=1, batch_size="full"))
    (outcome,) = train(framework, study, [Cell(framework.NAME, "he_normal", 0)])
    _, _, weights, _ = inputs(framework, study, outcome.cell)
    flow, start = outcome.trained.signals.flow, outcome.trained.signals.start
    norms = [np.linalg.norm(kernel) for kernel in weights[::2]]
    np.testing.assert_allclose(flow["update_ratio"][0] * norms, 0.01 * flow["gradient_norm"][0], rtol=1e-3)
    np.testing.assert_allclose(flow["gradient_norm"][0], start["weight_gradient_norm"], rtol=1e-3)


@each_framework
def test_first_layer_to_overflow_is_named(framework):
    """Weights of 3e38 in the third layer overflow there in the first step, and everything after that one."""
    study = Study(network=Network(width=6, depth=4, activation="linear"), recipe=Recipe(epochs=1))
    program, folds, orders = batch.started(
        framework, study.settings(framework.NAME, ()), [Cell(framework.NAME, "he_normal", 0)]
    )
    weights = program.weights()
    weights[4] = np.sign(weights[4]) * np.float32(3e38)
    program.start(backend.Stack.of(folds), weights, [0.01])
    spread = program.probe().layers[0, START.index("pre_activation_variance")]
    assert np.isfinite(spread).tolist() == [True, True, False, False, False]
    finite = program.run(orders[0][:, None]).flow[0, 0, FLOW.index("finite")]
    np.testing.assert_allclose(finite, [0.25, 0.25, 0, 0, 0])  # of four steps the first, before its update spoils all


@each_framework
def test_zeros_are_symmetric_and_deep_dying_networks_dead(framework):
    """Zeros leave units alike from the first layer on; narrow ReLU networks die somewhere, and all is zero above."""
    study = Study(
        network=Network(width=2, depth=16), recipe=Recipe(epochs=1), initializers=("he_normal", "zeros"), seeds=4
    )
    found = {
        (outcome.cell.initializer, outcome.trained.health)
        for outcome in train(framework, study, cells_of(framework, study))
    }
    assert found == {("he_normal", "dead"), ("zeros", "symmetric")}


@each_framework
def test_vanished_signals_end_alike(framework):
    """What falls below float32's normal numbers is zero in both backends, and so is the health the same."""
    study = Study(
        network=Network(width=8, depth=12, activation="tanh"),
        weights="shared",
        recipe=Recipe(epochs=1),
        initializers=("random_normal(std=1e-4)",),
        seeds=3,
    )
    outcomes = train(framework, study, cells_of(framework, study))
    assert [outcome.trained.health for outcome in outcomes] == ["vanishing"] * 3
    assert [outcome.trained.signals.scalars()["dead_at_start"] for outcome in outcomes] == [1.0] * 3


@each_framework
def test_untrained_batch_normalization_normalizes(framework):
    """Before training the state is that of rows normalized by themselves, not by statistics of no row."""
    network = Network(hidden=(16, 16), activation="sigmoid", normalization="batch")
    study = Study(network=network, recipe=Recipe(epochs=1))
    (outcome,) = train(framework, study, [Cell(framework.NAME, "random_normal(std=10)", 0)])
    assert outcome.trained.signals.scalars()["saturated_at_start"] < 0.01


@each_framework
def test_the_last_update_counts(framework):
    """Weights that the very last step spoils are found not finite after it, with epoch and layer."""
    recipe = Recipe(optimizer="sgd", learning_rate=1e30, epochs=1, batch_size="full")
    study = Study(network=Network(hidden=(8, 8), activation="linear"), recipe=recipe)
    (outcome,) = train(framework, study, [Cell(framework.NAME, "he_normal", 0)])
    assert (outcome.status, outcome.trained.health) == ("diverged", "exploding")
    assert outcome.trained.signals.not_finite_at[0] == 1
