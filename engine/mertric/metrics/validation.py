"""What the distances accept, and what they say of anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mertric.errors import InputError
from mertric.kernels.half import half_to_single

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Frames: TypeAlias = "NDArray[np.float32] | NDArray[np.float64]"


def embedding(x: ArrayLike, name: str, *, least: int = 1) -> Frames:
    """An embedding as contiguous float32 or float64 [frames, dim], with at least `least` frames.

    Float16 becomes float32 and integers float64, exactly up to 2^53. Values are not looked at: see `require_finite`.
    """
    array = _unmasked(x, name)
    if array.ndim != 2:
        advice = " Take one layer of it, such as hidden[0]." if array.ndim == 3 else ""
        raise InputError(f"{name} has shape {array.shape}; expected two axes, [frames, dim].{advice}")
    return _checked(array, name, least)


def layers(x: ArrayLike, name: str, *, least: int = 1) -> NDArray[Any]:
    """An embedding of one layer [frames, dim] or of several [layers, frames, dim], unchanged but checked."""
    array = _unmasked(x, name)
    if array.ndim not in (2, 3):
        raise InputError(f"{name} has shape {array.shape}; expected [frames, dim], or [layers, frames, dim].")
    _check(array, name, least)
    return array


def real(x: ArrayLike, name: str) -> NDArray[np.float64]:
    """An array of real numbers of any shape, as float64."""
    array = _unmasked(x, name)
    _require_real(array, name)
    return np.asarray(array, np.float64)


def _unmasked(x: ArrayLike, name: str) -> NDArray[Any]:
    if np.ma.is_masked(x):
        raise InputError(f"{name} has masked values; expected all of them. Fill them in, or leave the frames out.")
    try:
        return np.asarray(x)
    except ValueError as error:
        raise InputError(f"{name} is no array of numbers ({error}); expected [frames, dim].") from error


def same_dim(x: int, y: int, x_name: str, y_name: str) -> None:
    """Raise unless both have the same number of dimensions."""
    if x != y:
        raise InputError(
            f"{x_name} has {x} dimensions and {y_name} has {y}; expected as many of both. "
            "A distance needs embeddings of one model and layer."
        )


def same_frames(x: int, y: int, x_name: str, y_name: str) -> None:
    """Raise unless both have the same number of frames."""
    if x != y:
        raise InputError(
            f"{x_name} has {x} frames and {y_name} has {y}; this metric compares frame by frame. "
            "Cut both clips to the same length, or use the Fréchet distance, which takes any lengths."
        )


def require_finite(x: NDArray[Any], name: str) -> None:
    """Raise for the first NaN or infinity, or for values whose squares leave float64's range."""
    bad = np.argwhere(~np.isfinite(x))
    if bad.size:
        place = bad[0].tolist()
        where = f"frame {place[-2]}, dimension {place[-1]}" if x.ndim > 1 else f"position {place[0]}"
        raise InputError(
            f"{name} holds {x[tuple(place)]} at {where} ({len(bad)} of {x.size} values are not finite); "
            "expected finite numbers. An overflow in float16 is the usual cause: use float32 (--protocol float)."
        )
    largest = float(np.abs(x).max())
    raise InputError(f"{name} holds values up to {largest:.3g}, whose squares overflow float64; scale it down.")


def _checked(array: NDArray[Any], name: str, least: int) -> Frames:
    _check(array, name, least)
    if array.dtype == np.float16:
        return half_to_single(array)
    kept = array.dtype if array.dtype in (np.float32, np.float64) else np.float64
    return np.ascontiguousarray(array, dtype=kept)


def _require_real(array: NDArray[Any], name: str) -> None:
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} has dtype {array.dtype}; expected real numbers (float16, float32 or float64).")


def _check(array: NDArray[Any], name: str, least: int) -> None:
    _require_real(array, name)
    if array.shape[0] == 0 and array.ndim == 3:
        raise InputError(f"{name} has shape {array.shape}: no layers; expected [layers, frames, dim] with one or more.")
    frames, dim = array.shape[-2:]
    if dim == 0:
        raise InputError(f"{name} has shape {array.shape}: no dimensions; expected [frames, dim] with dim >= 1.")
    if frames == 0:
        raise InputError(f"{name} has no frames; is the clip shorter than the model's receptive field?")
    if frames < least:
        raise InputError(
            f"{name} has {frames} frame, of which no covariance can be taken; expected at least {least}. "
            "Use a longer clip, or the mean squared error."
        )
