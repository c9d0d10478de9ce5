"""How ``--help`` lists commands, in named groups with whole summaries, and what the shell completes.

What is completed follows from a parameter's name, so that an option means the same everywhere: a new command's
``--codec`` completes codecs without saying so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from typer.core import TyperGroup

from hvqbench.errors import HvqbenchError

GROUPS: Mapping[str, Sequence[str]] = {
    "Run and measure": ("run", "score", "doctor"),
    "Conclude": ("bd", "comparable", "report", "check", "baseline", "history"),
    "Look": ("show", "compare", "match", "inspect", "why"),
    "Codecs and models": ("ls", "fetch", "compress", "decompress", "train", "ablate"),
    "Housekeeping": ("store", "curves"),
}
"""The commands of ``hvqbench --help`` by heading; one that is in no group comes last, under a heading of its own."""

OTHERS = "Commands"


class Group(TyperGroup):
    """Commands under the headings of :data:`GROUPS`, each with all of its summary."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        named = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        shown = {name: _summary(command) for name, command in named.items() if command and not command.hidden}
        width = max(map(len, shown), default=0)
        groups = GROUPS if ctx.parent is None else {}
        rest = [name for name in shown if not any(name in names for names in groups.values())]
        for title, names in {**groups, OTHERS: rest}.items():
            if rows := [(name.ljust(width), shown[name]) for name in names if name in shown]:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None and ctx.resilient_parsing:  # as the shell asks what can come next
            for parameter in command.params:
                if names := COMPLETIONS.get(parameter.name):
                    parameter._custom_shell_complete = _completer(names)
        return command


def _summary(command: Any) -> str:
    """The first paragraph of a command's help, on one line."""
    text = inspect.cleandoc(command.help or "").partition("\n\n")[0]
    return " ".join(text.split())


def _completer(names: Callable[[], Sequence[str]]) -> Callable[[Any, Any, str], list[str]]:
    def complete(ctx: Any, parameter: Any, incomplete: str) -> list[str]:
        from hvqbench.commands.options import use_catalog

        before, comma, begun = incomplete.rpartition(",")
        try:
            while ctx is not None:
                use_catalog(ctx.params.get("catalog"))
                ctx = ctx.parent
            return [f"{before}{comma}{name}" for name in names() if name.startswith(begun)]
        except HvqbenchError:  # a broken catalog: there is nothing to say at a prompt
            return []

    return complete


def _codecs() -> list[str]:
    from hvqbench.catalog import codec_files, read_spec

    files = codec_files()
    tags = {tag for path in files.values() for tag in read_spec(path).tags}
    return sorted({*files, *tags})


def _metrics() -> list[str]:
    from hvqbench.metrics import metric_ids

    return sorted(metric_ids())


def _datasets() -> list[str]:
    from hvqbench.catalog import dataset_files

    return sorted(dataset_files())


def _specs() -> list[str]:
    from hvqbench.report.spec import report_files

    return sorted(report_files())


COMPLETIONS: Mapping[str, Callable[[], Sequence[str]]] = {
    **dict.fromkeys(("codec", "codecs", "anchor", "exact"), _codecs),
    **dict.fromkeys(("metric", "metrics"), _metrics),
    **dict.fromkeys(("dataset", "datasets"), _datasets),
    "spec": _specs,
}
"""What a parameter of that name can be."""

PLAIN: dict[str, Any] = {"cls": Group, "no_args_is_help": True, "rich_markup_mode": None}
"""Of each :class:`typer.Typer`. Plain help: rich's takes longer to import than a command should take to answer."""
