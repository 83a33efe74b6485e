"""The gate with made-up traces of the two backends."""

import numpy as np
import pandas as pd
import pytest

from tasks import parity
from tasks.core.training.parity import BOUNDS, RECIPES, ParityError


def traces(**drifts):
    """Return a function that gives the traces of a backend; those of Keras drift by an optimizer's gap a step."""

    def trace(backend):
        drift = drifts if backend == "keras" else {}
        return {name: [[np.full((1, 2), step * drift.get(name, 0.0))] for step in range(3)] for name in RECIPES}

    return trace


@pytest.fixture
def published(parent, client):
    """Return a function that returns the gaps published with the benchmark, by step, and the names of its files."""

    def read():
        files = {file.path for file in client.list_artifacts(parent.run_id)}
        return pd.read_csv(client.download_artifacts(parent.run_id, "parity.csv"), index_col="step"), files

    return read


def test_agreement_is_published(parent, published):
    """Backends that agree pass; the gap at each step is published for each optimizer, as a table and a figure."""
    parity.hold(parent, traces(sgd=BOUNDS["sgd"] / 2))
    gaps, files = published()
    assert files >= {"parity.csv", "parity.png"}
    assert gaps["sgd"].tolist() == pytest.approx([0, BOUNDS["sgd"] / 2, BOUNDS["sgd"]])
    assert gaps["adam"].tolist() == [0, 0, 0]


def test_disagreement_is_published_and_told(parent, published):
    """Backends that disagree beyond the bound of an optimizer do not pass, and the gaps are published all the same."""
    words = f"must agree within {BOUNDS['adam']:g} under adam .*; at step 1 they differ by 1.0e-03"
    with pytest.raises(ParityError, match=words):
        parity.hold(parent, traces(adam=1e-3))
    gaps, _ = published()
    assert gaps["adam"].tolist() == pytest.approx([0, 1e-3, 2e-3])
