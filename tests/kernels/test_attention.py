"""Attention in bfloat16 against NumPy, in float64 on the rounded factors, and on whole ones where those have pieces."""

from __future__ import annotations

import math

import numpy as np
import pytest
from halves import HALF_ULP, LEFT, normal, parted, rounded, whole

from mertric.kernels.attention import SPAN, attend, pack_keys, pack_values
from mertric.kernels.dense import dense_narrow, pack
from mertric.kernels.sizes import BLOCK, STEP


@pytest.mark.parametrize(("frames", "pieces"), [(1, 1), (31, 1), (32, 1), (70, 1), (31, 2), (70, 3)])
@pytest.mark.parametrize("head_dim", [32, 64])
def test_attention_of_the_second_clip_of_three(frames: int, head_dim: int, pieces: int) -> None:
    attention_of_blocks(0, -(-frames // BLOCK), frames=frames, head_dim=head_dim, pieces=pieces)


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("frames", [SPAN * BLOCK, SPAN * BLOCK + 1, 2 * SPAN * BLOCK + 40])
def test_attention_over_spans(frames: int, pieces: int) -> None:
    """Of some queries the highest score is far above those of the spans before, of others it is not."""
    attention_of_blocks(3, 2, frames=frames, head_dim=32, pieces=pieces, growing=True)


def attention_of_blocks(
    first: int, count: int, *, frames: int, head_dim: int, pieces: int, growing: bool = False
) -> None:
    """Compare what `count` blocks of queries attend to; where other clips are, are no numbers."""
    heads, before, after = 2, 2, 1
    own, dim = -(-frames // BLOCK), heads * head_dim
    blocks, size = before + own + after, own * BLOCK
    states = normal(size, dim)
    if growing:
        states *= np.linspace(0.2, 4, size, dtype=np.float32)[:, None]
    rows, stride = (parted(states, pieces), 0, dim, dim // STEP), dim + 32
    matrices = normal(3, dim, dim, seed=1) / math.sqrt(dim)
    queries = np.full((pieces, size * stride), 0x7FC0, np.uint16)
    keys, values = np.full((2, pieces, blocks * BLOCK * dim), 0x7FC0, np.uint16)
    none = np.zeros(dim, np.float32)
    one, two, three = (pack(matrix, pieces) for matrix in matrices)
    dense_narrow(*rows[:3], 1, dim // STEP, own, one, dim, none, False, none, queries, 0, stride)
    pack_keys(*rows, own, two, blocks, before, heads, keys)
    pack_values(*rows, own, three, blocks, before, values)
    out = np.zeros((pieces, (count + 2) * BLOCK * stride), np.uint16)
    scale = np.float32(head_dim**-0.5)
    attend(
        *(queries, first * BLOCK * stride, stride, count, heads, keys, values, blocks, before, frames),
        *(np.float32(scale * math.log2(math.e)), out, BLOCK * stride),
    )
    given = whole(rows[0], size, dim)
    projected = [given @ (rounded(matrix) if pieces == 1 else matrix.astype(np.float64)) for matrix in matrices]
    if pieces == 1:
        projected = [rounded(part.astype(np.float32)) for part in projected]
    q, k, v = (part.reshape(size, heads, head_dim).transpose(1, 0, 2) for part in projected)
    asked = slice(first * BLOCK, min(frames, (first + count) * BLOCK))
    scores = scale * q[:, asked] @ k[:, :frames].transpose(0, 2, 1)
    shares = np.exp(scores - scores.max(axis=2, keepdims=True))
    expected = (shares / shares.sum(axis=2, keepdims=True)) @ v[:, :frames]
    each = out.reshape(pieces, count + 2, BLOCK, stride)
    assert not each[:, [0, -1]].any()
    assert not each[..., dim:].any()
    found = whole(each[:, 1:-1, :, :dim], count * BLOCK, heads, head_dim).transpose(1, 0, 2)
    bound = {1: 1.5 * HALF_ULP, 2: 4 * LEFT[2], 3: 2e-6}[pieces] * np.abs(v).max()
    np.testing.assert_allclose(found[:, : expected.shape[1]], expected, rtol=0, atol=bound)
