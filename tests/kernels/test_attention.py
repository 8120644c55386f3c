"""Attention against NumPy, in float64 on the rounded factors of bfloat16, and on whole ones otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kinds import HALF_ULP, KINDS, LEFT, normal, read, rounded, stored, zeros_of

from mertric.kernels.attention import SPAN, attend, pack_keys, pack_values
from mertric.kernels.dense import dense_narrow, pack
from mertric.kernels.sizes import BLOCK, STEP


@pytest.mark.parametrize(
    ("frames", "kind"),
    [
        (1, "bf16"),
        (31, "bf16"),
        (32, "bf16"),
        (70, "bf16"),
        (31, "bf16x2"),
        (70, "bf16x3"),
        (1, "float32"),
        (70, "float32"),
        (31, "int16"),
        (70, "int16"),
    ],
)
@pytest.mark.parametrize("head_dim", [32, 64])
def test_attention_of_the_second_clip_of_three(frames: int, head_dim: int, kind: str) -> None:
    attention_of_blocks(0, -(-frames // BLOCK), frames=frames, head_dim=head_dim, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [SPAN * BLOCK, SPAN * BLOCK + 1, 2 * SPAN * BLOCK + 40])
def test_attention_over_spans(frames: int, kind: str) -> None:
    """Of some queries the highest score is far above those of the spans before, of others it is not."""
    attention_of_blocks(3, 2, frames=frames, head_dim=32, kind=kind, growing=True)


def attention_of_blocks(
    first: int, count: int, *, frames: int, head_dim: int, kind: str, growing: bool = False
) -> None:
    """Compare what `count` blocks of queries attend to; where other clips are, are no numbers."""
    heads, before, after = 2, 2, 1
    own, dim = -(-frames // BLOCK), heads * head_dim
    blocks, size = before + own + after, own * BLOCK
    states = normal(size, dim)
    if growing:
        states *= np.linspace(0.2, 4, size, dtype=np.float32)[:, None]
    own_kind = KINDS[kind]
    rows, stride = (stored(states, own_kind, dim), 0, dim, dim // STEP), dim + 32
    matrices = normal(3, dim, dim, seed=1) / math.sqrt(dim)
    queries, keys, values = (own_kind.empty(numbers) for numbers in (size * stride, *[blocks * BLOCK * dim] * 2))
    for array in (queries, keys, values):
        array.view(np.uint16).fill(0x7FC0)  # no number in bfloat16, nor as half of a float32
    none = np.zeros(dim, np.float32)
    one, two, three = (pack(matrix, own_kind) for matrix in matrices)
    dense_narrow(*rows[:3], 1, dim // STEP, frames, one, 0, dim, none, False, none, queries, 0, stride)
    pack_keys(*rows, frames, two, 0, dim, blocks, before, heads, keys)
    pack_values(*rows, frames, three, 0, dim, blocks, before, values)
    out = zeros_of(own_kind, (count + 2) * BLOCK * stride)
    scale, asked = np.float32(head_dim**-0.5), slice(first * BLOCK, min(frames, (first + count) * BLOCK))
    for head in range(heads):
        attend(
            *(queries, first * BLOCK * stride, stride, asked.stop - asked.start, heads, head, head + 1, keys, values),
            *(blocks, before, frames, np.float32(scale * math.log2(math.e)), out, BLOCK * stride),
        )
    given = read(rows[0], own_kind, size, dim)
    projected = [given @ (rounded(matrix) if kind == "bf16" else matrix.astype(np.float64)) for matrix in matrices]
    if kind == "bf16":
        projected = [rounded(part.astype(np.float32)) for part in projected]
    q, k, v = (part.reshape(size, heads, head_dim).transpose(1, 0, 2) for part in projected)
    scores = scale * q[:, asked] @ k[:, :frames].transpose(0, 2, 1)
    shares = np.exp(scores - scores.max(axis=2, keepdims=True))
    expected = (shares / shares.sum(axis=2, keepdims=True)) @ v[:, :frames]
    each = read(out, own_kind, (count + 2) * BLOCK, stride).reshape(count + 2, BLOCK, stride)
    assert not each[[0, -1]].any()
    assert not each[..., dim:].any()
    found = each[1:-1, :, :dim].reshape(count * BLOCK, heads, head_dim).transpose(1, 0, 2)
    bounds = {"bf16": 1.5 * HALF_ULP, "bf16x2": 4 * LEFT[2], "bf16x3": 2e-6, "float32": 2e-6, "int16": 3e-4}
    bound = bounds[kind] * np.abs(v).max()
    np.testing.assert_allclose(found[:, : expected.shape[1]], expected, rtol=0, atol=bound)
    assert not found[:, expected.shape[1] :].any()
