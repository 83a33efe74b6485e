"""Code of a user's own: what may be imported, from where, and what a checksum covers."""

import subprocess
import sys

import pytest

from tasks import user_code
from tasks.core.audit.sample import Target
from tasks.core.design.own import Loaded, OwnNetwork
from tasks.user_code import DATASETS, NETWORKS

NETWORK = OwnNetwork(build={"pytorch": "mine:build"}, options={"width": 3})


@pytest.fixture
def code(folder, monkeypatch):
    """Return the current folder, which is empty and alone may hold code."""
    monkeypatch.setenv(user_code.FOLDERS, str(folder))
    monkeypatch.setattr(sys, "path", [*sys.path])
    return folder


def write(folder, text, name="mine"):
    (folder / f"{name}.py").write_text(text)


def test_only_folders_that_are_listed_hold_code(code, monkeypatch):
    """A module is imported if a listed folder has it; nothing else is, whatever Python could import."""
    write(code, "def build(shape, outputs):\n    return shape, outputs\n")
    assert user_code.function("mine:build", NETWORKS)((4,), 3) == ((4,), 3)
    with pytest.raises(ValueError, match=r"no module 'os' in the folders of code that INITBENCH_CODE lists"):
        user_code.function("os:system", NETWORKS)
    monkeypatch.delenv(user_code.FOLDERS)
    with pytest.raises(ValueError, match=r"no module 'mine' .* which are none"):
        user_code.function("mine:build", NETWORKS)


def test_the_command_line_allows_what_python_finds(code):
    """The study's folder comes first, then what was listed, then Python's own path."""
    study = code / "study"
    study.mkdir()
    write(study, "def build(shape, outputs):\n    return 'the study'\n")
    write(code, "def build(shape, outputs):\n    return 'the current folder'\n")
    user_code.allow(study, code)
    assert user_code.function("mine:build", NETWORKS)((1,), 2) == "the study"
    assert user_code.function("colorsys:rgb_to_hls", NETWORKS)


@pytest.mark.parametrize(
    ("text", "reference", "words"),
    [
        ("", "mine:build", "mine must have a function 'build'; it has none"),
        ("def built(): pass", "mine:build", "did you mean 'built'"),
        ("import nowhere_at_all", "mine:build", "mine must be importable; it raised ModuleNotFoundError"),
        ("raise SystemExit('usage: mine')", "mine:build", "must be importable; it raised SystemExit: usage: mine"),
        ("def build(:", "mine:build", "mine must be importable; line 1"),
        ("", "offered", "no entry point 'offered'"),
    ],
)
def test_code_that_cannot_be_called_is_refused(code, text, reference, words):
    """No such module or function, or one that cannot be imported, is one line with the rule."""
    write(code, text)
    with pytest.raises(ValueError, match=words) as error:
        user_code.function(reference, NETWORKS)
    assert "\n" not in str(error.value)


def test_a_builder_gets_its_options_and_tells_what_it_raises(code):
    """Options are arguments; whatever the author's code raises is one line that names the call."""
    write(code, "def build(shape, outputs, width):\n    return shape, outputs, width\n")
    assert user_code.builder(NETWORK, "pytorch")((4,), 2) == ((4,), 2, 3)
    write(code, "def build(shape, outputs, height):\n    pass\n")
    with pytest.raises(ValueError, match=r"mine:build\(\(4,\), 2, width=3\) must build a model; it raised TypeError"):
        user_code.builder(NETWORK, "pytorch")((4,), 2)


def test_checksums_cover_what_is_imported_from_the_own_folder(code):
    """A change in the module, or in one that it imports from its folder, is another checksum; other files are none."""
    (code / "parts").mkdir()
    write(code, "from parts import blocks\ndef build(shape, outputs): pass\n")
    write(code / "parts", "from . import deeper\n", "blocks")
    write(code / "parts", "", "__init__")
    write(code / "parts", "WIDTH = 1\n", "deeper")
    write(code, "", "other")
    first = user_code.checksum("mine:build", NETWORKS)
    write(code, "print()", "other")
    assert user_code.checksum("mine:build", NETWORKS) == first
    write(code / "parts", "WIDTH = 2\n", "deeper")
    assert user_code.checksum("mine:build", NETWORKS) != first
    assert user_code.sources("mine:build").keys() == {"mine", "parts", "parts.blocks", "parts.deeper"}


def test_an_installed_package_is_its_own_sources(code):
    """The code behind a function of an installed package is that package, and nothing else that is installed beside."""
    user_code.allow(code)
    assert {name.partition(".")[0] for name in user_code.sources("jinja2:Template")} == {"jinja2"}


def test_code_that_changed_is_imported_anew(code):
    """A process that has imported a module takes the code that the checksum is of."""
    write(code, "def build(shape, outputs): return 1\n")
    assert user_code.function("mine:build", NETWORKS)((1,), 1) == 1
    write(code, "def build(shape, outputs): return 2\n")
    assert user_code.function("mine:build", NETWORKS)((1,), 1) == 2


def test_code_of_another_checksum_is_refused(code):
    """Where a study says which code it means, other code is not built."""
    write(code, "def build(shape, outputs, width): pass\n")
    pinned = NETWORK.model_copy(update={"code": {"pytorch": "0" * 16}})
    with pytest.raises(ValueError, match="must be as the study says"):
        user_code.builder(pinned, "pytorch")


def test_functions_load_data(code):
    """A loader's arrays are checked where they come from, and what it raises is one line."""
    source = Loaded(load="mine:load")
    write(code, "import numpy as np\ndef load(): return np.ones((6, 2)), np.arange(6) % 2\n")
    assert user_code.loaded(source).x.shape == (6, 2)
    write(code, "def load(): return 1 / 0\n")
    with pytest.raises(ValueError, match=r"mine:load\(\) must return arrays; it raised ZeroDivisionError"):
        user_code.loaded(source)
    with pytest.raises(ValueError, match=r"no entry point 'theirs': no package offers any in initbench\.datasets"):
        user_code.function("theirs", DATASETS)


def test_no_framework_is_imported():
    """Finding code and its checksum imports no framework."""
    program = "import sys; import tasks.user_code; print({'torch', 'tensorflow', 'keras'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"


def test_a_builder_that_ends_the_process_is_told(code):
    """A target's builder that exits, as a script with arguments does, is one line and not a silent success."""
    write(code, "import sys\ndef build(): sys.exit(0)\n")
    build, rows = user_code.target(Target("mine:build", {}, None, None, 1))
    assert rows is None
    with pytest.raises(ValueError, match=r"mine:build\(\) must build a model; it raised SystemExit"):
        build()
