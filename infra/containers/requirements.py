"""Print the packages that the image of a variant installs: python requirements.py VARIANT <pyproject.toml.

infra/requirements.txt pins their versions.
"""

import re
import sys
import tomllib

LEFT_OUT = {
    "server": {"torch", "tensorflow", "keras"},
    "cpu": set(),
    "pytorch-gpu": {"tensorflow", "keras"},
    "keras-gpu": {"torch"},
}

if __name__ == "__main__":
    variant = sys.argv[1]
    for requirement in tomllib.load(sys.stdin.buffer)["project"]["dependencies"]:
        name = re.split(r"\W", requirement, maxsplit=1)[0]
        if name not in LEFT_OUT[variant]:
            extra = "[and-cuda]" if name == "tensorflow" and variant == "keras-gpu" else ""  # PyPI's torch has CUDA
            sys.stdout.write(f"{name}{extra}{requirement.removeprefix(name)}\n")
    sys.stdout.write("setuptools\n")  # it builds this package
