"""Every kind of finding is planted into a model of NumPy, and a model without fault has none."""

import numpy as np
import pytest

from tasks.core.audit import audit
from tasks.core.audit.sample import look
from tasks.core.design.layers import Kernel, Layer, Place
from tests.shared import audited


def told(layers, draws, rules=None, **how):
    """Return (severity, what, parts) of each finding about a model."""
    seen = look(audited.Model(layers, draws, **how))
    wanted = None if rules is None else audit.rules(rules, {"depth": 8.0})
    return [(each.severity, each.what, each.parts) for each in audit.judge(seen, "m", wanted).findings]


def changed(path, draw, depth=4, width=24, **how):
    """Return what is found in a perceptron of He's law, of which one parameter is drawn otherwise."""
    layers, draws = audited.plain(depth, width)
    return told(layers, {**draws, path: draw}, **how)


@pytest.mark.parametrize("label", ["he_normal", "glorot_uniform", "orthogonal", "pytorch_default"])
def test_a_right_model_has_none(label):
    """Dense, fused, grouped and transposed layers whose laws have the fans of the operation have no finding."""
    layers = [
        *audited.plain(2)[0],
        audited.dense("qkv", 24, 24, parts=3),
        audited.convolution("group", 24, groups=4),
        audited.convolution("depth", 24, groups=24),
        audited.convolution("up", 24, transposed=True, side=4, strides=(2, 2)),
        audited.convolution("down", 24, strides=(2, 2)),
    ]
    draws = {path: draw for layer in layers for path, draw in audited.drawn(layer, label).items()}
    assert told(layers, draws) == []


def test_a_scalar_has_none():
    """A parameter without axes, such as a temperature, is a part like any other."""
    layers, draws = audited.plain()
    assert told(layers, {**draws, "scale": lambda _: np.float32(2.7)}, others={"scale": "CLIP"}) == []


def test_nan_is_found():
    """A value that is not finite is a fault."""
    assert changed("l1.bias", lambda _: np.full(24, np.nan)) == [("fault", "not finite", ("l1.bias",))]


def test_another_law_than_asked_is_found():
    """A rule is held against kernels by the fans of the operation, against biases by its constant; the first counts."""
    layers, draws = audited.plain()
    found = told(layers, draws, {"l1": "glorot_normal", "*.bias": "zeros", "l*": "he_normal"})
    assert found == [("fault", "not what the rules say", ("l1.weight",))]
    assert told(layers, draws, {"*": "he_normal", "*.bias": "zeros"}) == []
    wide = {**draws, "l2.bias": lambda _: np.ones(24)}
    assert ("fault", "not what the rules say", ("l2.bias",)) in told(layers, wide, {"*.bias": "zeros"})


def test_rules_settle_doubts():
    """What looks odd among the others is no finding where a rule asked for it; a fault is one all the same."""
    layers, draws = audited.plain(8)
    default = lambda rng: rng.uniform(-1 / np.sqrt(24), 1 / np.sqrt(24), (24, 24))  # noqa: E731
    draws |= {"l1.weight": default, "l2.bias": lambda _: np.full(24, 0.1), "l7.weight": lambda _: np.zeros((24, 24))}
    assert [each[2][0] for each in told(layers, draws)] == ["l1.weight", "l2.bias", "l7.weight"]
    asked = {"l1": "pytorch_default", "l2.bias": "constant(value=0.1)", "l7": "zeros"}
    assert told(layers, draws, asked) == []
    draws["l7.weight"] = lambda _: np.ones((24, 24))
    assert told(layers, draws, {**asked, "l7": "ones"}) == [("fault", "all units alike", ("l7.weight",))]


def test_expressions_are_held():
    """A number may be an expression of fans and options."""
    layers, draws = audited.plain()
    scaled = {**draws, "l3.weight": lambda rng: rng.normal(0, 0.02 / 4, (24, 24))}
    rule = {"l3.weight": {"name": "random_normal", "std": "0.02/sqrt(2*depth)"}}
    assert told(layers, scaled, rule) == []
    assert told(layers, draws, rule) == [("fault", "not what the rules say", ("l3.weight",))]


def test_strides_may_be_left_out():
    """A rule with fan_out holds for a strided convolution whether its author counted the strides or not."""
    layer = audited.convolution("down", 24, strides=(2, 2))
    for fan_out in (216, 54):
        draws = {"down.weight": lambda rng, n=fan_out: rng.normal(0, np.sqrt(2 / (216 + n)), (24, 24, 3, 3))}
        assert told([layer], draws, {"*.weight": "glorot_normal"}) == []
        rule = {"*.weight": {"name": "random_normal", "std": "sqrt(2/(fan_in+fan_out))"}}
        assert told([layer], draws, rule) == []
    (found,) = told([layer], audited.drawn(layer), {"*.weight": "glorot_normal"})
    assert found[:2] == ("fault", "not what the rules say")


def test_fans_are_asked_of_kernels_alone():
    """Scales without fans, embeddings, and parameters without values pass a pattern that means kernels, too."""
    layers, draws = audited.plain()
    table = Layer("e", "Embedding", (Kernel("weight", Place("weight"), (40, 24), "i o", lookup=True),))
    draws |= {"norm.weight": lambda _: np.ones(24), "none.weight": lambda _: np.zeros((0, 3))}
    draws |= {"e.weight": lambda rng: rng.normal(0, 1, (40, 24))}
    others = {"norm.weight": "LayerNorm", "none.weight": "Missing"}
    for rule in ("he_normal", {"name": "random_normal", "std": "sqrt(2/fan_in)"}):
        assert told([*layers, table], draws, {"*weight": rule}, others=others) == []
    assert told([*layers, table], draws, {"none.weight": "ones", "l*": "he_normal"}, others=others) == []


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"gone": "zeros"}, "'gone' must match"),
        ({"l1": "he_norml"}, "unknown initializer"),
        ({"l1": {"name": "random_normal", "std": "1/height"}}, "no value 'height'"),
        ({"l1": 3}, "must have an initializer"),
        (["l1"], "rules must map"),
        ({"l1": "lsuv"}, "cannot be held"),
    ],
)
def test_wrong_rules_are_refused(rules, words):
    """A rule that matches nothing, or is none, is refused with the reason."""
    with pytest.raises(ValueError, match=words):
        told(*audited.plain(), rules)


def test_wrong_fans_are_found():
    """Grouped and transposed kernels with the fans of their array are found: a fault if far off, else a doubt."""
    depthwise = audited.convolution("c", 64, groups=64)
    by_array = lambda rng: rng.normal(0, np.sqrt(2 / 576), (64, 1, 3, 3))  # noqa: E731
    assert told([depthwise], {"c.weight": by_array}) == [("fault", "wrong fans, 64 groups", ("c.weight",))]
    transposed = audited.convolution("t", 32, side=4, transposed=True, strides=(2, 2))
    half = lambda rng: rng.normal(0, np.sqrt(2 / 512), (32, 32, 4, 4))  # noqa: E731
    layers, draws = audited.plain()
    found = told([*layers, transposed], {**draws, "t.weight": half})
    assert found == [("doubt", "wrong fans, transposed", ("t.weight",))]


def test_a_standard_deviation_of_all_kernels_is_no_fans():
    """A grouped kernel whose SD happens to be that of a law by the array has it not by fans, if others have it, too."""
    std = np.sqrt(2 / 585)
    layers = [
        audited.convolution("c", 64, groups=64),
        *(audited.dense(f"l{n}", n, n, bias=False) for n in (20, 30, 40)),
    ]
    draws = {
        f"{layer.name}.weight": lambda rng, shape=layer.kernels[0].shape: rng.normal(0, std, shape) for layer in layers
    }
    assert told(layers, draws) == []
    assert told(layers[:1], draws) == [("fault", "wrong fans, 64 groups", ("c.weight",))]


def test_a_fused_kernel_is_found():
    """Queries, keys and values that Glorot's law drew as one kernel are found, once for all three."""
    layer = audited.dense("a", 64, 64, parts=3)
    bound = np.sqrt(6 / (64 + 192))
    draws = {**audited.drawn(layer), "a.weight": lambda rng: rng.uniform(-bound, bound, (192, 64))}
    names = tuple(f"a.weight.{at}" for at in range(3))
    assert told([layer], draws) == [("doubt", "a fused kernel initialized as one", names)]


def test_gates_that_are_not_orthogonal_are_found():
    """A fused kernel that is orthogonal as a whole has no part that is."""
    layer = audited.dense("a", 32, 32, parts=4)
    whole = lambda rng: np.linalg.qr(rng.normal(size=(128, 32)))[0]  # noqa: E731
    ((severity, what, parts),) = told([layer], {**audited.drawn(layer), "a.weight": whole})
    assert (severity, what, len(parts)) == ("doubt", "gates not orthogonal one by one", 4)


def test_groups_that_are_not_orthogonal_are_found():
    """A grouped kernel that is orthogonal as a whole is found if its groups are not; they may be, too."""
    layer = audited.convolution("c", 32, groups=8, side=1)
    whole = lambda rng: np.linalg.qr(rng.normal(size=(32, 4)))[0].reshape(32, 4, 1, 1)  # noqa: E731
    assert told([layer], {"c.weight": whole}) == [("doubt", "groups not orthogonal one by one", ("c.weight",))]
    wide = audited.convolution("c", 32, groups=2)
    rows = lambda rng: np.linalg.qr(rng.normal(size=(144, 32)))[0].T.reshape(32, 16, 3, 3)  # noqa: E731
    assert told([wide], {"c.weight": rows}) == []


def test_units_alike_are_found():
    """A constant kernel is a fault; zeros are told, because a branch may begin with them, unless nothing can learn."""
    assert changed("l1.weight", lambda _: np.full((24, 24), 0.1)) == [("fault", "all units alike", ("l1.weight",))]
    assert changed("l1.weight", lambda _: np.zeros((24, 24))) == [("note", "all units alike", ("l1.weight",))]
    layers, draws = audited.plain()
    model = audited.Model(layers, {**draws, "l1.weight": lambda _: np.zeros((24, 24))})
    model.first_pass = lambda: audited.passed(np.ones(4), np.ones(4), alike=[0, 1, 0, 0])
    stuck = [each for each in audit.judge(look(model), "m").findings if each.what == "all units alike"]
    assert [(each.severity, each.parts) for each in stuck] == [("doubt", ("l1.weight",))]


def test_equal_values_are_found():
    """Two layers with equal draws are a fault, although each has its law."""
    layers, draws = audited.plain()

    def twin(rng):
        again = np.random.default_rng([rng.bit_generator.seed_seq.entropy, 1])
        return again.normal(0, np.sqrt(2 / 24), (24, 24))

    found = told(layers, {**draws, "l1.weight": twin, "l3.weight": twin})
    assert found == [("fault", "the same values twice", ("l1.weight", "l3.weight"))]


def test_tables_and_frozen_copies_may_be_equal():
    """Two equal tables that no seed changes are meant; the frozen copy of a random kernel is a doubt, and no fault."""
    layers, draws = audited.plain()
    steps = np.tile(np.log(np.arange(1, 17)), (32, 1))
    waves = np.sin(np.outer(np.arange(50), 0.01 ** np.linspace(0, 1, 16)))
    gates = np.eye(1, 6)[0]
    tables = {f"{name}{at}": lambda _, each=each: each for at in (0, 1) for name, each in (("s", steps), ("g", gates))}
    assert told(layers, draws | tables, others=dict.fromkeys(tables, "Mamba")) == []
    found = told(layers, {**draws, "a": lambda _: waves, "b": lambda _: waves}, others={"a": "Wave", "b": "Wave"})
    assert found == [("doubt", "does not depend on the seed", (name,)) for name in "ab"]
    twin = lambda rng: np.random.default_rng(rng.bit_generator.seed_seq.entropy).normal(size=(9, 9))  # noqa: E731
    copies = {**draws, "online": twin, "target": twin}
    for frozen, severity in (("target", "doubt"), ("", "fault")):
        found = told(layers, copies, others=dict.fromkeys(("online", "target"), "DQN"), frozen=(frozen,))
        assert found == [(severity, "the same values twice", ("online", "target"))]


def test_values_without_a_seed_are_found():
    """What every seed draws alike is a doubt; what one seed draws in two ways is a fault."""
    fixed = lambda _: np.random.default_rng(7).normal(0, np.sqrt(2 / 24), (24, 24))  # noqa: E731
    assert changed("l1.weight", fixed) == [("doubt", "does not depend on the seed", ("l1.weight",))]
    shared = np.random.default_rng(7)
    free = lambda _: shared.normal(0, np.sqrt(2 / 24), (24, 24))  # noqa: E731
    assert changed("l1.weight", free) == [("fault", "not reproducible", ("l1.weight",))]


def test_a_layer_left_at_its_default_is_found():
    """One layer at the framework's default among others by He's law is a doubt; several layers at it are not."""
    default = lambda rng: rng.uniform(-1 / np.sqrt(24), 1 / np.sqrt(24), (24, 24))  # noqa: E731
    found = changed("l1.weight", default, depth=8)
    assert found == [("doubt", "left at the framework's default", ("l1.weight",))]
    layers, draws = audited.plain(4)
    assert told(layers, {**draws, "l1.weight": default, "l2.weight": default}) == []


def test_biases_among_zeros_are_found():
    """A bias that is not zero where all the others are is a doubt."""
    found = changed("l1.bias", lambda _: np.full(24, 0.1), depth=6)
    assert found == [("doubt", "biases not zero", ("l1.bias",))]


def test_lost_precision_is_found():
    """Values too small for float16 have become zeros."""
    small = lambda rng: rng.normal(0, 3e-8, (24, 24)).astype(np.float16)  # noqa: E731
    found = changed("l1.weight", small, dtypes={"l1.weight": "float16"})
    assert ("doubt", "lost in low precision", ("l1.weight",)) in found
    sparse = lambda rng: rng.normal(0, 0.3, (24, 24)) * (rng.uniform(size=(24, 24)) < 0.5)  # noqa: E731
    for draw in (sparse, lambda _: np.eye(24)):
        found = changed("l1.weight", draw, dtypes={"l1.weight": "bfloat16"})
        assert [each for each in found if each[1] == "lost in low precision"] == []


def test_tied_parameters_are_told():
    """Two parameters that are one tensor are a note, which names the law that won."""
    layers, draws = audited.plain()
    seen = look(audited.Model(layers, draws, tied=(("l1.weight", "l3.weight"),)))
    (found,) = audit.judge(seen, "m").findings
    assert (found.severity, found.parts) == ("note", ("l1.weight", "l3.weight"))
    assert "he_normal" in found.evidence


def test_shapes_must_not_depend_on_the_seed():
    """A builder that builds another shape under another seed is refused."""
    layers, draws = audited.plain()
    model = audited.Model(layers, draws)

    def build(seed):
        audited.Model.build(model, seed)
        model.others = {} if seed == 0 else {"l0.bias": "Linear"}
        model.built["l0.bias"] = np.zeros(24 + seed)

    model.build = build
    with pytest.raises(ValueError, match="the same shapes under every seed"):
        look(model)
