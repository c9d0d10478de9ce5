"""Model cards: what a set of weights was trained on, how, for how long, and what it gives on Kodak."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hvqbench.training import processes
from hvqbench.training.evaluation import Predictor, ideal_bits, reconstruction
from hvqbench.vq.inspect import perplexity

if TYPE_CHECKING:
    from torch import Tensor

    from hvqbench.data import ImageFile
    from hvqbench.training.loop import Run
    from hvqbench.vq.base import BaseTokenizer


def write_card(
    run: Run, title: str, settings: Any, data: Path | Sequence[Path], device: str, facts: dict[str, str]
) -> None:
    """Write ``README.md`` into the run's folder: settings, data, time, device, loss curve and *facts*."""
    lines = [f"# {title}", "", f"Trained by `hvqbench train` (torch {torch.__version__}).", "", "| | |", "|---|---|"]
    sources = [data] if isinstance(data, Path) else data
    lines += [
        f"| data | {', '.join(f'`{source.name}`' for source in sources)} |",
        f"| device | {_device_name(device)} |",
    ]
    lines += [f"| training time | {run.seconds / 60:.0f} minutes |"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += ["", "## Settings", "", "| key | value |", "|---|---|"]
    lines += [f"| `{name}` | `{value}` |" for name, value in dataclasses.asdict(settings).items()]
    lines += ["", "## Loss curve", "", *_curve(run.history())]
    (run.out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tokenizer_on_kodak(tokenizer: BaseTokenizer) -> dict[str, str]:
    """Mean PSNR, LPIPS-Alex and DISTS of Kodak's reconstructions, and how the codebook is used; empty without Kodak."""
    if not (images := _kodak()):
        return {}
    scores, counts = reconstruction(tokenizer, images)
    usage = [f"{int((stage > 0).sum())} of {len(stage)}, perplexity {perplexity(stage):.0f}" for stage in counts]
    facts = {f"Kodak {name}": f"{value:.4f}" for name, value in scores.items()}
    return facts | {"Kodak codewords used": "; ".join(usage)}


def index_model_on_kodak(
    tokenizer: BaseTokenizer, model: Predictor, counts: Sequence[Tensor], name: str
) -> dict[str, str]:
    """Ideal bits per Kodak image for fixed length, static frequencies and the model *name*; empty without Kodak."""
    if not (images := _kodak()):
        return {}
    bits = ideal_bits(tokenizer, model, counts, images)
    parts = f"fixed {bits.fixed:.0f}, static {bits.static:.0f}, {name} {bits.indices:.0f}"
    parts += f" + z {bits.z:.0f}" if bits.z else ""
    saved = f"static {bits.static_saving:.1f} %, {name} {bits.saving:.1f} %"
    return {"Kodak ideal bits per image": parts, "Kodak ideal saving over fixed": saved}


def _kodak() -> tuple[ImageFile, ...]:
    """Kodak's images, if they are on this machine."""
    from hvqbench.data import dataset_unavailable, load_dataset

    return () if dataset_unavailable("kodak") else load_dataset("kodak").images


def _curve(history: list[dict[str, Any]]) -> list[str]:
    """About twenty rows of the log as a Markdown table."""
    if not history:
        return ["(no step was logged)"]
    every = max(1, len(history) // 20)
    rows = history[::-1][::every][::-1]
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        table.append("| " + " | ".join(f"{row[n]:.4g}" if n in row else "" for n in names) + " |")
    return table


def _device_name(device: str) -> str:
    name = f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
    return name if processes.count() == 1 else f"{processes.count()} processes, each on {name}"
