"""What commands say while they work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mertric.report import printable

if TYPE_CHECKING:
    from mertric.bundle import Bundle


def say(text: str) -> None:
    """Write lines to standard error, which a progress bar takes in and `click.echo` would go past.

    What names of files hold to steer a terminal is escaped.
    """
    if sys.stderr is not None:
        sys.stderr.write("".join(f"{printable(line)}\n" for line in text.split("\n")))


def note_untrained(bundle: Bundle) -> None:
    """Say below figures that they are of untrained weights, where they are."""
    if not bundle.trained:
        click.echo("The weights are untrained: the figures show the tool and not quality.")
