"""Audits of PyTorch's modules: well-made ones of every kind have no finding, and planted faults have one each."""

import copy
import os
import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tasks.backends import pytorch
from tasks.backends.pytorch.audited import Audited
from tasks.core.audit import audit
from tasks.core.audit.rows import Rows
from tasks.core.audit.sample import OtherBackendError, Target, look
from tasks.trainers import process


def audited(build, shape=None, seeds=3):
    """Return the audit of a module."""
    return audit.judge(look(Audited(build, Rows.normal(shape) if shape else None), seeds), "m")


def told(found):
    """Return severity and kind of each finding."""
    return [(each.severity, each.what) for each in found.findings]


def every_module():
    """Return modules of every kind that torch's table lists."""
    return nn.ModuleList(
        [
            *(nn.Linear(24, 32), nn.Bilinear(6, 5, 16), nn.Conv1d(8, 16, 5), nn.Conv2d(16, 32, 3, groups=4, stride=2)),
            *(nn.Conv2d(32, 32, 3, groups=32), nn.Conv3d(4, 8, 3), nn.ConvTranspose1d(16, 8, 4, stride=2)),
            *(nn.ConvTranspose2d(8, 16, 4, stride=2, groups=2), nn.ConvTranspose3d(4, 4, 3)),
            *(nn.Embedding(20, 16, padding_idx=0), nn.MultiheadAttention(16, 2), nn.MultiheadAttention(16, 2, kdim=8)),
            *(nn.RNN(8, 12), nn.GRU(8, 12, num_layers=2), nn.LSTM(8, 12, bidirectional=True, proj_size=4)),
            *(nn.RNNCell(8, 12), nn.GRUCell(8, 12), nn.LSTMCell(8, 12), nn.LayerNorm(16), nn.BatchNorm1d(8)),
        ]
    )


@pytest.mark.parametrize("label", ["he_normal", "glorot_uniform", "orthogonal"])
def test_well_made_modules_have_no_finding(label):
    """Every kind of module that `init_weights` has drawn by a law with the fans of the operation has no finding."""

    def build():
        model = every_module()
        pytorch.init_weights(model, label)
        return model

    found = audited(build)
    assert found.findings == ()
    kinds = {row.kind for row in found.rows}
    assert {"Bilinear", "ConvTranspose3d", "LSTMCell", "MultiheadAttention", "Embedding", "LayerNorm"} <= kinds


def kernels_of(model, draw):
    """Draw the weights of linear layers, convolutions and embeddings, and set their biases to zero."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding):
            draw(layer.weight)
            if getattr(layer, "bias", None) is not None:
                nn.init.zeros_(layer.bias)
    return model


def gpt():
    """Return parts of a GPT-2: N(0, 0.02²), residual ends narrower by √(2 · depth), a head tied to the embedding."""
    blocks = [nn.ModuleDict({"up": nn.Linear(24, 96), "c_proj": nn.Linear(96, 24)}) for _ in range(2)]
    model = nn.ModuleDict({"wte": nn.Embedding(50, 24), "h": nn.ModuleList(blocks), "head": nn.Linear(24, 50, False)})
    kernels_of(model, lambda weight: nn.init.normal_(weight, std=0.02))
    for block in blocks:
        nn.init.normal_(block.c_proj.weight, std=0.02 / 4**0.5)
    model.head.weight = model.wte.weight
    return model


def vit():
    """Return parts of a vision transformer: a cut law of 0.02, a class token and a head of zeros, a temperature."""
    model = nn.ModuleDict({"patch": nn.Conv2d(3, 24, 4, 4), "mlp": nn.Linear(24, 96), "head": nn.Linear(24, 10)})
    kernels_of(model, lambda weight: nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04))
    nn.init.zeros_(model.head.weight)
    model.mlp.register_parameter("cls_token", nn.Parameter(torch.zeros(1, 1, 24)))
    model.mlp.register_parameter("logit_scale", nn.Parameter(torch.tensor(2.66)))
    return model


def convnext():
    """Return a block of a ConvNeXt: a depthwise convolution, and a scale of 1e-6 at the end of the branch."""
    block = nn.Sequential(nn.Conv2d(24, 24, 7, groups=24), nn.LayerNorm(24), nn.Linear(24, 96), nn.Linear(96, 24))
    block.register_parameter("gamma", nn.Parameter(torch.full((24,), 1e-6)))
    return kernels_of(block, lambda weight: nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04))


def resnet():
    """Return a residual block with strides by Glorot's law as torch counts, which ends with a scale of zero."""
    block = nn.Sequential(nn.Conv2d(16, 32, 3, 2, bias=False), nn.BatchNorm2d(32), nn.Conv2d(32, 32, 3, bias=False))
    block.append(nn.BatchNorm2d(32))
    nn.init.zeros_(block[3].weight)
    return kernels_of(block, nn.init.xavier_uniform_)


def lstm():
    """Return an LSTM drawn gate by gate, whose forget gates have a bias of one."""
    model = nn.LSTM(12, 16)
    for name, draw in (("weight_ih_l0", nn.init.xavier_uniform_), ("weight_hh_l0", nn.init.orthogonal_)):
        for gate in getattr(model, name).detach().chunk(4):
            draw(gate)
    for bias, forget in ((model.bias_ih_l0, 1.0), (model.bias_hh_l0, 0.0)):
        nn.init.zeros_(bias)
        bias.detach()[16:32] = forget
    return model


def normed():
    """Return a layer whose weight is a direction and a length."""
    model = kernels_of(nn.Sequential(nn.Linear(24, 24), nn.Linear(24, 24)), nn.init.kaiming_normal_)
    nn.utils.parametrizations.weight_norm(model[1])
    return model


def half():
    """Return a model in bfloat16, whose embedding has a row of zeros for padding."""
    model = nn.Sequential(nn.Embedding(20, 16, padding_idx=0), nn.Linear(16, 16)).to(torch.bfloat16)
    nn.init.kaiming_normal_(model[1].weight)
    return model


def mamba():
    """Return two layers of a state space model: the same table of steps in each, and scales of one."""
    model = kernels_of(nn.ModuleList([nn.Linear(24, 48) for _ in range(2)]), nn.init.kaiming_normal_)
    for layer in model:
        layer.register_parameter("A_log", nn.Parameter(torch.arange(1.0, 17).log().repeat(48, 1)))
        layer.register_parameter("D", nn.Parameter(torch.ones(48)))
    return model


@pytest.mark.parametrize("build", [gpt, vit, convnext, resnet, lstm, normed, half, mamba])
def test_models_as_their_authors_make_them_are_right(build):
    """What published models mean is neither a fault nor a doubt."""
    assert [each for each in audited(build).findings if each.severity != "note"] == []


def test_rules_as_authors_mean_them_are_held():
    """Glorot's law as torch counts it holds for a convolution with strides, and LSTM gates are held one by one."""
    strided = audit.judge(look(Audited(resnet, None), 3), "m", audit.rules({"*weight": "glorot_uniform"}, {}))
    assert strided.findings == ()
    asked = audit.rules({"weight_hh*": "orthogonal", "weight_ih*": "glorot_uniform"}, {})
    assert audit.judge(look(Audited(lstm, None), 3), "m", asked).findings == ()


def test_a_frozen_copy_is_a_doubt():
    """The frozen copy of a network, as a target network is, may be meant; a copy that is trained is a fault."""

    def build(frozen):
        online = nn.Linear(24, 24)
        return nn.ModuleList([online, copy.deepcopy(online).requires_grad_(not frozen)])

    for frozen, severity in ((True, "doubt"), (False, "fault")):
        found = audited(lambda frozen=frozen: build(frozen))
        assert told(found) == [(severity, "the same values twice")] * 2


def test_torchs_own_fans_are_found():
    """What torch gets wrong is found: a depthwise kernel by fan_out, a fused projection, gates of a whole."""

    def build():
        depthwise, lstm = nn.Conv2d(32, 32, 3, groups=32), nn.LSTM(24, 24)
        nn.init.kaiming_normal_(depthwise.weight, mode="fan_out")
        nn.init.orthogonal_(lstm.weight_hh_l0)
        return nn.ModuleList([depthwise, lstm, nn.MultiheadAttention(32, 4)])

    found = audited(build)
    assert told(found) == [
        ("fault", "wrong fans, 32 groups"),
        ("doubt", "a fused kernel initialized as one"),
        ("doubt", "gates not orthogonal one by one"),
    ]
    assert "(9, 288); the operation's are (9, 9)" in found.findings[0].evidence
    assert "0.5 of what" in found.findings[1].evidence


def test_planted_faults_are_found():
    """Memory without values, copies, fixed and foreign seeds, constants, ties and low precision are found."""

    def build():
        model = nn.ModuleList([nn.Linear(24, 24) for _ in range(8)])
        model[1] = copy.deepcopy(model[0])
        model[2].weight = nn.Parameter(torch.empty(24, 24))
        with torch.no_grad():
            model[3].weight.copy_(torch.randn(24, 24, generator=torch.Generator().manual_seed(1)))
            model[4].weight.copy_(torch.from_numpy(np.random.default_rng(list(os.urandom(8))).normal(size=(24, 24))))
        nn.init.constant_(model[5].weight, 0.1)
        model[6].weight = model[7].weight
        model.append(nn.Linear(24, 24, dtype=torch.float16))
        nn.init.normal_(model[8].weight, 0, 3e-8)
        return model

    found = audited(build)
    where = {each.what: each.parts for each in found.findings}
    assert where["not finite"] == ("2.weight",)
    assert where["does not depend on the seed"] == ("3.weight",)
    assert where["not reproducible"] == ("4.weight",)
    assert where["all units alike"] == ("5.weight",)
    assert where["tied"] == ("7.weight", "6.weight")
    assert where["lost in low precision"] == ("8.weight",)
    twice = [each.parts for each in found.findings if each.what == "the same values twice"]
    assert twice == [("0.weight", "1.weight"), ("0.bias", "1.bias")]


def test_bounds_that_cut_nothing_are_told():
    """Bounds of ±2 cut nothing from a small standard deviation; bounds in its multiples do, and a later draw counts."""

    def build():
        model = nn.ModuleList([nn.Linear(24, 24) for _ in range(3)])
        nn.init.trunc_normal_(model[0].weight, std=0.02)
        nn.init.trunc_normal_(model[1].weight, std=0.02, a=-0.04, b=0.04)
        nn.init.trunc_normal_(model[2].weight, std=0.02)
        nn.init.normal_(model[2].weight, std=0.02)
        return model

    cut, twice = audited(build).findings
    assert (cut.severity, cut.what, cut.parts) == ("note", "bounds that cut nothing", ("0.weight",))
    assert (twice.what, twice.parts) == ("initialized twice", ("2.weight",))


def test_parameters_that_are_drawn_twice_are_told():
    """Two draws of its author's are told with their places, and so is a default that comes after one; one is not.

    A draw of a part, and one of another tensor with as many values, do not count.
    """

    def init(module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)

    def build():
        inner = nn.Sequential(nn.Linear(24, 24), nn.Linear(24, 24)).apply(init)
        model = nn.Sequential(inner, *[nn.Linear(24, 24) for _ in range(3)]).apply(init)
        inner[1] = nn.Linear(24, 24)
        inner[1].weight.data.uniform_(-0.1, 0.1)
        model[1].reset_parameters()
        model[2].weight.data[:12].normal_(std=0.02)
        torch.empty(24, 24).normal_()
        torch.vmap(lambda row: torch.empty_like(row).normal_(), randomness="different")(torch.zeros(2, 2))
        model[3].double()
        nn.init.normal_(model[3].weight, std=0.02)
        return model

    found = {each.parts: each.evidence for each in audited(build).findings if each.what == "initialized twice"}
    assert {*found} == {("0.0.weight",), ("1.weight",), ("3.weight",)}
    assert re.fullmatch(
        r"drawn in init \(test_audit_pytorch.py:\d+\), then in init \(test_audit_pytorch.py:\d+\); only .*",
        found["0.0.weight",],
    )
    assert "then in the layer's own default;" in found["1.weight",]
    assert "normal_" not in vars(torch.Tensor)


def test_gains_are_told():
    """Glorot's laws with a gain of PyTorch's table, by the fans of the operation."""

    def build():
        model = nn.ModuleList([nn.Linear(40, 24), nn.Conv2d(24, 32, 3, 2), nn.Linear(48, 48), nn.Linear(10, 10)])
        nn.init.xavier_uniform_(model[0].weight, nn.init.calculate_gain("relu"))
        nn.init.xavier_normal_(model[1].weight, nn.init.calculate_gain("tanh"))
        for layer in model[2:]:
            nn.init.xavier_uniform_(layer.weight, 1.3)
        return model

    laws = {row.name: row.law for row in audited(build).rows}
    assert laws["0.weight"] == "glorot_uniform(gain=1.414)"
    assert laws["1.weight"] == "glorot_normal(gain=1.667)"
    assert laws["2.weight"].startswith("random_uniform(bound=0.32")
    assert "gain" not in laws["3.weight"]  # of few values: 1.3 is not told as √2


def test_the_layer_where_the_first_pass_explodes_is_named():
    """The layer in which variance leaves the range is named, forward; the pass is on the shape that was given."""

    def build():
        model = nn.Sequential(*[nn.Linear(32, 32) for _ in range(5)])
        nn.init.normal_(model[2].weight, 0, 100)
        return model

    found = audited(build, shape=(32,), seeds=1)
    assert (found.flow.health, found.flow.wrong_at) == ("exploding", "2")
    assert ("fault", "first pass exploding") in told(found)
    assert [layer.name for layer in found.flow.layers] == list("01234")


def test_tokens_and_frozen_parameters_have_a_first_pass():
    """A model that looks up tokens gets random ones, and a frozen layer takes part as any other."""

    def build():
        model = nn.Sequential(nn.Embedding(50, 16), nn.Flatten(), nn.Linear(64, 10))
        model[2].requires_grad_(False)
        return model

    found = audited(build, shape=(4,), seeds=1)
    assert found.flow.inputs == "random tokens below 50"
    assert found.flow.guess == pytest.approx(np.log(10))
    assert found.flow.layers[0].backward > 0


def test_passes_that_fail_are_told():
    """A model that cannot take the rows, or has no known layer, has no first pass, and the note says why."""
    found = audited(lambda: nn.Linear(8, 2), shape=(9,), seeds=1)
    assert found.flow is None
    assert "on rows of N(0, 1) the model raised RuntimeError" in found.notes[-1]
    found = audited(lambda: nn.LayerNorm(8), shape=(8,), seeds=1)
    assert found.notes == ("no first pass was made: the model has no layer of a known kind",)


def test_images_pass_beside_an_embedding():
    """A model that looks up its own positions or classes gets rows of N(0, 1), because it takes no tokens."""

    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.places, self.within, self.head = nn.Embedding(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.within(x) + self.places(torch.arange(8)).mean(0))

    found = audited(Placed, shape=(8,), seeds=1)
    assert found.flow.inputs == "rows of N(0, 1)"


def test_the_last_convolutions_channels_are_classes():
    """The outputs of a model that ends with a convolution are classes by channel: of a segmentation, by place."""
    found = audited(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1)), shape=(3, 9, 9), seeds=1)
    assert found.flow.guess == pytest.approx(np.log(5))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: 3, r"must return a torch\.nn\.Module; it returned int"),
        (nn.ReLU, "must have parameters of real numbers"),
        (lambda: nn.LazyLinear(3), "lazy modules must be called"),
        (lambda: nn.Linear(3, 3, device="meta"), "moved off the device meta"),
        (lambda: nn.Linear(3, int(torch.randint(2, 90, ()))), "the same shapes under every seed"),
    ],
)
def test_what_cannot_be_audited_is_refused(build, words):
    """What is no model, or has nothing to read, is refused with the rule."""
    with pytest.raises(ValueError, match=words):
        audited(build)


def test_other_numbers_are_left_out():
    """Complex parameters are left out, those of layers of a known kind as well, and a note says so."""

    def build():
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, dtype=torch.complex64))
        model.register_parameter("phase", nn.Parameter(torch.zeros(3, dtype=torch.complex64)))
        return model

    found = audited(build, seeds=1)
    assert "phase is left out: its type is torch.complex64" in found.notes
    assert "1.weight is left out: its type is torch.complex64" in found.notes
    assert {row.name for row in found.rows} == {"0.weight", "0.bias"}


def test_a_model_of_the_other_framework_is_told():
    """A model of Keras in a process of PyTorch says which trainer should look at it."""
    keras_like = type("Dense", (), {"__module__": "keras.src.layers"})
    with pytest.raises(OtherBackendError) as raised:
        audited(keras_like)
    assert raised.value.backend == "keras"


def test_models_that_cannot_be_read_are_told():
    """What a parametrization raises while its parameter is read is wrong input, whatever its kind."""

    class Lost(nn.Module):
        def forward(self, _):
            raise RuntimeError("no weights\nat all")

    def build():
        model = nn.Linear(3, 3)
        nn.utils.parametrize.register_parametrization(model, "weight", Lost(), unsafe=True)
        return model

    def kept():
        model = nn.Linear(3, 3)
        nn.utils.parametrize.register_parametrization(model, "weight", nn.Identity())
        model.parametrizations.weight[0] = Lost()
        return model

    for each in (build, kept):
        with pytest.raises(ValueError, match=r"it raised RuntimeError: no weights$"):
            process._audit("pytorch", Target(each, {}, None, None, 1))


def test_what_a_builder_prints_is_not_on_stdout(capfd):
    """What a builder prints, itself or past Python, does not come between the lines of a snapshot."""

    def build():
        sys.stdout.write("said")
        os.write(1, b"told")
        return nn.Linear(3, 3)

    process._audit("pytorch", Target(build, {}, None, None, 1))
    said = capfd.readouterr()
    assert said.out == ""
    assert "told" in said.err


class Branched(nn.Module):
    """A stem, branches that are added, and a head; each branch may be scaled."""

    def __init__(self, scale, depth=6):
        super().__init__()
        self.stem, self.head = nn.Linear(16, 16), nn.Linear(16, 10)
        self.branches = nn.ModuleList(
            [nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)) for _ in range(depth)]
        )
        self.scales = nn.Parameter(torch.full((depth,), float(scale)))

    def forward(self, x):
        x = self.stem(x)
        for branch, scale in zip(self.branches, self.scales, strict=True):
            x = x + scale * branch(x)
        return self.head(x)


@pytest.mark.parametrize(("scale", "zeros"), [(0, ()), (1e-6, ()), (1, ("head",)), (1, ("branch",)), (0, ("head",))])
def test_branches_and_heads_may_start_at_zero(scale, zeros):
    """A network whose branches are scaled down, or end with zeros as its head may, has a healthy first pass."""

    def build():
        model = Branched(scale)
        pytorch.init_weights(model, "glorot_normal")
        for layer in [
            *([model.head] if "head" in zeros else []),
            *[each[-1] for each in model.branches if "branch" in zeros],
        ]:
            nn.init.zeros_(layer.weight)
        return model

    found = audited(build, shape=(16,), seeds=1)
    assert (found.flow.health, found.flow.wrong_at) == ("healthy", "")


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_small_networks_may_scale_their_branches_down(depth):
    """A LayerScale of 1e-6 makes no small network explode, though its stem has a far larger gradient than the rest."""

    def build():
        model = Branched(1e-6, depth)
        pytorch.init_weights(model, "glorot_normal")
        return model

    found = audited(build, shape=(16,), seeds=1)
    assert (found.flow.health, found.findings) == ("healthy", ())
    assert found.flow.layers[0].backward > 1e9 * found.flow.layers[1].backward


class Added(nn.Module):
    """A branch of two layers that is added to what it is given."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))

    def forward(self, x):
        return x + self.branch(x)


def test_the_stream_between_blocks_is_measured():
    """The variances of each repeated block's output are told in order: forward each block adds its branch's, of two."""

    def build():
        model = nn.Sequential(nn.Linear(32, 32), nn.Sequential(*[Added() for _ in range(3)]), nn.Linear(32, 10))
        pytorch.init_weights(model, "he_normal")
        return model

    blocks = audited(build, shape=(32,), seeds=1).flow.blocks
    assert [each.name for each in blocks] == ["1.0", "1.1", "1.2"]
    assert [blocks[at + 1].forward / blocks[at].forward for at in range(2)] == pytest.approx([3, 3], rel=0.4)
    assert [blocks[at].backward / blocks[at + 1].backward for at in range(2)] == pytest.approx([3, 3], rel=0.4)
