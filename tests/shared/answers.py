"""What a function answers to input that may be wrong."""


def answer(function, *arguments):
    """Return what a function returns and no words, or nothing and the words of its ValueError."""
    try:
        return function(*arguments), ""
    except ValueError as error:
        return None, str(error)
