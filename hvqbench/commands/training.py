"""``train`` and ``ablate``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from hvqbench.commands.options import PLAIN, Device, given
from hvqbench.errors import HvqbenchError

app = typer.Typer(**PLAIN)
train_app = typer.Typer(help="Train the VQ codec.", **PLAIN)
app.add_typer(train_app, name="train")

ConfigOption = Annotated[Path, typer.Option("--config", help="A train.toml.")]
DataOption = Annotated[Path, typer.Option("--data", help="A folder or zip archive of images.")]
DataOptions = Annotated[list[Path], typer.Option("--data", help="A folder or zip archive of images; may be repeated.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="For checkpoints, log and weights; default: runs/<the config's folder>.")
]
StepsOption = Annotated[int | None, typer.Option("--steps", min=1, help="Steps, instead of the configuration's.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another key of the configuration, as in TOML.")
]


@train_app.command("tokenizer")
def train_tokenizer(
    config: ConfigOption,
    data: DataOptions,
    out: OutOption = None,
    steps: StepsOption = None,
    override: SetOption = None,
    device: Device = "cpu",
) -> None:
    """Train a VQ tokenizer: encoder, codebook and decoder. Run it again to resume."""
    _train("train_tokenizer", config, data, out, steps, override, device)


@train_app.command("index-model")
def train_index_model(
    config: ConfigOption,
    data: DataOption,
    out: OutOption = None,
    steps: StepsOption = None,
    override: SetOption = None,
    device: Device = "cpu",
) -> None:
    """Train an index model, hyperprior or transformer, on a tokenizer's indices. Run it again to resume."""
    _train("train_index_model", config, data, out, steps, override, device)


@train_app.command("joint")
def train_joint(
    config: ConfigOption,
    data: DataOptions,
    out: OutOption = None,
    steps: StepsOption = None,
    override: SetOption = None,
    device: Device = "cpu",
) -> None:
    """Train a tokenizer and its transformer together, from high rate to low. Run it again to resume."""
    _train("train_joint", config, data, out, steps, override, device)


@train_app.command("granular")
def train_granular(
    config: ConfigOption,
    data: DataOption,
    out: OutOption = None,
    steps: StepsOption = None,
    override: SetOption = None,
    device: Device = "cpu",
) -> None:
    """Train the hyperpriors and masks of granularities. Run it again to resume."""
    _train("train_granular", config, data, out, steps, override, device)


@train_app.command("bind")
def bind(
    files: Annotated[list[Path], typer.Argument(help="Hyperpriors and frequencies, rewritten in place.")],
    tokenizer: Annotated[Path, typer.Option("--tokenizer", help="Folder of the tokenizer with the new decoder.")],
    before: Annotated[Path, typer.Option("--before", help="Folder of the tokenizer that they were made for.")],
) -> None:
    """Bind index models to a tokenizer whose decoder alone was trained further."""
    from hvqbench import training

    _print(*training.bind_index_models(files, tokenizer, before))


@app.command()
def ablate(
    specification: Annotated[Path, typer.Argument(metavar="SPEC", help="Variants, like reports/ablations.toml.")],
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for the variants and the table.")] = Path("runs/ablations"),
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Data set to measure on, instead of the SPEC's.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only on the first so many images.")] = None,
    device: Device = "cpu",
) -> None:
    """Train variants of the VQ codec and compare them. Run it again to resume."""
    from hvqbench import training

    typer.echo(training.ablate(specification, data, out, dataset, limit, device).read_text(encoding="utf-8"), nl=False)


def _train(
    name: str,
    config: Path,
    data: Path | list[Path],
    out: Path | None,
    steps: int | None,
    override: list[str] | None,
    device: str,
) -> None:
    """Run the training *name* of :mod:`hvqbench.training`, and name what it wrote."""
    from hvqbench import training

    values = _overrides(override) | given(steps=steps)
    folder = out or Path("runs") / config.resolve().parent.name
    written = getattr(training, name)(config, data, folder, device, **values)
    _print(*([written] if isinstance(written, Path) else written))


def _overrides(texts: list[str] | None) -> dict[str, Any]:
    """``["rate=2.0", 'rate_mode="soft"']`` as a dictionary."""
    values: dict[str, Any] = {}
    for text in texts or []:
        try:
            values |= tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise HvqbenchError(f"--set {text}: {error}; write KEY=VALUE as in a train.toml, text in quotes") from None
    return values


def _print(*paths: Path) -> None:
    """Name what was written, once however many processes trained."""
    from hvqbench.training.processes import is_main

    if is_main():
        for path in paths:
            typer.echo(path)
