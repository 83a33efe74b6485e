import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import studies
from tasks import documents
from tasks.core.design import grid
from tasks.core.design.settings import short
from tasks.core.design.study import Study
from tests.shared.answers import answer


def faults(source="iris", *changes):
    with pytest.raises(studies.StudyError) as error:
        studies.load(source, changes)
    return error.value.faults


def test_iris_is_the_default():
    """The shipped default says in YAML what Study() is, so neither can drift."""
    assert studies.load("iris") == Study()
    assert len(grid.cells(Study())) == 160


def test_every_study_ships_valid():
    """Each study that ships loads under its own name and says what it is."""
    assert studies.names() == [
        "controls",
        "datasets",
        "deep-relu",
        "digits-tuned",
        "edge-of-chaos",
        "frameworks",
        "iris",
        "iris-tuned",
        "isometry",
        "notebook",
        "remedies",
        "saturation",
        "spread",
    ]
    for name in studies.names():
        assert studies.load(name).name == name
        assert len(studies.summary(name)) > 40


def test_iris_has_controls():
    """The default study is controlled, and its controls ship."""
    controls = studies.load(studies.load("iris").controls)
    assert set(controls.initializers) == {"zeros", "random_normal(std=1000)", "he_normal"}
    assert len(controls.checks) >= 3


def test_every_claim_is_about_cells_that_there_are():
    """No check of a study that ships names a level or an initializer that its grid has not."""
    for name in studies.names():
        study = studies.load(name)
        points = [
            {"initializer": cell.initializer, **{short(factor): level for factor, level in cell.levels}}
            for cell in grid.cells(study)
        ]
        for check in study.checks:
            for where in (check.where, check.against or {}):
                assert any(where.items() <= point.items() for point in points), f"{name}: {check.claim}"


def test_notebook_is_the_notebook():
    """The notebook study has each framework's recipe as the notebook has it, and says they are not comparable."""
    study = studies.load("notebook")
    ours, theirs = study.recipe_for("pytorch"), study.recipe_for("keras")
    assert (ours.learning_rate, ours.batch_size, ours.epochs) == (0.01, "full", 10)
    assert (theirs.learning_rate, theirs.batch_size, theirs.epochs, theirs.shuffle) == (0.001, 32, 10, True)
    assert (study.split.seed, study.split.scaler, study.split.stratified) == (42, "all", False)
    assert len(study.backend_differences()) == 5


def test_changes_reach_any_depth():
    """A change is a dotted key and a YAML value."""
    study = studies.load("iris", ["recipe.epochs=5", "network.hidden=[8, 8]", "overrides.keras.learning_rate=1e-3"])
    assert (study.recipe.epochs, study.network.hidden, study.recipe_for("keras").learning_rate) == (5, (8, 8), 0.001)


def test_changes_reach_names_of_settings():
    """Below tune and factors, where a key is the name of a setting, the name's dot does not part it."""
    rates, depths = "tune.recipe.learning_rate=[0.1, 0.01]", "factors.network.depth=[2, 4]"
    study = studies.load("iris-tuned", [rates, "tune.seeds=2", "network={width: 8, depth: 2}", depths])
    assert (study.tune.setting, study.tune.values, study.tune.seeds) == ("recipe.learning_rate", (0.1, 0.01), 2)
    assert study.factors == {"network.depth": (2, 4)}
    untuned = studies.load("iris", [rates, "split.validation_fraction=0.25"])
    assert untuned.tune.values == (0.1, 0.01)
    (line,) = faults("iris-tuned", "tune.recipe.batch_size=[8, 16]")
    assert line.endswith("got recipe.learning_rate, recipe.batch_size")
    remedies = studies.load("remedies", ["factors.remedy.clipping.recipe.clip_norm=2", "checks=[]"])
    assert remedies.factors["remedy"]["clipping"] == {"recipe.clip_norm": 2}


def test_file(tmp_path):
    """A study of one's own is a YAML file; what it leaves out has its default."""
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nseeds: [3, 5]\n")
    assert studies.load(str(path)) == Study(name="mine", seeds=(3, 5))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("recipe.learning_rate=-1", ["recipe.learning_rate:", "greater than 0", "got -1"]),
        ("recipe.batch_size=half", ["recipe.batch_size: Input should be a whole number or 'full'; got 'half'"]),
        ("initializers=[he]", ["initializers.0:", "unknown initializer 'he'", "he_normal"]),
        (
            "initializers=[{name: random_normal, sd: 1}]",
            ["initializers.0:", "no parameter 'sd'", "did you mean 'std'?"],
        ),
        ("initializers=[random_normal(std=-1)]", ["initializers.0:", "random_normal's std", "greater than 0"]),
        ("network.depth=3", ["network:", "width and depth go together"]),
        ("network.activation=swish", ["network.activation:", "'relu'", "got 'swish'"]),
        ("network.activation=rellu", ["network.activation:", "got 'rellu'; did you mean 'relu'?"]),
        ("recipe.clip_norm=0", ["recipe.clip_norm:", "greater than 0", "got 0"]),
        ("dataset=mnist", ["dataset:", "'iris', 'wine', 'breast_cancer', 'digits', 'diabetes' or a", "got 'mnist'"]),
        ("dataset.path=a.csv", ["dataset is a value"]),
        ("dataset={path: a.csv}", ["dataset: target is required; got {'path': 'a.csv'}"]),
        ("factors={recipe.rate: [1]}", ["factors", "no setting 'recipe.rate'", "recipe.learning_rate"]),
        ("factors={network.depth: [3]}", ["factors", "width and depth go together"]),
        ("factors={recipe.learning_rate: [0]}", ["factors: recipe.learning_rate:", "greater than 0"]),
        ("checks=[{claim: x, measure: loss, at_most: 1}]", ["checks.0.measure:", "'test_loss'"]),
        ("checks=[{claim: x, measure: test_loss}]", ["checks.0:", "at_least, at_most or both"]),
        ("seeds=[1, 1]", ["seeds:", "distinct", "got [1, 1]"]),
        ("seeds=0", ["seeds:", "greater than or equal to 1", "got 0"]),
        ("seeds=10000", ["study:", "at most 10,000 cells", "160,000"]),
        ("recipe.lr=1", ["recipe.lr:", "no such setting", "learning_rate"]),
        ("overrides.keras.lr=1", ["overrides.keras.lr:", "no such setting", "learning_rate"]),
        ("overrides.jax.epochs=1", ["overrides.jax:", "'pytorch' or 'keras'"]),
        ("recipe=adam", ["recipe: Input should be a mapping of settings; got 'adam'"]),
        ("epochs", ["dotted.key=value", "got 'epochs'"]),
        ("name.x=1", ["name", "not a group"]),
        ("initializers=he_normal", ["initializers: Input should be a list, like [he_normal]; got 'he_normal'"]),
        ("name=A B", ["name: a name is lower-case letters, digits and dashes, and starts with no dash; got 'A B'"]),
        ("dataset=irs", ["'digits', 'diabetes' or a mapping of settings; got 'irs'; did you mean 'iris'?"]),
        ("dataset=[iris]", ["'digits', 'diabetes' or a mapping of settings; got ['iris']"]),
        (
            "dataset={path: a.npz, target: x}",
            ["dataset.target: no such setting; choose one of path, scaling, task; got 'x'"],
        ),
        ("dataset={path: 1, target: x}", ["dataset.path: Input should be text; got 1"]),
        ("dataset={path: '', target: x}", ["dataset.path: String should have at least 1 character; got ''"]),
        ("dataset={path: a, target: x, exlude: [b]}", ["dataset.exlude: no such setting; did you mean 'exclude'?"]),
        ("factors={dataset: [{path: a}]}", ["factors.dataset.0: Input should be a single value; got {'path': 'a'}"]),
        ("factors={dataset: [irs]}", ["factors: dataset:", "'digits', 'diabetes'; got 'irs'; did you mean 'iris'?"]),
        ("factors={network.dept: [1]}", ["no setting 'network.dept' to go", "did you mean 'network.depth'?"]),
        ("factors={recipe.learning_rate: [1e-3, 0.001]}", ["values must be distinct"]),
        ("checks=[{claim: x, measure: test_loss, at_most: 1, clam: y}]", ["checks.0.clam: no such", "mean 'claim'?"]),
        ("checks=[{claim: x, measure: test_los, at_most: 1}]", ["checks.0.measure:", "did you mean 'test_loss'?"]),
        ("epochs=5", ["epochs: no such setting; did you mean 'recipe.epochs'?"]),
        ("seeds=true", ["seeds: Input should be another value than true or false; got True"]),
        ("recipe.learning_rate=1e39", ["recipe.learning_rate:", "from 1e-30 to 1e+30 in size", "got 1e+39"]),
        ("recipe={epochs: 1, epochs: 2}", ["recipe must be valid YAML", "the key 'epochs' is given twice"]),
        ("seeds=[1", ["seeds must be valid YAML"]),
    ],
)
def test_a_fault_is_one_line(change, words):
    """Each fault is one line: the setting, the rule, what came."""
    (line,) = faults("iris", change)
    assert "\n" not in line
    for word in words:
        assert word in line


def test_every_fault_is_told():
    """Two wrong settings are two lines."""
    assert len(faults("iris", "recipe.epochs=0", "split.test_fraction=2")) == 2


def test_unknown_study_is_told_the_known_ones():
    """A wrong name is answered with the names there are."""
    names = ", ".join(studies.names())
    near = f"did you mean 'iris'? Choose one of {names}, or give a .yaml file that exists"
    assert faults("irs") == [f"no study 'irs'; {near}"]


def test_a_change_does_not_undo_another():
    """A group that is replaced after one of its settings was changed would lose the change; the other order is fine."""
    (line,) = faults("iris", "recipe.epochs=5", "recipe={optimizer: sgd}")
    assert line == "a change must not undo an earlier one; recipe undoes recipe.epochs"
    assert faults("iris", "seeds=1", "seeds=2") == ["a change must not undo an earlier one; seeds undoes seeds"]
    assert studies.load("iris", ["recipe={optimizer: sgd}", "recipe.epochs=5"]).recipe.epochs == 5


def test_file_that_is_no_study(tmp_path):
    """A file that is not YAML, or no mapping, is told in one line."""
    holds = "must hold a mapping of settings; it holds "
    for text, word in (
        ("a: [", "valid YAML: line 1, column 5: "),
        ("- 1", f"{holds}a list"),
        ("", f"{holds}nothing"),
        ("iris", f"{holds}a single value"),
    ):
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        (line,) = faults(str(path))
        assert word in line


WORDS = st.sampled_from(
    [
        *(*Study.model_fields, "epochs", "width", "depth", "claim", "measure", "where", "path", "exclude", "names"),
        *("network.depth", "recipe.epochs", "remedy", "keras", "he_normal", "random_normal(std=1)", "iris", "cell"),
        *("test_loss", "initializer", "std", "1", "", "a\nb"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.integers() | st.none(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(WORDS | st.text(max_size=3), min_size=1, max_size=3).map(".".join), VALUES | st.text(max_size=9))
def test_any_change_is_read_or_refused(key, value):
    """Whatever is given to `--set`, the answer is a study, or one line for each fault."""
    text = value if isinstance(value, str) else documents.write(value)
    found, fault = answer(studies.load, "iris", [f"{key}={text}"])
    assert isinstance(found, Study) or (fault and all(": " in line or ";" in line for line in fault.split("\n")))


@given(st.dictionaries(WORDS, VALUES, max_size=4) | VALUES)
def test_any_file_is_read_or_refused(tmp_path_factory, value):
    """Whatever a study's file says, the answer is a study, or one line for each fault."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(documents.write(value))
    found, fault = answer(studies.load, str(path))
    assert isinstance(found, Study) or (fault and all(": " in line or ";" in line for line in fault.split("\n")))
