"""Data of one's own: arrays of any shape, and what no network can learn."""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from tasks.core.design.own import ArrayFile, Loaded
from tasks.core.design.settings import CsvFile, Split
from tasks.core.training import arrays, datasets
from tasks.core.training.datasets import Problem
from tests.shared.answers import answer

MINE = Loaded(load="mine:load")
RNG = np.random.default_rng(0)
IMAGES, CLASSES = RNG.normal(3, 2, (40, 2, 4, 4)), np.arange(40) % 2


def of(*found, **settings):
    source = MINE.model_copy(update=settings)
    return datasets.of_arrays(source, "mine:load", tuple(np.asarray(each) for each in found))


def test_problems_are_told_by_arrays():
    """Shapes and kinds of x and y say what a network has to learn."""
    tokens = RNG.integers(0, 9, (40, 6))
    assert of(IMAGES, CLASSES).problem == Problem((2, 4, 4), 2)
    assert of(tokens, tokens % 3).problem == Problem((6,), 3, positions=6, tokens=True)
    assert of(IMAGES, RNG.normal(size=40)).problem == Problem((2, 4, 4), 1, "regression")
    assert of(IMAGES, RNG.normal(size=(40, 3))).problem.given == (3,)
    assert of(IMAGES, CLASSES.astype(float), task="classification").problem.outputs == 2


@pytest.mark.parametrize(
    ("scaling", "axes"), [("feature", 0), ("channels_first", (0, 2, 3)), ("channels_last", (0, 1, 2)), ("none", None)]
)
def test_scaling_is_fitted_on_train_rows(scaling, axes):
    """Each feature, or each channel, has mean 0 and variance 1 over the train rows; or nothing is scaled."""
    data = of(IMAGES, CLASSES, scaling=scaling)
    fold = datasets.divide(data, Split(), 0)
    if axes is None:
        np.testing.assert_array_equal(fold.x_test, IMAGES[fold.test_rows].astype(np.float32))
    else:
        np.testing.assert_allclose(fold.x_train.mean(axis=axes), 0, atol=1e-5)
        np.testing.assert_allclose(fold.x_train.std(axis=axes), 1, atol=1e-5)
        restored = fold.x_test * fold.scale + fold.mean
        np.testing.assert_allclose(restored, IMAGES[fold.test_rows], atol=1e-4)


def test_only_tables_are_scaled_unless_asked():
    """Left empty, the scaling is that of features for a table, and none for images and tokens."""
    assert of(IMAGES, CLASSES).scaling == "none"
    assert of(IMAGES[:, 0, 0], CLASSES).scaling == "feature"
    tokens = of(RNG.integers(0, 9, (40, 6)), CLASSES, scaling="feature")
    assert tokens.scaling == "none"
    assert datasets.divide(tokens, Split(), 0).x_train.dtype == np.int64


def test_test_rows_may_be_given():
    """x_test and y_test are the test rows of every cell; train rows are the others."""
    data = of(IMAGES, CLASSES, IMAGES[:10] + 1, CLASSES[:10])
    one, other = (datasets.divide(data, Split(), seed) for seed in (0, 1))
    np.testing.assert_array_equal(one.test_rows, np.arange(40, 50))
    np.testing.assert_array_equal(one.x_test, other.x_test)
    assert len(one.y_train) == 40


def test_real_targets_are_scaled_by_train_rows():
    """Real targets have mean 0 and variance 1 over the train rows, and can be brought back."""
    y = RNG.normal(50, 7, (40, 2))
    fold = datasets.divide(of(IMAGES, y), Split(), 0)
    np.testing.assert_allclose(fold.y_train.std(0), 1, atol=1e-5)
    np.testing.assert_allclose(fold.y_test * fold.y_scale + fold.y_mean, y[fold.test_rows], rtol=1e-5)


def test_checksums_tell_data_apart():
    """Other values, shapes, kinds, test rows or scaling are other data."""
    found = [
        of(IMAGES, CLASSES),
        of(IMAGES + 1, CLASSES),
        of(IMAGES.reshape(40, 4, 2, 4), CLASSES),
        of(IMAGES, CLASSES.astype(float)),
        of(IMAGES[:30], CLASSES[:30], IMAGES[30:], CLASSES[30:]),
        of(IMAGES, CLASSES, scaling="feature"),
    ]
    assert len({each.checksum for each in found}) == len(found)


NAN = np.where(np.arange(40)[:, None, None, None] == 7, np.nan, IMAGES)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ((IMAGES, CLASSES[:-1]), "equally many rows"),
        ((IMAGES, CLASSES + 1), "classes in y must be 0, 1, 2 and so on, each of them there; y has 1, 2"),
        ((IMAGES, 2 * CLASSES), "classes in y must be 0, 1, 2 and so on"),
        ((IMAGES, 0 * CLASSES), "two classes or more; it has one"),
        ((NAN, CLASSES), "no NaN; row 7 has another one"),
        ((IMAGES, np.full(40, np.nan)), "y must be finite numbers"),
        ((IMAGES, np.ones(40)), "y must vary"),
        ((RNG.integers(-3, 3, (40, 5)), CLASSES), "tokens in x must not be negative; the smallest is -3"),
        ((CLASSES, CLASSES), r"x must be \(rows, ...\)"),
        ((IMAGES.astype(str), CLASSES), "x must be real numbers or whole ones"),
        ((IMAGES, CLASSES, IMAGES[:, :1], CLASSES), "must have the shapes of those of x and y"),
    ],
)
def test_what_no_network_can_learn_is_refused(found, words):
    """Arrays that do not fit together, or are no numbers, are refused with the rule and what came."""
    with pytest.raises(ValueError, match=words):
        of(*found)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "it returned NoneType"),
        ((1, 2, 3), "it returned 3 values"),
        (([[1], [2, 3]], [0, 1]), "objects|inhomogeneous"),
    ],
)
def test_functions_must_return_arrays(given, words):
    """A function returns two or four arrays of numbers."""
    with pytest.raises(ValueError, match=words):
        arrays.returned("mine:load", given)


def test_files_of_arrays(tmp_path):
    """A .npz file has x and y, and nothing is unpickled."""
    path = tmp_path / "mine.npz"
    np.savez(path, x=IMAGES, y=CLASSES)
    data = datasets.load(ArrayFile(path=str(path)))
    assert (data.name, data.problem) == ("mine", Problem((2, 4, 4), 2))
    np.savez(path, x=IMAGES)
    with pytest.raises(ValueError, match=r"must have x and y, .*; it has x"):
        datasets.load(ArrayFile(path=str(path)))
    np.savez(path, x=np.zeros((40, 0)), y=CLASSES)
    with pytest.raises(ValueError, match=r"one number or more; they are \(40, 0\) and \(40,\)"):
        datasets.load(ArrayFile(path=str(path)))
    with pytest.raises(ValueError, match="can be read"):
        datasets.load(ArrayFile(path=str(tmp_path / "gone.npz")))


class Unpickled:
    """Raises when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a file was unpickled",)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda file: np.savez(file, x=np.array([Unpickled()]), y=CLASSES), "objects are not unpickled$"),
        (lambda file: pickle.dump(Unpickled(), file), "as numpy.savez writes it; .* another kind of file$"),
        (lambda file: np.save(file, IMAGES), "as numpy.savez writes it; .* another kind of file$"),
        (lambda file: file.write(b"x,y\n"), "as numpy.savez writes it; .* another kind of file$"),
        (lambda file: np.savez(file, x=IMAGES[:0], y=CLASSES[:0]), "and at least one; they are "),
        (lambda file: np.savez(file, x=IMAGES, y=CLASSES, x_test=IMAGES), "it has x, y, x_test$"),
    ],
)
def test_a_wrong_file_of_arrays_is_told_and_never_unpickled(tmp_path, write, words):
    """Whatever a .npz file holds, it is refused with the rule, and no object in it is made."""
    path = tmp_path / "mine.npz"
    with path.open("wb") as file:
        write(file)
    with pytest.raises(ValueError, match=words):
        datasets.load(ArrayFile(path=str(path)))


def test_parquet_files(tmp_path):
    """A Parquet file is a table as a CSV file is."""
    path = str(tmp_path / "mine.parquet")
    pd.DataFrame({"a": [1.0, 2, 3, 4], "b": [0, 1, 0, 1], "kind": list("uvuv")}).to_parquet(path)
    data = datasets.load(CsvFile(path=path, target="kind"))
    assert (data.features, data.classes, data.y.tolist()) == (("a", "b"), 2, [0, 1, 0, 1])
    with pytest.raises(ValueError, match="holds real numbers"):
        datasets.load(CsvFile(path=path, target="a", exclude=("kind",)))
    with pytest.raises(ValueError, match=r"features of .* must be numbers"):
        datasets.load(CsvFile(path=path, target="b"))


def test_parquet_files_that_cannot_be_read(tmp_path):
    """A file that is none, a damaged one, and one with two columns of one name are told in words of the setting."""
    path = tmp_path / "mine.parquet"

    def fault():
        _, words = answer(datasets.load, CsvFile(path=str(path), target="kind"))
        return words.removeprefix(f"dataset.path must be a Parquet file that can be read; {path}: ")

    assert fault() == "No such file or directory"
    path.write_text("a,kind")
    assert fault() == "it is damaged, or another kind of file"
    parquet.write_table(pa.table([[1, 2], [3, 4], ["u", "v"]], names=["a", "a", "kind"]), path)
    assert fault() == f"columns of {path} must differ in their names; they are a, a, kind"
    path.unlink()
    path.mkdir()
    assert fault() == "Is a directory"
