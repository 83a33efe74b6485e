"""The words of a report for real targets: R² stands where classes have an accuracy, and the loss is a squared error.

Tables keep one name for the column of either, `test_accuracy`, because both are the measure that is compared first.
"""

from collections.abc import Sequence

from tasks.core.design.study import Study

OF_REAL_TARGETS = {
    "mean test accuracy": "mean R²",
    "target accuracy": "target R²",
    "Test accuracy": "R²",
    "test accuracy": "R²",
    "Train accuracy": "Train R²",
    "train accuracy": "train R²",
    "validation accuracy": "validation R²",
    "logits on top": "outputs on top",
    "test loss": "mean squared error",
    "Test loss": "Mean squared error",
}


def worded(text: str, study: Study) -> str:
    """Return a text with the words that fit the study's targets.

    >>> worded("he_normal has the best test accuracy", Study(dataset="diabetes"))
    'he_normal has the best R²'
    """
    return reworded(text) if study.regression else text


def reworded(text: str) -> str:
    """Return a text with the words of real targets."""
    for words, instead in OF_REAL_TARGETS.items():
        text = text.replace(words, instead)
    return text


def all_worded(lines: Sequence[str], study: Study) -> list[str]:
    """Return several texts with the words that fit the study's targets."""
    return [worded(line, study) for line in lines]
