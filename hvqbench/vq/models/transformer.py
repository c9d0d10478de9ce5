"""The transformer's float network: p(index | slices before), after RDVQ's masked transformer (arXiv 2604.10546).

Each position asks with what its unit's position in the slice before holds, at a grid's first slice with the coarser
grid below it, and attends to what is known of its window. Differences from the published network, all for the sake of
exact integers (:mod:`hvqbench.vq.models.transformer_exact`) or of small images:

- the coarser grid is enlarged bilinearly, whose weights are powers of two where bicubic ones are not;
- the positions of the very first slice, which know nothing, are one key and not many equal ones;
- every slice has a learned vector, every head's logits a learned offset that begins at the log frequency;
- positions are in units of 8 pixels from the window's corner, rotated at base 100 (published: a grid's side is 1000
  units, base 1000); a head's scale is learned as it is (published: its logarithm).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvqbench.errors import HvqbenchError
from hvqbench.settings import read_settings
from hvqbench.vq.base import BaseTokenizer, entries
from hvqbench.vq.exact_attention import MOST_KEYS, RANGE
from hvqbench.vq.models.slices import Mask, Size, Slice, split, visible, window_slices
from hvqbench.vq.weights import load_weights, save_weights

LOG2_E = 1.4426950408889634
SCALE_LIMITS = (0.5, 46.0)
"""Of a head's scale, in bits (published: at most 100 nats)."""
ROTATION_BITS = 12
"""Cosines and sines are multiples of 2^-12, in training too."""


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a transformer.

    Parameters
    ----------
    factors, codewords, dims
        Of each grid: side in pixels of a position's patch, K, and D.
    slices
        Of each grid, powers of two.
    window
        Side of a window in pixels; what lies in another one is not seen.
    width, layers, heads, hidden
        d, number of blocks, heads, and the width of SwiGLU (0: 8/3·d, up to a multiple of 256).
    mask
        See :data:`~hvqbench.vq.models.slices.Mask`.
    coarse
        Whether the coarser grid is added at each grid's ``first`` slice only (published) or at ``all``.
    """

    factors: tuple[int, ...]
    codewords: tuple[int, ...]
    dims: tuple[int, ...]
    slices: tuple[int, ...]
    window: int = 256
    width: int = 192
    layers: int = 4
    heads: int = 8
    hidden: int = 0
    mask: Mask = "block"
    coarse: Literal["first", "all"] = "first"

    def __post_init__(self) -> None:
        if self.width % (4 * self.heads):
            raise HvqbenchError(f"width {self.width} is no multiple of 4 x {self.heads} heads; choose another")
        if self.width >= 512:
            raise HvqbenchError(f"width {self.width} is too large for exact sums; choose one below 512")
        if (keys := 1 + sum(side**2 for side in self.sides)) > MOST_KEYS:
            raise HvqbenchError(f"{keys} positions a window are more than {MOST_KEYS}: choose a smaller window")
        ratios = {coarse // fine for coarse, fine in pairwise(self.factors)}
        if any(ratio & (ratio - 1) for ratio in ratios):
            raise HvqbenchError(f"factors {list(self.factors)} are not powers of two apart: the transformer needs that")
        if self.window < self.factors[0]:
            raise HvqbenchError(f"a window of {self.window} pixels holds no position of {self.factors[0]}; enlarge it")

    @classmethod
    def of(cls, tokenizer: BaseTokenizer, slices: Sequence[int] = (), **shape: Any) -> Self:
        """For *tokenizer*; *shape* holds the keys that it does not set.

        Without *slices* a pyramid has 4 in the coarsest size, 8 in the next, 16 in the one after, and so on; grids of
        one size have 16 each.
        """
        factors = [spec.factor for spec in tokenizer.grids]
        order = sorted(set(factors), reverse=True)
        default = [4 * 2 ** order.index(factor) if len(order) > 1 else 16 for factor in factors]
        if slices and len(slices) != len(factors):
            raise HvqbenchError(f"slices = {list(slices)} are not for {len(factors)} grids; give one number for each")
        shapes = [contents(codebook).shape for codebook in tokenizer.codebooks]
        codewords, dims = tuple(shape[0] for shape in shapes), tuple(shape[1] for shape in shapes)
        return cls(tuple(factors), codewords, dims, tuple(slices or default), **shape)

    @property
    def sides(self) -> tuple[int, ...]:
        """Of a full window in each grid, in positions."""
        side = self.window // self.factors[0]
        return tuple(side * self.factors[0] // factor for factor in self.factors)

    @property
    def inner(self) -> int:
        """The width of SwiGLU."""
        return self.hidden or -(-8 * self.width // (3 * 256)) * 256


class Block(nn.Module):
    """Cosine attention and SwiGLU, each behind an RMSNorm and around a shortcut; no biases."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, inner = config.width, config.inner
        self.heads = config.heads
        self.attention_norm, self.norm = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.qkv, self.out = (nn.Linear(width, outputs, bias=False) for outputs in (3 * width, width))
        self.gate_up, self.down = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)
        self.scale = nn.Parameter(torch.full((config.heads,), 4 * LOG2_E))
        for layer in (self.qkv, self.gate_up):
            nn.init.normal_(layer.weight, std=width**-0.5)
        for layer, inputs in ((self.out, width), (self.down, inner)):
            nn.init.normal_(layer.weight, std=0.5 * (inputs * config.layers) ** -0.5)

    def forward(self, x: Tensor, rotation: Tensor, mask: Tensor) -> Tensor:
        """x B×N×d; rotation 2×N×d/2·heads (cosines, sines); mask N×N, True where a query (row) sees a key."""
        q, k, v = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = (rotated(functional.normalize(part.float(), dim=-1), rotation) for part in (q, k))
        scale = self.scale.clamp(*SCALE_LIMITS)[:, None, None] / LOG2_E
        seen = functional.scaled_dot_product_attention((q * scale).to(v), k.to(v), v, mask, scale=1.0)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.norm(x)).clamp(-RANGE, RANGE).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class Transformer(nn.Module):
    """See the module; entries of codebooks come in by :meth:`hidden`, :meth:`bits` is what trains."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed = nn.ModuleList(nn.Linear(dim, width, bias=False) for dim in config.dims)
        self.slice = nn.Parameter(0.1 * torch.randn(sum(config.slices), width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.head = nn.ModuleList(nn.Linear(width, codewords) for codewords in config.codewords)
        for layer in self.head:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for level, rotation in enumerate(rotations(config)):
            self.register_buffer(f"rotation_{level}", rotation)

    @torch.no_grad()
    def start(self, counts: Sequence[Tensor], codebooks: Sequence[Tensor]) -> None:
        """Begin at the static code of *counts* (K for each grid), with contents of about unit variance."""
        for head, embed, row, codebook in zip(self.head, self.embed, counts, codebooks, strict=True):
            shares = row.float() + 1
            head.bias.copy_((shares / shares.sum()).log())  # type: ignore[operator]
            spread = contents(codebook).square().sum(1).mean().sqrt()
            embed.weight.normal_(std=1 / max(1e-6, float(spread)))  # type: ignore[operator]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What learns, in groups with a ``factor`` of the learning rate, for an optimizer."""
        scales = [block.scale for block in cast("list[Block]", list(self.blocks))]
        matrices = [p for p in self.parameters() if p.dim() > 1]
        others = [p for p in self.parameters() if p.dim() == 1 and all(p is not scale for scale in scales)]
        plain = {"weight_decay": 0.0}
        return [
            {"params": matrices, "factor": 1.0},
            {"params": others, "factor": 1.0, **plain},
            {"params": scales, "factor": 5.0, **plain},
        ]

    def queries(self, slices: Sequence[Slice], sizes: Sequence[Size], embedded: Sequence[Tensor]) -> Tensor:
        """What *slices* ask with (B×N×d), given what grids hold (B×d×h·w, not read beyond the slices before)."""
        parts = []
        for own in slices:
            x = self.slice[own.number].expand(len(embedded[0]), own.stop - own.start, -1)
            if own.before is not None:
                x = x + embedded[own.level][:, :, own.before].transpose(1, 2)
            if own.level and (own.before is None or self.config.coarse == "all"):
                coarse = enlarged(embedded[own.level - 1], sizes[own.level - 1], sizes[own.level])
                x = x + coarse[:, :, own.positions].transpose(1, 2)
            parts.append(x)
        return torch.cat(parts, 1)

    def hidden(self, grids: Sequence[Tensor]) -> Tensor:
        """Entries B×D×h×w of all grids (or of the first), of windows, to B×N×d behind the last norm, slice by slice."""
        sizes = tuple((grid.shape[-2], grid.shape[-1]) for grid in grids)
        slices = window_slices(sizes, self.config.slices[: len(grids)])
        embedded = [embed(grid.flatten(2).transpose(1, 2)).transpose(1, 2) for embed, grid in zip(self.embed, grids)]  # noqa: B905
        x, rotation = self.queries(slices, sizes, embedded), self.rotation(slices, sizes)
        mask = visible(slices, self.config.mask).to(x.device)
        for block in self.blocks:
            x = block(x, rotation, mask)
        return self.norm(x)

    def rotation(self, slices: Sequence[Slice], sizes: Sequence[Size]) -> Tensor:
        """Cosines and sines of the keys of *slices*, 2×N×(d/2·heads); zero at the very first, which has no place."""
        parts = []
        for own in slices:
            table = cast(Tensor, getattr(self, f"rotation_{own.level}"))  # 2×side×frequencies
            if own.start == 0:
                parts.append(table.new_zeros(2, 1, 2 * table.shape[2]))
                continue
            width = sizes[own.level][1]
            y, x = own.positions // width, own.positions % width
            parts.append(torch.cat([table[:, y], table[:, x]], 2))
        return torch.cat(parts, 1)

    def bits(
        self,
        maps: Sequence[Tensor],
        codebooks: Sequence[Tensor],
        share: float = 1.0,
        context: Sequence[Tensor] | None = None,
        soft: Sequence[Tensor] | None = None,
    ) -> dict[str, Any]:
        """Code length of *maps* (B×h×w of the first grids; what is -1 costs nothing).

        ``indices`` has for each grid the bits of its positions, in any order, ``slices`` the mean bits of a position of
        each slice, and ``z`` is 0. Of a random *share* of each slice's positions only, where it is below 1.

        *context* is what grids hold (B×D×h×w), by default the symbols' entries: a gradient towards it says what other
        entries would cost all that follows. With *soft*, the probabilities (B×h·w×K) of the codewords at each position,
        their mean code length is meant.
        """
        sizes = [(part.shape[-2], part.shape[-1]) for part in maps]
        sides, books = self.config.sides[: len(maps)], [contents(book).detach() for book in codebooks]
        found: dict[int, list[Tensor]] = {}
        for windows in split(sizes, sides, 2**62):
            own = [windows.content(level, part.flatten(1)).flatten(0, 1) for level, part in enumerate(maps)]
            if context is None:
                grids = [
                    entries(part.unflatten(-1, size), book)
                    for part, size, book in zip(own, windows.sizes, books, strict=False)
                ]
            else:
                held = [windows.content(level, part.flatten(2)).transpose(1, 2) for level, part in enumerate(context)]
                grids = [part.flatten(0, 1).unflatten(-1, size) for part, size in zip(held, windows.sizes, strict=True)]
            hidden = self.hidden(grids)
            for part in window_slices(windows.sizes, self.config.slices[: len(maps)]):
                rows = hidden[:, part.start : part.stop].expand(-1, len(part.positions), -1).flatten(0, 1)
                targets = exist = own[part.level][:, part.positions].flatten()
                if soft is not None:
                    places = windows.positions[part.level][:, part.positions]
                    targets = soft[part.level][:, places].flatten(0, 2)
                if share < 1:
                    kept = torch.randperm(len(exist), device=exist.device)[: max(1, round(share * len(exist)))]
                    rows, targets, exist = rows[kept], targets[kept], exist[kept]
                logits = self.head[part.level](rows).float()
                if soft is None:
                    costs = functional.cross_entropy(logits, targets, reduction="none", ignore_index=-1)
                else:
                    costs = -(targets * logits.log_softmax(1)).sum(1)
                found.setdefault(part.number, []).append(costs[exist >= 0] * LOG2_E)
        level_of = [level for level, count in enumerate(self.config.slices) for _ in range(count)]
        indices = [
            torch.cat([c for number, parts in found.items() if level_of[number] == level for c in parts])
            for level in range(len(maps))
        ]
        slices = {number: torch.cat(parts).detach().mean() for number, parts in sorted(found.items())}
        return {"z": indices[0].new_zeros(()), "indices": indices, "slices": slices}

    def save(self, path: Path, tokenizer: str) -> None:
        """Write weights for the tokenizer with that digest: matrices in fp16, all else in fp32."""
        tensors = {
            name: t.half() if name.endswith("weight") and t.dim() == 2 else t for name, t in self.state_dict().items()
        }
        save_weights(path, tensors, {"transformer": json.dumps(asdict(self.config)), "tokenizer": tokenizer})

    @classmethod
    def load(cls, path: Path) -> tuple[Self, str]:
        """The network, and the digest of the tokenizer that it belongs to."""
        tensors, metadata = load_weights(path, "transformer", "tokenizer")
        values = json.loads(metadata["transformer"])
        model = cls(read_settings(TransformerConfig, values, str(path)))
        model.load_state_dict({name: t.float() for name, t in tensors.items()})
        return model.eval(), metadata["tokenizer"]


def contents(codebook: Tensor) -> Tensor:
    """What a symbol of a grid stands for (K×D): its entry, or in a mask, whose symbols have none, its number."""
    return codebook if codebook.shape[1] else torch.eye(len(codebook), device=codebook.device)


def enlarged(coarse: Tensor, size: Size, to: Size) -> Tensor:
    """B×d×h·w of one grid at the positions of a finer one, by bilinear interpolation within the window."""
    if size == to:
        return coarse
    return functional.interpolate(coarse.unflatten(-1, size), to, mode="bilinear").flatten(2)


def rotated(x: Tensor, rotation: Tensor) -> Tensor:
    """…×N×d with each pair (i, i + d/2) turned by its position's angle."""
    cosine, sine = rotation
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)


def rotations(config: TransformerConfig) -> list[Tensor]:
    """For each grid the cosines and sines (2×side×frequencies) of its rows' or columns' places."""
    count = config.width // config.heads // 4
    frequencies = 100.0 ** (-torch.arange(count, dtype=torch.float64) / count)
    tables = []
    for factor, side in zip(config.factors, config.sides, strict=True):
        angles = ((torch.arange(side) + 0.5) * (factor / 8))[:, None] * frequencies
        values = torch.stack([angles.cos(), angles.sin()])
        tables.append((values * 2**ROTATION_BITS).round().mul(math.ldexp(1, -ROTATION_BITS)).float())
    return tables
