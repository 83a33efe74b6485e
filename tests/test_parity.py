"""The gate with made-up answers of the backends."""

import pandas as pd
import pytest

from tasks import parity
from tasks.core.design import grid
from tasks.core.design.initializers import BACKENDS
from tasks.core.design.study import Study
from tasks.core.training.parity import ATTEMPTS, Answer, Asked, Finding, ParityError, Trace
from tests.shared.keys import HERE

ASKED = Asked.of(grid.batches(Study(), HERE))


def answers(seeds=range(ATTEMPTS), **distances):
    """Return a function that gives the answer of a backend, whose weights are a distance away at the seeds named."""

    def answer(backend, asked):
        apart = distances.get(backend, 0.0) if asked.levels[0].seed in seeds else 0.0
        trace = Trace(values={"weights": [1.0 + apart]}, allowed={"weights": 1e-6}, findings=[])
        return Answer(traces=(trace,), drawn=(Finding(f"{backend} · he_normal", "weights", 1.0, 2.0),))

    return answer


@pytest.fixture
def published(parent, client):
    """Return a function that returns the findings published with the benchmark, and the names of its files."""

    def read():
        files = {file.path for file in client.list_artifacts(parent.run_id)}
        return pd.read_csv(client.download_artifacts(parent.run_id, "parity.csv")), files

    return read


def test_agreement_is_published(parent, published):
    """Backends that agree pass; every finding is published, as a table and a figure."""
    parity.hold(parent, BACKENDS, ASKED, answers())
    found, files = published()
    assert files >= {"parity.csv", "parity.png"}
    assert found["what"].tolist() == ["weights, against each other", "weights", "weights"]
    assert found["measured"].tolist() == [0, 1, 1]


def test_disagreement_is_published_and_told(parent, published):
    """Backends that disagree do not pass, and the findings are published all the same."""
    words = r"pytorch, keras · iris .*: weights, against each other: 0.001, at most 1e-06 is right"
    with pytest.raises(ParityError, match=words):
        parity.hold(parent, BACKENDS, ASKED, answers(keras=1e-3))
    assert published()[0]["measured"].tolist() == pytest.approx([1e-3, 1, 1])


def test_what_shows_with_some_weights_alone_is_rounding(parent, published):
    """Backends that disagree with some weights and agree with the next ones pass, by what they computed last."""
    parity.hold(parent, BACKENDS, ASKED, answers(seeds=[0, 1], keras=1e-3))
    assert published()[0]["measured"].tolist() == [0, 1, 1]


def test_a_single_backend_is_asked_too(parent, published):
    """Without another backend the laws and the backend's own numbers are judged."""
    parity.hold(parent, ("keras",), ASKED, answers())
    assert published()[0]["subject"].tolist() == ["keras · he_normal"]
