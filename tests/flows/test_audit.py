"""The command `audit` as a user meets it, and the functions behind it."""

import json
import sys
from pathlib import Path

import pytest

from flows import audit as auditing
from tasks import user_code
from tests.shared.inside import called

MODEL = """
import numpy as np
from torch import nn

def build(outputs=10, width=24):
    first, second, last = nn.Linear(16, width), nn.Linear(width, width), nn.Linear(width, outputs)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)
    for layer in model[::2]:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model

def narrow(shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], outputs))

def load():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 16)), np.arange(60) % 3

def broken():
    return 1 / 0
"""
KERAS = """
import keras

def build():
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
"""


@pytest.fixture
def run(folder, trainers, monkeypatch, capsys):
    """Return a function that runs the command in this process, in a folder with two models."""
    monkeypatch.setenv(user_code.FOLDERS, "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("mine.py").write_text(MODEL)
    Path("theirs.py").write_text(KERAS)
    return lambda *arguments: called(["audit", *arguments], monkeypatch, capsys)


def test_a_good_model_passes(run):
    """The command prints a table that fits 100 columns, and ends with 0."""
    status, said = run("mine.py:build", "--shape", "16", "--option", "width=32", "--seeds", "2")
    assert (status, said.err) == (0, "")
    assert "Nothing found." in said.out
    assert "32×16" in said.out
    assert "First pass on rows of N(0, 1): healthy" in said.out
    assert max(map(len, said.out.splitlines())) <= 100


def test_data_say_what_a_row_is(run):
    """A function's data give the builder its shape and outputs, and the first pass its rows."""
    status, said = run("mine:narrow", "--data", "mine:load", "--seeds", "2")
    assert status == 0
    assert "3×16" in said.out
    assert "First pass on rows of mine:load: healthy" in said.out


def test_rules_are_held_and_fail(run):
    """A rule that does not hold is a fault, and the status is 1; the snapshot that is printed says which."""
    Path("rules.yaml").write_text(
        '"4.weight": {name: random_normal, std: 1/width}\n"*.weight": he_normal\n"*": zeros\n'
    )
    status, said = run("mine:build", "--rules", "rules.yaml", "--seeds", "2", "--json", "--option", "width=24")
    found = json.loads(said.out)
    assert status == 1
    assert [(each["what"], each["parts"]) for each in found["findings"]] == [("not what the rules say", ["4.weight"])]


def test_snapshots_are_compared(run):
    """Equal snapshots end with 0; another width, which changes fans, with 1; the page of one stands alone."""
    assert run("mine:build", "--seeds", "2", "--save", "a.json", "--html", "a.html")[0] == 0
    assert run("mine:build", "--seeds", "2", "--save", "b.json", "--option", "width=20")[0] == 0
    status, said = run("a.json", "a.json")
    assert (status, "Nothing changed." in said.out) == (0, True)
    status, said = run("a.json", "b.json")
    assert status == 1
    assert "fans" in said.out
    assert "did every parameter get the law" in Path("a.html").read_text()


def test_the_framework_is_found_out(run):
    """A builder that imports Keras is built in Keras's trainer, and the model's own inputs give its first pass."""
    status, said = run("theirs:build", "--seeds", "1")
    assert status == 0
    assert "theirs:build: Keras" in said.out
    assert "First pass" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone:build"], "no module 'gone'"),
        (["gone.py:build"], "there is no module gone.py"),
        (["mine:bild"], "did you mean 'build'"),
        (["mine:broken"], "mine:broken() must build a model; it raised ZeroDivisionError"),
        (["mine:narrow"], "mine:narrow needs shape, outputs: give --data or --shape, or --option shape=VALUE"),
        (["mine:narrow", "--shape", "8"], "mine:narrow needs outputs"),
        (["mine:build", "--option", "hight=3"], "mine:build takes no argument 'hight'"),
        (["mine:build", "--option", "width"], "--option must be NAME=VALUE"),
        (["mine:build", "--shape", "a"], "--shape must be the sides of a row"),
        (["mine:build", "--seeds", "0"], "seeds must be from 1 to 100"),
        (["mine:build", "--backend", "keras"], "must build a model of keras; it builds one of pytorch"),
        (["mine:build", "--rules", "gone.yaml"], "gone.yaml: No such file"),
        (["mine.py"], "no entry point 'mine.py'"),
        (["gone.json"], "gone.json: No such file"),
        (["wrong.json"], "wrong.json must be a snapshot"),
        (["wrong.json", "wrong.json"], "wrong.json must be a snapshot"),
        (["wrong.json", "--shape", "8"], "a snapshot is shown as it is"),
        (["a.json", "b.json", "--json", "--fail-on", "note"], "without options; got --json, --fail-on"),
        (["a.json", "b.json", "--save", "c.json"], "without options; got --save"),
    ],
)
def test_wrong_input_is_one_line(run, arguments, words):
    """What cannot be audited is told in one line, with status 2."""
    Path("wrong.json").write_text('{"schema": "initbench.audit", "version": 2}')
    status, said = run(*arguments)
    assert status == 2
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert len(said.err.splitlines()) == 1
    assert words in said.err


def test_files_of_packages_are_modules_of_them(folder, monkeypatch):
    """A file in a package may import its neighbours relatively; the folders that are allowed meanwhile are not kept."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv(user_code.FOLDERS, raising=False)
    inside = Path("outer/inner")
    inside.mkdir(parents=True)
    for each, text in {"outer": "", "outer/inner": "from .blocks import build"}.items():
        (Path(each) / "__init__.py").write_text(text)
    (inside / "blocks.py").write_text("def build(): return 7")
    (inside / "mine.py").write_text("from . import blocks\nbuild = blocks.build")
    with user_code.restored():
        assert auditing.located("outer/inner/mine.py:build") == "outer.inner.mine:build"
        assert user_code.function("outer.inner.mine:build", user_code.NETWORKS)() == 7
        assert auditing.located("outer/inner/__init__.py:build") == "outer.inner:build"
        assert user_code.folders()[0] == folder.resolve()
    assert user_code.folders() == []


def small(scale=1.0):
    """Build a model by a function of the test's own, whose last layer may be too wide."""
    from torch import nn  # in a trainer alone

    model = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 24))
    for layer in model[::2]:
        nn.init.xavier_normal_(layer.weight, 1.0 if layer is model[0] else scale)
        nn.init.zeros_(layer.bias)
    return model


def test_models_are_asserted_in_tests(trainers):
    """The helper for tests takes a function, and fails with the findings as its message."""
    rules = {"*.weight": "glorot_normal", "*.bias": "zeros"}
    auditing.assert_initialized(small, rules, seeds=2)
    with pytest.raises(AssertionError, match=r"not what the rules say: 2\.weight\n +glorot_normal was asked for"):
        auditing.assert_initialized(small, rules, options={"scale": 3.0}, seeds=2)
