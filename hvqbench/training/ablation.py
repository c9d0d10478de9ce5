"""Ablations: the variants of a specification (:mod:`hvqbench.training.variants`), trained and measured side by side."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hvqbench.errors import HvqbenchError, say
from hvqbench.files import atomic_write
from hvqbench.grid import to_markdown
from hvqbench.shown import csv_of
from hvqbench.training import processes
from hvqbench.training.ablation_table import DECIMALS, INTRODUCTION, TITLES
from hvqbench.training.evaluation import QUALITY, ideal_bits, reconstruction
from hvqbench.training.family import AUTOENCODER_FILE
from hvqbench.training.index_model import read_training, train_index_model
from hvqbench.training.loop import Run, read_config
from hvqbench.training.tokenizer import TokenizerTraining, train_tokenizer
from hvqbench.training.variants import Variant, read_specification
from hvqbench.vq.hub import PREFIX
from hvqbench.vq.loading import TOKENIZER_FILE, load_tokenizer, tokenizer_files
from hvqbench.vq.models.static import load_counts
from hvqbench.vq.weights import sha256

if TYPE_CHECKING:
    from hvqbench.data import Dataset

CACHE = "indices"
"""The folder of the crops' indices, while an ablation runs."""
FREQUENCIES = "frequencies.safetensors"


def ablate(
    specification: Path,
    data: Path,
    out: Path,
    dataset: str | None = None,
    limit: int | None = None,
    device: str = "cpu",
) -> Path:
    """Train what is not trained yet of *specification* on the photos of *data*, and measure it.

    To resume is to call it again; a variant that is finished is neither trained nor measured twice.

    Parameters
    ----------
    out
        Receives a folder for each variant.
    dataset, limit
        What to measure on, instead of the specification's data set, and how many of its images.

    Returns
    -------
    Path
        ``ablation.md`` in *out*, and beside it ``ablation.csv``, written anew after every variant. One row per variant:
        what it changes, seeds, steps and minutes of training, parameters of its hyperprior, ideal bits per image by
        part, savings in percent, and :data:`~hvqbench.training.evaluation.QUALITY` where it trained a tokenizer.
    """
    from hvqbench.data import load_dataset

    if processes.count() > 1:
        raise HvqbenchError("ablate runs in one process: start it without accelerate launch")
    spec = read_specification(specification)
    images = load_dataset(dataset or spec.dataset)
    images = dataclasses.replace(images, images=images.images[:limit])
    out = out.resolve()
    rows: list[dict[str, Any]] = []
    tokenizers: dict[str, str] = {}
    for variant in spec.variants:
        say(f"variant {len(rows) + 1} of {len(spec.variants)}: {variant.name}")
        job = _Job(variant, data, out, device)
        tokenizers[variant.name] = job.train(tokenizers.get(variant.after, ""))
        rows.append(job.measured(images))
        path = _write(rows, out, specification, data, images)
    shutil.rmtree(out / CACHE, ignore_errors=True)
    return path


class _Job:
    """One variant in its folder, whose ``variant.json`` says what it was trained with and what was measured."""

    def __init__(self, variant: Variant, data: Path, out: Path, device: str) -> None:
        self.variant, self.data, self.out, self.device = variant, data, out, device
        self.folder = out / variant.name
        self.file = self.folder / "variant.json"
        self.record: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def train(self, tokenizer: str) -> str:
        """Train what is not trained yet; *tokenizer* is that of the variant it comes after. Returns the one it used."""
        variant = self.variant
        if variant.tokenizer is not None:
            tokenizer = self._train_tokenizer()
        config, overrides = variant.index_training(tokenizer=tokenizer)
        settings = read_training(config, overrides)
        if variant.after:
            overrides["start"] = str(self.out / variant.after / settings.file)
            settings = replace(settings, start=overrides["start"])
        self.settings = settings
        name = str(settings.tokenizer)
        inputs = tokenizer_files(name, config.parent) + ([config.parent / settings.start] if settings.start else [])
        self._claim("index_model", settings, inputs)
        if not (self.folder / "README.md").exists():  # the card is written last
            train_index_model(config, self.data, self.folder, self.device, self.out / CACHE, **overrides)
        self.tokenizer = name if name.startswith(PREFIX) else str((config.parent / name).resolve())
        return self.tokenizer

    def _train_tokenizer(self) -> str:
        config, overrides = self.variant.tokenizer_training()
        settings = read_config(TokenizerTraining, config, overrides)
        folder, name = self.folder / "tokenizer", overrides["tokenizer"][0]["name"]
        start = config.parent / settings.start
        inputs = [start / AUTOENCODER_FILE, start / name / TOKENIZER_FILE] if settings.start else []
        inputs = [path for path in inputs if path.is_file()]
        self._claim("tokenizer", settings, inputs)
        if not (folder / "README.md").exists():
            train_tokenizer(config, self.data, folder, self.device, **overrides)
        return str(folder / name)

    def _claim(self, kind: str, settings: Any, inputs: list[Path]) -> None:
        """Note what the folder is trained with; another training in it is an error.

        Weights count by their hashes and not by their places.
        """
        values = dataclasses.asdict(settings) | {"data": self.data.name, "inputs": [sha256(path) for path in inputs]}
        for key in ("start", "tokenizer") if kind == "index_model" else ("start",):
            del values[key]
        values = json.loads(json.dumps(values))
        known = self.record.setdefault(kind, values)
        if differing := [key for key in values if known.get(key) != values[key]]:
            raise HvqbenchError(
                f"{self.folder} was trained with another {differing[0]!r} of its {kind}; delete that folder, or rename "
                "the variant"
            )
        self._save()

    def measured(self, images: Dataset) -> dict[str, Any]:
        """The variant's row of the table."""
        measured_on = [images.id, *(image.name for image in images.images)]
        if self.record.get("measured_on") != measured_on:
            self.record |= {"measures": self._measure(images), "measured_on": measured_on}
            self._save()
        return {"variant": self.variant.name, "changes": self.variant.changes, **self.record["measures"]}

    def _measure(self, images: Dataset) -> dict[str, Any]:
        model = self.settings.load(self.folder / self.settings.file)
        codes = load_tokenizer(self.tokenizer, self.folder)
        counts = [row - 1 for row in load_counts(self.folder / FREQUENCIES, codes)]
        bits = ideal_bits(codes, model, counts, images.images)
        index_model, tokenizer = self.record["index_model"], self.record.get("tokenizer", {})
        row: dict[str, Any] = {
            "tokenizer": Path(self.tokenizer).name,
            "tokenizer_seed": tokenizer.get("seed"),
            "tokenizer_steps": tokenizer.get("steps"),
            "seed": index_model["seed"],
            "steps": index_model["steps"],
            "minutes": (_seconds(self.folder) + _seconds(self.folder / "tokenizer")) / 60,
            "parameters": self.settings.parameters(model),
            "fixed_bits": bits.fixed,
            "static_bits": bits.static,
            "index_bits": bits.indices,
            "z_bits": bits.z,
            "static_saved_percent": bits.static_saving,
            "saved_percent": bits.saving,
            "z_percent": 100 * bits.z / (bits.indices + bits.z),
        }
        if not tokenizer:
            return row | dict.fromkeys(QUALITY)
        return row | reconstruction(codes, images.images)[0]

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(self.file, json.dumps(self.record, indent=1).encode())


def _seconds(folder: Path) -> float:
    """Seconds of training that the checkpoint in *folder* has behind it; 0 without one."""
    if not folder.is_dir():
        return 0.0
    run = Run(folder, 0)
    run.restore()
    return run.seconds


def _write(rows: list[dict[str, Any]], out: Path, specification: Path, data: Path, images: Dataset) -> Path:
    import pandas as pd

    table, path = pd.DataFrame(rows), out / "ablation.md"
    atomic_write(path.with_suffix(".csv"), csv_of(table))
    shown = table.dropna(axis=1, how="all")
    made = f"{specification.name}, photos {data.name}, {len(images)} images of {images.id}, torch {torch.__version__}"
    parts = ["# Ablation", INTRODUCTION, to_markdown(shown, DECIMALS, TITLES), f"Made from {made}."]
    atomic_write(path, ("\n\n".join(parts) + "\n").encode())
    return path
