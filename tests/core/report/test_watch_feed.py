"""The Atom feed."""

import re
from xml.etree import ElementTree as ET

import pytest

from tasks.core.report.watch_feed import ENTRIES, feed
from tasks.core.watch.watched import Flag, Watched
from tests.shared.nights import LOST, UPGRADE, changed, night

NAME, LINK = "urn:uuid:6fa459ea-ee8a-3ca4-894e-db77e160355e", "http://mlflow/watch.xml"
ATOM = "{http://www.w3.org/2005/Atom}"
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def parsed(nights, name=NAME):
    return ET.fromstring(feed(nights, name=name, link=LINK))  # noqa: S314  # made here


@pytest.fixture(scope="module")
def root():
    return parsed([night(0), night(1, changed()), night(2, Watched("iris", "not comparable", (), UPGRADE))])


def texts(root, tag):
    return [each.text for each in root.findall(f"{ATOM}entry/{ATOM}{tag}")]


def test_feed_has_what_atom_requires(root):
    """The feed and each entry have one id, title and date; the feed has an author and its address (RFC 4287)."""
    for each in (root, *root.findall(f"{ATOM}entry")):
        for tag in ("id", "title", "updated"):
            (found,) = each.findall(f"{ATOM}{tag}")
            assert found.text
        assert DATE.fullmatch(each.findtext(f"{ATOM}updated"))
        assert each.findtext(f"{ATOM}id").startswith("urn:uuid:")
    assert root.findtext(f"{ATOM}author/{ATOM}name") == "initbench"
    assert [(link.get("rel"), link.get("href")) for link in root.findall(f"{ATOM}link")] == [("self", LINK)]
    assert root.findtext(f"{ATOM}updated") == texts(root, "updated")[0]


def test_an_entry_a_night_newest_first(root):
    """Each night has an entry, the newest first, with its verdict, its headline and the address of its page."""
    assert texts(root, "title") == [
        *("2025-12-03: not comparable", "2025-12-02: changed for better and for worse", "2025-12-01: quiet")
    ]
    assert texts(root, "summary")[1].startswith("Tonight PyTorch's he_normal on iris lost 0.02 test accuracy")
    assert [each.get("term") for each in root.iter(f"{ATOM}category")] == ["not comparable", "changed", "quiet"]
    assert root.find(f"{ATOM}entry/{ATOM}link").get("href") == "http://mlflow/#/2025-12-03/watch.html"
    assert "torch went from 2.12 to 2.13" in texts(root, "content")[1]


def test_ids_are_stable(root):
    """A night keeps its id as other nights come and its verdict changes; another store's nights have other ids."""
    later = parsed([night(1), night(2), night(3)])
    assert texts(later, "id")[1:] == texts(root, "id")[:2]
    assert len({*texts(later, "id"), later.findtext(f"{ATOM}id")}) == 4
    assert not {*texts(parsed([night(2)], "urn:uuid:other"), "id")} & {*texts(root, "id")}


def test_what_a_night_says_is_text():
    """Markup in a reason stays text, also within an entry's HTML, and characters that XML forbids are left out."""
    flag = Flag("checks", "", "", "worse", "last night", "<script>x</script> & \x1b[31mred\x00")
    (content,) = texts(parsed([night(0, changed("iris", flag, LOST))]), "content")
    assert "&lt;script&gt;x&lt;/script&gt; &amp; [31mred" in content
    assert "<script>" not in content


def test_feed_of_many_nights_is_bounded():
    """The feed holds the newest nights only."""
    assert texts(parsed([night(at) for at in range(ENTRIES + 9)]), "title")[-1].startswith("2025-12-10")
