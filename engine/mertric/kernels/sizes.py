"""Numbers that kernels take at once."""

LANES = 8
"""Lanes of float64."""
SINGLES = 16
"""Lanes of float32."""
BLOCK = 32
"""Rows and columns of a block on tiles: two by two tiles."""
STEP = 32
"""Inner dimension of a step on tiles."""
PACKED = BLOCK * STEP
"""Numbers of the second factor in a step."""
