"""`python -m mertric` is the `mertric` command."""

from mertric.cli import main

main()
