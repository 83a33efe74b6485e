"""Throw-away environments: the present one, with one package at another version."""

import json
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PIP = ("-m", "pip", "--disable-pip-version-check")


class PackageError(ValueError):
    """There is no such version of a package, or it cannot be installed."""


def versions(package: str, first: str, last: str) -> list[str]:
    """Return the released versions of a package from one to another, oldest first.

    Raises:
        PackageError: if pip finds no such package, or no such versions of it.
    """
    found = _called([sys.executable, *PIP, "index", "versions", "--json", "--", package])
    released: list[str] = json.loads(found)["versions"][::-1]
    for version in (first, last):
        if version not in released:
            shown = ", ".join(released[-10:])
            raise PackageError(f"{package} must have a version {version}; the newest are {shown}")
    start, end = released.index(first), released.index(last)
    if start >= end:
        raise PackageError(f"GOOD must be an older version of {package} than BAD; got {first} and {last}")
    return released[start : end + 1]


@contextmanager
def moved(package: str, version: str) -> Iterator[Path]:
    """Yield the Python of an environment that is the present one, but for the version of one package.

    The environment holds that package alone, in front of the packages of the present one. It is deleted at the end.

    Raises:
        PackageError: if the version cannot be installed.
    """
    with tempfile.TemporaryDirectory(prefix="initbench-") as folder:
        venv.create(folder, symlinks=True)
        python = Path(folder, "bin", "python")
        packages = sysconfig.get_path("purelib", vars={"base": folder})
        present = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        Path(packages, "present.pth").write_text(present)
        _called(
            [sys.executable, *PIP, "--python", str(python), "install", "--quiet", "--no-deps", f"{package}=={version}"]
        )
        yield python


def _called(command: Sequence[str]) -> str:
    """Return what pip prints.

    Raises:
        PackageError: if it fails, in its first error.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise PackageError(f"pip: {[*errors, 'it failed'][0]}")
    return done.stdout
