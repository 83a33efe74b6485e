"""The machine at hand: the processors, GPUs and versions on which a result depends."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tasks.core.design.grid import ABSENT, Platform
from tasks.core.design.initializers import BACKENDS, Backend
from tasks.core.training.backend import DETERMINISTIC, TF32

LIBRARIES = ("numpy", "scipy", "scikit-learn")  # draw weights and orders of rows, split and scale, in every backend
PACKAGES = ("initbench", "torch", "tensorflow", "keras", *LIBRARIES, "pandas", "mlflow", "prefect")
FRAMEWORK_PACKAGES: dict[Backend, tuple[str, ...]] = {"pytorch": ("torch",), "keras": ("keras", "tensorflow")}

ROUNDING = (
    "ATEN_CPU_CAPABILITY",
    *(f"{library}_{name}" for library in ("DNNL", "ONEDNN") for name in ("DEFAULT_FPMATH_MODE", "MAX_CPU_ISA")),
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "OPENBLAS_CORETYPE",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)
"""Variables by which frameworks and their libraries choose how to compute a sum, so that another last digit comes out.

A trainer sets the numbers of threads and TF32 itself, whatever the environment says.
"""


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi lists it."""

    index: int
    uuid: str
    name: str
    driver: str


def gpus() -> list[Gpu]:
    """Return the NVIDIA GPUs that this process may use: all, or those that CUDA_VISIBLE_DEVICES lists (-1: none)."""
    listed = [Gpu(int(index), uuid, name, driver) for index, uuid, name, driver in _nvidia_smi()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return listed
    allowed = {word.strip() for word in visible.split(",")}
    return [gpu for gpu in listed if str(gpu.index) in allowed or gpu.uuid in allowed]


@cache
def _nvidia_smi() -> list[list[str]]:
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,driver_version", "--format=csv,noheader"]
    output = _output(query)
    return [line.split(", ") for line in output.splitlines()]


def processors() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rounding(threads: int) -> dict[str, str]:
    """Return what decides how sums are rounded: the threads of a trainer, and those variables of ROUNDING that are set.

    With another number of threads a product of large matrices is summed in other parts.
    """
    return {"threads": str(threads), **{name: os.environ[name] for name in ROUNDING if os.environ.get(name)}}


def platform_for(data: Mapping[str, str], threads: int) -> Platform:
    """Return this machine's platform: all that, beside a study, decides a cell's numbers.

    data: the checksum of each dataset, by its name or path; threads: those of a trainer. No framework is imported.
    """
    found = gpus()
    return Platform(
        frameworks={
            backend: " ".join(
                f"{package} {_version(package)}" for package in (*FRAMEWORK_PACKAGES[backend], *LIBRARIES)
            )
            for backend in BACKENDS
        },
        device=" and ".join(sorted({gpu.name for gpu in found})) or "cpu",
        rounding=rounding(threads),
        release=".".join(version("initbench").split(".")[:2]),
        data=data,
    )


def requirements(backend: Backend) -> list[str]:
    """Return the packages that loading a backend's model needs, for pip, at the versions of this machine."""
    return [f"{package}=={version(package).partition('+')[0]}" for package in FRAMEWORK_PACKAGES[backend]]


def has(backend: Backend) -> bool:
    """Tell whether a backend's framework is installed here."""
    return ABSENT not in [_version(package) for package in FRAMEWORK_PACKAGES[backend]]


def _version(package: str) -> str:
    """Return a package's version, or ABSENT: a machine need not have every framework."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ABSENT


def describe(threads: int) -> dict[str, object]:
    """Return the description of this machine that a benchmark records, with the git commit of this code.

    threads: those of a trainer.
    """
    return {
        "packages": {package: _version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "processors": processors(),
        "precision": f"float32, TF32 {'on' if TF32 else 'off'}",
        "deterministic": DETERMINISTIC,
        "rounding": rounding(threads),
        "gpus": [gpu.__dict__ for gpu in gpus()],
        "commit": _output(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return named[1] if named else platform.processor() or platform.machine()


def _output(command: list[str]) -> str:
    """Return the output of a command, or an empty string if the command is not installed or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
