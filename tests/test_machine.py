import pytest

from tasks import machine
from tasks.core.design.grid import ABSENT

LISTED = "0, GPU-a, NVIDIA H200, 580.1\n1, GPU-b, NVIDIA H200, 580.1\n"


@pytest.fixture(autouse=True)
def asked_anew():
    """Forget what nvidia-smi said, before each test and after it."""
    machine._nvidia_smi.cache_clear()
    yield
    machine._nvidia_smi.cache_clear()


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put an nvidia-smi on PATH that lists two GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{LISTED}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_no_gpus(monkeypatch, tmp_path):
    """Without nvidia-smi there are no GPUs, and cells train on the CPU."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpus() == []
    assert machine.platform_for({}, threads=1).device == "cpu"


@pytest.mark.usefixtures("nvidia_smi")
def test_gpus():
    """Every GPU is found with its model and driver."""
    assert machine.gpus() == [
        machine.Gpu(0, "GPU-a", "NVIDIA H200", "580.1"),
        machine.Gpu(1, "GPU-b", "NVIDIA H200", "580.1"),
    ]
    assert machine.platform_for({}, threads=1).device == "NVIDIA H200"


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(("visible", "found"), [("1", [1]), ("-1", []), ("", []), ("1,0", [0, 1]), ("GPU-b", [1])])
def test_visible_devices(monkeypatch, visible, found):
    """CUDA_VISIBLE_DEVICES narrows the GPUs, as it does for the frameworks."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.index for gpu in machine.gpus()] == found


def test_what_changes_rounding_is_recorded_and_in_the_platform(monkeypatch):
    """Variables by which libraries choose another way to sum are told apart; an empty variable is none."""
    for name in machine.ROUNDING:
        monkeypatch.delenv(name, raising=False)
    assert machine.platform_for({}, threads=2).rounding == machine.describe(threads=2)["rounding"] == {"threads": "2"}
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    monkeypatch.setenv("XLA_FLAGS", "")
    expected = {"threads": "2", "ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "TF_ENABLE_ONEDNN_OPTS": "0"}
    assert machine.platform_for({}, threads=2).rounding == machine.describe(threads=2)["rounding"] == expected


def test_description_has_every_version():
    """The record names the version of every package that a result depends on."""
    described = machine.describe(threads=1)
    assert set(described["packages"]) == set(machine.PACKAGES)
    assert described["precision"] == "float32, TF32 off"
    assert described["processor"]


def test_which_frameworks_are_here(monkeypatch):
    """A backend is here if every package of its framework is: Keras without TensorFlow is not."""
    assert machine.has("pytorch")
    assert machine.has("keras")
    there = machine._version
    monkeypatch.setattr(machine, "_version", lambda name: ABSENT if name == "tensorflow" else there(name))
    assert machine.has("pytorch")
    assert not machine.has("keras")
