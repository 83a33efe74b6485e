"""Which law fits: every registered one is told by its values, with the fans that it was drawn by."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from tasks.core.audit import laws
from tasks.core.audit.sample import SAMPLED, Part, look
from tasks.core.design.initializers import Initializer, Law, Normal, TruncatedNormal, Uniform, named
from tasks.core.design.layers import Kernel, Layer, Place
from tests.shared import audited

ALPHA = laws.level(1)
FAMILY = ("glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform")


def fitted(layer, label, backend="pytorch"):
    seen = look(audited.Model([layer], audited.drawn(layer, label)))
    return {part.name: laws.fit(part, backend, ALPHA) for part in seen.parts}


@pytest.mark.parametrize("label", [*FAMILY, "pytorch_default", "orthogonal", "identity", "zeros", "ones"])
def test_every_law_is_told(label):
    """A layer of 64 × 48 is told by name, whatever registered law drew it."""
    layer = audited.dense("l", 64, 48)
    found = fitted(layer, label)
    assert found["l.weight"].law == label
    assert found["l.bias"].law == "zeros"
    assert found["l.weight"].default == (label == "pytorch_default")


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("random_normal(std=0.02)", "random_normal(std=0.02)"),
        ("random_normal(std=0.37)", "random_normal(std=0.3"),
        ("random_uniform(bound=0.37)", "random_uniform(bound=0.37"),
        ("truncated_normal(std=0.37)", "truncated_normal(std=0.3"),
        ("constant(value=0.25)", "constant(value=0.25)"),
        ("identity(gain=3)", "identity(gain=3)"),
        ("orthogonal(gain=2)", "orthogonal(gain=2)"),
    ],
)
def test_other_scales_are_told(label, told):
    """What no registered law fits is told by its family and scale, and fixed laws by their gain."""
    assert fitted(audited.dense("l", 64, 48), label)["l.weight"].law.startswith(told)


def test_other_bounds_are_told():
    """A normal law that is cut elsewhere than at two standard deviations is told with its bounds."""
    layer = audited.dense("l", 64, 64, bias=False)

    def cut(rng):
        drawn = rng.normal(size=60_000)
        return drawn[np.abs(drawn) < 1.2][: 64 * 64].reshape(64, 64)

    seen = look(audited.Model([layer], {"l.weight": cut}))
    assert laws.fit(seen.parts[0], "pytorch", ALPHA).law.endswith("cut at ±1.2")


def test_unlike_laws_are_told():
    """Values around another number than zero, and of no known family, are told as such."""
    layer = audited.dense("l", 64, 64, bias=False)
    for draw, words in (
        (lambda rng: rng.normal(1, 0.1, (64, 64)), "mean 0.999"),
        (lambda rng: rng.laplace(0, 1, (64, 64)), "no known law, SD 1.4"),
    ):
        seen = look(audited.Model([layer], {"l.weight": draw}))
        assert laws.fit(seen.parts[0], "pytorch", ALPHA).law.startswith(words)


def test_fans_of_the_array_are_told():
    """A grouped kernel drawn by He's law with the fans of its array fits that law by the array alone."""
    layer = audited.convolution("c", 64, groups=64)
    wide = named("he_normal").law
    assert wide.std(9, 576) == wide.std(9, 9)  # by fan_in, both count alike
    draw = lambda rng: rng.normal(0, np.sqrt(2 / 576), (64, 1, 3, 3))  # noqa: E731
    seen = look(audited.Model([layer], {"c.weight": draw}))
    found = laws.fit(seen.parts[0], "pytorch", ALPHA)
    assert found.law == "glorot_normal (array)" or found.law == "he_normal by fan_out (array)"
    right = laws.fit(look(audited.Model([layer], audited.drawn(layer))).parts[0], "pytorch", ALPHA)
    assert {match.fans for match in found.matches} == {"array"}
    assert right.matches[0].fans == "operation"


def test_an_embedding_ignores_its_padding():
    """The row of an embedding's padding is zero, and the rest is N(0, 1)."""
    values = np.random.default_rng(0).normal(size=(5, 400))
    values[:, :40] = 0
    part = Part("e", "e", "e", "Embedding", "embedding", (40, 10), "float32", values=values, least=-3, most=3)
    assert laws.fit(part, "pytorch", ALPHA).law == "random_normal(std=1)"


@pytest.mark.parametrize("label", ["he_normal", "random_uniform(bound=0.3)", "orthogonal", "zeros", "identity"])
def test_what_is_asked_is_held(label):
    """A part has the law that it was drawn by, and no other."""
    layer = audited.dense("l", 64, 64, bias=False)
    seen = look(audited.Model([layer], audited.drawn(layer, label)))
    held = {each: laws.hold(seen.parts[0], named(each), "pytorch", ALPHA).held for each in (label, "lecun_uniform")}
    assert held == {label: True, "lecun_uniform": False}


def test_a_law_that_no_test_knows_is_refused():
    """A rule may name the law of a package, which has no test here: that is bad input, and is refused in a line."""
    layer = audited.dense("l", 8, 8, bias=False)
    (part,) = look(audited.Model([layer], audited.drawn(layer))).parts
    foreign = Initializer("laplace", Law(), "")
    with pytest.raises(ValueError, match="rules: laplace cannot be held"):
        laws.hold(part, foreign, "pytorch", ALPHA)


@pytest.mark.parametrize("law", [Normal(1.0), TruncatedNormal(1.0), Uniform(1.0)])
def test_the_second_moment_errs_as_often_as_it_says(law):
    """At one in a million, on either side, the p-value is what Lugannani and Rice's formula says of the exact law."""
    n, grid = laws.MOMENTS, np.linspace(-1, 1, 20_001) * (8 if isinstance(law, Normal) else law.marginal(1, 1).b)
    weights = law.marginal(1, 1).pdf(grid)

    def tail(tilt):
        """Return a mean square, and the probability of those beyond it, by how far the law is tilted."""
        tilted = weights * np.exp(tilt * grid**2)
        mean, fourth = ((grid**power * tilted).sum() / tilted.sum() for power in (2, 4))
        cumulant = np.log(tilted.sum() / weights.sum())
        w = np.sign(tilt) * np.sqrt(2 * n * (tilt * mean - cumulant))
        u = tilt * np.sqrt(n * (fourth - mean**2))
        return mean, norm.sf(abs(w)) + norm.pdf(w) * (1 / abs(u) - 1 / abs(w))

    for sign in (-1, 1):
        tilt = brentq(
            lambda size, sign=sign: np.log(tail(sign * size)[1] / 1e-6),
            0.05,
            0.45 if sign > 0 and not isinstance(law, Uniform) else 5,
        )
        mean, beyond = tail(sign * tilt)
        assert laws._second_moment(law, np.full(n, np.sqrt(mean))) / 2 == pytest.approx(beyond, rel=0.25)


@pytest.mark.parametrize("law", [Normal(1.0), TruncatedNormal(1.0), Uniform(1.0)])
def test_moments_are_those_of_the_law(law):
    """The kurtosis of a value and the skewness of its square are what the law's moments give."""
    second, fourth, sixth = (law.marginal(1, 1).moment(each) for each in (2, 4, 6))
    spread = fourth - second**2
    assert laws.KURTOSIS[type(law)] == pytest.approx(fourth / second**2, rel=1e-5)
    assert laws.SKEWNESS[type(law)] == pytest.approx(
        (sixth - 3 * second * fourth + 2 * second**3) / spread**1.5, rel=1e-4
    )


def test_the_steps_of_a_type_are_no_law():
    """Under many seeds a uniform law in bfloat16, which torch draws in steps of 1/256, still is a uniform law."""
    drawn = np.floor(np.random.default_rng(0).uniform(size=(100, SAMPLED)) * 256) / 128 - 1
    kinds = {"bfloat16": True, "float32": False}
    for dtype, held in kinds.items():
        part = Part("w", "w", "l", "Linear", "kernel", (64, 64), dtype, values=drawn, least=-1, most=0.99)
        part = replace(part, digests=tuple(map(str, range(100))))
        assert laws.hold(part, named("random_uniform(bound=1)"), "pytorch", ALPHA).held == held


def test_a_draw_counts_once():
    """Values that every seed draws alike count once: pooled over the seeds, a right law would seem to be wrong."""
    layer = audited.dense("l", 24, 24, bias=False)
    for at in range(9):
        fixed = lambda _, at=at: np.random.default_rng(at).normal(0, np.sqrt(2 / 24), (24, 24))  # noqa: E731
        (part,) = look(audited.Model([layer], {"l.weight": fixed}), seeds=50).parts
        assert laws.hold(part, named("he_normal"), "pytorch", ALPHA).held


def test_large_and_looked_up_matrices_are_orthogonal():
    """A matrix too large for its singular values, and an embedding, are told as orthogonal if they are, and held so."""
    wide = audited.dense("l", 6000, 800, bias=False)  # its first rows are mirrored: a fast way to an orthogonal one
    mirror = np.random.default_rng(0).normal(size=(6000, 1))
    mirrored = np.eye(800, 6000) - 2 * (mirror @ mirror.T / (mirror**2).sum())[:800]
    near = mirrored + 1e-2 * np.eye(800, 6000, 1)
    table = Layer("e", "Embedding", (Kernel("weight", Place("weight"), (40, 24), "i o", lookup=True),))
    square = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 24)))[0]
    for layer, array, right in ((wide, 3 * mirrored, 3), (wide, 3 * near, None), (table, square, 1)):
        seen = look(audited.Model([layer], {f"{layer.name}.weight": lambda _, array=array: array}), seeds=1)
        (part,) = seen.parts
        label = f"orthogonal(gain={right})" if right == 3 else "orthogonal"
        assert (laws.fit(part, "pytorch", ALPHA).law == label) == bool(right)
        assert laws.hold(part, named(label), "pytorch", ALPHA).held == bool(right)


def test_large_parts_are_sampled():
    """Of a large part a sample of values is kept, from the same places under every seed; moments are of all values."""
    layer = audited.dense("l", 128, 64, bias=False)
    (part,) = look(audited.Model([layer], audited.drawn(layer)), seeds=2).parts
    rows = [np.random.default_rng(seed).normal(0, np.sqrt(2 / 128), (64, 128)).astype(np.float32) for seed in (0, 1)]
    assert part.sampled
    assert part.values.shape == (2, SAMPLED)
    assert part.std == pytest.approx(np.std(rows), rel=1e-5)
    assert part.kurtosis == pytest.approx(3, abs=0.2)
    assert np.isin(part.values[0].astype(np.float32), rows[0]).all()
