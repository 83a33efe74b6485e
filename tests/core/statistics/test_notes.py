from tasks.core.design.study import Study
from tasks.core.statistics.notes import notes
from tests.shared.samples import cells


def test_notes_state_the_resolution():
    """The table says how coarse its accuracies are."""
    assert any("steps of 0.033" in note for note in notes(Study(), cells()))
    assert any("steps of 8.3e-05: one of 12000 " in note for note in notes(Study(), cells().assign(test_rows=12_000)))
