"""The sum of the singular values of a banded matrix, by quadrature instead of an SVD."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.copies import copy
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import load, spread, square_root, store
from mertric.kernels.sizes import LANES

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Trapezoidal rule in s, with t = exp(s - exp(-s / STRETCH)): nodes thin out where only tiny singular values
# need them. Its error is at most 1e-15 for one singular value of up to 1, and 1e-17 for one below 1e-6.
STEP = 0.26
FIRST = -22.12
STRETCH = 7.0
NODES = 112
BEYOND = 140  # nodes after those, summed by a series
FACTORS = 4  # factors of a determinant between two logarithms: their product stays below 1e200


def quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes t and weights dt, float64 [NODES + BEYOND], of the integral over all t > 0."""
    s = FIRST + STEP * np.arange(NODES + BEYOND)
    bend = np.exp(-s / STRETCH)
    t = np.exp(s - bend)
    return t, STEP * t * (1.0 + bend / STRETCH)


def _example() -> tuple[NDArray[np.float64], ...]:
    return np.ones((1, 8, 8)), np.zeros((1, 8, 8)), np.ones(LANES), np.ones(LANES)


@kernel(example=_example)
def band_log_determinants(
    diagonal: NDArray[np.float64], below: NDArray[np.float64], nodes: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """Sum over nodes t of weight * log det (I + BᵀB / t²) for a banded matrix B.

    B over t I is triangularised by Householder reflections, a block row of B at a time (Björck, Numerical
    Methods for Least Squares Problems, 1996, §5.3 and §6.3), so BᵀB is never formed. A factor of the
    determinant is 1 + excess / t², where the excess is the sum of squares that its column gains: nothing is
    subtracted, and no small determinant is lost beside 1.

    Parameters
    ----------
    diagonal : float64 [blocks, width, width]
        Blocks on B's diagonal; `width` is a multiple of 4, and singular values are at most 1.
    below : float64 [blocks, width, width]
        Upper triangular blocks to the left of those; the first is not used.
    nodes, weights : float64 [n], a multiple of `LANES` of them
    """
    blocks, width = diagonal.shape[0], diagonal.shape[1]
    # Column after column, each of `width` lanes. Upper: rows that still fill the columns in hand.
    upper = np.empty((width, width * LANES))
    lower = np.empty((2 * width, width * LANES))
    row = np.empty((width, LANES))
    zero, one = spread(0.0), spread(1.0)
    factors = np.empty(LANES)
    total = 0.0
    for group in range(nodes.size // LANES):
        t = load(nodes, group)
        square = t * t
        product = zero
        _spread_block(diagonal[0], upper)
        for block in range(1, blocks + 1):
            if block < blocks:
                _spread_block(below[block], lower[:width])
                _spread_block(diagonal[block], lower[width:])
            for p in range(width):
                excess = _squares(upper[p], width)
                pivot = square_root(square + excess)
                lead = t + pivot
                scale = one / (lead * pivot)
                for c in range(p + 1, width):
                    store(row, c, _reflect(upper[c], upper[p], width, zero, lead, scale))
                if block < blocks:
                    excess = excess + _squares(lower[p], p + 1)
                    reflected = square_root(square + excess)
                    lead = pivot + reflected
                    scale = one / (lead * reflected)
                    for c in range(p + 1, width):
                        _reflect(lower[c], lower[p], p + 1, load(row, c), lead, scale)
                    for c in range(width, width + p + 1):
                        _reflect(lower[c], lower[p], p + 1, zero, lead, scale)
                product = product + excess / square * (one + product)
                if p % FACTORS == FACTORS - 1:
                    store(factors, 0, product)
                    product = zero
                    for k in range(LANES):
                        total += weights[group * LANES + k] * np.log1p(factors[k])
            copy(lower[width:], upper)
    return total


@kernel()
def _spread_block(block: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for q in range(block.shape[0]):
        for c in range(block.shape[1]):
            store(out[c], q, spread(block[q, c]))


@kernel()
def _squares(column: NDArray[np.float64], rows: int) -> float:
    total = spread(0.0)
    for q in range(rows):
        x = load(column, q)
        total = total + x * x
    return total  # type: ignore[no-any-return]


@kernel()
def _reflect(
    column: NDArray[np.float64], pivot: NDArray[np.float64], rows: int, head: float, lead: float, scale: float
) -> float:
    """Apply the reflection that clears the pivot column to [head; column], and give the new head (negated).

    With alpha the pivot's head and mu its norm, lead = alpha + mu and scale = 1 / (mu lead).
    """
    part = head * lead
    for q in range(rows):
        part = part + load(pivot, q) * load(column, q)
    part = part * scale
    for q in range(rows):
        store(column, q, load(column, q) - part * load(pivot, q))
    return part * lead - head


def tail(diagonal: NDArray[np.float64], below: NDArray[np.float64]) -> float:
    """The nodes beyond, where log det (I + T / t²) = tr T / t² - tr T² / 2t⁴ + O(t⁻⁶) with T = B Bᵀ."""
    t, weights = (values[NODES:] for values in quadrature())
    own = diagonal @ diagonal.swapaxes(1, 2) + below @ below.swapaxes(1, 2)
    beside = below[1:] @ diagonal[:-1].swapaxes(1, 2)
    trace = float(np.vdot(diagonal, diagonal) + np.vdot(below, below))
    squares = float(np.vdot(own, own) + 2.0 * np.vdot(beside, beside))
    return trace * float(np.sum(weights / t**2)) - 0.5 * squares * float(np.sum(weights / t**4))
