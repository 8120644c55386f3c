"""What commands say while they work."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Write a line to standard error, which a progress bar takes in and `click.echo` would go past."""
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")
