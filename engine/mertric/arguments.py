"""What numbers can be arguments, of whatever type they come as."""

from __future__ import annotations

import math
import operator
import sys
from numbers import Real
from typing import Any

import numpy as np

from mertric.errors import InputError


def is_real(value: Any) -> bool:
    """Whether a value is one real number."""
    return isinstance(value, Real)


def is_rate(value: Any) -> bool:
    """Whether a value is a positive whole number, of whatever type but a truth value's or an array's."""
    try:
        return not isinstance(value, bool) and np.ndim(value) == 0 and bool(value > 0 and value % 1 == 0)
    except (TypeError, ValueError):
        return False


def require_positive(name: str, value: Any) -> None:
    """Raise InputError where an argument is no finite number above 0."""
    if not (is_real(value) and 0 < value < math.inf):
        raise InputError(f"{name} is {value!r}; expected a finite number above 0.")


def whole(name: str, given: int, expected: str, most: int = sys.maxsize) -> int:
    """Return an argument that is a whole number from 1 on, or raise InputError where it is not."""
    try:
        number = operator.index(given)
    except TypeError:
        number = 0
    if not 1 <= number <= most:
        raise InputError(f"{name} is {given!r}; expected {expected}.")
    return number
