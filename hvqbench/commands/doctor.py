"""``hvqbench doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Device, Json, given, split, use_catalog
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    from hvqbench.doctor import Examination, Finding

app = typer.Typer(**PLAIN)


@app.command()
def doctor(
    codec: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CODEC ...]", help="Codec ids or paths of codec.toml; default: all."),
    ] = None,
    check: Annotated[list[str] | None, typer.Option("--check", help="Only these checks; commas or repeat.")] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.1, help="Seconds for one encode or decode; default: 300.")
    ] = None,
    json: Json = False,
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """Check that codecs keep their contract. Exits with 0 if they do, 1 if not, 2 if one cannot run here."""
    use_catalog(catalog)
    from hvqbench.bench.plan import check_device
    from hvqbench.catalog import codec_files
    from hvqbench.doctor import Examination, Finding, examine, select_checks

    check_device(device)
    checks = select_checks(split(check, "check")) if check else None
    examinations = []
    for name in codec or codec_files():
        watch = None if json else _Printer(name)
        try:
            options = given(timeout_s=timeout)
            examinations.append(examine(name, device=device, checks=checks, watch=watch, **options))
        except HvqbenchError as error:
            if codec:
                raise
            finding = Finding("definition", "failed", str(error), "correct its codec.toml")
            examinations.append(Examination(name, (finding,)))
            if watch:
                watch(finding)
        if watch:
            watch.end(examinations[-1])
    if json:
        from dataclasses import asdict
        from json import dumps

        typer.echo(dumps([asdict(examination) for examination in examinations], indent=2))
    raise typer.Exit(_exit_code(examinations, named=bool(codec)))


def _exit_code(examinations: list[Examination], named: bool) -> int:
    if any(examination.count("failed") for examination in examinations):
        return 1
    cannot = [examination for examination in examinations if examination.unavailable]
    return 2 if cannot and (named or len(cannot) == len(examinations)) else 0


class _Printer:
    """One line for each check, as it comes; one line in all for a codec that cannot run here."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: list[str] = []
        self._shown = False

    def __call__(self, finding: Finding) -> None:
        remedy = f"\n{'':27}do: {finding.remedy}" if finding.remedy else ""
        self._held.append(f"  {finding.status:<8} {finding.check:<15} {finding.detail}{remedy}")
        if finding.status == "failed" or finding.check not in ("definition", "availability"):
            self._show()

    def end(self, examination: Examination) -> None:
        """The summary."""
        if examination.unavailable and not self._shown:
            typer.echo(f"{self._name}\n  not available: {examination.unavailable}\n")
            return
        self._show()
        counts = ", ".join(f"{examination.count(status)} {status}" for status in ("ok", "failed", "skipped"))
        typer.echo(f"  {counts}\n")

    def _show(self) -> None:
        if not self._shown:
            typer.echo(self._name)
            self._shown = True
        for line in self._held:
            typer.echo(line)
        self._held.clear()
