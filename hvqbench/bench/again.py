"""Measures again what a baseline was saved of: its codecs, points, images and metrics."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd


def run_again(rows: pd.DataFrame, metrics: Collection[str], results: Path, jobs: int = 1, device: str = "cpu") -> None:
    """Run the codecs of *rows* into the folder *results*, over the images and points that each has there.

    Raises
    ------
    HvqbenchError
        If a data set is not in the catalog, or has not all of the images.
    """
    from hvqbench.bench.sweep import run
    from hvqbench.catalog import dataset_files
    from hvqbench.data import load_dataset

    for dataset in map(str, rows["dataset"].unique()):
        of_dataset = rows[rows["dataset"] == dataset]
        if dataset not in dataset_files():
            raise HvqbenchError(
                f"the catalog has no data set {dataset!r}: add it, or run its codecs yourself and give --results"
            )
        data = load_dataset(dataset)
        groups: dict[tuple[tuple[float, ...], tuple[str, ...]], list[str]] = {}
        for codec, own in of_dataset.groupby("codec", sort=False):
            key = (tuple(sorted(own["point"].unique())), tuple(sorted(own["image"].unique())))
            groups.setdefault(key, []).append(str(codec))
        for (points, names), codecs in groups.items():
            images = tuple(image for image in data.images if image.name in names)
            if len(images) < len(names):
                lost = ", ".join(sorted(set(names) - {image.name for image in images}))
                raise HvqbenchError(f"the data set {dataset} has no longer {lost}: save the baseline again")
            chosen = replace(data, images=images)
            run(codecs, chosen, metrics=list(metrics), points=points, results=results, jobs=jobs, device=device)
