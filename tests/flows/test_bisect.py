"""Which version of a package changed the numbers: the search, and a real package in real environments."""

import json
import zipfile
from pathlib import Path

import pytest

from flows import bisect
from tasks import throwaway, user_code
from tests.shared.inside import called

RELEASES = ("1.0", "1.1", "1.2", "1.3", "1.4")
MODULES = {"1.2": "raise ImportError('1.2 is broken')\n", "1.3": "SLOPE = 0.2\n", "1.4": "SLOPE = 0.2\n"}
MODEL = """
import slopes
from torch import nn
def build(shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.LeakyReLU(slopes.SLOPE), nn.Linear(3, outputs))
"""
STUDY = """
name: mine
backends: [pytorch]
network: {build: {pytorch: "mine_model:build"}}
initializers: [own, zeros]
seeds: [3, 4]
recipe: {epochs: 1}
controls: null
"""


@pytest.fixture(scope="module")
def offered(tmp_path_factory):
    """Return a folder that offers a package in releases: 1.2 cannot be imported, from 1.3 on its number is another."""
    offered = tmp_path_factory.mktemp("offered")
    for release in RELEASES:
        about = f"slopes-{release}.dist-info"
        with zipfile.ZipFile(offered / f"slopes-{release}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("slopes.py", MODULES.get(release, "SLOPE = 0.1\n"))
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: slopes\nVersion: {release}\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")
    return offered


@pytest.fixture(scope="module")
def trained():
    """Return a function that trains cells as `bisect` does, under each release once for all tests of this file."""
    found, train = {}, bisect._elsewhere

    def once(python, study, cells):
        (release,) = (each.name for each in python.parents[1].rglob("slopes-*.dist-info"))
        key = release, study.model_dump_json(), cells
        if key not in found:
            found[key] = train(python, study, cells)
        return found[key]

    return once


@pytest.fixture
def packages(tmp_path, monkeypatch, offered, trained):
    """Offer the package to pip, and have a study in the current folder whose network needs it."""
    monkeypatch.setattr(bisect, "_elsewhere", trained)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(offered))
    monkeypatch.setenv(user_code.FOLDERS, "")
    monkeypatch.setenv("PYTHONPATH", str(Path(bisect.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    Path("mine_model.py").write_text(MODEL)
    Path("mine.yaml").write_text(STUDY)


def test_the_first_version_that_changes_a_number(packages, monkeypatch, capsys):
    """The command names the first version with other numbers, the one before, and those that could not be tried.

    An initializer that makes the change invisible does not hide it: zeros give the same numbers under every slope.
    """
    status, said = called(("bisect", "mine.yaml", "slopes", "1.0", "1.4"), monkeypatch, capsys)
    assert (status, said.err) == (0, "")
    *steps, found = said.out.splitlines()
    assert found == (
        "slopes 1.3 is the first version with other numbers than 1.1 (1.2 could not train it), seen in "
        "pytorch · own · seed 3; between the ends 1 of 2 cells differ"
    )
    assert steps[:2] == ["slopes 1.0: cells trained: 2", "slopes 1.4: cells trained: 2"]
    assert any("1.2 is broken" in line for line in steps)


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ("1.0", "2.0", "slopes must have a version 2.0; the newest are 1.0, 1.1, 1.2, 1.3, 1.4"),
        ("1.4", "1.0", "GOOD must be an older version of slopes than BAD; got 1.4 and 1.0"),
        ("1.0", "1.1", "the numbers of slopes 1.0 and 1.1 must differ; all 2 cells of the first seed are equal"),
        ("1.2", "1.3", "slopes 1.2 must be able to train the study; "),
    ],
)
def test_what_cannot_be_searched_is_refused(packages, monkeypatch, capsys, good, bad, words):
    """Versions that there are not, a wrong order, equal numbers and an end that fails are one line and exit code 2."""
    status, said = called(("bisect", "mine.yaml", "slopes", good, bad), monkeypatch, capsys)
    assert status == 2
    assert said.err.startswith(f"error: {words}")
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("first", range(1, 9))
@pytest.mark.parametrize("broken", [(), (3,), (2, 3, 4, 5)])
def test_every_place_is_found(first, broken):
    """Wherever the numbers change, the search ends at the first version that is known to have other ones."""
    versions = [str(each) for each in range(9)]
    gone = {str(each) for each in broken} - {"0", "8"}
    tried = []

    def hashed(version):
        tried.append(version)
        return None if version in gone else "new" if int(version) >= first else "old"

    found, before, between = bisect._first(versions, hashed, "old")
    able = [each for each in versions if each not in gone]
    assert found == next(each for each in able if int(each) >= first)
    assert before == able[able.index(found) - 1]
    assert {*between} == {*versions[int(before) + 1 : int(found)]}
    assert len(tried) <= 4 + len(gone)


def test_an_environment_is_the_present_one_with_one_package_moved(packages):
    """The throw-away Python has the asked version and every other package, and nothing is left of it."""
    with throwaway.moved("slopes", "1.1") as python:
        script = "import importlib.metadata as m, json, click; print(json.dumps([m.version('slopes'), click.__file__]))"
        version, click = json.loads(throwaway._called([str(python), "-c", script]))
        assert version == "1.1"
        assert not Path(click).is_relative_to(python.parents[1])
    assert not python.exists()


def test_what_pip_does_not_know_is_refused(packages):
    """A package that there is not is told in pip's words."""
    with pytest.raises(throwaway.PackageError, match=r"pip: .*nothing-of-that-name"):
        throwaway.versions("nothing-of-that-name", "1.0", "1.1")
