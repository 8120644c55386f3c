"""From samples to hidden states in one run: the graphs of whole clips."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mertric.bundle import CLIPS, FIXED_CLIPS
from mertric.session import Session
from mertric.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mertric.bundle import Bundle
    from mertric.device import Device


class _Key(NamedTuple):
    """What one session is for; `clips`, `frames` and the `blocks` of samples for them are 0 where they may vary."""

    layers: tuple[int, ...]
    clips: int = 0
    frames: int = 0
    blocks: int = 0


def spare_frames(*, receptive_field: int, taps: int, stride: int, rows_per_frame: int) -> int:
    """Frames more than a clip has that its windows are for, at least one: they then reach all samples it can have.

    A clip's mean, variance and GroupNorm are over all of them, though no frame may see the last.

    Parameters
    ----------
    receptive_field
        Samples that a frame sees.
    taps, stride
        Samples of a window, and between two.
    rows_per_frame
        Windows a frame.
    """
    blocks = -(-(receptive_field - 1) // stride) + 1 - -(-taps // stride)
    return max(1, -(-blocks // rows_per_frame))


class Clips:
    """Runs clips of one length from samples to hidden states. Safe to use from several threads.

    The host only copies: what it would compute between the parts of a network takes it longer than a GPU takes for all
    the rest. Sessions are opened at their first use, one for each set of hidden states that is asked for.

    Parameters
    ----------
    bundle, device
        What runs where.
    """

    def __init__(self, bundle: Bundle, *, device: Device) -> None:
        self._bundle = bundle
        self._device = device
        first = bundle.first_convolution()
        self._stride, self._taps, self._channels = first.stride, first.taps, len(first.weight)
        self._spare = spare_frames(
            receptive_field=bundle.receptive_field,
            taps=first.taps,
            stride=first.stride,
            rows_per_frame=bundle.rows_per_frame,
        )
        # LayerNorm, which stands in the graph where the fold has no GroupNorm, is in float32.
        self._item = 2 if device.graphs == "fp16" and first.scale is not None else 4
        self._sessions: Sessions[_Key] = Sessions(partial(_open, bundle, device))

    def states(self, clips: Sequence[NDArray[np.float32]], layers: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Run clips [samples] that give the same number of frames: for each float32 [layers, frames, dim]."""
        (frames,) = {self._bundle.frames(clip.size) for clip in clips}
        blocks = self._blocks(frames)
        wanted = _in_order(layers)
        key = _Key(wanted, len(clips), frames, blocks)
        session = self._sessions.open(key if key in self._sessions else _Key(wanted))
        inputs: dict[str, Sequence[NDArray[Any]]] = {
            "samples": [np.ascontiguousarray(clip, np.float32) for clip in clips],
            "sizes": [np.array([clip.size for clip in clips], np.int64)],
        }
        shapes = {"samples": (len(clips), blocks, self._stride), "sizes": (len(clips),)}
        states = session.run_rows(inputs, shapes, len(clips))
        return states if wanted == layers else [state[[wanted.index(layer) for layer in layers]] for state in states]

    def fix(self, clips: int, frames: int, layers: tuple[int, ...]) -> None:
        """Open a session for batches of just so many clips and frames, where the provider gains from it.

        Raises
        ------
        ProviderError
            The provider cannot. Batches then run as they would without it.
        """
        if self._device.provider.fixed is not None:
            self._sessions.open(_Key(_in_order(layers), clips, frames, self._blocks(frames)))

    def close(self) -> None:
        """Let go of all sessions, and of the memory that they hold; they are opened again when they are needed."""
        self._sessions.close()

    def memory(self, clips: int, frames: int, layers: int) -> int:
        """Return about how many bytes the activations of a batch take.

        At the widest there is what the first convolution gives, before and after its GELU; outputs are in float32.
        """
        rows = self._bundle.rows_per_frame * (frames + self._spare)
        return clips * (2 * rows * self._channels * self._item + 4 * layers * frames * self._bundle.dim)

    def _blocks(self, frames: int) -> int:
        """Blocks of samples that the windows of clips of so many frames reach."""
        return self._bundle.rows_per_frame * (frames + self._spare) - 1 + -(-self._taps // self._stride)


def _in_order(layers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({*layers}))


def _open(bundle: Bundle, device: Device, key: _Key) -> Session:
    """Open a session. No method: an object must not be kept by the sessions that it keeps."""
    convolving = key.frames > 0 and f"{device.graphs}/{FIXED_CLIPS}" in bundle.files
    return Session(
        bundle.graphs(device.graphs) / (FIXED_CLIPS if convolving else CLIPS),
        [f"state_{layer}" for layer in key.layers],
        device=device,
        sizes={"batch": key.clips, "blocks": key.blocks, "frames": key.frames} if key.frames else {},
        tensor_cores=convolving,
    )
