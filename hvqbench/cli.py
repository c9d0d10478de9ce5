"""The command line. A command parses, calls one library function, and prints.

Results go to stdout, progress and errors to stderr. Exit codes: 0 fine; 1 rows failed, or nothing could run; 2 an error
that the user can mend, told in one line; 130 interrupted by Ctrl-C, 143 and 129 by a signal of that kind.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from hvqbench.commands import (
    bd,
    comparable,
    compare,
    curves,
    doctor,
    fetch,
    gate,
    listing,
    match,
    report,
    results,
    show,
    single,
    store,
    training,
    why,
)
from hvqbench.commands.options import PLAIN, CatalogOption, use_catalog
from hvqbench.errors import HvqbenchError, say
from hvqbench.interrupts import Interrupts, interruptible
from hvqbench.lineage import adopt_orphans, carry_line
from hvqbench.shown import visible_output

INTERRUPTED = 130
"""What typer exits with after Ctrl-C: 128 and the number of SIGINT."""

app = typer.Typer(help="Benchmark for generative image compression.", pretty_exceptions_enable=False, **PLAIN)
app.add_typer(listing.app, name="ls")
app.add_typer(curves.app, name="curves")
app.add_typer(store.app, name="store")
for group in (results, bd, comparable, gate, report, show, compare, single, fetch, training, doctor, match, why):
    app.add_typer(group.app)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command ``hvqbench``."""
    adopt_orphans()
    carry_line()
    with interruptible() as interrupts, visible_output():
        _run(arguments, interrupts)


def _run(arguments: list[str] | None, interrupts: Interrupts) -> None:
    try:
        app(args=arguments, prog_name="hvqbench")
    except HvqbenchError as error:
        _fail(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}; check the path, its permissions and the free space")
    except UnicodeEncodeError as error:
        _fail(f"{error.object!a} is not valid UTF-8: rename the file or folder of that name")
    except KeyboardInterrupt:
        _interrupted(interrupts)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # what typer makes of Ctrl-C within a command
            _interrupted(interrupts)
        raise


def _interrupted(interrupts: Interrupts) -> NoReturn:
    say("interrupted; what was finished is kept, and the same command goes on")
    sys.exit(interrupts.status)


def _fail(message: str) -> None:
    say(" ".join(message.split()))
    sys.exit(2)


def _version(value: bool) -> None:
    if value:
        import hvqbench

        typer.echo(f"hvqbench {hvqbench.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    catalog: CatalogOption = None,
) -> None:
    use_catalog(catalog)
