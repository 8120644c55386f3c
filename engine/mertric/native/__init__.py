"""MERT on kernels of our own, which read the weights of a bundle: in tiles on processors with AMX, or in vectors."""
