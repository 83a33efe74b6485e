"""The saved view with which MLflow's page shows the cells of an experiment, as its "Save as new view" stores one."""

import base64
import json
import zlib
from collections.abc import Sequence

KEY = "initbench-cells"
TAG = f"mlflow.sharedViewState.{KEY}"
GROUP = "initbench.group"  # tag of a cell: its name without the seed, and the first digits of its batch's key
NAME = "Cells by initializer"
OUTCOME = ("test_accuracy", "test_loss", "brier_score", "epochs_to_target")
CURVES = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")


def saved_view(factors: Sequence[str]) -> str:
    """Return the value of the tag TAG: a view of cells with useful columns, and charts of the mean of each group.

    The cells are sorted by seed: MLflow's page first loads only 100 of them, and these then come from every group.
    """
    axes = ["backend", *(f"factor.{factor}" for factor in factors), "initializer"]
    state = {
        "searchFilter": "tags.`initbench.status` != ''",  # only cells have this tag
        "orderByKey": "params.`seed`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            *(f"params.`{name}`" for name in (*axes, "seed")),
            *(f"metrics.`{name}`" for name in OUTCOME),
            *(f"tags.`initbench.{name}`" for name in ("status", "health")),
        ],
        "runsHiddenMode": "SHOWALL",
        "compareRunSections": [_section(name) for name in ("Curves", "Outcome")],
        "compareRunCharts": [
            *(_chart("LINE", "Curves", metric) for metric in CURVES),
            *(_chart("BAR", "Outcome", metric) for metric in OUTCOME),
        ],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,  # else MLflow mixes the sections with one for every signal
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": GROUP}],
        },
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": NAME, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"})


def _section(name: str) -> dict[str, object]:
    return {"uuid": name, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": False}


def _chart(kind: str, section: str, metric: str) -> dict[str, object]:
    chart = {
        "uuid": f"{section}-{metric}",
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "displayName": metric.replace("_", " "),
        "metricKey": metric,
    }
    if kind == "BAR":
        return chart
    return chart | {
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "log" if metric.endswith("loss") else "linear",  # the loss of an exploding cell is huge
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
