import re

import matplotlib as mpl
from matplotlib.figure import Figure

from tasks.core.report import drawing
from tests.shared.reports import NONE, findings
from tests.shared.samples import noisy


def test_drawings_keep_their_numbers():
    """Coordinates are rounded to be short; a number that is written is left as it is."""
    figure = Figure()
    texts, heat = figure.subplots(2)
    texts.text(0.5, 0.5, "0.96667 12.3456")
    heat.imshow([[0, 1]])
    drawn = drawing.svg(figure)
    assert "0.96667 12.3456" in drawn
    assert not re.findall(r' d="[^"]*\.\d{3}', drawn)
    assert drawn == drawing.svg(figure)
    assert "#000000" not in drawn  # black is the page's ink, whichever its theme
    assert drawing.on_paper(drawn).startswith('<svg style="background: white')


def test_markers_share_their_style():
    """A row of equal markers carries its style once, and none is lost."""
    figure = Figure()
    figure.subplots().plot(range(10), "o", color="#e69f00")
    drawn = drawing.svg(figure)
    (group,) = re.findall(r'<g style="[^"]*#e69f00[^"]*" clip-path[^>]*>(.*?)</g>', drawn, flags=re.DOTALL)
    assert group.count("<use") == 10
    assert "style" not in group


def test_pictures_follow_what_there_is():
    """Each finding has its picture, and pictures of signals need a cell that was trained."""
    names = [picture.name for picture in drawing.pictures(findings(), NONE, NONE)]
    assert names == ["comparison", "ranks", "pairs", "backends", "reaching"]
    one = findings(noisy(initializers=("zeros",), backends=("keras",)), initializers=("zeros",), backends=("keras",))
    assert [picture.name for picture in drawing.pictures(one, NONE, NONE)] == ["comparison", "reaching"]


def test_settings_of_the_user_decide_nothing():
    """A matplotlibrc of the user changes no picture, and stays in force for the user's own figures."""
    one = findings(noisy(initializers=("zeros",), backends=("keras",)), initializers=("zeros",), backends=("keras",))
    plain = drawing.pictures(one, NONE, NONE)[0].drawing
    with mpl.rc_context({"text.usetex": True, "lines.linewidth": 9, "font.size": 30}):
        assert drawing.pictures(one, NONE, NONE)[0].drawing == plain
        assert mpl.rcParams["font.size"] == 30
