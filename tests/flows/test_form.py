"""The form's schema, and what becomes of the fields that somebody fills in."""

import jsonschema
import pytest

from flows import form, studies
from flows.benchmark import benchmark
from flows.studies import StudyError
from tasks.core.design.initializers import names
from tasks.core.design.study import Study

EMPTY = {"study": "iris", "seeds": 0, "epochs": 0, "backends": [], "initializers": [], "advanced": {}}


@pytest.fixture(scope="module")
def schema():
    return benchmark.parameters.model_dump_for_openapi()


@pytest.fixture(scope="module")
def changes(schema):
    """Return the fields of the advanced changes."""
    _, changed = schema["properties"]["advanced"]["anyOf"]
    return changed["properties"]


def described(fields, path=""):
    """Yield every field of an object and of the objects in it, by its dotted name."""
    for name, field in fields.items():
        yield f"{path}{name}", field
        for each in (field, *field.get("anyOf", ())):
            yield from described(each.get("properties", {}), f"{path}{name}.")


def test_order(schema):
    """The study comes first, then what is changed most; everything else is folded away."""
    order = sorted(schema["properties"], key=lambda name: schema["properties"][name]["position"])
    assert order == ["study", "seeds", "epochs", "backends", "initializers", "fresh", "parity", "advanced"]
    jsonschema.validate(EMPTY, schema)  # as the form sends it when nobody fills in anything
    folded, _ = schema["properties"]["advanced"]["anyOf"]
    assert folded["properties"] == {}


def test_drop_downs(schema, changes):
    """What has a few values is chosen from a list: one, or many."""
    fields = schema["properties"]
    assert fields["study"]["enum"] == studies.names()
    assert fields["backends"]["items"]["enum"] == ["pytorch", "keras"]
    assert fields["initializers"]["items"]["enum"] == names()
    assert "iris" in changes["dataset"]["anyOf"][0]["enum"]
    perceptron, own = (each["properties"] for each in changes["network"]["anyOf"])
    assert "tanh" in perceptron["activation"]["enum"]
    assert perceptron["residual"]["enum"] == [True, False]
    assert "build" in own


def test_every_field_is_explained(schema, changes):
    """No field without words, and none that would overwrite the study's value unless it is filled in."""
    for name, field in [*described(schema["properties"]), *described(changes)]:
        assert field.get("description") or name == "advanced", name
        assert name in schema["properties"] or "default" not in field, name


def test_all_settings_can_be_changed(changes):
    """The form has every setting of a study but its name."""
    assert set(changes) == set(Study.model_fields) - {"name"}


@pytest.mark.parametrize("name", studies.names())
def test_studies_that_ship_pass_the_schema(schema, name):
    """What a study that ships says could have been filled in."""
    settings = studies.load(name).model_dump(mode="json", exclude_unset=True, exclude={"name"})
    jsonschema.validate({"advanced": settings}, schema)


def test_empty_fields_leave_the_study_alone():
    """Nothing filled in is the study that ships; a study from Python is taken as it is."""
    assert form.asked(EMPTY) == studies.load("iris")
    mine = Study(name="mine", seeds=3)
    assert form.asked({**EMPTY, "study": mine}) is mine


def test_changes_are_merged():
    """A change in a group of settings leaves the others of the group as the study has them."""
    deep = studies.load("deep-relu")
    asked = form.asked({**EMPTY, "study": "deep-relu", "epochs": 3, "advanced": {"network": {"residual": True}}})
    assert asked.network == deep.network.model_copy(update={"residual": True})
    assert asked.recipe == deep.recipe.model_copy(update={"epochs": 3})
    assert form.asked({**EMPTY, "advanced": {"controls": None}}).controls is None


def test_a_network_of_ones_own_takes_the_place_of_the_studys():
    """A network or a dataset of another kind is no change in a group: nothing of the study's is left in it."""
    own, loaded = {"build": {"pytorch": "mine:build"}, "options": {"width": 8}}, {"load": "mine:load"}
    advanced = {"network": own, "dataset": loaded, "controls": None}
    asked = form.asked({**EMPTY, "backends": ["pytorch"], "advanced": advanced})
    assert (asked.network.build, asked.network.options, asked.dataset.load) == (*own.values(), "mine:load")
    wider = studies.changed(asked, {}, {"network": {"options": {"depth": 2}}})
    assert wider.network.options == {"width": 8, "depth": 2}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"study": "irs"}, "study: no study 'irs'; did you mean 'iris'? Choose one of controls"),
        ({"epochs": -1}, "recipe.epochs: Input should be greater than or equal to 1; got -1"),
        ({"backends": ["keras", "keras"]}, "backends: values must be distinct"),
        ({"advanced": {"netwrk": {}}}, "netwrk: no such setting; did you mean 'network'? Choose one of name, backends"),
        ({"advanced": {"network": {"width": 8}}}, "network: width and depth go together"),
    ],
)
def test_wrong_fields(fields, words):
    """What is wrong is told in a line that names the field."""
    with pytest.raises(StudyError) as caught:
        form.asked({**EMPTY, **fields})
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
