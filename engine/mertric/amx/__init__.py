"""MERT on the tiles of processors with AMX: weights of the bundle, in pieces of bfloat16, and kernels of our own."""
