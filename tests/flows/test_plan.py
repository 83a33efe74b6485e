"""The plan of a benchmark: what is trained once, and how Prefect's page shows it."""

from math import comb

from fastapi.encoders import jsonable_encoder
from prefect.utilities.collections import visit_collection

from flows import studies
from flows.plan import OF_THE_STUDY, plan
from tasks.core.design.settings import Network, Recipe, Split
from tasks.core.design.study import Study
from tasks.core.statistics import planning


def keys(batches):
    return [key for batch in batches for key in batch.keys.values()]


def test_a_cell_that_is_also_a_control_is_trained_once(folder):
    """Cells of the study that equal one of the controls stand in the study's batches alone, and serve both."""
    planned = plan(Study(initializers=("zeros", "lsuv"), seeds=2), fresh=False)
    shared = {*planned.own.keys.values()} & {*planned.controls.keys.values()}
    assert len(shared) == 4  # zeros in two backends and two seeds
    trained = keys(planned.left_after_tuning)
    assert len(trained) == len({*trained}) == 8 + 12 - 4
    run_ids = {key: f"run {at}" for at, key in enumerate(trained)}
    for part in (planned.own, planned.controls):
        ids = part.run_ids(run_ids)
        assert list(ids) == list(part.keys)
        assert all(ids[cell] == run_ids[key] for cell, key in part.keys.items())
    assert "controls      12: 8 to train, 4 are cells of the study" in str(planned)


def test_controls_under_another_recipe_are_trained_apart(folder):
    """A recipe of the study's own makes it train the controls twice: under their own recipe, and under the study's."""
    planned = plan(Study(initializers=("lsuv",), seeds=2, recipe=Recipe(epochs=3)), fresh=False)
    assert len(keys(planned.controls.batches)) == len(planned.controls.keys) == 24
    assert "controls      24: 24 to train" in str(planned)
    epochs = {batch.cells[0].levels[0][1]: batch.settings.recipe.epochs for batch in planned.controls.batches}
    assert epochs == {"its own": 20, "of the study": 3}


def test_a_dry_run_counts_the_tuning_cells(folder):
    """Before initializers have picked, the plan has the cells by which they pick, and the controls, but no own keys."""
    tune = {"recipe.learning_rate": (0.001, 0.01, 0.1), "seeds": 2}
    study = Study(initializers=("lsuv",), seeds=4, split={"validation_fraction": 0.25}, tune=tune)
    planned = plan(study, fresh=False)
    assert (len(planned.tuning.keys), planned.own.keys, len(planned.controls.keys)) == (12, {}, 24)
    assert keys(planned.left) == keys(planned.tuning.batches) + keys(planned.controls.batches)
    text = str(planned)
    assert "tune          recipe.learning_rate: 0.001, 0.01, 0.1; by validation_loss" in text
    assert "tuning seeds  1000000, 1000001" in text
    assert "tuning cells  12: 12 to train in 12 tasks, 0 reused" in text
    assert "cells         8: how many of them are reused is known when the tuning cells are trained" in text
    assert "controls      24: 24 to train" in text
    assert "to train      keras · learning_rate 0.1 · lsuv · seeds 1000000, 1000001" in text


def settings_of_controls(**study):
    """Return the settings of the controls at the level of the study, in PyTorch, and those of the study itself."""
    asked = Study(initializers=("lsuv",), seeds=1, backends=("pytorch",), **study)
    planned = plan(asked, fresh=False)
    (found,) = {b.settings for b in planned.controls.batches if b.cells[0].levels == (OF_THE_STUDY,)}
    return found, asked.settings("pytorch", ())


def test_controls_have_the_studys_settings(folder):
    """Data, split, network, recipe and the changes for a backend are the study's, also if its levels change them."""
    found, own = settings_of_controls(
        dataset="wine",
        split=Split(test_fraction=0.3),
        network=Network(width=8, depth=3, activation="tanh", normalization="batch"),
        recipe=Recipe(optimizer="sgd"),
        overrides={"pytorch": {"epochs": 2}},
        factors={"recipe.batch_size": [8, 16]},
    )
    assert found == own


def test_controls_start_whole_networks(folder):
    """Controls have biases of zero and one initializer in all layers, and a layer whose units zeros can leave alike."""
    found, own = settings_of_controls(
        network=Network(hidden=(8,), bias="framework", output_initializer="glorot_normal")
    )
    assert found.network == own.network.model_copy(update={"bias": "zeros", "output_initializer": "same"})
    for hidden in ((), (1, 8)):
        found, own = settings_of_controls(network=Network(hidden=hidden), dataset="wine")
        assert found == own.model_copy(update={"network": Network()})


def test_prefect_shows_a_plan_as_its_study(folder):
    """What Prefect keeps of a plan that a flow was called with is the study, however many cells it has."""
    study = Study(seeds=3)
    assert Study.model_validate(jsonable_encoder(plan(study, fresh=True))) == study


def test_prefect_takes_a_plan_as_a_parameter(folder):
    """Prefect looks into the parameters of a flow for results of other runs, and finds its way through a plan."""
    planned = plan(Study(seeds=1), fresh=True)
    assert visit_collection(planned, visit_fn=lambda each, context: each, return_data=True, context={}) == planned


def test_a_plan_names_verdicts_out_of_reach(folder):
    """A dry run says which verdicts so many seeds cannot give; a wider margin brings one within reach."""
    few = Study(initializers=("zeros", "he_normal", "lsuv"), seeds=3)
    words = "equivalent by test accuracy, if the best initializer makes fewer than 18 errors in 100"
    assert f"out of reach  {words}" in str(plan(few, fresh=False))
    wide = few.model_copy(update={"margins": {"test_accuracy": 0.2}})
    assert "equivalent by test accuracy" not in str(plan(wide, fresh=False))
    assert "out of reach" not in str(plan(wide.model_copy(update={"seeds": 12}), fresh=False))
    several = wide.model_copy(update={"seeds": 12, "factors": {"dataset": ("iris", "wine")}})
    assert "ahead over the datasets" in str(plan(several, fresh=False))


def test_studies_that_ship_can_show_equivalence():
    """Each study that compares initializers has the seeds to show two to be equivalent if one row in seven is wrong."""
    for name in ("iris", "datasets", "remedies", "edge-of-chaos", "frameworks"):
        study = studies.load(name)
        tests = comb(len(study.initializers), 2)
        assert planning.errors_for_equivalence(tests, len(study.seed_list), rows=30) < 0.15, name
