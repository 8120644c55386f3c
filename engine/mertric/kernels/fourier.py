"""Convolutions of many taps over time, by Fourier transforms.

Rows of a group of channels are taken in blocks that overlap by the taps but one, two blocks as the two parts of complex
ones. Their transform times that of the taps, transformed back, is both blocks' outputs, but for the last ones, for
which the circle of the transform begins again (overlap-save, Stockham 1966). A block then takes a complex product of
channels by channels for every two of its points, where each of its rows would take a real one for every tap.

Transforms are of `SINGLES` columns at once. Each point is two lanes of them, the real and the imaginary part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.kernels.activations import fine_gelu
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import load, spread, store
from mertric.kernels.lines import empty, singles
from mertric.kernels.sizes import SINGLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Singles = NDArray[np.float32]

_PAIRS = 8
"""Pairs of blocks at a time, which each reading of the spectra serves."""


def memory(frames: int, width: int, taps: int) -> int:
    """Return how many bytes `add_convolution` works in."""
    size = points(taps)
    pairs = min(_PAIRS, -(-frames // (2 * (size - taps + 1))))
    return 16 * size * (pairs * width + SINGLES)


def points(taps: int) -> int:
    """Return how many points the transforms for so many taps have: a power of 4, twice the taps at least."""
    return 1 << 2 * -(-(2 * taps - 1).bit_length() // 2)


def turns(size: int) -> Singles:
    """Return the roots of unity of transforms of so many points: exp(-2 pi i k / size), float32 [size, 2]."""
    angles = 2 * np.pi / size * np.arange(size)
    return np.stack([np.cos(angles), -np.sin(angles)], axis=1).astype(np.float32)


def spectra(taps: Singles, roots: Singles) -> Singles:
    """Return the transforms of a group's taps, as `add_convolution` reads them.

    Parameters
    ----------
    taps : float32 [taps, width, width]
        What each channel, the second axis, gives each output, the last one; the width is a multiple of `SINGLES`.
    roots
        `turns` of `points` of the taps.

    Returns
    -------
    float32 [size / 2 + 1, width / SINGLES, width, 2, SINGLES]
        Of each frequency, for lanes of outputs, each channel's real and imaginary part, conjugated, as what slides
        over the rows is not reversed, and over the size. The other frequencies' are these conjugated.
    """
    size, width = len(roots), taps.shape[1]
    found = empty((size // 2 + 1, width // SINGLES, width, 2, SINGLES), np.float32)
    _transform_taps(np.ascontiguousarray(taps).reshape(-1), len(taps), width, roots, found.reshape(-1))
    return found


@kernel()
def _transform_taps(taps: Singles, count: int, width: int, roots: Singles, found: Singles) -> None:
    size, lanes = len(roots), width // SINGLES
    one, other = singles(2 * size * SINGLES), singles(2 * size * SINGLES)
    up, down = spread(np.float32(1 / size)), spread(np.float32(-1 / size))
    for channel in range(width):
        for j in range(lanes):
            one[:] = 0
            for tap in range(count):
                store(one, 2 * tap, load(taps, (tap * width + channel) * lanes + j))
            own = transform(one, other, roots)
            for k in range(size // 2 + 1):
                place = 2 * ((k * lanes + j) * width + channel)
                store(found, place, load(own, 2 * k) * up)
                store(found, place + 1, load(own, 2 * k + 1) * down)


@kernel()
def transform(rows: Singles, others: Singles, roots: Singles) -> Singles:
    """The discrete Fourier transform of rows, in one of two rooms, both of which are overwritten.

    Four points are combined at a time, and sorted on the way (Stockham's algorithm).
    """
    size = len(roots)
    length, stride = size, 1
    while length > 1:
        quarter = length // 4
        for p in range(quarter):
            c1, s1 = spread(roots[p * stride, 0]), spread(roots[p * stride, 1])
            c2, s2 = spread(roots[2 * p * stride, 0]), spread(roots[2 * p * stride, 1])
            c3, s3 = spread(roots[3 * p * stride, 0]), spread(roots[3 * p * stride, 1])
            for q in range(stride):
                i, step = 2 * (q + stride * p), 2 * stride * quarter
                a, a_i = load(rows, i), load(rows, i + 1)
                b, b_i = load(rows, i + step), load(rows, i + step + 1)
                c, c_i = load(rows, i + 2 * step), load(rows, i + 2 * step + 1)
                d, d_i = load(rows, i + 3 * step), load(rows, i + 3 * step + 1)
                even, even_i, odd, odd_i = a + c, a_i + c_i, b + d, b_i + d_i
                left, left_i, right, right_i = a - c, a_i - c_i, b - d, b_i - d_i
                to, step = 2 * (q + stride * 4 * p), 2 * stride
                _put(others, to, even + odd, even_i + odd_i)
                _turn(others, to + step, left + right_i, left_i - right, c1, s1)
                _turn(others, to + 2 * step, even - odd, even_i - odd_i, c2, s2)
                _turn(others, to + 3 * step, left - right_i, left_i + right, c3, s3)
        length, stride = quarter, 4 * stride
        rows, others = others, rows
    return rows


@kernel()
def _put(rows: Singles, place: int, real: Any, imaginary: Any) -> None:
    store(rows, place, real)
    store(rows, place + 1, imaginary)


@kernel()
def _turn(rows: Singles, place: int, real: Any, imaginary: Any, c: Any, s: Any) -> None:
    """Store a product with a root of unity."""
    _put(rows, place, real * c - imaginary * s, real * s + imaginary * c)


@kernel()
def add_convolution(
    rows: Singles,
    taps: int,
    weight: Singles,
    roots: Singles,
    bias: Singles,
    out: Singles,
    to: int,
    out_stride: int,
) -> None:
    """Add the GELU of a group's convolution, of stride 1, to rows of `out` from `to` on, so many numbers apart.

    Parameters
    ----------
    rows : float32 [frames * width]
        What it reads, no part of `out`; before and after that there are zeros.
    taps
        How many there are; half of them are before a frame.
    weight
        `spectra`, flat.
    roots
        `turns` of as many points as `spectra` are of.
    bias : float32 [width]
    to, out_stride
        Multiples of `SINGLES`.
    """
    size, width = len(roots), len(bias)
    lanes, frames = width // SINGLES, len(rows) // width
    hop, room = size - taps + 1, 2 * size * SINGLES
    pairs = -(-frames // (2 * hop))
    most = min(pairs, _PAIRS)
    given, found, spare = singles(most * lanes * room), singles(most * lanes * room), singles(room)
    own = singles(room)
    for begin in range(0, pairs, most):
        count = min(most, pairs - begin)
        for pair in range(count):
            for j in range(lanes):
                start = 2 * hop * (begin + pair) - taps // 2
                for point in range(size):
                    _read(own, 2 * point, rows, start + point, frames, lanes, j)
                    _read(own, 2 * point + 1, rows, start + hop + point, frames, lanes, j)
                _copy(transform(own, spare, roots), given, (pair * lanes + j) * 2 * size)
        _multiply(given, found, count, width, weight, size)
        for pair in range(count):
            for j in range(lanes):
                place, start = (pair * lanes + j) * room, 2 * hop * (begin + pair)
                back = transform(found[place : place + room], spare, roots)
                for point in range(min(hop, frames - start)):
                    line = (to + (start + point) * out_stride) // SINGLES + j
                    _add(out, line, load(back, 2 * point + 1) + load(bias, j))
                for point in range(min(hop, frames - start - hop)):
                    line = (to + (start + hop + point) * out_stride) // SINGLES + j
                    _add(out, line, load(back, 2 * point) + load(bias, j))


@kernel()
def _copy(rows: Singles, out: Singles, place: int) -> None:
    """Write rows as lanes of `out` from number `place` on."""
    for i in range(len(rows) // SINGLES):
        store(out, place + i, load(rows, i))


@kernel()
def _read(own: Singles, place: int, rows: Singles, frame: int, frames: int, lanes: int, j: int) -> None:
    """Store lanes of a frame, or zeros outside the clip."""
    if 0 <= frame < frames:
        store(own, place, load(rows, frame * lanes + j))
    else:
        store(own, place, spread(np.float32(0)))


@kernel()
def _add(out: Singles, line: int, value: Any) -> None:
    store(out, line, load(out, line) + fine_gelu(value))


@kernel()
def _multiply(given: Singles, found: Singles, pairs: int, width: int, weight: Singles, size: int) -> None:
    """Multiply the transforms of pairs of blocks, point by point, by the taps', and swap real and imaginary parts.

    Of what is swapped, the transform back is the transform, swapped again.
    """
    lanes = width // SINGLES
    zero = spread(np.float32(0))
    for k in range(size // 2 + 1):
        mirrored = 2 * ((size - k) % size - k) * SINGLES
        for pair in range(pairs):
            for j in range(lanes):
                aa, bb, ab, ba = zero, zero, zero, zero
                cc, dd, cd, dc = zero, zero, zero, zero
                place = 2 * (k * lanes + j) * width
                for channels in range(lanes):
                    line = 2 * ((pair * lanes + channels) * size + k) * SINGLES
                    for i in range(line, line + SINGLES):
                        b, b_i = load(weight, place), load(weight, place + 1)
                        place += 2
                        a, a_i = spread(given[i]), spread(given[i + SINGLES])
                        c, c_i = spread(given[i + mirrored]), spread(given[i + mirrored + SINGLES])
                        aa, bb, ab, ba = aa + a * b, bb + a_i * b_i, ab + a * b_i, ba + a_i * b
                        cc, dd, cd, dc = cc + c * b, dd + c_i * b_i, cd + c * b_i, dc + c_i * b
                out = 2 * ((pair * lanes + j) * size + k)
                _put(found, out, ab + ba, aa - bb)
                _put(found, out + mirrored // SINGLES, dc - cd, cc + dd)
