import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

from flows import studies
from tasks.backends import pytorch
from tasks.core.design.grid import Cell
from tasks.core.design.settings import Recipe
from tasks.core.design.study import Study
from tests.shared.plain import plain_loop, plain_module
from tests.shared.programs import SETTINGS, cells_of, inputs, train

SMALL = {"no hidden layer"} if torch.backends.cpu.get_cpu_capability() == "AVX512" else set()
OTHERWISE = {"clipped by norm", "batch normalization", "layer normalization", *SMALL}
"""Settings in which torch sums in another order for one cell than for a batch: equal to rounding, not to the bit.

Without a hidden layer that is so where MKL uses AVX-512: torch leaves a cell's products to MKL, but those of a batch,
if they take fewer than 400 multiplications each, to a loop of its own.
"""


@pytest.mark.parametrize("setting", SETTINGS)
def test_batch_equals_plain_loop(setting):
    """Every cell of a batch ends as a plain PyTorch loop does, with weights equal bit for bit but for OTHERWISE."""
    study = SETTINGS[setting]
    cells = cells_of(pytorch, study)
    for cell, outcome in zip(cells, train(pytorch, study, cells), strict=True):
        weights, loss = plain_loop(study, cell)
        for name, array in weights.items():
            if "num_batches" in name or "running_var" in name:  # torch's own are of unbiased variances
                continue
            ours = outcome.trained.weights[name]
            if setting in OTHERWISE:
                np.testing.assert_allclose(ours, array, atol=2e-6, err_msg=f"{cell}: {name}")
            else:
                np.testing.assert_array_equal(ours, array, err_msg=f"{cell}: {name}")
        if study.network.normalization != "batch":
            assert outcome.trained.curves.test_loss[-1] == pytest.approx(loss, rel=1e-5, abs=1e-6)


def test_batch_normalization_loads_into_torchs():
    """Trained weights and statistics load into torch's own layers, in evaluation, and give the stored logits."""
    study = SETTINGS["batch normalization"]
    (outcome,) = train(pytorch, study, cells_of(pytorch, study)[:1])
    fold, _, _, sizes = inputs(pytorch, study, outcome.cell)
    model, _ = plain_module(study.network, sizes)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in outcome.trained.weights.items()})
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(fold.x_test)).numpy()
    np.testing.assert_allclose(outcome.trained.predictions.logits, logits, rtol=1e-4, atol=1e-5)


def test_training_leaves_the_global_generator_alone():
    """Nothing seeds or draws from torch's global generator."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(pytorch, Study(recipe=Recipe(epochs=1)), [Cell("pytorch", "he_normal", 0)])
    assert torch.equal(torch.get_rng_state(), before)


def notebook_accuracy(seed):
    """Run the notebook's PyTorch cell, seeded."""
    torch.manual_seed(seed)
    x, y = load_iris(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=42)
    x_train, x_test = (torch.tensor(part, dtype=torch.float32) for part in (x_train, x_test))
    y_train, y_test = (torch.tensor(part, dtype=torch.long) for part in (y_train, y_test))
    model = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))
    nn.init.kaiming_normal_(model[0].weight, nonlinearity="relu")
    nn.init.kaiming_normal_(model[2].weight, nonlinearity="relu")
    nn.init.xavier_normal_(model[4].weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(model(x_train), y_train).backward()
        optimizer.step()
    with torch.no_grad():
        return (model(x_test).argmax(1) == y_test).float().mean().item()


def test_notebook_study_is_the_notebook():
    """Over 200 seeds the notebook study's mean accuracy is that of the notebook's own code, within sampling error."""
    study = studies.load("notebook").model_copy(update={"seeds": 200})
    ours = [outcome.trained.curves.test_accuracy[-1] for outcome in train(pytorch, study, cells_of(pytorch, study))]
    theirs = [notebook_accuracy(seed) for seed in range(200)]
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=3.5 * np.sqrt((np.var(ours) + np.var(theirs)) / 200))
    assert np.std(ours) == pytest.approx(np.std(theirs), rel=0.4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and PyTorch sees none")
def test_grid_on_cuda():
    """A small grid trains on CUDA, repeats bit for bit, and agrees with the CPU."""
    study = Study(seeds=2, recipe=Recipe(epochs=3))
    cells = cells_of(pytorch, study)
    first, second = (train(pytorch, study, cells) for _ in range(2))
    for cell, one, again in zip(cells, first, second, strict=True):
        weights, loss = plain_loop(study, cell)
        for name, array in one.trained.weights.items():
            np.testing.assert_array_equal(array, again.trained.weights[name])
            np.testing.assert_allclose(array, weights[name], atol=1e-3)
        assert one.trained.curves.test_loss[-1] == pytest.approx(loss, abs=1e-3)
