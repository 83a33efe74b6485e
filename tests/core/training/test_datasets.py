import re

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from tasks.core.design.settings import CsvFile, Split
from tasks.core.training.datasets import counting, divide, load, unchanged, visits

IRIS = load("iris")


def test_split_repeats_and_varies():
    """A cell's seed decides its split."""
    first, again, other = (divide(IRIS, Split(), seed).test_rows for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fixed_split_ignores_the_cell():
    """A split with a seed of its own is the same for every cell."""
    assert np.array_equal(*(divide(IRIS, Split(seed=42), seed).test_rows for seed in (1, 2)))


def test_a_redrawn_split_is_another_one():
    """Redrawn, a cell's seed decides another split, which is the same every time."""
    redrawn = Split(seed="redrawn")
    first, again, other, drawn = (
        divide(IRIS, split, 1).test_rows for split in (redrawn, redrawn, Split(seed=1), Split())
    )
    assert np.array_equal(first, again)
    assert set(first) != set(other)
    assert set(first) != set(drawn)


def test_validation_rows_come_from_the_train_rows():
    """Validation rows are a share of the train rows, as even in their classes; the test rows are those without them."""
    whole, parted = (divide(IRIS, Split(validation_fraction=share), seed=3) for share in (0, 0.25))
    assert np.array_equal(whole.test_rows, parted.test_rows)
    assert (len(whole.y_validation), len(parted.y_train)) == (0, 90)
    assert np.bincount(parted.y_validation).tolist() == [10, 10, 10]
    parts = (parted.x_train, parted.x_validation, parted.x_test)
    rows = np.concatenate(parts) * parted.scale + parted.mean
    np.testing.assert_allclose(np.sort(rows, axis=0), np.sort(IRIS.x, axis=0), atol=1e-5)
    np.testing.assert_allclose(parted.x_train.mean(0), 0, atol=1e-6)  # the scaler does not see the validation rows


@pytest.mark.parametrize(("seed", "same"), [("cell", False), (0, True), ("redrawn", False)])
def test_validation_rows_are_drawn_as_the_split_is(seed, same):
    """A cell's seed decides its validation rows; a split with a seed of its own has the same for every cell."""
    split = Split(seed=seed, validation_fraction=0.25)
    first, again, other = (divide(IRIS, split, each).x_validation for each in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == same


WHOLE = "both parts must have a row of each of the 3 classes of iris; of {} rows, shares from {} to {} do; got {}"


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (Split(test_fraction=0.0001), f"test_fraction: {WHOLE.format(150, 0.0134, 0.98, 0.0001)}"),
        (Split(test_fraction=0.9999), f"test_fraction: {WHOLE.format(150, 0.0134, 0.98, 0.9999)}"),
        (Split(validation_fraction=0.001), f"validation_fraction: {WHOLE.format(120, 0.0167, 0.975, 0.001)}"),
        (Split(validation_fraction=0.999), f"validation_fraction: {WHOLE.format(120, 0.0167, 0.975, 0.999)}"),
        (
            Split(test_fraction=0.9999, stratified=False),
            "test_fraction: both parts must have a row; of 150 rows, shares from 0.0001 to 0.9933 do; got 0.9999",
        ),
        (
            Split(test_fraction=0.98, validation_fraction=0.5),
            "validation_fraction: both parts must have a row of each of the 3 classes of iris, but of the rows to "
            "split the rarest class has 1; got 0.5",
        ),
    ],
)
def test_a_split_must_be_possible(split, words):
    """A share that leaves one part without rows, or without a class, is refused with the shares that are allowed."""
    with pytest.raises(ValueError, match=f"^split.{re.escape(words)}$"):
        divide(IRIS, split, seed=0)


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("field", ["test_fraction", "validation_fraction"])
def test_the_shares_that_are_told_are_allowed(field, stratified):
    """The smallest and the largest share that a refusal names split the rows."""
    with pytest.raises(ValueError, match="shares from") as refused:
        divide(IRIS, Split(stratified=stratified, **{field: 0.99999}), seed=0)
    told = re.search("from (.*) to (.*) do", str(refused.value))
    for share in told.groups():
        fold = divide(IRIS, Split(stratified=stratified, **{field: float(share)}), seed=0)
        assert len(fold.y_train) > 0


def test_notebook_split_and_scaling():
    """Split 42 with the scaler on all rows is what the notebook's lines give."""
    x, y = load_iris(return_X_y=True)
    scaled = StandardScaler().fit_transform(x)
    x_train, x_test, y_train, y_test = train_test_split(scaled, y, test_size=0.2, random_state=42)
    fold = divide(IRIS, Split(seed=42, stratified=False, scaler="all"), seed=0)
    np.testing.assert_array_equal(fold.x_train, x_train.astype(np.float32))
    np.testing.assert_array_equal(fold.x_test, x_test.astype(np.float32))
    np.testing.assert_array_equal(fold.y_train, y_train)
    np.testing.assert_array_equal(fold.y_test, y_test)


def test_stratified_split_is_even():
    """Of 30 stratified test rows 10 are of each species."""
    assert np.bincount(divide(IRIS, Split(), seed=3).y_test).tolist() == [10, 10, 10]


def test_train_scaler_does_not_see_the_test():
    """Scaled on train rows, these have mean 0 and variance 1; all rows together do not."""
    fold = divide(IRIS, Split(), seed=3)
    np.testing.assert_allclose(fold.x_train.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(fold.x_train.var(0), 1, atol=1e-5)
    assert np.abs(np.concatenate([fold.x_train, fold.x_test]).mean(0)).max() > 1e-3


def test_visits_are_permutations():
    """Each epoch visits every row once, each in an order of its own."""
    order = visits(120, 5, seed=0, shuffle=True)
    assert np.array_equal(np.sort(order, axis=1), np.tile(np.arange(120), (5, 1)))
    assert len({tuple(epoch) for epoch in order.tolist()}) == 5


def test_visits_depend_on_the_seed_alone():
    """The same seed visits alike, another does not; more epochs only add to the order."""
    assert np.array_equal(visits(120, 5, seed=0, shuffle=True), visits(120, 9, seed=0, shuffle=True)[:5])
    assert not np.array_equal(visits(120, 5, seed=0, shuffle=True), visits(120, 5, seed=1, shuffle=True))


def test_unshuffled_visits():
    """Without shuffling rows are visited as they stand."""
    assert np.array_equal(visits(3, 2, seed=0, shuffle=False), [[0, 1, 2], [0, 1, 2]])


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("iris", (150, 4), 3), ("wine", (178, 13), 3), ("breast_cancer", (569, 30), 2), ("digits", (1797, 64), 10)],
)
def test_bundled_datasets(name, shape, classes):
    """Each dataset has its known size, and splits into train and test rows with every class in both."""
    dataset = load(name)
    assert dataset.x.shape == shape
    assert dataset.classes == classes == len(np.unique(dataset.y))
    fold = divide(dataset, Split(), seed=0)
    assert set(fold.y_train) == set(fold.y_test) == set(range(classes))
    assert np.isfinite(fold.x_train).all()


def test_checksums_differ():
    """No two datasets share a checksum."""
    assert len({load(name).checksum for name in ("iris", "wine", "breast_cancer", "digits")}) == 4


def csv(path, text):
    (path / "mine.csv").write_text(text)
    return CsvFile(path=str(path / "mine.csv"), target="kind")


def test_csv(tmp_path):
    """A CSV file's columns are features but for the target, whose values are classes in their order."""
    dataset = load(csv(tmp_path, "a,kind,b\n1,y,2\n3,x,4\n5,y,6\n7,x,8\n"))
    assert dataset.x.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert dataset.y.tolist() == [1, 0, 1, 0]
    assert (dataset.name, dataset.features, dataset.classes) == ("mine", ("a", "b"), 2)


def test_changed_data_is_found(tmp_path):
    """Data that changed since its checksum was taken is refused; data that did not is not."""
    source = csv(tmp_path, "a,kind\n1,x\n2,y\n3,x\n4,y\n")
    checksum = load(source).checksum
    unchanged(source, checksum)
    csv(tmp_path, "a,kind\n1,x\n2,y\n3,x\n5,y\n")
    with pytest.raises(ValueError, match="it has changed"):
        unchanged(source, checksum)


def test_csv_is_read_anew(tmp_path):
    """A file that has changed has another checksum, in a process that has read it before."""
    text = "a,kind\n1,x\n2,y\n3,x\n4,y\n"
    before = load(csv(tmp_path, text)).checksum
    assert load(csv(tmp_path, text)).checksum == before
    assert load(csv(tmp_path, text.replace("4", "5"))).checksum != before


def test_columns_that_count_rows_are_found(tmp_path):
    """Whole numbers that rise with every row are found, with gaps or without; a measurement that rises is not."""
    source = csv(tmp_path, "Id,even,a,b,kind\n1,2,0.5,3,x\n2,4,1,1,x\n3,8,1.5,2,y\n4,10,2,5,y\n")
    assert counting(load(source)) == ["Id", "even"]


def test_checksum_follows_the_data():
    """One changed number changes the checksum."""
    from dataclasses import replace

    assert replace(IRIS, x=IRIS.x + np.eye(150, 4)).checksum != IRIS.checksum


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits"])
def test_features_are_named_in_plain_text(name):
    """Names of features are strings, not NumPy's, which a model's description could not hold."""
    assert {type(feature) for feature in load(name).features} == {str}
