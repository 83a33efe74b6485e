"""What is not loaded, and not looked for, where it would take seconds for nothing."""

import gc
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("tasks.exports", ["prefect", "sqlalchemy"]),  # trainers have no flow run and open no store
        ("flows.bisect", ["prefect", "mlflow"]),  # every version that is tried loads it
        ("flows.serving.server", ["mlflow"]),  # a command starts its server first
        ("tasks.backends.pytorch", ["torch._inductor", "torch._dynamo"]),  # PyTorch's compiler
    ],
)
def test_nothing_is_loaded_that_is_not_needed(module, unwanted):
    """A module leaves out what it does not need, and PyTorch's backend also when it is set up and runs foreign code."""
    backend = "import tasks.backends.pytorch as own, tasks.backends.pytorch.contained as foreign; own.setup(1)\n"
    used = backend + "with foreign.contained(0): pass\n" if module.endswith("pytorch") else ""
    code = f"import sys, {module}\n{used}print(*{{*{unwanted}}} & {{*sys.modules}})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []


def test_garbage_is_seldom_looked_for():
    """Each Python of the environment, this one too, reads `infra/initbench.pth`, which `infra/environment` copies."""
    assert gc.get_threshold()[0] == 50_000
