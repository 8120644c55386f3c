"""Numbers that kernels take at once."""

LANES = 8
"""Lanes of float64."""
SINGLES = 16
"""Lanes of float32."""
BLOCK = 32
"""Rows and columns of a block of a product: on tiles, two by two."""
STEP = 32
"""Inner dimension of a step of a product."""
PACKED = BLOCK * STEP
"""Numbers of the second factor in a step."""
