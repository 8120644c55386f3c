"""What commands say while they work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mertric.bundle import Bundle


def say(text: str) -> None:
    """Write a line to standard error, which a progress bar takes in and `click.echo` would go past."""
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")


def note_untrained(bundle: Bundle) -> None:
    """Say below figures that they are of untrained weights, where they are."""
    if not bundle.trained:
        click.echo("The weights are untrained: the figures show the tool and not quality.")
