"""Networks of one's own as a user meets them: the example's README word for word, and bad input."""

import re
import shutil
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from flows import data, new, planning, studies, worker
from tasks import machine, remote, user_code
from tasks.core.audit.audit import Audit
from tasks.core.design.initializers import BACKENDS
from tasks.core.design.study import Study
from tasks.core.report import audit_text
from tasks.core.training import datasets
from tasks.tracking import benchmarks
from tests.shared import own
from tests.shared.inside import called

README = (new.EXAMPLES / "README.md").read_text()
MODEL = "from torch import nn\ndef build(shape, outputs, width=4):\n    return "
FLAT = "nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, outputs))\n"
DATA = """
import numpy as np
def load():
    rng = np.random.default_rng(0)
    return {x}, {y}
"""
X, Y = "rng.normal(size=(60, 8, 8))", "np.arange(60) % 3"
STUDY = {"build": "mine_model:build", "batch": 16, "extra": ""}
FEWER = """

whole = images


def images():
    x, y = whole()
    return x[::8], y[::8]
"""

AUDITED = "audit: true\n"

SHIFT = """
import torch
class Shift(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(8, 8))
    def forward(self, x):
        return x + self.shift
unshifted = build
def build(*shape, **options):
    return nn.Sequential(Shift(), unshifted(*shape, **options))
"""


@pytest.fixture
def run(stored, trainers, monkeypatch, capsys):
    """Return a function that runs the command in this process, in an empty folder with an empty store."""
    monkeypatch.setenv(user_code.FOLDERS, "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(datasets, "_held", {})

    return lambda *arguments: called(arguments, monkeypatch, capsys)


def write(model=MODEL + FLAT, x=X, y=Y, **changes):
    told = {**STUDY, **changes}
    Path("mine_model.py").write_text(model)
    Path("mine_data.py").write_text(DATA.format(x=x, y=y))
    Path("mine.yaml").write_text(
        f"name: mine\nbackends: [pytorch]\nnetwork: {{build: {{pytorch: '{told['build']}'}}, options: {{width: 4}}}}\n"
        "dataset: {load: 'mine_data:load'}\ninitializers: [own, he_normal]\nseeds: 1\n"
        f"recipe: {{epochs: 1, batch_size: {told['batch']}}}\ncontrols: null\n{told['extra']}"
    )


def test_the_readme_of_the_examples_word_for_word(run, prefect_server):
    """Whoever types the commands of the README has a study, a dry run, a report; and a second run trains nothing."""
    commands = re.findall(r"^ +(initbench .*)$", README, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["new", "run", "run"]
    assert len(README.splitlines()) < 50  # one screen
    for command in commands:
        status, said = run(*command.split()[1:])
        assert status == 0, said.err
        if command == commands[0]:
            loader = Path("mine_data.py")
            loader.write_text(loader.read_text() + FEWER)  # the user's data, of which an eighth shows the same
            # an audit, and a parameter that belongs to no layer
            Path("mine.yaml").write_text(Path("mine.yaml").read_text() + AUDITED)
            Path("mine_model.py").write_text(Path("mine_model.py").read_text() + SHIFT)
    page = Path("results/report.html").read_text()
    assert "AdaptiveAvgPool2d" not in page  # has no weights
    assert "Conv2d" in page
    assert "stay as built: 0.shift" in page
    assert "note: audit of mine_model:build" in said.err
    cells = pd.read_csv("results/cells.csv")
    assert set(cells["status"]) == {"finished"}
    assert {*cells["initializer"]} == {"own", "he_normal", "orthogonal"}
    client = MlflowClient("sqlite:///mlflow.db")
    (benchmark,) = client.search_runs(["1"], "tags.`initbench.benchmark` = 'yes'")
    kept = client.list_artifacts(benchmark.info.run_id, "audit")
    assert [file.path for file in kept] == ["audit/pytorch.html", "audit/pytorch.json"]
    audit = Audit.from_json(benchmarks.text(client, benchmark.info.run_id, "audit/pytorch.json"), "")
    assert audit.target.startswith("mine_model:build")
    assert audit.flow.inputs == "rows of mine_data:images"
    (caption,) = re.findall("<caption>(Audit of each network.*)</caption>", page)
    assert audit_text.verdict(audit) in caption
    assert f"{benchmark.info.run_id}/artifacts/audit/pytorch.html" in page
    (model,) = client.search_registered_models()
    assert {alias: str(version) for alias, version in model.aliases.items()} == {"champion": "1"}
    assert mlflow.models.get_model_info(f"models:/{model.name}@champion").metadata["as_built"] == ["0.shift"]
    champion = client.get_run(client.get_model_version(model.name, "1").run_id)
    assert champion.data.tags["initbench.as_built"] == "0.shift"
    status, said = run("run", "mine.yaml", "--dry-run")
    assert "9: 0 to train" in said.out
    code = Path("mine_model.py")
    code.write_text(code.read_text() + "\n")
    status, said = run("run", "mine.yaml", "--dry-run")
    assert "9: 9 to train" in said.out
    assert "pytorch: changed since the newest cell on record: the code of mine_model:build" in said.out
    status, said = run("new", "mine")
    assert (status, said.err) == (2, "error: new must not write over a file; mine.yaml is there already\n")


BAD = {
    "no module": ({"build": "gone:build"}, "no module 'gone' in the folders of code"),
    "no function": ({"build": "mine_model:built"}, "mine_model must have a function 'built'; did you mean 'build'"),
    "raises": ({"model": MODEL + "1 / 0\n"}, "must build a model; it raised ZeroDivisionError: division by zero"),
    "no model": ({"model": MODEL + "3\n"}, "must return a torch.nn.Module; it returned int"),
    "no layer": (
        {"model": "from torch import nn\ndef build(shape, outputs, width):\n    return nn.Flatten()\n"},
        "a model must give (rows, 3) for these data; it gives (rows, 64)",
    ),
    "wrong input": ({"model": MODEL + "nn.Conv2d(3, outputs, 3)\n"}, "must take rows of shape (8, 8); it raised"),
    "labels": ({"y": "np.arange(60) % 3 + 1"}, "classes in y must be 0, 1, 2 and so on"),
    "one class": ({"y": "np.zeros(60, int)"}, "y must have two classes or more; it has one"),
    "NaN": ({"x": X + " * np.nan"}, "no NaN; row 0 has another one"),
    "few rows": ({"batch": 100}, "recipe.batch_size must be at most the number of train rows, 48; got 100"),
    "other data each time": (
        {"x": "np.random.normal(size=(60, 8, 8))"},
        "the same arrays each time it is called",
    ),
    "rule": ({"extra": ""}, "network.rules: 'nowhere' must match a layer or a parameter; there are 1, 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_records_nothing(run, name):
    """Whatever is wrong with code or data is one line with the rule and exit status 2, before anything is recorded."""
    changes, words = BAD[name]
    write(**changes)
    before = Path("mlflow.db").read_bytes()
    options = ["--set", "network.rules={nowhere: zeros}"] if name == "rule" else []
    status, said = run("run", "mine.yaml", "--dry-run", *options)
    assert (status, said.out) == (2, "")
    (line,) = said.err.splitlines()
    assert words in line
    assert Path("mlflow.db").read_bytes() == before


def test_a_form_imports_no_code(stored, trainers, monkeypatch):
    """Without the command line, only entry points and folders that INITBENCH_CODE lists hold code."""
    monkeypatch.delenv(user_code.FOLDERS, raising=False)
    write()
    with pytest.raises(ValueError, match=r"no module 'mine_model' in the folders .* which are none"):
        planning.plan(studies.load("mine.yaml", ["dataset=digits"]), fresh=False)


def test_own_networks_may_have_a_class_at_each_position(monkeypatch):
    """Sequences of tokens with a class at each position are data for a network of one's own, not for a perceptron."""
    monkeypatch.setattr(datasets, "_held", {})
    asked = own.study("pytorch", "tokens")
    settings = asked.settings("pytorch", ())
    assert list(data.checksums([(settings, 0)])) == ["mine:tokens"]
    perceptron = settings.model_copy(update={"network": Study().network})
    with pytest.raises(ValueError, match=r"a perceptron needs rows .* rows of mine:tokens are \(6,\)"):
        data.checksums([(perceptron, 0)])


def test_workers_need_the_same_code(stored, trainers, monkeypatch, folder):
    """A plan for workers says that they need the code; a worker with other code, or none, refuses in one line.

    The network is examined where the plan is made, if the framework is there, so that the report has its layers.
    """
    monkeypatch.setenv(user_code.FOLDERS, str(folder))
    write()
    made = planning.plan(studies.load("mine.yaml", ["runner=workers"]), fresh=False)
    (note,) = [words for words in made.notes if "INITBENCH_CODE" in words]
    assert note.startswith("every worker must have the code of mine_model:build, mine_data:load, in a folder")
    (network,) = made.networks.described()
    assert [layer["kind"] for layer in network["layers"]] == ["Linear", "Linear"]
    with monkeypatch.context() as without:
        without.setattr(machine, "has", lambda _: False)
        assert not planning.plan(made.study, fresh=False).networks.found
    batch = made.left[0]
    planned = {"settings": batch.settings, "cells": batch.cells, "target": batch.target, "record": batch.record}
    alike = {"data": batch.platform.data["mine_data:load"], "release": batch.platform.release}
    part = remote.Train(study="mine", fresh=False, **planned, **alike)
    worker._check_alike(part, batch.platform)
    Path("mine_model.py").write_text(MODEL + FLAT + "# changed\n")
    with pytest.raises(ValueError, match=r"the benchmark's data, code and release; differing: mine_model:build \(\w+,"):
        worker._check_alike(part, batch.platform)
    monkeypatch.delenv(user_code.FOLDERS)
    with pytest.raises(ValueError, match=r"no module 'mine_model' in the folders of code that INITBENCH_CODE lists"):
        worker._check_alike(part, batch.platform)


def test_examples_are_valid_studies():
    """Every example can be read, and its code is there."""
    for file in sorted(new.EXAMPLES.glob("*.yaml")):
        study = studies.load(str(file))
        for reference in (*study.network.build.values(), study.dataset.load):
            assert (new.EXAMPLES / f"{reference.partition(':')[0]}.py").exists()
        assert study.name == file.stem


@pytest.mark.parametrize("backend", BACKENDS)
def test_new_writes_a_study_that_is_valid(folder, backend):
    """What `new` writes can be read, for either backend."""
    assert new.write("my-net", backend, folder) == ["my-net.yaml", "my_net_model.py", "my_net_data.py"]
    assert studies.load("my-net.yaml").backends == (backend,)
    with pytest.raises(ValueError, match="lower-case letters"):
        new.write("My Net", backend, folder)


def test_code_that_is_copied_is_found_beside_its_study(run):
    """Modules are found in the study's folder, wherever the command runs."""
    shutil.copytree(new.EXAMPLES, "elsewhere")
    status, said = run("run", "elsewhere/encoder.yaml", "--dry-run", "--set", "seeds=1")
    assert status == 0, said.err
    assert "belong to no layer of a known kind and stay as built: positions" in said.out
    assert "pytorch · rules branches · own" in said.out
