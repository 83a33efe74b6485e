"""How YAML is read and written."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks import documents
from tests.shared.answers import answer

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("yes", "yes"), ("no", "no"), ("on", "on"), ("Off", "Off"), ("y", "y"), ("tRUE", "tRUE")],
        *[("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None)],
        *[("010", 10), ("-007", -7), ("0o10", 8), ("0x1F", 31), ("+3", 3), ("1_000", "1_000"), ("0b11", "0b11")],
        *[("1e-3", 0.001), ("1E5", 1e5), ("12e03", 12e3), (".5", 0.5), ("5.", 5.0), ("-.inf", -math.inf)],
        *[("1:30", "1:30"), ("2026-01-02", "2026-01-02"), ("1e", "1e"), ("'1'", "1"), ("=", "="), ("<<", "<<")],
    ],
)
def test_plain_words_are_those_of_yaml_1_2(text, value):
    """A plain word is what the core schema of YAML 1.2 says; PyYAML's own loaders read 1.1."""
    found = documents.read(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


@given(VALUES)
def test_what_is_written_is_read_back(value):
    """Text that looks like a number or a truth value is quoted, and numbers keep every digit and their type."""
    assert repr(documents.read(documents.write(value))) == repr(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "^line 3, column 1: the key 'a' is given twice$"),
        ("{r: {x: 1, x: 1}}", "the key 'x' is given twice"),
        ("1: a\n01: b", "the key 1 is given twice"),
        ("1: a\n1.0: b", "the key 1.0 is given twice"),
        ("a: !!int abc", "'abc' is no int"),
        ("a: !!timestamp x", "could not determine a constructor"),
        ("a: !!python/object:x {}", "could not determine a constructor"),
        ("? [a]\n: 1", "unhashable key"),
        ("a: 1\n--- \nb: 2", "^line 2, column 1: expected a single document .*, but found another document$"),
        ("a:\n\tb: 1", "^line 2, column 1: while scanning for the next token, found character '.*t' that cannot start"),
        ("a: [1,\n2", "^line 2, column 2: while parsing a flow sequence from line 1, expected ',' or ']', but got"),
        ("[" * 1000, "nested too deeply"),
        ("9" * 5000, "4300"),
        (b"\xff\xfe\x00", "^unacceptable character at position 2: "),
        (b"# \xe9", "^unacceptable character at position 2: unexpected end of data"),
    ],
)
def test_what_is_wrong_is_one_line(text, words):
    """A document that cannot be read, or would be read by guessing, is refused in one line."""
    with pytest.raises(ValueError, match=words) as error:
        documents.read(text)
    assert "\n" not in str(error.value)


@given(st.text(alphabet="ab01.e-+:{}[],&*!?|>'\"# \n\t~<%@", max_size=40) | st.binary(max_size=12))
def test_any_text_is_read_or_refused(text):
    """Whatever is typed is read, or refused by a ValueError."""
    _, fault = answer(documents.read, text)
    assert "\n" not in fault


def test_a_mapping_may_take_over_anothers_keys():
    """The merge key takes over keys, and a mapping's own keys win."""
    assert documents.read("base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}")["own"] == {"a": 1, "b": 3}


@given(st.dictionaries(st.from_regex(r"[a-z][a-z_ ]*", fullmatch=True), st.integers() | st.floats() | st.booleans()))
def test_documents_of_earlier_releases_are_read(value):
    """Settings that PyYAML's own dumper wrote, as that of earlier releases did, are read alike."""
    assert repr(documents.read(yaml.safe_dump(value, sort_keys=False))) == repr(value)
