from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given as given_by
from hypothesis import strategies as st
from scipy import linalg, stats

from tasks.core.design import initializers
from tasks.core.design.initializers import OWN, TRUNCATION, RandomLaw, label, named
from tests.shared.answers import answer

FAN_IN, FAN_OUT = 400, 300  # 120,000 weights
NAMES = [entry.name for entry in OWN]
RANDOM = [
    *(entry.name for entry in OWN if isinstance(entry.law, RandomLaw)),
    "variance_scaling(scale=3, mode=fan_out, distribution=uniform)",
    "variance_scaling(scale=3, mode=fan_avg, distribution=truncated_normal)",
    "variance_scaling(distribution=untruncated_normal)",
    "orthogonal(gain=1.5)",
]


@pytest.mark.parametrize("name", RANDOM)
def test_shared_draws_follow_their_law(name):
    """NumPy's draws have the moments, bounds and distribution that the registry states."""
    law = named(name).law
    weights = law.draw(FAN_IN, FAN_OUT, rng=np.random.default_rng(0)).ravel()
    theory = law.marginal(FAN_IN, FAN_OUT)
    assert weights.mean() == pytest.approx(theory.mean(), abs=5 * theory.std() / np.sqrt(weights.size))
    assert weights.var() == pytest.approx(theory.var(), rel=0.03)
    assert theory.var() == pytest.approx(law.variance(FAN_IN, FAN_OUT), rel=1e-6)
    assert theory.support()[0] <= weights.min()
    assert weights.max() <= theory.support()[1]
    assert stats.kstest(weights, theory.cdf).pvalue > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_draws_depend_on_the_generator_alone(name):
    """The same generator state gives the same weights, and another one others wherever there is chance in the law."""
    law = named(name).law
    one, same, other = (law.draw(6, 5, rng=np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert np.array_equal(one, other) == (name in ("identity", "zero", "zeros", "ones", "constant"))


def test_truncation_constant():
    """The constant is the standard deviation of N(0, 1) cut at ±2, as SciPy has it."""
    assert pytest.approx(stats.truncnorm(-2, 2).std(), abs=1e-12) == TRUNCATION


@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (6, 6)])
def test_orthogonal_has_its_gain(shape):
    """Rows or columns, whichever are fewer, are orthogonal and as long as the gain; `activation` is ReLU's √2 there."""
    for law, gain in (
        (named("orthogonal(gain=3)").law, 3),
        (named("orthogonal(gain=activation)").law.under("relu"), 2**0.5),
    ):
        kernel = law.draw(*shape, rng=np.random.default_rng(0))
        small = kernel.T @ kernel if shape[0] >= shape[1] else kernel @ kernel.T
        np.testing.assert_allclose(small, gain**2 * np.eye(min(shape)), atol=1e-12)


def test_orthogonal_of_an_activation_needs_one():
    """Drawn without an activation, the gain `activation` is refused rather than guessed."""
    with pytest.raises(ValueError, match="gain must be a number"):
        named("orthogonal(gain=activation)").law.draw(4, 4, rng=np.random.default_rng(0))


def test_mean_field_biases():
    """mean_field's variance is sigma_w² / fan_in, and its biases have sigma_b."""
    law = named("mean_field(sigma_w=2, sigma_b=0.3)").law
    assert law.variance(16, 99) == 0.25
    assert law.bias_std == 0.3
    assert named("he_normal").law.bias_std == 0


def test_zero_is_the_papers():
    """ZerO is the identity where square, part of it where narrower, c I* H I* where wider (Zhao et al., 2022)."""
    law, rng = named("zero").law, np.random.default_rng(0)
    assert np.array_equal(law.draw(3, 3, rng=rng), np.eye(3))
    assert np.array_equal(law.draw(4, 2, rng=rng), np.eye(4, 2))
    hadamard = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    np.testing.assert_allclose(law.draw(2, 3, rng=rng), 2**-0.5 * hadamard[:2, :3])


@pytest.mark.parametrize("shape", [(2, 3), (4, 8), (5, 9)])
def test_zeros_constant_is_the_papers(shape):
    """ZerO's widening kernels are √2 times those of the authors' code, I* (H / 2^(m/2)) I*; the others are the same."""
    fan_in, fan_out = shape
    m = int(np.ceil(np.log2(fan_out)))
    authors = np.eye(fan_out, 2**m) @ (linalg.hadamard(2**m) / 2 ** (m / 2)) @ np.eye(2**m, fan_in)
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(named("zero").law.draw(fan_in, fan_out, rng=rng), np.sqrt(2) * authors.T)
    assert np.array_equal(named("zero").law.draw(fan_out, fan_in, rng=rng), np.eye(fan_out, fan_in))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("he_normal", "he_normal"),
        ({"name": "he_normal"}, "he_normal"),
        ({"name": "random_normal", "std": 0.01}, "random_normal(std=0.01)"),
        ("random_normal( std = 1e-2 )", "random_normal(std=0.01)"),
        ("random_normal(std=0.05)", "random_normal"),
        ({"name": "mean_field"}, "mean_field(sigma_w=1)"),
        ({"name": "mean_field", "sigma_b": 0.1, "sigma_w": 1}, "mean_field(sigma_w=1, sigma_b=0.1)"),
        ({"name": "orthogonal", "gain": "activation"}, "orthogonal(gain=activation)"),
        ({"name": "variance_scaling", "scale": 2, "mode": "fan_out"}, "variance_scaling(scale=2, mode=fan_out)"),
    ],
)
def test_an_initializer_has_one_spelling(given, expected):
    """However it is given, an initializer is written one way, which reads back as itself."""
    assert label(given) == expected
    assert label(expected) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("he", "unknown initializer 'he'; choose one of .*he_normal"),
        ({"std": 1}, "must look like {name: random_normal, std: 0.01}"),
        ("random normal", "must look like he_normal or"),
        ("random_normal(sd=1)", "random_normal has no parameter 'sd'; did you mean 'std'[?] Choose one of std"),
        ("he_norml", "unknown initializer 'he_norml'; did you mean 'he_normal'[?] Choose one of glorot_normal"),
        ("random_normal(std=1, std=2)", "a parameter of an initializer must be given once; got"),
        ("random_normal(std=1", "must look like .*; got 'random_normal.std=1'. In a list, .* needs quotes"),
        ("orthogonal(gain=activaton)", "gain: Input should be a number or 'activation'; got .*mean 'activation'?"),
        ("lsuv(gain=1)", "lsuv has no parameter 'gain'; it has none"),
        ("random_normal(std=-1)", "random_normal's std: .*greater than 0; got -1"),
        ("random_normal(std=nan)", "random_normal's std: .*finite"),
        ("variance_scaling(mode=fan)", "variance_scaling's mode: .*'fan_in', 'fan_out' or 'fan_avg'; got 'fan'"),
    ],
)
def test_wrong_initializers_are_told_what_is_allowed(given, words):
    """A wrong name, parameter or value is answered with what came and what is allowed, in one line."""
    with pytest.raises(ValueError, match=words) as error:
        label(given)
    assert "\n" not in str(error.value)


NUMBERS = st.floats() | st.integers() | st.floats(-60, 60).map(lambda power: 10.0**power)
PARAMETERS = st.sampled_from([(entry.name, field.name) for entry in OWN for field in fields(entry.law)])


@given_by(PARAMETERS, NUMBERS | st.text(max_size=5) | st.none() | st.booleans())
def test_parameters_fit_in_float32(parameter, value):
    """Any value of any parameter is refused in one line, or float32 holds it: it becomes neither infinite nor 0."""
    name, key = parameter
    text, fault = answer(label, {"name": name, key: value})
    assert "\n" not in fault
    given = getattr(named(text or name).law, key)
    if isinstance(given, float):
        assert np.isfinite(np.float32(given))
        assert bool(np.float32(given)) == bool(given)


@pytest.mark.parametrize(
    "given",
    [
        *(
            "random_normal(std=1e200)",
            "random_normal(std=1e-50)",
            "random_uniform(bound=1e31)",
            "constant(value=-1e39)",
        ),
        *("identity(gain=1e39)", "mean_field(sigma_b=1e39)", "orthogonal(gain=1e39)", "variance_scaling(scale=1e39)"),
    ],
)
def test_what_float32_cannot_hold_is_refused(given):
    """A parameter that would be infinite or 0 in a network's weights is refused before a cell fails with it."""
    with pytest.raises(ValueError, match=r"from 1e-30 to 1e\+30 in size"):
        label(given)


class Point:
    """An entry point as importlib.metadata gives it."""

    dist, value = None, "package:THING"

    def __init__(self, name, added):
        self.name, self.added = name, added

    def load(self):
        if isinstance(self.added, Exception):
            raise self.added
        return self.added


@pytest.mark.parametrize(
    ("added", "words"),
    [
        (
            ImportError("no module named package"),
            "'thing' of package:THING must be importable; .*no module",
        ),
        (AttributeError("no THING"), "must be importable; it says: no THING"),
        ("he_normal", "must be an Initializer called 'thing'"),
        (replace(named("he_normal"), name="other"), "must be an Initializer called 'thing'"),
        (replace(named("he_normal"), name="thing"), "with a law that is not native"),
    ],
)
def test_broken_packages_harm_only_who_asks_for_them(monkeypatch, added, words):
    """A package whose initializer is unusable is told in one line to those who ask for it, and to no one else."""
    monkeypatch.setattr(initializers, "entry_points", lambda group: [Point("thing", added), Point("he_normal", added)])
    monkeypatch.setattr(initializers, "_registry", initializers._registry.__wrapped__)
    assert named("he_normal").release == ""
    assert "thing" in initializers.names()
    with pytest.raises(ValueError, match=words) as error:
        named("thing")
    assert "\n" not in str(error.value)
