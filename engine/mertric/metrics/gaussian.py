"""Gaussians of whole sets: streamed moments, `.npz` files, and their Fréchet distance."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError
from mertric.kernels.moments import centre, frame_mean, merge_scatter
from mertric.metrics.frechet import distance
from mertric.metrics.prepared import BLOCK, PreparedEmbedding
from mertric.metrics.validation import embedding, real, require_finite, same_dim

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

_LARGEST = float(np.finfo(np.float64).max) / 8
"""A trace of which sums and products in a distance are float64 still."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean float64 [dim] and covariance float64 [dim, dim] of a set, of any real numbers; `frames` is 0 where unknown.

    Raises
    ------
    InputError
        Shapes that do not match, no real numbers, NaN or infinity, or a covariance that is not symmetric.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    frames: int = 0

    def __post_init__(self) -> None:
        mean, covariance = real(self.mean, "the mean"), real(self.covariance, "the covariance")
        if mean.ndim != 1 or not mean.size or covariance.shape != (mean.size, mean.size):
            raise InputError(
                f"got a mean of shape {mean.shape} and a covariance of shape {covariance.shape}; expected [dim] and "
                "[dim, dim]."
            )
        for array, name in ((mean, "the mean"), (covariance, "the covariance")):
            if not np.isfinite(array).all():
                require_finite(array, name)
        skew = float(np.abs(covariance - covariance.T).max())
        if skew > 1e-6 * float(np.abs(covariance).max()):
            raise InputError(f"the covariance is not symmetric: entries differ by {skew:.3g} from their mirrors.")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "covariance", covariance)

    def save(self, path: str | PathLike[str], *, model: str | None = None) -> None:
        """Write an `.npz` with `mu`, `cov` and `frames`.

        With `model`, fadtk's name of the embedding model, `MODEL.mu` and `MODEL.cov` are written beside
        them, under which fadtk looks for the statistics of a baseline.
        """
        arrays = {"mu": self.mean, "cov": self.covariance, "frames": np.array(self.frames)}
        if model is not None:
            arrays |= {f"{model}.mu": self.mean, f"{model}.cov": self.covariance}
        with Path(path).open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | PathLike[str], *, model: str | None = None) -> Gaussian:
        """Read `mu` and `cov`, or `MODEL.mu` and `MODEL.cov`, from an `.npz` of this module or of fadtk.

        Raises
        ------
        InputError
            No such file, not an `.npz`, damaged, a missing array (the message lists what is there), or arrays that
            are not a mean and a covariance.
        """
        wrong = f"{path} is not an .npz file of a mean and a covariance"
        prefix = "" if model is None else f"{model}."
        try:
            data = np.load(path, allow_pickle=False)
            if not isinstance(data, np.lib.npyio.NpzFile):
                raise InputError(f"{wrong}: it holds one array.")
            with data:
                missing = {f"{prefix}mu", f"{prefix}cov"} - set(data.files)
                if missing:
                    raise InputError(
                        f"{path} has no {' and no '.join(sorted(missing))}; it holds {', '.join(data.files)}. "
                        "Name fadtk's model where arrays are called MODEL.mu and MODEL.cov."
                    )
                frames = int(data["frames"]) if "frames" in data.files else 0
                mean, covariance = data[f"{prefix}mu"], data[f"{prefix}cov"]
        except InputError:
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, TypeError, ValueError) as error:
            raise InputError(f"{wrong}: {error}") from error
        try:
            return cls(mean, covariance, frames)
        except InputError as error:
            raise InputError(f"{wrong}: {error}") from error


class Moments:
    """Streamed mean and covariance of any number of embeddings, mergeable.

    Memory is one [dim, dim] matrix however many frames are added, and no accuracy is lost to their number
    or offset (Chan, Golub & LeVeque 1983: sets are merged by their means and scatter matrices).
    """

    def __init__(self) -> None:
        self.frames = 0
        self._shift = np.zeros(0)  # near the mean, so that the mean less the shift loses nothing
        self._mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))

    def add(self, x: ArrayLike, *, name: str = "x") -> None:
        """Add the frames of an embedding [frames, dim], one frame or more.

        Raises
        ------
        InputError
            Not [frames, dim], another dim than the set so far, NaN or infinity. Nothing is added then.
        """
        frames = embedding(x, name)
        own = Moments()
        for start in range(0, len(frames), BLOCK):
            own._add(frames, start, name)
        self._merge(own.frames, own._shift, own._mean, own._scatter, name)

    def merge(self, other: Moments) -> None:
        """Add all frames that `other` has seen, which is left as it is."""
        if other.frames:
            self._merge(other.frames, other._shift, other._mean, other._scatter, "the other set")

    def gaussian(self) -> Gaussian:
        """Mean and unbiased covariance of all frames so far.

        Raises
        ------
        InputError
            Fewer than two frames were added.
        """
        if self.frames < 2:
            raise InputError(f"{self.frames} frames were added; a covariance needs at least 2.")
        return Gaussian(self._shift + self._mean, self._scatter / (self.frames - 1), self.frames)

    def _add(self, frames: NDArray[np.float32] | NDArray[np.float64], start: int, name: str) -> None:
        block = frames[start : start + BLOCK]
        mean, centred = np.empty((2, block.shape[1])), np.empty(block.shape)
        frame_mean(block, mean)
        centre(block, mean, centred)
        if not np.isfinite(np.vdot(centred, centred)):
            require_finite(frames, name)
        self._merge(len(block), mean[0], mean[1], centred.T @ centred, name)

    def _merge(
        self,
        frames: int,
        shift: NDArray[np.float64],
        mean: NDArray[np.float64],
        scatter: NDArray[np.float64],
        name: str,
    ) -> None:
        if not self.frames:
            self._shift, self._mean = shift.copy(), np.zeros(len(shift))
            self._scatter = np.zeros(scatter.shape)
        same_dim(len(self._shift), len(shift), "the set so far", name)
        total = self.frames + frames
        gap = (shift - self._shift) + (mean - self._mean)
        merge_scatter(self._scatter, scatter, gap, self.frames * frames / total)
        self._mean += gap * (frames / total)
        self.frames = total


def gaussian_of(x: ArrayLike) -> Gaussian:
    """Mean and unbiased covariance of one embedding [frames, dim]."""
    moments = Moments()
    moments.add(x)
    return moments.gaussian()


def prepare_gaussian(gaussian: Gaussian, *, name: str = "the covariance") -> PreparedEmbedding:
    """A root of the covariance by its eigenvectors, of as many rows as its rank.

    Eigenvalues below dim * 2.2e-16 of the largest are the rounding of zeros, and are taken for zeros.

    Raises
    ------
    InputError
        An eigenvalue is negative beyond rounding: not a covariance; or the trace is near the end of float64's range.
    """
    values, vectors = np.linalg.eigh(gaussian.covariance / 2.0 + gaussian.covariance.T / 2.0)
    noise = len(values) * np.finfo(np.float64).eps * float(np.abs(values).max())
    if values[0] < -1e-6 * float(np.abs(values).max()):
        raise InputError(
            f"{name} is not positive semidefinite: its eigenvalues go from {values[0]:.3g} to {values[-1]:.3g}."
        )
    kept = values > noise
    root = np.sqrt(values[kept])[:, np.newaxis] * vectors[:, kept].T
    mean = np.stack([gaussian.mean, np.zeros_like(gaussian.mean)])
    if not kept.any():
        root = np.zeros((1, len(values)))
    with np.errstate(over="ignore"):
        squares = float(values[kept].sum())
    if not squares < _LARGEST:
        raise InputError(
            f"{name} has eigenvalues up to {values[-1]:.3g}, with which distances overflow float64; scale it down."
        )
    return PreparedEmbedding(mean, np.ascontiguousarray(root), squares, squares)


def gaussian_frechet_distance(x: Gaussian, y: Gaussian) -> float:
    """Fréchet distance of two Gaussians, 0 or above (Dowson & Landau 1982, eq. 16).

    Covariances may be rank-deficient. Where the frames are at hand, `frechet_distance` of them is more
    accurate: a covariance has squared the condition already.

    Raises
    ------
    InputError
        Different dim, or a covariance that is not positive semidefinite.
    """
    same_dim(len(x.mean), len(y.mean), "x", "y")
    return distance(prepare_gaussian(x, name="the covariance of x"), prepare_gaussian(y, name="the covariance of y"))
