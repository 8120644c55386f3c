"""GELU and the exponential function, of sixteen float32 numbers at once: for bfloat16, or as exact as float32 is.

Both are polynomials in u, -1 <= u <= 1, that were fitted so that the largest error is least (Lawson's algorithm).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mertric.kernels.jit import kernel
from mertric.kernels.lanes import greatest, least, shifted_up, spread

_REACH = np.float32(4.5)
"""Beyond it the normal distribution is 0 or 1 but for 3.4e-6."""
_SCALE = np.float32(2 / 4.5**2)
_FINE_REACH = np.float32(5.5)
"""Beyond it but for 1.9e-8."""
_FINE_SCALE = np.float32(2 / 5.5**2)
_UNITS = np.float32(1.5 * 2**23 + 127)
"""Added to a number, it leaves the nearest whole one and an exponent's bias in the lowest bits."""
_GELU = tuple(
    map(
        np.float32,
        (
            *(0.1569051295518875, -0.07719069719314575, 0.054688338190317154, -0.04016317427158356),
            *(0.02841591276228428, -0.01878012903034687, 0.010978641919791698, -0.0056399572640657425),
            *(0.0033573389519006014, -0.0021351459436118603, 0.0006741777178831398),
        ),
    )
)
_FINE_GELU = tuple(
    map(
        np.float32,
        (
            *(0.1285519301891327, -0.06417234241962433, 0.047737590968608856, -0.038792721927165985),
            *(0.03207099437713623, -0.026049276813864708, 0.020359188318252563, -0.014992360956966877),
            *(0.010246296413242817, -0.006841633468866348, 0.004589663352817297, -0.0023822851944714785),
            *(0.0007474818849004805, -0.0005593359237536788, 0.0006224847747944295, -0.00022658816305920482),
        ),
    )
)
_POWER = tuple(
    map(
        np.float32,
        (0.9999992847442627, 0.6931217908859253, 0.240247443318367, 0.05591785907745361, 0.009570098482072353),
    )
)
_FINE_POWER = tuple(
    map(
        np.float32,
        (1.0, 0.693147206, 0.240226469, 0.0555032878, 0.00961848897, 0.00133999312, 0.000153458075),
    )
)


@kernel()
def _polynomial(u: Any, coefficients: Any) -> Any:
    """The sum of coefficients times powers of u, that of u^0 first."""
    total = spread(coefficients[-1])
    for power in range(len(coefficients) - 2, -1, -1):
        total = total * u + spread(coefficients[power])
    return total


@kernel()
def _gelu(x: Any, reach: np.float32, scale: np.float32, coefficients: Any) -> Any:
    """x Φ(x): Φ(x) - 1/2 is x times a polynomial in x², written in u = x² scale - 1 for the sake of its roundings."""
    bounded = greatest(least(x, spread(reach)), spread(-reach))
    u = bounded * bounded * spread(scale) - spread(np.float32(1))
    return x * (spread(np.float32(0.5)) + bounded * _polynomial(u, coefficients))


@kernel()
def _power_of_two(x: Any, coefficients: Any) -> Any:
    """The whole part of x goes into the exponent's bits; the rest, at most 1/2, through a polynomial."""
    bounded = greatest(x, spread(np.float32(-126)))
    placed = bounded + spread(_UNITS)
    return _polynomial(bounded - (placed - spread(_UNITS)), coefficients) * shifted_up(placed)


@kernel()
def gelu(x: Any) -> Any:
    """x Φ(x), Φ the standard normal distribution: within 2e-6, beyond ±4.5 within 3e-6 |x|."""
    return _gelu(x, _REACH, _SCALE, _GELU)


@kernel()
def fine_gelu(x: Any) -> Any:
    """`gelu` within 2e-7, beyond ±1 within 2e-7 |x|."""
    return _gelu(x, _FINE_REACH, _FINE_SCALE, _FINE_GELU)


@kernel()
def power_of_two(x: Any) -> Any:
    """2 to the power of x, for x of at most 0, within 3e-6 of it; below -126 it is 2^-126."""
    return _power_of_two(x, _POWER)


@kernel()
def fine_power_of_two(x: Any) -> Any:
    """`power_of_two` within 3e-7 of it."""
    return _power_of_two(x, _FINE_POWER)
