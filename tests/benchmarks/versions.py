"""What changed between two versions of a package: one builder is audited under each, and the audits are compared.

`python -m tests.benchmarks.versions` shows Keras's attention under 3.14.1 and 3.15.1. Another builder and two other
requirements go after it: `python -m tests.benchmarks.versions mymodel.py:build torch==2.12.1 torch==2.13.0`. A package
is installed without its requirements into a folder that goes before the packages of this environment, and is deleted
afterwards: all other packages are as the lock says.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

COMMAND = [sys.executable, "-c", "from flows.cli import main; main()", "audit"]
OWN = ["tests.benchmarks.versions:attention", "keras==3.14.1", "keras==3.15.1"]


def attention():
    """Build Keras's own attention in the width and heads of the first transformer."""
    import keras

    layers, given = keras.layers, keras.Input((16, 512))
    mixed = layers.MultiHeadAttention(num_heads=8, key_dim=64)(given, given)
    return keras.Model(given, layers.Dense(10)(layers.GlobalAveragePooling1D()(mixed)))


def snapshot(build, requirement, folder):
    """Audit a builder in this environment with one package in another version; return the snapshot's file."""
    packages, file = folder / requirement, folder / f"{requirement}.json"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", packages, requirement]
    subprocess.run([sys.executable, *install], check=True)
    path = os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [*COMMAND, build, "--save", file], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL
    )
    if not file.exists():
        sys.exit(ended.returncode)  # the command has said why
    return file.name


if __name__ == "__main__":
    build, *requirements = sys.argv[1:] or OWN
    with tempfile.TemporaryDirectory() as folder:
        names = [snapshot(build, each, Path(folder)) for each in requirements]
        sys.exit(subprocess.run([*COMMAND, *names], cwd=folder).returncode)
