"""Checkpoint to bundle: the only place that reads MERT checkpoints and builds graphs."""
