from tasks.core.design.initializers import OWN
from tasks.core.design.study import Study
from tasks.core.report.styles import styles


def test_an_initializer_looks_the_same_everywhere():
    """An initializer's style does not depend on its company, and no two look alike."""
    names = [entry.name for entry in OWN]
    looks = styles(names)
    assert len(set(looks.values())) == len(names)
    assert styles(["zeros", "he_normal"]) == {name: looks[name] for name in ("zeros", "he_normal")}


def test_usual_initializers_differ_in_colour():
    """The default study's eight initializers have eight colours."""
    assert len({look.colour for look in styles(Study().initializers).values()}) == 8


def test_initializers_of_a_study_differ_in_colour():
    """Where two names would share a colour, the less usual one takes another."""
    looks = styles(["lsuv", "orthogonal", "mean_field(sigma_w=1)", "he_uniform"])
    assert len({look.colour for look in looks.values()}) == 4
    assert looks["orthogonal"] == styles(["orthogonal"])["orthogonal"]


def test_a_scan_has_as_many_colours():
    """Initializers of one name and many parameters differ in colour among each other."""
    labels = [f"mean_field(sigma_w={width})" for width in (1, 2, 3, 4, 5)]
    assert len({look.colour for look in styles(labels).values()}) == 5


def test_shades_do_not_depend_on_the_order():
    """Several of one name are shaded by their parameters, in whatever order they come, so that all pictures agree."""
    labels = ["random_normal(std=0.5)", "random_normal(std=0.01)", "random_normal"]
    assert styles(labels) == styles(labels[::-1])
    scan = styles(["mean_field(sigma_w=10)", "mean_field(sigma_w=2)", "mean_field(sigma_w=1.5)"])
    assert list(scan) == ["mean_field(sigma_w=1.5)", "mean_field(sigma_w=2)", "mean_field(sigma_w=10)"]
