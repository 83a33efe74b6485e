"""The plan of a benchmark: what is trained once, and how Prefect's page shows it."""

from fastapi.encoders import jsonable_encoder
from prefect.utilities.collections import visit_collection

from flows.plan import plan
from tasks.core.design.settings import Recipe
from tasks.core.design.study import Study


def keys(batches):
    return [key for batch in batches for key in batch.keys.values()]


def test_a_cell_that_is_also_a_control_is_trained_once(folder):
    """Cells of the study that equal one of the controls stand in the study's batches alone, and serve both."""
    planned = plan(Study(initializers=("zeros", "lsuv"), seeds=2), fresh=False)
    shared = {*planned.own.keys.values()} & {*planned.controls.keys.values()}
    assert len(shared) == 4  # zeros in two backends and two seeds
    trained = keys(planned.batches)
    assert len(trained) == len({*trained}) == 8 + len(planned.controls.keys) - 4
    run_ids = {key: f"run {at}" for at, key in enumerate(trained)}
    for part in (planned.own, planned.controls):
        ids = part.run_ids(run_ids)
        assert list(ids) == list(part.keys)
        assert all(ids[cell] == run_ids[key] for cell, key in part.keys.items())
    assert "controls      12: 8 to train, 4 are cells of the study" in str(planned)


def test_controls_under_another_recipe_are_trained_apart(folder):
    """A recipe of the study's own makes its cells others than the controls', which are all trained."""
    planned = plan(Study(initializers=("zeros",), seeds=2, recipe=Recipe(epochs=3)), fresh=False)
    assert len(keys(planned.controls.batches)) == len(planned.controls.keys) == 12


def test_prefect_shows_a_plan_as_its_study(folder):
    """What Prefect keeps of a plan that a flow was called with is the study, however many cells it has."""
    study = Study(seeds=3)
    assert Study.model_validate(jsonable_encoder(plan(study, fresh=True))) == study


def test_prefect_takes_a_plan_as_a_parameter(folder):
    """Prefect looks into the parameters of a flow for results of other runs, and finds its way through a plan."""
    planned = plan(Study(seeds=1), fresh=True)
    assert visit_collection(planned, visit_fn=lambda each, context: each, return_data=True, context={}) == planned
