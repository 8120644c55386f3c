"""Fréchet distances computed another way: by float64 SVD, and by mpmath with 50 digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mpmath
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def svd_frechet(x: NDArray[np.generic], y: NDArray[np.generic]) -> float:
    """Orthogonal factors of the centred frames, then LAPACK's SVD of their product."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = (np.linalg.qr((e - e.mean(0)) / np.sqrt(len(e) - 1), mode="r") for e in (x, y))
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + (a**2).sum() + (b**2).sum() - 2.0 * cross)


def exact_frechet(x: NDArray[np.generic], y: NDArray[np.generic]) -> float:
    """The definition, in 50 digits; for small arrays."""
    with mpmath.workdps(50):
        (m, a), (n, b) = _centred(x), _centred(y)
        gap = sum((m[i] - n[i]) ** 2 for i in range(len(m)))
        traces = sum(v**2 for v in a) + sum(v**2 for v in b)
        product = a * b.T
        if product.rows < product.cols:
            product = product.T
        return float(gap + traces - 2 * sum(mpmath.svd_r(product, compute_uv=False)))


def _centred(x: NDArray[np.generic]) -> tuple[list[mpmath.mpf], mpmath.matrix]:
    frames, dim = x.shape
    a = mpmath.matrix(x.astype(np.float64).tolist())
    means = [sum(a[i, j] for i in range(frames)) / frames for j in range(dim)]
    root = mpmath.sqrt(frames - 1)
    for i in range(frames):
        for j in range(dim):
            a[i, j] = (a[i, j] - means[j]) / root
    return means, a


def spectrum(rng: np.random.Generator, frames: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Random frames [frames, dim] whose scale along `dim` random directions falls as `values`."""
    turn = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    return np.asarray((rng.standard_normal((frames, len(values))) * values) @ turn)
