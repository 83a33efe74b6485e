"""Faults that are planted in the PyTorch backend; the gate must catch each where the study uses the setting."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn

from tasks.backends import keras, pytorch
from tasks.backends.pytorch import cell, network
from tasks.core.design.initializers import TruncatedNormal, VarianceScaling
from tasks.core.design.settings import Network, Recipe
from tasks.core.design.study import Study
from tasks.core.training import laws, parity
from tasks.core.training.parity import Answer, Asked, Level

program = import_module("tasks.backends.pytorch.program")  # the package offers a function of that name

SGD = {"optimizer": "momentum", "learning_rate": 0.05, "weight_decay": 0.01, "clip_norm": 0.5}

LEVELS = {
    "default": (Network(hidden=(4, 4)), Recipe()),
    "elu": (Network(hidden=(4, 4), activation="elu", normalization="layer"), Recipe(**SGD)),
    "gelu": (
        Network(hidden=(4, 4), activation="gelu", normalization="batch"),
        Recipe(optimizer="adamw", weight_decay=0.01),
    ),
    "selu": (Network(width=4, depth=2, activation="selu", residual=True), Recipe(optimizer="sgd", clip_value=0.1)),
}
"""Few levels, each with many settings: Keras takes a second to compile one."""


@cache
def level(name, seed=0):
    net, recipe = LEVELS[name]
    return Level(settings=Study(network=net, recipe=recipe).settings("pytorch", ()), cells=1, seed=seed)


@cache
def by_keras(name, seed):
    return parity.trace(keras, level(name, seed))


def gate(name, theirs=by_keras):
    """Return what the gate finds beyond its bounds at a level, PyTorch being as it is now; in its every attempt."""
    return [_attempt(level(name, seed), theirs(name, seed)) for seed in range(parity.ATTEMPTS)]


def _attempt(one, theirs):
    traces = {"pytorch": parity.trace(pytorch, one), "keras": theirs}
    answers = {backend: Answer(traces=(trace,), drawn=()) for backend, trace in traces.items()}
    found = parity.findings(Asked(levels=(one,), drawn=()), answers)
    return [each for each in found if not each.held]


@pytest.mark.parametrize("name", LEVELS)
def test_right_backends_pass(name):
    """The gate finds nothing in the backends as they are."""
    assert gate(name) == [[]] * parity.ATTEMPTS


def selu(z, alpha=1.7):
    return torch.where(z > 0, z, alpha * torch.expm1(z)) * 1.0507


@pytest.mark.parametrize(
    ("name", "activation", "wrong"),
    [
        ("default", "relu", nn.LeakyReLU(0.1)),
        ("default", "relu", nn.LeakyReLU(0.01)),
        ("elu", "elu", nn.ELU(1.1)),
        ("selu", "selu", selu),
        ("gelu", "gelu", nn.GELU("tanh")),
    ],
)
def test_activations(name, activation, wrong, monkeypatch):
    """A slope, an α or an approximation that is not the study's is caught, with a single backend too."""
    monkeypatch.setitem(network.ACTIVATIONS, activation, wrong)
    assert all(gate(name))
    assert all(gate(name, lambda name, seed: parity.trace(pytorch, level(name, seed))))


@dataclass(frozen=True)
class Fault:
    """A change to the backend; `plant` makes it, given monkeypatch."""

    level: str
    plant: Callable[[pytest.MonkeyPatch], None]


def set_in(module, name, value):
    return lambda patch: patch.setattr(module, name, value)


def optimizer(**changes):
    """Plant other options of the optimizer, in each of its groups of weights."""

    def changed(own, recipe, kernels, parts):
        built = own(recipe, kernels, parts)
        for group in built.param_groups:
            group.update({name: value(group) if callable(value) else value for name, value in changes.items()})
        return built

    return lambda patch: patch.setattr(program, "optimizer", partial(changed, program.optimizer))


def around(owner, name, wrong):
    """Plant a method that is called in place of the right one, which is its first argument."""

    def plant(patch):
        right = getattr(owner, name)
        patch.setattr(owner, name, lambda *args: wrong(right, *args))

    return plant


def clipped_each(gradients, recipe):
    return {name: each * (recipe.clip_norm / each.norm()).clamp(max=1) for name, each in gradients.items()}


def without_the_last_batch(run, self, order):
    return run(self, order[..., : order.shape[-1] // self.recipe.batch_size * self.recipe.batch_size])


def with_the_first_batch_twice(run, self, order):
    return run(self, np.concatenate([order[..., : self.recipe.batch_size], order], axis=-1))


def scored_on_train_rows(now, self):
    right = self.data
    self.data = [*right[2:], *right[:2]]
    found = now(self)
    self.data = right
    return found


def given_train_rows(start, self, stack, weights, rates):
    start(self, stack, weights, rates)
    rows = self.data[3].shape[1]
    self.data[2:] = self.x_test, _ = self.x[:, :rows], self.y[:, :rows]


def in_training(evaluated, self, weights, state, x):
    return torch.func.functional_call(self.training, (weights, state), (x,))


def with_the_last_state(start, self, stack, weights, rates):
    last = getattr(self, "optimizer", None)
    start(self, stack, weights, rates)
    if last:
        self.optimizer.load_state_dict(last.state_dict())


FAULTS = {
    "momentum with dampening": Fault("elu", optimizer(dampening=lambda group: group["momentum"])),
    "Nesterov's momentum": Fault("elu", optimizer(nesterov=True)),
    "biases that decay": Fault("elu", optimizer(weight_decay=0.01)),
    "L2 without its half": Fault("elu", optimizer(weight_decay=lambda group: 2 * group["weight_decay"])),
    "clipping per tensor": Fault("elu", set_in(cell, "clipped", clipped_each)),
    "layer normalization's epsilon": Fault("elu", set_in(network, "NORMALIZATION_EPSILON", 1e-3)),
    "batch normalization's epsilon": Fault("gelu", set_in(network, "NORMALIZATION_EPSILON", 1e-3)),
    "batch normalization's share": Fault("gelu", set_in(network, "NEWEST", 0.01)),
    "AdamW that is coupled": Fault("gelu", optimizer(decoupled_weight_decay=False)),
    "scores with the statistics of the batch": Fault("gelu", around(cell.OneCell, "_evaluated", in_training)),
    "the last, small batch dropped": Fault("default", around(program.Program, "run", without_the_last_batch)),
    "the first batch repeated": Fault("default", around(program.Program, "run", with_the_first_batch_twice)),
    "test scores of train rows": Fault("default", around(program.Program, "_now", scored_on_train_rows)),
    "train rows for test rows": Fault("default", around(program.Program, "start", given_train_rows)),
    "an optimizer that is not reset": Fault("default", around(program.Program, "start", with_the_last_state)),
    "Adam's epsilon": Fault("default", optimizer(eps=1e-5)),
    "Adam's β₂": Fault("default", optimizer(betas=(0.9, 0.99))),
    "a learning rate 1 % off": Fault("selu", optimizer(lr=0.0101)),
    "clipping by value forgotten": Fault("selu", set_in(cell, "clipped", lambda gradients, recipe: gradients)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name, monkeypatch):
    """A fault of the network, of the recipe, of the batches or of the scores is caught."""
    FAULTS[name].plant(monkeypatch)
    assert all(gate(FAULTS[name].level))


def drawn(label, hidden=(8, 8)):
    settings = Study(network=Network(hidden=hidden)).settings("pytorch", ())
    return [each for each in laws.judged(pytorch, settings, label) if not each.held]


def test_truncation_without_rescaling(monkeypatch):
    """A cut normal that is not widened again, so that its variance is 0.77 of the law's, is caught."""
    label = "variance_scaling(scale=2)"
    assert drawn(label) == []

    def cut(law, fan_in, fan_out, backend):
        return TruncatedNormal(law.std(fan_in, fan_out))

    monkeypatch.setattr(VarianceScaling, "without_fans", cut)
    assert [each.what for each in drawn(label)] == ["weights, against their law (√n D)"]


@pytest.mark.parametrize("label", ["he_normal", "glorot_uniform", "orthogonal", "random_normal"])
def test_native_draws(label, monkeypatch):
    """Draws a fifth too wide, and one kernel for every layer, are caught; the framework's own draws pass."""
    native = pytorch.native
    assert drawn(label) == []
    monkeypatch.setattr(pytorch, "native", lambda *args: 1.2 * native(*args))
    assert [each.what for each in drawn(label)] == ["weights, against their law (√n D)"]
    monkeypatch.setattr(pytorch, "native", lambda law, fan_in, fan_out, seed: native(law, fan_in, fan_out, 0))
    assert "kernels, against each other (√n |r|)" in [each.what for each in drawn(label)]
