"""Arithmetic that a study may write in place of a number, such as `0.02/sqrt(2*depth)`.

An expression is parsed, and only the nodes that are listed here are computed. Nothing is evaluated as Python code.
"""

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping

from tasks.core.design.nearest import choice

LONGEST = 200  # characters; a longer text is cut, so that no text exhausts the parser
OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,  # of floats, so that no power is a number of many digits
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS: dict[str, Callable[..., float]] = {
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
    "abs": abs,
    "min": min,
    "max": max,
}


def evaluate(text: str, values: Mapping[str, float]) -> float:
    """Return the number that an expression means, where each name has a value.

    An expression is made of numbers, names, + - * / **, brackets, and the functions in FUNCTIONS.

    Raises:
        ValueError: if the expression has anything else in it, a name has no value, or there is no such number.

    >>> evaluate("0.02/sqrt(2*depth)", {"depth": 8})
    0.005
    """
    tree = _parsed(text)
    try:
        found = _value(tree, text, values)
    except (ZeroDivisionError, OverflowError, ValueError) as error:
        raise ValueError(f"the expression {text!r} must be a number; {error}") from None
    except TypeError:
        raise ValueError(f"a function in {text!r} must have the numbers that it takes") from None
    return found


def names(text: str) -> set[str]:
    """Return the names in an expression, without those of functions.

    Raises:
        ValueError: if it is no expression.

    >>> sorted(names("max(1, fan_in) / depth"))
    ['depth', 'fan_in']
    """
    return {node.id for node in ast.walk(_parsed(text)) if isinstance(node, ast.Name)} - {*FUNCTIONS}


def check(text: str, known: Iterable[str]) -> None:
    """Check that an expression has no other names than those that are known.

    Raises:
        ValueError: if it has, or is no expression.
    """
    known = sorted(known)
    for name in sorted(names(text) - {*known}):
        raise ValueError(f"no value {name!r} for the expression {text!r}; {choice(name, known)}")
    _structure(_parsed(text), text)


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip()[:LONGEST], mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"a value must be a number or an expression like 0.02/sqrt(2*depth); got {text!r}") from None


def _structure(node: ast.expr, text: str) -> None:
    """Check that a node is of a known kind, and that all within it are.

    Raises:
        ValueError: if one is not.
    """
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float()) | ast.Name():
            return None
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            _structure(left, text)
            return _structure(right, text)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return _structure(operand, text)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            for each in args:
                _structure(each, text)
            return None
    raise ValueError(f"an expression has numbers, names, + - * / ** and {', '.join(FUNCTIONS)}; got {text!r}")


def _value(node: ast.expr, text: str, values: Mapping[str, float]) -> float:
    _structure(node, text)
    match node:
        case ast.Constant(value=number):
            return float(number)  # type: ignore[arg-type]  # `_structure` lets numbers through alone
        case ast.Name(id=name):
            if name not in values:
                raise ValueError(f"no value for {name!r}")
            return float(values[name])
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_value(left, text, values), _value(right, text, values))
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](_value(operand, text, values))
        case ast.Call(func=ast.Name(id=name), args=args):
            return float(FUNCTIONS[name](*(_value(each, text, values) for each in args)))
    raise ValueError(f"{ast.dump(node)} is no number")
