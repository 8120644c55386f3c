"""The `mertric` command. Each subcommand stands in a module of its own and is imported when it is called."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING

import click

from mertric.cli.interrupt import prompt
from mertric.cli.messages import say
from mertric.errors import MertricError, problem_of

if TYPE_CHECKING:
    from typing import TextIO

_COMMANDS = {
    "score": "Score estimates against references: files or folders.",
    "passages": "Show where in a clip an estimate sounds worse.",
    "embed": "Write the MERT embeddings of audio files.",
    "demo": "Try the whole tool offline, on made-up audio and untrained weights.",
    "export": "Convert a MERT checkpoint to a bundle.",
    "correlate": "Correlate scores with listeners' ratings.",
    "study": "From a published listening test's data to the paper's table.",
    "bench": "Measure latency and throughput on this machine.",
    "doctor": "Show versions and providers, what works here and why not.",
}

_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 1 says that rows are not ok."""
_UNREAD = 141
"""Exit code where nobody reads the output any more, such as `head` that has enough, as shells have it."""


class _LazyGroup(click.Group):
    """A group that imports a subcommand only when it is asked for, so that `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"mertric.cli.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"mertric.cli.{cmd_name}.command is not a click command")
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("mertric: interrupted.", err=True)
            ctx.exit(_INTERRUPTED)
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  (what is left goes nowhere)
            ctx.exit(_UNREAD)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mertric")
def cli() -> None:
    """How good does a separated stem sound? MSE and FAD on MERT embeddings, without PyTorch."""


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Show what mertric warns of as a message; what libraries do, with where it comes from."""
    where = "" if category is UserWarning else f" ({category.__name__}, {filename}:{lineno})"
    say(f"warning: {message}{where}")


class _Echo(logging.Handler):
    """Shows what mertric logs on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            say(self.format(record))
        except Exception:  # as `logging.StreamHandler` does
            self.handleError(record)


_ECHO = _Echo()


def main() -> None:
    """Run the command line; a `MertricError`, and what the system refuses, becomes a message and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that cannot be shown is shown escaped
    warnings.showwarning = _show_warning
    logging.getLogger("mertric").setLevel(logging.INFO)
    logging.getLogger("mertric").addHandler(_ECHO)
    try:
        with prompt():
            cli(prog_name="mertric")
    except MertricError as error:
        say(f"mertric: {error}")
    except OSError as error:
        say(f"mertric: {error}. Check the path, its permissions and the space that is free.")
    except MemoryError as error:
        say(f"mertric: {problem_of(error)}")
    else:
        return
    sys.exit(2)
