import base64
import json
import zlib

from tasks.core.design.columns import CELLS
from tasks.tracking import view as views


def test_saved_view():
    """MLflow finds in it what its own page stores: a name, and the packed state of the page."""
    view = json.loads(views.saved_view(["depth"]))
    kind, packed = view["state"].split(";")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert (view["name"], kind) == ("Cells by initializer", "deflate")
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "initbench.group"}]
    assert state["searchFilter"] == "tags.`initbench.status` != ''"
    assert "params.`factor.depth`" in state["selectedColumns"]
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == sections
    assert {chart["metricKey"] for chart in state["compareRunCharts"]} <= {*CELLS, *views.CURVES}
