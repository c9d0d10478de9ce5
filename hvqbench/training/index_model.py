"""Training of index models on a finished tokenizer: codeword counts, and the networks of any kind of index model.

What a kind must give: a subclass of :class:`IndexModelTraining`, which has its keys and makes its network, named in
:data:`TRAININGS`; and a network with the methods of :class:`IndexNetwork`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hvqbench.catalog import load_object, read_toml
from hvqbench.errors import HvqbenchError, closest
from hvqbench.settings import read_settings
from hvqbench.training import processes
from hvqbench.training.card import index_model_on_kodak, write_card
from hvqbench.training.crops import cached_crops, held_out
from hvqbench.training.evaluation import fixed_bits, present
from hvqbench.training.loop import Run, autocast, cosine, mean_of
from hvqbench.vq.base import BaseTokenizer
from hvqbench.vq.inspect import grid_counts
from hvqbench.vq.loading import load_tokenizer
from hvqbench.vq.models.static import save_counts, static_bits

TRAININGS: Mapping[str, str] = {
    "hyperprior": "hvqbench.training.hyperprior:HyperpriorTraining",
    "transformer": "hvqbench.training.transformer:TransformerTraining",
}
"""The settings of each kind of index model, by the ``model`` of a ``train.toml``."""


class IndexNetwork(Protocol):
    """What trains: an :class:`torch.nn.Module` with these methods besides."""

    @classmethod
    def load(cls, path: Path) -> tuple[Any, ...]:
        """The network of a file, and what else it holds."""

    def save(self, path: Path, tokenizer: str) -> None:
        """Write weights for the tokenizer with that digest."""

    def start(self, counts: Sequence[Tensor], codebooks: Sequence[Tensor]) -> None:
        """Begin near the static code of *counts* (K for each grid)."""

    def start_level(self, level: int) -> None:
        """Let a grid that joins now, of a curriculum that has the grids join, begin with what is learned so far."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for an optimizer, each with the ``factor`` of its learning rate.

        The gradients of a group with ``clip = False`` are not limited.
        """

    def bits(self, maps: Sequence[Tensor], codebooks: Sequence[Tensor], share: float = 1.0) -> dict[str, Any]:
        """Code length of *maps* (B×h×w of the first grids; ``ABSENT`` where no symbol is sent).

        ``indices`` has for each grid the bits of its symbols, of a random *share* of them where that is below 1; ``z``
        those of all that is sent besides; ``slices``, where a model has such, the mean bits of an index by slice.
        """


@dataclass(frozen=True)
class IndexModelTraining:
    """Keys of every index model's ``train.toml``.

    ``model`` names one of :data:`TRAININGS`, or the class of your own settings as ``package.module:Class``.
    ``tokenizer`` is what a ``codec.toml`` names (:mod:`hvqbench.vq.loading`), relative to the configuration; ``crops``
    random crops of side ``crop`` pixels are turned into indices once, and the last 5 % of them, at most 100, are held
    out. Each step takes the rate of a random share ``positions`` of a batch's positions. The learning rate rises over
    ``warmup`` steps, then follows a cosine. ``start`` is a file of weights to continue from, relative to the
    configuration.
    """

    tokenizer: str
    model: str = "hyperprior"
    steps: int = 2000
    batch: int = 16
    crop: int = 256
    crops: int = 4000
    positions: float = 1.0
    learning_rate: float = 1.5e-3
    warmup: int = 50
    weight_decay: float = 0.01
    log_every: int = 100
    seed: int = 0
    start: str = ""

    kind: ClassVar[str]
    """What messages and cards call it."""
    file: ClassVar[str]
    """The file of its weights in the run's folder."""

    def network(self, tokenizer: BaseTokenizer) -> Any:
        """The untrained :class:`IndexNetwork` for *tokenizer*."""
        raise NotImplementedError

    def load(self, path: Path) -> Any:
        """The network of a file that such a training wrote."""
        raise NotImplementedError

    def curriculum(self, step: int, network: Any, grids: int) -> tuple[float, int]:
        """The price of z's bits at *step*, and how many of the *grids* count."""
        return 1.0, grids

    def differs(self, start: Any, network: Any) -> str:
        """In what the network *start* is no start for *network*; empty where it is one.

        Tensors that *start* lacks stay as they are in *network*.
        """
        state, own = start.state_dict(), network.state_dict()
        return next((name for name, t in state.items() if name not in own or own[name].shape != t.shape), "")

    def parameters(self, network: Any) -> int:
        """How many numbers *network* learned."""
        return sum(p.numel() for p in network.parameters() if p.requires_grad)

    def facts(self, path: Path, tokenizer: BaseTokenizer, maps: Sequence[Tensor]) -> dict[str, str]:
        """More for the card of the finished weights at *path*; *maps* are held out."""
        return {}


def read_training(path: Path, overrides: Mapping[str, Any] | None = None) -> Any:
    """A ``train.toml`` as the :class:`IndexModelTraining` of its ``model``, with *overrides* of its keys."""
    values = read_toml(path) | dict(overrides or {})
    model = values.get("model", IndexModelTraining.model)
    if model not in TRAININGS and ":" not in str(model):
        known = ", ".join(TRAININGS)
        raise HvqbenchError(f"{path}: model = {model!r}: {closest(str(model), TRAININGS)}known are {known}")
    kind = load_object(TRAININGS.get(model, str(model)))
    if not (isinstance(kind, type) and issubclass(kind, IndexModelTraining)):
        raise HvqbenchError(f"{path}: {model} is not a subclass of {__name__}.IndexModelTraining; correct model")
    return read_settings(kind, values, str(path))


def train_index_model(
    config: Path, data: Path, out: Path, device: str = "cpu", cache: Path | None = None, **overrides: Any
) -> Path:
    """Train, or continue to train, the index model of *config* on the photos of *data*.

    *out* receives ``frequencies.safetensors`` (for huffman-vq and static-vq), the weights, ``log.jsonl``, of a model
    with slices ``slices.jsonl``, and a model card; the weights' path is returned. The crops' indices stay in the folder
    *cache*, for other runs on the same tokenizer, photos and crops; without one they lie in *out* until the training is
    done.
    """
    settings: IndexModelTraining = read_training(config, overrides)
    device = processes.join(device)
    tokenizer = load_tokenizer(settings.tokenizer, config.parent).to(device)
    run = Run(out, settings.steps)
    drawn = {"crops": settings.crops, "crop": settings.crop, "batch": settings.batch, "seed": settings.seed}
    maps, file = cached_crops(tokenizer, data, cache or out, device, **drawn)
    counts = grid_counts([part.long() for part in maps], [len(codebook) for codebook in tokenizer.codebooks])
    if processes.is_main():
        save_counts(out / "frequencies.safetensors", counts, tokenizer.digest)
    torch.manual_seed(settings.seed)
    network = settings.network(tokenizer)
    network.start(counts, [codebook.cpu() for codebook in tokenizer.codebooks])
    if settings.start:
        _continue(settings, network, (config.parent / settings.start).resolve())
    fit(settings, run, network.to(device), maps, counts, list(tokenizer.codebooks), device)
    path = out / settings.file
    processes.wait()
    if not processes.is_main():
        return path
    network.cpu().eval().save(path, tokenizer.digest)
    if not cache:
        file.unlink()
    tokenizer = tokenizer.cpu()
    held = [part[-min(8, held_out(len(part))) :].long() for part in maps]
    facts = {
        "tokenizer": tokenizer.digest[:12],
        "parameters": f"{settings.parameters(network):,}",
        **settings.facts(path, tokenizer, held),
        **index_model_on_kodak(tokenizer, network, counts, settings.kind),
    }
    write_card(run, f"{settings.kind.capitalize()} and codeword frequencies", settings, data, device, facts)
    return path


def _continue(settings: IndexModelTraining, network: nn.Module, path: Path) -> None:
    """Give *network* the tensors of the weights at *path*."""
    start = settings.load(path)
    if wrong := settings.differs(start, network):
        raise HvqbenchError(
            f"{path} is not a start for this {settings.kind}: {wrong} differs; give both the same shape"
        )
    network.load_state_dict(network.state_dict() | start.state_dict())


def fit(
    settings: IndexModelTraining,
    run: Run,
    network: Any,
    maps: Sequence[Tensor],
    counts: Sequence[Tensor],
    codebooks: Sequence[Tensor],
    device: str,
) -> None:
    """Train *network* on all *maps* (N×h×w for each grid) but the held-out ones, from the run's last checkpoint."""
    groups = network.parameter_groups()
    free = {id(p) for group in groups if not group.get("clip", True) for p in group["params"]}
    clipped = [p for p in network.parameters() if id(p) not in free]
    optimizer = torch.optim.AdamW(groups, settings.learning_rate, (0.9, 0.95), weight_decay=settings.weight_decay)
    state = run.restore() or {}
    if state:
        network.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    crops, kept = len(maps[0]), held_out(len(maps[0]))
    held = [part[-kept:].long() for part in maps]
    indices = sum(present(held))
    fixed = fixed_bits(held, codebooks) / indices
    static = sum(float(costs.sum()) for costs in static_bits(counts, held)) / indices
    torch.manual_seed(settings.seed + run.started_at + processes.rank())
    rng = np.random.default_rng((settings.seed, run.started_at, processes.rank()))
    recent: list[Tensor] = []
    # What was reached stays, even if a resumed run has more steps: a grid is started once, and z's price never falls.
    reached = state.get("reached") or settings.curriculum(run.started_at - 1, network, len(maps))

    def state_now() -> dict[str, Any]:
        return {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "reached": reached}

    network.train()
    for step in run.each_step(state_now, settings.kind):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * group["factor"] * cosine(step, settings.steps, settings.warmup)
        chosen = torch.from_numpy(rng.integers(0, crops - kept, settings.batch))
        before, now = reached[1], settings.curriculum(step, network, len(maps))
        price, levels = reached = max(reached[0], now[0]), max(before, now[1])
        for level in range(before, levels):
            network.start_level(level)
        batch = [part[chosen].long() for part in maps[:levels]]
        with autocast(device):
            bits = network.bits([part.to(device) for part in batch], codebooks, settings.positions)
        loss = _per_index(bits, price, present(batch))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        processes.average_gradients(network.parameters())
        torch.nn.utils.clip_grad_norm_(clipped, 1.0)
        optimizer.step()
        recent.append(loss)
        if (step + 1) % settings.log_every == 0 and processes.is_main():
            of_indices, of_z, slices = _held_out_bits(network, held, codebooks, device)
            run.log(
                step=step + 1,
                seconds=run.seconds,
                bits_per_index=mean_of(recent),
                held_out_indices=of_indices,
                held_out_z=of_z,
                held_out_static=static,
                held_out_saving_percent=100 * (1 - (of_indices + of_z) / fixed),
            )
            if slices:
                with (run.out / "slices.jsonl").open("a") as file:
                    file.write(json.dumps({"step": step + 1, "bits": slices}) + "\n")
            recent.clear()


def _per_index(bits: Mapping[str, Any], price: float, indices: Sequence[int]) -> Tensor:
    """Bits per index, z's at their *price*; of each grid the positions looked at stand for all its *indices*."""
    count = sum(indices)
    parts = zip(bits["indices"], indices, strict=True)
    of_indices = torch.stack([costs.mean() * (own / count) for costs, own in parts if own]).sum()
    return of_indices + price * bits["z"] / count


@torch.inference_mode()
def _held_out_bits(
    network: Any, maps: Sequence[Tensor], codebooks: Sequence[Tensor], device: str
) -> tuple[float, float, list[float]]:
    """Ideal bits per index for the indices and for z, and per index of each slice of a model that has slices."""
    total = z_total = 0.0
    slices: dict[int, float] = {}
    network.eval()
    for batch in zip(*(part.split(8) for part in maps), strict=True):
        bits = network.bits([part.to(device) for part in batch], codebooks)
        total += sum(float(costs.sum()) for costs in bits["indices"])
        z_total += float(bits["z"])
        for number, mean in bits.get("slices", {}).items():
            slices[number] = slices.get(number, 0.0) + len(batch[0]) * float(mean)
    network.train()
    count = sum(present(maps))
    return total / count, z_total / count, [round(slices[number] / len(maps[0]), 4) for number in sorted(slices)]
