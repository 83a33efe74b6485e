"""Findings of made-up cells, and their report."""

import pandas as pd

from tasks.core.design.study import Study
from tasks.core.report import drawing
from tasks.core.report.page import html
from tasks.core.statistics import checks
from tasks.core.statistics.findings import Findings
from tests.shared.samples import THREE, noisy

ENVIRONMENT = {"packages": {"torch": "2.13"}, "processor": "a processor", "precision": "float32"}
NONE = pd.DataFrame()


def findings(frame=None, controls=None, **study):
    """Return the findings of cells, or of noisy ones, under a study of the three initializers of these."""
    frame = noisy() if frame is None else frame
    asked = Study(**{"initializers": THREE, **study})
    return Findings.of(asked, frame, checks.judge(asked.checks, frame), controls)


def page(found, *files):
    """Return the page of findings; files are the rows of layers.csv and of history.csv."""
    pictures = drawing.pictures(found, *(files or (NONE, NONE)))
    return html(found, pictures, ENVIRONMENT, {}, "http://mlflow/#/run", lambda run_id: f"http://mlflow/#/{run_id}")
