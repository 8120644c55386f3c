"""From samples to what enters the first layer: the local graphs of a bundle, chunk by chunk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from mertric.bundle import POSITIONS
from mertric.fold import fold
from mertric.parting import even_parts
from mertric.providers import FRAMES
from mertric.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mertric.bundle import Bundle
    from mertric.device import Device
    from mertric.fold import FoldedClip
    from mertric.providers import Profile

_LONGEST = 1024
"""Frames of a clip up to which its positional convolution runs in one piece, in a session of its own."""


class FrontEnd:
    """The convolutions, the projection and the positional convolution. Safe to use from several threads.

    Parameters
    ----------
    bundle, device
        What runs where.
    chunk
        Frames per run of either graph; None for the provider's own. Any number gives the same result; it bounds memory.
    attention
        Which encoder graphs the front end is for, see `Bundle.frontend`.
    """

    def __init__(self, bundle: Bundle, *, device: Device, chunk: int | None, attention: str) -> None:
        self._bundle = bundle
        self._chunk = chunk or device.provider.chunk
        self._device = device
        self._graphs = bundle.frontend(device.graphs, attention), bundle.graphs(device.graphs) / POSITIONS
        self._fixed: dict[int, Session] = {}
        self._fixed_positions: dict[int, Session] = {}
        self._met = False
        self._first = bundle.first_convolution()
        columns, channels = self._first.taps + 1, len(self._first.weight)
        counts = [device.padded(min(count, self._chunk)) for count in (*FRAMES[:2], self._chunk)]
        weights = (1, columns, channels)
        windows = _profile((1, self._rows(count), columns) for count in counts)
        features = _profile((1, self._reach(count), bundle.dim) for count in counts)
        with ThreadPoolExecutor(2) as pool:
            frontend = pool.submit(
                Session,
                self._graphs[0],
                ["features"],
                device=device,
                profiles={"windows": windows, "weights": (weights, weights, weights)},
            )
            positions = pool.submit(
                Session,
                self._graphs[1],
                ["state_0"],
                device=device,
                profiles={"features": features},
            )
            self._frontend, self._positions = frontend.result(), positions.result()

    def entry(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what enters the first layer, float32 [frames, dim], for samples [samples] at the model's rate."""
        frames, dim = self._bundle.frames(samples.size), self._bundle.dim
        clip = self._fold(samples)
        before = self._bundle.position_taps // 2
        features = np.zeros((self._reach(frames + self._device.padded(1)), dim), np.float32)
        for start, count in _chunks(frames, self._chunk):
            features[before + start : before + start + count] = self._features(clip, start, count)
        whole = self._device.padded(frames) in self._fixed_positions
        for start, count in _chunks(frames, frames if whole else self._chunk):
            padded = self._device.padded(count)
            session = self._fixed_positions.get(padded, self._positions)
            (states,) = session.run({"features": features[None, start : start + self._reach(padded)]})
            features[start : start + count] = states[0, :count]  # the chunks that follow see none of these
        return features[:frames]

    def fix(self, frames: int) -> None:
        """Open sessions for clips of so many frames, where the provider gains from fixed shapes.

        They are one for each length of the front end's chunks, and one for the positional convolution of a whole clip,
        unless that is long. Chunks of clips of other lengths have few shapes, all of which are run once.

        Raises
        ------
        ProviderError
            The provider cannot. Chunks then run as they would without them.
        """
        if self._device.fixed_attention is None:
            return
        columns = self._fold(np.zeros(self._bundle.receptive_field, np.float32)).weights.shape[0]
        for count in {self._device.padded(count) for _, count in _chunks(frames, self._chunk)} - self._fixed.keys():
            sizes = {"batch": 1, "rows": self._rows(count), "columns": columns}
            self._fixed[count] = Session(self._graphs[0], ["features"], device=self._device, sizes=sizes)
        whole = self._device.padded(frames)
        if whole <= _LONGEST and whole not in self._fixed_positions:
            sizes = {"batch": 1, "padded": self._reach(whole)}
            self._fixed_positions[whole] = Session(self._graphs[1], ["state_0"], device=self._device, sizes=sizes)
        self._meet_shapes()

    def _meet_shapes(self) -> None:
        """Run chunks of every length that padding leaves, once: a provider takes its time over a shape that is new."""
        if self._met:
            return
        self._met = True
        clip = self._fold(np.zeros(self._bundle.receptive_field, np.float32))
        step, most = self._device.padded(1), self._device.padded(min(self._chunk, self._device.provider.chunk))
        for count in range(step, most + 1, step):
            self._run_chunk(self._frontend, clip, 0, count)
            self._positions.run({"features": np.zeros((1, self._reach(count), self._bundle.dim), np.float32)})

    def memory(self, frames: int) -> int:
        """Return about how many bytes the activations of a clip of so many frames take.

        At the widest there is what the first convolution gives, before and after its GELU, of one chunk.
        """
        rows, channels = self._rows(self._device.padded(min(frames, self._chunk))), self._first.weight.shape[0]
        return int(2 * rows * channels * np.dtype(np.float32).itemsize)

    def _fold(self, samples: NDArray[np.float32]) -> FoldedClip:
        clip = fold(self._first, samples)
        return clip.split() if self._device.rounds else clip

    def _reach(self, count: int) -> int:
        """Frames that the positional convolution of `count` frames sees."""
        return count + self._bundle.position_taps - 1

    def _rows(self, count: int) -> int:
        """Windows that `count` frames take, and one more frame's, which the graph cuts off again."""
        return self._bundle.rows_per_frame * (count + 1)

    def _features(self, clip: FoldedClip, start: int, count: int) -> NDArray[np.float32]:
        """Run the front end for `count` frames from `start`: float32 [count, dim]."""
        padded = self._device.padded(count)
        return self._run_chunk(self._fixed.get(padded, self._frontend), clip, start, padded)[:count]

    def _run_chunk(self, session: Session, clip: FoldedClip, start: int, count: int) -> NDArray[np.float32]:
        windows = clip.windows(start * self._bundle.rows_per_frame, self._rows(count))
        (features,) = session.run({"windows": windows[None], "weights": clip.weights[None]})
        return np.asarray(features[0])


def _chunks(frames: int, most: int) -> list[tuple[int, int]]:
    """Part frames into as few chunks as can be, as even as can be: their starts and lengths."""
    return [(start, end - start) for start, end in even_parts(frames, -(-frames // most))]


def _profile(shapes: Iterable[tuple[int, ...]]) -> Profile:
    least, best, greatest = shapes
    return least, best, greatest
