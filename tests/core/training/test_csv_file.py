"""CSV files as people have them: what is read, and what is refused with its line and column."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.design.settings import CsvFile
from tasks.core.training.csv_file import read
from tasks.core.training.datasets import load
from tests.shared.answers import answer

GLASS = "1.52101,13.64,4.49,1\n1.51761,13.89,3.6,1\n1.51618,13.53,3.55,2\n1.51766,13.21,3.69,2\n"
ECOLI = "0.49,0.29,0.48,cp\n0.07,0.40,0.48,cp\n0.56,0.40,0.48,im\n0.59,0.49,0.48,im\n"
MAMMOGRAPHY = "0.23001961,5.0725783,'-1'\n0.15549112,-0.16939038,'-1'\n-0.78441482,-0.44365372,'1'\n1.5,2.5,'1'\n"
IRIS = "Id,SepalLengthCm,Species\n1,5.1,Iris-setosa\n2,4.9,Iris-setosa\n3,7.0,Iris-virginica\n4,6.3,Iris-virginica\n"
ZOO = "animal_name,hair,legs,class_type\naardvark,1,4,1\nbass,0,0,4\nbear,1,4,1\ncarp,0,0,4\n"
SLEEP = """Person ID,Gender,Age,Occupation,Sleep Disorder
1,Male,27,Engineer,None
2,Male,28,Doctor,None
3,Female,28,Doctor,Insomnia
4,Female,30,Nurse,Insomnia
"""
DRY_BEAN = (
    "\ufeffArea,Perimeter,Class\r\n28395,610.291,SEKER\r\n28734,638.018,SEKER\r\n51,6.5,BOMBAY\r\n52,7.5,BOMBAY\r\n"
)
CANCER = "id,diagnosis,radius,\n842302,M,17.99\n842517,M,20.57\n84300903,B,11.42\n84348301,B,20.29\n"
INDEXED = ",a,kind\n0,1.5,x\n1,2.5,x\n2,3.5,y\n3,4.5,y\n"


@pytest.fixture
def found(tmp_path):
    """Return a function that reads a file with this content."""

    def read_text(text, target="kind", **settings):
        (tmp_path / "mine.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(CsvFile(path=str(tmp_path / "mine.csv"), target=target, **settings))

    return read_text


@pytest.mark.parametrize(
    ("text", "settings", "features", "classes"),
    [
        (GLASS, {"target": 4, "header": False}, ("1", "2", "3"), 2),
        (GLASS, {"target": "type", "names": ["RI", "Na", "Mg", "type"]}, ("RI", "Na", "Mg"), 2),
        (ECOLI, {"target": 4, "header": False, "exclude": [3]}, ("1", "2"), 2),
        (MAMMOGRAPHY, {"target": "3", "header": False}, ("1", "2"), 2),
        (IRIS, {"target": "Species", "exclude": ["Id"]}, ("SepalLengthCm",), 2),
        (ZOO, {"target": "class_type", "exclude": ["animal_name"]}, ("hair", "legs"), 2),
        (SLEEP, {"target": "Sleep Disorder", "exclude": ["Person ID", "Gender", "Occupation"]}, ("Age",), 2),
        (DRY_BEAN, {"target": "Class"}, ("Area", "Perimeter"), 2),
        (CANCER, {"target": "diagnosis", "exclude": ["id"]}, ("radius",), 2),
        (INDEXED, {"exclude": [1]}, ("a",), 2),
        ("a, kind\n1, x\n2, x\n3, y\n4,y\n", {}, ("a",), 2),
        ("a,kind,\n1,x,\n2,x,\n3,y,\n4,y,\n", {}, ("a",), 2),
        ("a,kind\n1,x,\n2,x,\n3,y,\n4,y,\n", {}, ("a",), 2),
        ("\n\na,kind\n1,x\n2,x\n\n3,y\n4,y\n" + 13_000 * ",\n", {}, ("a",), 2),
        ("a,b,kind\nTRUE,1,None\nFALSE,2,None\nTrue,3,NA\nfalse,4,NA\n", {}, ("a", "b"), 2),
        ("a,kind\r1,nan\r2,nan\r3,1\r4,1\r", {}, ("a",), 2),
        ("0,1,kind\n5,6,x\n7,8,x\n9,1,y\n2,3,y\n", {"header": True}, ("0", "1"), 2),
        ('"the\nfirst",kind\n1,x\n2,x\n3,y\n4,y\n', {}, ("the first",), 2),
    ],
)
def test_files_as_people_have_them(found, text, settings, features, classes):
    """Files without a header, with a row number, texts, blanks, empty lines or commas too many are read in full."""
    dataset = found(text, **settings)
    assert dataset.x.shape == (4, len(features))
    assert (dataset.features, dataset.classes) == (features, classes)
    assert sorted(np.bincount(dataset.y)) == [2, 2]


def test_values_are_those_of_the_file(found):
    """TRUE and FALSE are 1 and 0, the first row of a file without a header counts, and a label may be None."""
    assert found(GLASS, 4, header=False).x[0].tolist() == [1.52101, 13.64, 4.49]
    assert found("a,kind\nTRUE,x\nFALSE,x\n3,y\n4,y\n").x[:, 0].tolist() == [1, 0, 3, 4]
    assert found("a,kind\n1,b\n2,None\n3,b\n4,None\n").y.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("", {}, "must have rows; it is empty"),
        (",,\n\n,\n", {}, "must have rows; it is empty"),
        ("a,kind\n", {}, "must have rows below its header"),
        (GLASS, {"target": "1"}, r"line 1 of .* must name the columns; it holds 1.52101\. .*`header: false`.* 1 to 4,"),
        (ECOLI, {"target": "cp"}, "line 1 of .* must name the columns; it holds 0.49"),
        ("TRUE,x\n1,y\n", {}, "line 1 of .* must name the columns; it holds TRUE"),
        (GLASS, {"names": ["a", "kind"]}, "names must name every column of .*, which has 4; got 2"),
        (GLASS, {"header": False}, "no column 'kind'; choose one of 1, 2, 3, 4"),
        (IRIS, {"target": "species"}, "dataset.target .* no column 'species'; did you mean 'Species'?"),
        (IRIS, {"target": "Species", "exclude": ["Idd"]}, "dataset.exclude .* no column 'Idd'; did you mean 'Id'?"),
        (SLEEP, {"target": "Age"}, "line 2, column Gender is 'Male', line 2, column Occupation is 'Engineer'"),
        (SLEEP, {"target": "Age"}, r"`exclude: \[Gender, Occupation, Sleep Disorder\]`"),
        ("a,kind\n1,x\n\n,y\n", {}, "line 4, column a is ''"),
        ("a,kind\n1,x\nNA,y\n", {}, "line 3, column a is 'NA'"),
        ('a,b,kind\n1,"x\ny",x\n1,2,y\n', {}, r"line 3, column b is 'x\\ny'"),
        ("a,kind\n1,x\n2,\n", {}, "no empty field; line 3, column kind is empty"),
        ("a,kind\n1,x\n1.8e308,y\n", {}, r"at most 3.4e\+38 in every line; line 3, column a is '1.8e308'"),
        ("a,kind\n1,x\n1e39,y\n", {}, "line 3, column a is '1e39'"),
        ("a,kind\n1,x\ninf,y\n", {}, "line 3, column a is 'inf'"),
        ("a,kind\n1,x\n1_000,y\n", {}, "line 3, column a is '1_000'"),
        ("a,kind\n1,x\n٣,y\n", {}, "line 3, column a is '٣'"),
        ("a,b,kind\n1,2,x\n1,y\n", {}, "line 3 of .* as many fields as there are columns, 3; it has 2"),
        ("a,kind\n1,2,x\n3,4,y\n", {}, "line 2 of .* as many fields as there are columns, 2; it has 3"),
        ("y,a,y\n1,2,3\n", {}, "columns 1 and 3 are both called y"),
        ("a, a,kind\n1,2,x\n", {}, "columns 1 and 2 are both called a"),
        ("a;b;kind\n1;2;x\n", {}, "must have commas between its fields; line 1 has ';'"),
        ("kind\nx\ny\n", {}, "it has no other column"),
        (IRIS, {"target": "Species", "exclude": ["Id", "SepalLengthCm"]}, "it has no other column"),
        ("a,kind\n1,x\n2,x\n3,x\n", {}, "two classes or more, .*kind has 1, of 'x' 3 rows"),
        ("a,kind\n1,x\n2,y\n3,z\n", {}, "two rows or more of each; kind has 3, of 'x' 1 rows"),
        ('a,kind\n1,"x\n', {}, "must be a CSV file; line 2 of .*unexpected end of data"),
        ('a,kind\n1,"x"y\n', {}, "must be a CSV file; line 2 of .*',' expected"),
        ("a,kind\n1,é\n".encode("latin-1"), {}, "must be a CSV file in UTF-8"),
        ("a,kind\n1,x\n".encode("utf-16"), {}, "must be a CSV file in UTF-8"),
    ],
)
def test_unfit_files_are_refused(found, text, settings, words):
    """What is no classification problem in numbers is refused in one line that says where and why."""
    with pytest.raises(ValueError, match=words) as error:
        found(text, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"names": ["a", "kind"], "header": True}, "names are for a file without a header"),
        ({"names": ["a", "a"]}, "distinct"),
        ({"exclude": ["kind"]}, "exclude must leave the target in"),
        ({"target": ""}, "at least 1 character"),
    ],
)
def test_settings_of_a_file_that_contradict_each_other(found, settings, words):
    """Settings that no file can meet are refused before the file is opened."""
    with pytest.raises(ValueError, match=words):
        found("a,kind\n1,x\n", **settings)


NAMES = st.lists(st.from_regex(r"[a-zA-Z]( ?[aé.\"-])*", fullmatch=True), min_size=2, max_size=4, unique=True)
NUMBERS = st.floats(-1e30, 1e30) | st.integers(-(10**12), 10**12)


@st.composite
def tables(draw):
    """Draw a table, and the text of a CSV file that holds it in one of the ways in which programs write such files."""
    names = draw(NAMES)
    label = st.from_regex(r"[a-zN?']([Aoe,\"\n ]*[Aoe,\"])?", fullmatch=True)
    rows = draw(st.lists(st.tuples(label, *[NUMBERS] * (len(names) - 1)), min_size=1, max_size=5))
    end, spare = draw(st.sampled_from(["\n", "\r\n"])), draw(st.sampled_from([[], [""], ["", " "]]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    file = io.StringIO()
    writer = csv.writer(file, quoting=quoting, lineterminator=end)
    for row in [names, *rows, *[[""] * len(names)] * draw(st.integers(0, 2))]:
        writer.writerow([*(draw(st.sampled_from(["", " "])) + str(field) for field in row), *spare])
    return names, rows, draw(st.sampled_from(["", "\ufeff"])) + file.getvalue()


@given(tables())
def test_every_way_of_writing_a_table_is_read(tmp_path_factory, drawn):
    """Quotes, blanks, ends of lines, commas too many and a byte order mark do not change what is read."""
    names, rows, text = drawn
    path = tmp_path_factory.getbasetemp() / "drawn.csv"
    path.write_bytes(text.encode())
    table = read(CsvFile(path=str(path), target=names[0]))
    assert table.names == tuple(names[1:])
    assert table.labels == [label for label, *_ in rows]
    assert table.x.tolist() == [[float(value) for value in values] for _, *values in rows]


LINES = st.lists(st.text('ab,,12.e-" ;_\tN\ufeff\0', max_size=9) | st.from_regex("[12.]{1,3},[a12]", fullmatch=True))


@given(st.sampled_from(["a,b\n", "b,a\r\n", ""]), LINES, st.none() | st.booleans())
def test_any_file_is_read_or_refused(tmp_path_factory, start, lines, header):
    """Whatever a file holds, it is refused in one line, or its numbers are those that pandas reads."""
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes((start + "\n".join(lines)).encode())
    target = "a" if header is not False else "1"
    table, fault = answer(read, CsvFile(path=str(path), target=target, header=header))
    assert "\n" not in fault
    if table is None:
        return
    skipped = {"skipinitialspace": True, "keep_default_na": False, "encoding": "utf-8-sig"}
    other = pd.read_csv(path, header=None, names=range(40), dtype=str, index_col=False, **skipped)
    fields = {field.strip() for field in other.to_numpy().ravel()}
    assert {*table.labels} <= fields
    assert {*table.x.ravel()} <= {*pd.to_numeric(pd.Series([*fields]), errors="coerce")}


def test_numbers_are_those_of_pandas(found):
    """Numbers are read to the last digit as pandas reads them, so that cells of earlier releases keep their keys."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=500) * 10.0 ** rng.integers(-30, 30, 500)
    texts = [f"{value:.{digits}e}" for digits in (3, 8, 16, 20) for value in values]
    text = "a,kind\n" + "".join(f"{each},{at % 2}\n" for at, each in enumerate(texts))
    assert found(text).x[:, 0].tolist() == pd.read_csv(io.StringIO(text))["a"].tolist()
