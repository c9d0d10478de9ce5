"""The index model of granularities: a hyperprior for each grid of a quadtree, and a context model for each mask.

Where a grid's positions are absent they cost nothing, and so does z, which exists where any of the 4x4 positions that
it speaks of does. Hyperpriors are *independent*, each of its own z alone (HVQ-CGIC, arXiv 2512.07192 v1), or
*conditional*: a finer one sees the embeddings of the coarser grids, repeated up to its size, and where grids exist.
This is what trains and what is stored; :mod:`hvqbench.vq.models.granular_coding` codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvqbench.vq.base import entries
from hvqbench.vq.granular import SPLIT, GranularTokenizer, doubled
from hvqbench.vq.models.hyperprior import Hyperprior, HyperpriorConfig
from hvqbench.vq.models.pyramid import QUICK
from hvqbench.vq.models.splits import SplitConfig, SplitNetwork
from hvqbench.vq.weights import load_weights, save_weights


@dataclass(frozen=True)
class Known:
    """What is known at some point of a quadtree, at the size of its next grid.

    Parameters
    ----------
    embeddings
        Of the grids before, one below the other (B×C×h×w), 0 where they are absent.
    present
        Where each grid behind the first exists (B×1×h×w, 0 or 1), the next grid's last.
    """

    embeddings: Tensor
    present: Tensor

    @classmethod
    def nothing(cls, like: Tensor) -> Self:
        """Before the first grid, a map B×h×w of which is *like*."""
        empty = torch.zeros(len(like), 0, *like.shape[1:], device=like.device)
        return cls(empty, empty)

    def with_grid(self, embedding: Tensor) -> Known:
        """Behind a grid."""
        return Known(torch.cat([self.embeddings.to(embedding), embedding], 1), self.present)

    def with_mask(self, split: Tensor) -> Known:
        """Behind a mask (B×h×w, bool), at the next grid's size."""
        present = torch.cat([self.present, split[:, None].to(self.embeddings)], 1)
        return Known(doubled(self.embeddings), doubled(present))

    @property
    def exists(self) -> Tensor:
        """Where the next grid does: bool B×h×w."""
        if not self.present.shape[1]:
            return torch.ones_like(self.present[:, :0].sum(1), dtype=torch.bool)
        return self.present[:, -1] > 0.5

    def channels(self) -> Tensor:
        """Both, B×C×h×w."""
        return torch.cat([self.embeddings, self.present], 1)


class GranularPrior(nn.Module):
    """Hyperpriors and masks' networks, the coarsest first.

    ``counts`` are the training set's codewords (K for each grid), under which a hyperprior that knows nothing codes
    where its z is not sent. ``sensitivity`` is for encoders: how much distortion, in the scale in which splits are
    judged, comes of a squared unit in the scale of each grid's codebook.
    """

    sensitivity: Tensor

    def __init__(self, priors: Sequence[HyperpriorConfig], splits: Sequence[SplitConfig]) -> None:
        super().__init__()
        self.priors = nn.ModuleList(Hyperprior(config) for config in priors)
        self.splits = nn.ModuleList(SplitNetwork(config) for config in splits)
        for number, config in enumerate(priors):
            self.register_buffer(f"counts_{number}", torch.ones(config.codewords, dtype=torch.int64))
        self.register_buffer("sensitivity", torch.ones(len(priors)))

    @classmethod
    def of(cls, tokenizer: GranularTokenizer, conditional: bool = True, split_width: int = 32, **shape: Any) -> Self:
        """For *tokenizer*; *shape* holds keys of :class:`HyperpriorConfig` that it does not set."""
        books = tokenizer.codebooks[::2]
        priors, splits, seen = [], [], 0
        for number, book in enumerate(books):
            codewords, dim = book.shape
            priors.append(HyperpriorConfig(dim, codewords, given=seen + number if conditional else 0, **shape))
            seen += dim
            splits.append(SplitConfig(seen, split_width))
        return cls(priors, splits[:-1])

    def __iter__(self) -> Iterator[Hyperprior]:
        return iter(cast("list[Hyperprior]", list(self.priors)))

    def counts(self) -> list[Tensor]:
        """K (int64) for each grid."""
        return [getattr(self, f"counts_{number}") for number in range(len(self.priors))]

    def start(self, counts: Sequence[Tensor], codebooks: Sequence[Tensor]) -> None:
        """Begin near the static code of *counts* (K for each grid, masks left out, as of *codebooks*)."""
        for number, (part, own, book) in enumerate(zip(self, counts, codebooks, strict=True)):
            part.start_static(own[None], book[None])
            getattr(self, f"counts_{number}").copy_(own)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What learns, in groups with a ``factor`` of the learning rate, for an optimizer."""
        named = [(name.split(".")[-1], p) for name, p in self.named_parameters() if p.requires_grad]
        networks, quick = ([p for name, p in named if (name in QUICK) == chosen] for chosen in (False, True))
        return [{"params": networks, "factor": 1.0}, {"params": quick, "factor": 5.0, "weight_decay": 0.0}]

    def bits(
        self,
        maps: Sequence[Tensor],
        codebooks: Sequence[Tensor],
        share: float = 1.0,
        keep_z: Sequence[Tensor] | None = None,
    ) -> dict[str, Any]:
        """Code length of *maps* (B×h×w of grids and masks in order, absent positions -1).

        Parameters
        ----------
        codebooks
            K×D of each grid and mask.
        share
            Of a random share of each grid's positions only, where it is below 1.
        keep_z
            Of which images a hyperprior's z is sent (bool B, for each grid); all by default.

        Returns
        -------
        dict
            ``z``: bits in all, ``z of grids``: of each grid. ``indices``: for each of *maps* the bits of its positions
            (n of them, or fewer by *share*), of a mask B×h×w.
        """
        zs: list[Tensor] = []
        bits: list[Tensor] = []
        known = Known.nothing(maps[0])
        for number, (symbols, book) in enumerate(zip(maps, codebooks, strict=False)):
            exists = known.exists
            if number % 2:
                split = (symbols == SPLIT) & exists
                network = cast(SplitNetwork, self.splits[number // 2])
                bits.append(network.bits(symbols, exists, known.embeddings))
                known = known.with_mask(split)
                continue
            part = cast(Hyperprior, self.priors[number // 2])
            sent = pooled(exists)[:, None].float()
            if keep_z is not None:
                sent = sent * keep_z[number // 2].to(sent)[:, None, None, None]
            kept = exists.flatten().nonzero()[:, 0]
            if share < 1 and len(kept):
                kept = kept[torch.randperm(len(kept), device=kept.device)[: max(1, round(share * len(kept)))]]
            given = known.channels() if part.config.given else None
            of_indices, of_z = part(None, symbols[:, None], book[None], kept=kept, given=given, z_sent=sent)
            zs, bits = [*zs, of_z], [*bits, of_indices[0]]
            known = known.with_grid(entries(symbols, book.detach()))
        return {"z": torch.stack(zs).sum(), "z of grids": zs, "indices": bits}

    def save(self, path: Path, tokenizer: str) -> None:
        """Write weights for the tokenizer with that digest."""
        tensors = {f"priors.{i}.{name}": t for i, part in enumerate(self) for name, t in part.tensors().items()}
        tensors |= {f"splits.{name}": tensor.half() for name, tensor in self.splits.state_dict().items()}
        tensors |= {name: tensor for name, tensor in self.named_buffers() if "." not in name}
        configs = {
            "priors": [asdict(part.config) for part in self],
            "splits": [asdict(cast(SplitNetwork, part).config) for part in self.splits],
        }
        save_weights(path, tensors, {"granular": json.dumps(configs), "tokenizer": tokenizer})

    @classmethod
    def load(cls, path: Path) -> tuple[Self, list[Tensor], str]:
        """The networks, z's integer frequencies for each grid, and the digest of the tokenizer they belong to."""
        tensors, metadata = load_weights(path, "granular", "tokenizer")
        configs = json.loads(metadata["granular"])
        found = cls([], [SplitConfig(**config) for config in configs["splits"]])
        parts, frequencies = [], []
        for number, config in enumerate(configs["priors"]):
            part, rows = Hyperprior.of_tensors(config, _below(tensors, f"priors.{number}."))
            parts.append(part)
            frequencies.append(rows)
            found.register_buffer(f"counts_{number}", tensors[f"counts_{number}"])
        found.priors, found.sensitivity = nn.ModuleList(parts), tensors["sensitivity"]
        found.splits.load_state_dict({name: t.float() for name, t in _below(tensors, "splits.").items()})
        return found.eval(), frequencies, metadata["tokenizer"]


def pooled(exists: Tensor) -> Tensor:
    """Where a z exists (bool B×⌈h/4⌉×⌈w/4⌉) for positions that do (bool B×h×w)."""
    return functional.max_pool2d(exists[:, None].float(), 4, ceil_mode=True)[:, 0] > 0


def _below(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
