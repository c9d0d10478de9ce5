"""Diagnostics of VQ indices: is the codebook used, and what do the indices cost under which code?

Usage is counted per grid. Costs are those of :data:`CODES`, from fixed length to the codec's own model, all for the
same indices, so that a saving says what each piece of knowledge is worth. Where the codec has integer probabilities,
these are what is measured, step by step as it codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor
from torch.nn import functional

from hvqbench.errors import HvqbenchError
from hvqbench.vq.layout import ABSENT, Layout, by_name
from hvqbench.vq.models.base import IndexModel
from hvqbench.vq.models.static import Huffman, Static
from hvqbench.vq.range_coder import SMALLEST_SHARE
from hvqbench.vq.walk import drive, given

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.adapters.vq import VQCodec
    from hvqbench.codec import Codec
    from hvqbench.data import ImageFile
    from hvqbench.metrics.maps import DISTSMap, LPIPSMap, Map
    from hvqbench.vq.base import BaseTokenizer, Features

CODES: Mapping[str, str] = {
    "fixed": "⌈log2 K⌉ bits each",
    "huffman": "Huffman code of the training frequencies",
    "static": "training frequencies, ideal",
    "adaptive": "order 0, learnt within each image, from uniform on, ideal",
    "adaptive-static": "order 0, learnt within each image, from the training frequencies on, ideal",
    "oracle": "order-0 entropy of this very set: no code, its frequencies would have to be sent",
    "model": "the codec's own probabilities, and z, ideal",
    "file": "the codec's files, headers and fallbacks included, coded",
}
"""What is compared. Ideal is -log2 of the probabilities, which a range coder meets within 0.2 %."""


@dataclass(frozen=True)
class Inspection:
    """The indices of one codec over a data set.

    Parameters
    ----------
    grids, factors
        Names of the tokenizer's grids, and the side in pixels of the patch that one index of each stands for.
    counts, training
        K for each grid: how often each codeword occurs in the data set (int64), and in the training set (float64,
        raised by one; None where the codec knows no such frequencies).
    bits
        For each of *images*, its bits by code of :data:`CODES`, and ``z``, the part of ``model`` that z takes.
    maps
        For each image, what each index costs under the codec's own model: bits h×w, of each grid that is sent.
    seen
        For each image and metric, where that sees the difference of the decoded picture: float32 H×W.
    """

    codec: str
    grids: tuple[str, ...]
    factors: tuple[int, ...]
    counts: tuple[Tensor, ...]
    training: tuple[Tensor, ...] | None
    images: tuple[str, ...]
    bits: tuple[Mapping[str, float], ...]
    maps: tuple[Sequence[Tensor], ...]
    seen: tuple[Mapping[str, Map], ...] = ()


@torch.inference_mode()
def inspect_codec(
    codec: Codec,
    images: Iterable[ImageFile],
    point: float = 0.0,
    watch: Callable[[str], None] = lambda _: None,
    mappers: Mapping[str, LPIPSMap | DISTSMap] | None = None,
) -> Inspection:
    """Count and cost the indices that *codec* sends for *images* at L = *point*.

    *watch* is told the name of each image when it is done; *mappers* are the maps of metrics that are wanted. A codec
    without indices is a :class:`HvqbenchError`.
    """
    if not is_vq(codec):
        raise HvqbenchError(f"{codec.id} is no VQ codec, it has no indices; name codecs whose adapter is vq")
    tokenizer = codec.tokenizer
    known, training = _known_frequencies(codec)
    counts = [torch.zeros(len(codebook), dtype=torch.int64) for codebook in tokenizer.codebooks]
    names, rows, maps, seen = [], [], [], []
    for file in images:
        image = file.read()
        data = codec.encode(image, point).data
        if slices := codec.sent_slices(data):
            raise HvqbenchError(
                f"{codec.id} sends {slices} slices of {file.name} at {codec.spec.point_name} {point:g}, and no bits "
                "of the others; inspect it at a point where all are sent"
            )
        indices = [torch.from_numpy(part).long() for part in codec.decode_indices(data)]
        embeddings = [part.cpu() for part in tokenizer.embed([part[None].to(codec.device) for part in indices])]
        layout = Layout.of(tokenizer, *image.shape[:2]).first(len(indices))
        own, z = coded_bits(codec.index_model, layout, indices, codec.index_model.side(embeddings))
        of_image = grid_counts([part[None] for part in indices], [len(part) for part in counts])
        for total, part in zip(counts, of_image, strict=False):
            total += part
        bits = {"fixed": float(sum(int(part.sum()) * max(1, (len(part) - 1).bit_length()) for part in of_image))}
        for name, model in known.items():
            bits[name] = float(sum(costs.nansum() for costs in coded_bits(model, layout, indices)[0]))
        bits["adaptive"] = sum(adaptive_bits(part, torch.ones_like(part)) for part in of_image)
        if training is not None:
            pairs = zip(of_image, training, strict=False)
            bits["adaptive-static"] = sum(adaptive_bits(part, first) for part, first in pairs)
        model_bits = float(sum(costs.nansum() for costs in own))
        rows.append(bits | {"model": model_bits + z, "z": z, "file": 8.0 * len(data)})
        names.append(file.name)
        maps.append(own)
        if mappers:
            decoded = codec.decode(data)
            seen.append({name: mapper.map(image, decoded) for name, mapper in mappers.items()})
        watch(file.name)
    return Inspection(
        codec.id,
        tuple(spec.name for spec in tokenizer.grids),
        tuple(spec.factor for spec in tokenizer.grids),
        tuple(counts),
        training,
        tuple(names),
        tuple(rows),
        tuple(maps),
        tuple(seen),
    )


def is_vq(codec: Codec) -> TypeGuard[VQCodec]:
    """Whether *codec* has a tokenizer and an index model, and so indices."""
    return hasattr(codec, "decode_indices")


def coded_bits(
    model: IndexModel, layout: Layout, maps: Sequence[Tensor], side: Mapping[str, Tensor] | None = None
) -> tuple[list[Tensor], float]:
    """Ideal bits of each index of *maps* (h×w) under the very weights that code them, and of side information in all.

    Bits are maps h×w (float64) too, NaN at positions that are absent; *side* is what ``model.side`` gave.
    """
    bits = {grid.name: torch.full((grid.height * grid.width,), math.nan, dtype=torch.float64) for grid in layout.grids}
    of_side = 0.0
    for step, symbols in drive(model.walk(layout), given({**(side or {}), **by_name(layout, maps)})):
        rows = step.weights.expand(len(symbols), -1)
        shares = rows.gather(1, symbols[:, None])[:, 0] / step.weights.sum(1)
        costs = -shares.clamp_min(SMALLEST_SHARE).log2()
        if step.grid.side:
            of_side += float(costs.sum())
        else:
            bits[step.grid.name][step.positions] = costs
    return layout.maps(bits), of_side


def adaptive_bits(counts: Tensor, frequencies: Tensor) -> float:
    """Bits of a map with *counts* (K) under a model that learns their frequencies while it codes.

    The next index is k with probability (n_k + a_k) / (n + sum a), where n_k of the n so far were k. The first guess a
    is proportional to *frequencies* (K) and sums to K/2; with equal ones this is the estimator of Krichevsky and
    Trofimov (1981). The product of these probabilities does not depend on the order of the indices.

    >>> round(adaptive_bits(torch.tensor([1, 1]), torch.ones(2)), 6)  # 1/2, then (0 + 1/2) / (1 + 1)
    3.0
    """
    first = frequencies.double() / frequencies.double().sum() * (len(counts) / 2)
    seen = counts.double()
    total = torch.lgamma(first.sum() + seen.sum()) - torch.lgamma(first.sum())
    each = torch.lgamma(first + seen) - torch.lgamma(first)
    return float(total - each.sum()) / math.log(2)


def grid_counts(maps: Sequence[Tensor], codewords: Sequence[int]) -> list[Tensor]:
    """How often each of a grid's *codewords* occurs in its map B×h×w: K (int64) for each grid."""
    pairs = zip(maps, codewords, strict=False)
    return [torch.bincount(symbols[symbols != ABSENT], minlength=size) for symbols, size in pairs]


def entropy(counts: Tensor) -> float:
    """Bits per index of the frequencies in counts K; 0 if nothing was counted."""
    shares = counts[counts > 0].double() / counts.sum()
    return float(-(shares * shares.log2()).sum())


def perplexity(counts: Tensor) -> float:
    """2^entropy of the frequencies in counts K: how many equally likely codewords would be as random."""
    return 2 ** entropy(counts)


@torch.inference_mode()
def nearest_indices(tokenizer: BaseTokenizer, image: Tensor) -> tuple[Features, list[Tensor]]:
    """Features and nearest maps 1×h×w of an image 1×3×H×W in [-1, 1], its edges replicated to whole patches."""
    factor = tokenizer.factor
    height, width = image.shape[-2:]
    features = tokenizer.encode(functional.pad(image, (0, -width % factor, 0, -height % factor), mode="replicate"))
    return features, tokenizer.quantize(features)


def usage_table(inspections: Sequence[Inspection]) -> pd.DataFrame:
    """One row per codec and grid.

    Columns: ``codec, stage, grid, indices, codewords, used, dead, perplexity``, and in bits per index ``entropy`` (of
    this set's frequencies) and ``model`` (the codec's own, without z).
    """
    import pandas as pd

    rows = []
    for inspection in inspections:
        for stage, counts in enumerate(inspection.counts):
            bits = sum(float(costs[stage].nansum()) for costs in inspection.maps if stage < len(costs))
            total, used = int(counts.sum()), int((counts > 0).sum())
            rows.append(
                {
                    "codec": inspection.codec,
                    "stage": stage + 1,
                    "grid": inspection.grids[stage],
                    "indices": total,
                    "codewords": len(counts),
                    "used": used,
                    "dead": len(counts) - used,
                    "perplexity": perplexity(counts),
                    "entropy": entropy(counts),
                    "model": bits / max(1, total),
                }
            )
    return pd.DataFrame(rows)


def codes_table(inspections: Sequence[Inspection]) -> pd.DataFrame:
    """One row per codec and code, over all images.

    Columns: ``codec, code, bits_per_index, saved_percent`` (of fixed length), ``z_percent`` (of the code's bits) and
    ``meaning``.
    """
    import pandas as pd

    rows = []
    for inspection in inspections:
        total = pd.DataFrame(inspection.bits).sum()
        # Frequencies of the whole set, for an entropy of the indices that an image happens to have.
        total["oracle"] = sum(int(counts.sum()) * entropy(counts) for counts in inspection.counts)
        for code, meaning in CODES.items():
            if code in total:
                rows.append(
                    {
                        "codec": inspection.codec,
                        "code": code,
                        "bits_per_index": total[code] / sum(int(counts.sum()) for counts in inspection.counts),
                        "saved_percent": 100 * (1 - total[code] / total["fixed"]),
                        "z_percent": 100 * total["z"] / total[code] if code == "model" else math.nan,
                        "meaning": meaning,
                    }
                )
    return pd.DataFrame(rows)


def images_table(inspections: Sequence[Inspection]) -> pd.DataFrame:
    """One row per codec and image, with the bits of each code and of z."""
    import pandas as pd

    parts = []
    for inspection in inspections:
        table = pd.DataFrame(inspection.bits)
        table.insert(0, "image", inspection.images)
        table.insert(0, "codec", inspection.codec)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _known_frequencies(codec: VQCodec) -> tuple[dict[str, IndexModel], tuple[Tensor, ...] | None]:
    """The codes of training frequencies, where the codec's options name these, and the frequencies of each grid."""
    if (path := codec.frequencies()) is None:
        return {}, None
    static = Static.load(path, codec.tokenizer)
    return {"huffman": Huffman.load(path, codec.tokenizer), "static": static}, tuple(static.weights)
