"""The nights of the watch as an Atom feed (RFC 4287): one entry a night, a quiet one too, so that silence is a fault.

A reader that wants no quiet nights filters by the entries' category, which is the verdict.
"""

import re
from collections.abc import Sequence
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree as ET

from markupsafe import Markup

from tasks.core.report import watch_text
from tasks.core.watch.night import Night

ENTRIES = 60  # nights of the feed; the page has all
ATOM = "http://www.w3.org/2005/Atom"
UNWRITABLE = re.compile(
    "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)  # characters that XML does not allow


def feed(nights: Sequence[Night], *, name: str, link: str) -> bytes:
    """Return the feed of nights, of which the last is tonight, as the bytes of a file.

    name: an IRI that is this store's alone and never changes; the ids of the feed and of its entries are made of it
    and of the nights' names. link: the address of the feed.
    """
    root = ET.Element("feed", xmlns=ATOM)
    _write(root, "title", "initbench: the night watch")
    _write(root, "id", _identity(name))
    _write(root, "updated", nights[-1].at)
    _write(ET.SubElement(root, "author"), "name", "initbench")
    ET.SubElement(root, "link", rel="self", href=link, type="application/atom+xml")
    for night in reversed(nights[-ENTRIES:]):
        _entry(ET.SubElement(root, "entry"), night, name)
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _entry(entry: ET.Element, night: Night, name: str) -> None:
    judged = watch_text.judged(night.watched, night.verdict)
    _write(entry, "title", f"{night.name}: {judged}")
    _write(entry, "id", _identity(f"{name}#{night.name}"))
    _write(entry, "updated", night.at)
    if night.link:
        ET.SubElement(entry, "link", rel="alternate", href=night.link, type="text/html")
    ET.SubElement(entry, "category", term=night.verdict)
    _write(entry, "summary", watch_text.headline(night))
    _write(entry, "content", _content(night)).set("type", "html")


def _content(night: Night) -> str:
    """Return a night as HTML: the headline, then the first flags of each study and in what its environment differs."""
    words = [Markup("<p>{}</p>").format(watch_text.headline(night))]
    for each in night.watched:
        lines = [watch_text.sentence(*flag) for flag in watch_text.ranked([each])]
        more = [f"and {len(lines) - watch_text.TOLD} more"] if len(lines) > watch_text.TOLD else []
        shown = [*lines[: watch_text.TOLD], *more, *map(watch_text.went, (*each.differing, *each.picked))]
        items = Markup().join(Markup("<li>{}</li>").format(line) for line in shown)
        if items:
            words.append(Markup("<p>{}</p><ul>{}</ul>").format(each.study, items))
    return str(Markup().join(words))


def _identity(name: str) -> str:
    """Return an id that is always the same for a name, as an IRI."""
    return uuid5(NAMESPACE_URL, name).urn


def _write(parent: ET.Element, tag: str, text: str) -> ET.Element:
    child = ET.SubElement(parent, tag)
    child.text = UNWRITABLE.sub("", text)
    return child
