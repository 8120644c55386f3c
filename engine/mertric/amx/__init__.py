"""MERT in bfloat16 on the tiles of processors with AMX: the bundle's weights, and kernels of our own."""
