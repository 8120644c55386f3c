"""GELU and the exponential function, of sixteen float32 numbers at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from mertric.kernels.jit import kernel
from mertric.kernels.lanes import greatest, least, shifted_up, spread

_REACH = np.float32(4.5)
"""Beyond it the normal distribution is 0 or 1 but for 3.4e-6."""
_SCALE = np.float32(2 / 4.5**2)
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
_POWER = tuple(
    map(
        np.float32,
        (0.9999992847442627, 0.6931217908859253, 0.240247443318367, 0.05591785907745361, 0.009570098482072353),
    )
)


@kernel()
def gelu(x: Any) -> Any:
    """x Φ(x), Φ the standard normal distribution: within 2e-6, beyond ±4.5 within 3e-6 |x|.

    Φ(x) - 1/2 is x times a polynomial in x², fitted so that the largest error of the product is least (Lawson's
    algorithm), in 2 x² / 4.5² - 1 for the sake of its roundings.
    """
    bounded = greatest(least(x, spread(_REACH)), spread(-_REACH))
    u = bounded * bounded * spread(_SCALE) - spread(np.float32(1))
    p = spread(_GELU[10])
    p = p * u + spread(_GELU[9])
    p = p * u + spread(_GELU[8])
    p = p * u + spread(_GELU[7])
    p = p * u + spread(_GELU[6])
    p = p * u + spread(_GELU[5])
    p = p * u + spread(_GELU[4])
    p = p * u + spread(_GELU[3])
    p = p * u + spread(_GELU[2])
    p = p * u + spread(_GELU[1])
    p = p * u + spread(_GELU[0])
    return x * (spread(np.float32(0.5)) + bounded * p)


@kernel()
def power_of_two(x: Any) -> Any:
    """2 to the power of x, for x of at most 0, within 3e-6 of it; below -126 it is 2^-126.

    The whole part goes into the exponent's bits; the rest, at most 1/2, through a polynomial fitted to the least
    relative error.
    """
    bounded = greatest(x, spread(np.float32(-126)))
    placed = bounded + spread(_UNITS)
    part = bounded - (placed - spread(_UNITS))
    p = spread(_POWER[4])
    p = p * part + spread(_POWER[3])
    p = p * part + spread(_POWER[2])
    p = p * part + spread(_POWER[1])
    p = p * part + spread(_POWER[0])
    return p * shifted_up(placed)
