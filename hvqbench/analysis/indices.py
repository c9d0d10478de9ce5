"""Diagnostics of VQ indices: is the codebook used, and what do the indices cost under which code?

Usage is counted per stage. Costs are those of :data:`CODES`, from fixed length to the codec's own model, all for the
same indices, so that a saving says what each piece of knowledge is worth. Where the codec has integer probabilities,
these are what is measured, step by step as it codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from hvqbench.adapters.vq import VQCodec
from hvqbench.errors import HvqbenchError
from hvqbench.vq.index_models import Huffman, IndexModel, Static, Step
from hvqbench.vq.range_coder import SMALLEST_SHARE

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.codec import Codec
    from hvqbench.data import ImageFile
    from hvqbench.vq.base import BaseTokenizer

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
    factor
        Side in pixels of the patch that one index stands for.
    counts, training
        S×K: how often each codeword occurs in the data set (int64), and in the training set (float64, raised by one;
        None where the codec knows no such frequencies).
    bits
        For each of *images*, its bits by code of :data:`CODES`, and ``z``, the part of ``model`` that z takes.
    maps
        For each image, what each index costs under the codec's own model: bits S'×h×w, of the S' stages that are sent.
    """

    codec: str
    factor: int
    counts: Tensor
    training: Tensor | None
    images: tuple[str, ...]
    bits: tuple[Mapping[str, float], ...]
    maps: tuple[Tensor, ...]


@torch.inference_mode()
def inspect_codec(
    codec: Codec, images: Iterable[ImageFile], point: float = 0.0, watch: Callable[[str], None] = lambda _: None
) -> Inspection:
    """Count and cost the indices that *codec* sends for *images* at L = *point*.

    *watch* is told the name of each image when it is done. A codec without indices is a :class:`HvqbenchError`.
    """
    if not isinstance(codec, VQCodec):
        raise HvqbenchError(f"{codec.id} is no VQ codec, it has no indices; name codecs whose adapter is vq")
    known, training = _known_frequencies(codec)
    counts = torch.zeros(codec.tokenizer.codebooks.shape[:2], dtype=torch.int64)
    names, rows, maps = [], [], []
    for file in images:
        data = codec.encode(file.read(), point).data
        indices = torch.from_numpy(codec.decode_indices(data)).long()
        embedding = codec.tokenizer.embed(indices[None].to(codec.device)).cpu()
        own, z = coded_bits(codec.index_model, embedding, indices)
        of_image = stage_counts(indices[None], counts.shape[1])
        counts[: len(indices)] += of_image
        bits = {"fixed": float(indices.numel() * max(1, (counts.shape[1] - 1).bit_length()))}
        bits |= {name: float(coded_bits(model, None, indices)[0].sum()) for name, model in known.items()}
        bits["adaptive"] = adaptive_bits(of_image, torch.ones_like(of_image))
        if training is not None:
            bits["adaptive-static"] = adaptive_bits(of_image, training[: len(indices)])
        rows.append(bits | {"model": float(own.sum()) + z, "z": z, "file": 8.0 * len(data)})
        names.append(file.name)
        maps.append(own)
        watch(file.name)
    factor = codec.tokenizer.config.factor
    return Inspection(codec.id, factor, counts, training, tuple(names), tuple(rows), tuple(maps))


def coded_bits(model: IndexModel, embedding: Tensor | None, indices: Tensor) -> tuple[Tensor, float]:
    """Ideal bits of each of the *indices* (S×h×w, float64) under the very weights that code them, and of z in all.

    *embedding* (1×D×h×w) is what z is made of; None will do for a model without.
    """
    flat = indices.flatten(1)
    bits = torch.zeros(flat.shape, dtype=torch.float64)

    def choose(step: Step) -> Tensor:
        symbols = flat[step.stage, step.positions]
        rows = step.weights.expand(len(symbols), -1)
        shares = rows.gather(1, symbols[:, None])[:, 0] / step.weights.sum(1)
        bits[step.stage, step.positions] = -shares.clamp_min(SMALLEST_SHARE).log2()
        return symbols

    side = None if embedding is None else model.side(embedding)
    *_, coded = model.encode(side, (indices.shape[1], indices.shape[2]), len(indices), choose)
    return bits.view(indices.shape), coded.ideal_bits.get("z", 0.0)


def adaptive_bits(counts: Tensor, frequencies: Tensor) -> float:
    """Bits of an image with *counts* (S×K) under a model that learns each stage's frequencies while it codes.

    The next index is k with probability (n_k + a_k) / (n + sum a), where n_k of the n so far were k. The first guess a
    is proportional to *frequencies* (S×K) and sums to K/2; with equal ones this is the estimator of Krichevsky and
    Trofimov (1981). The product of these probabilities does not depend on the order of the indices.

    >>> round(adaptive_bits(torch.tensor([[1, 1]]), torch.ones(1, 2)), 6)  # 1/2, then (0 + 1/2) / (1 + 1)
    3.0
    """
    first = frequencies.double() / frequencies.double().sum(1, keepdim=True) * (counts.shape[1] / 2)
    seen = counts.double()
    total = torch.lgamma(first.sum(1) + seen.sum(1)) - torch.lgamma(first.sum(1))
    each = torch.lgamma(first + seen) - torch.lgamma(first)
    return float(total.sum() - each.sum()) / math.log(2)


def stage_counts(indices: Tensor, codewords: int) -> Tensor:
    """How often each codeword of each stage occurs in B×S×h×w indices: S×K, int64."""
    stages = indices.transpose(0, 1).flatten(1)
    return torch.stack([torch.bincount(stage, minlength=codewords) for stage in stages])


def entropy(counts: Tensor) -> float:
    """Bits per index of the frequencies in counts K; 0 if nothing was counted."""
    shares = counts[counts > 0].double() / counts.sum()
    return float(-(shares * shares.log2()).sum())


def perplexity(counts: Tensor) -> float:
    """2^entropy of the frequencies in counts K: how many equally likely codewords would be as random."""
    return 2 ** entropy(counts)


@torch.inference_mode()
def nearest_indices(tokenizer: BaseTokenizer, image: Tensor) -> tuple[Tensor, Tensor]:
    """Latent 1×D×h×w and indices 1×S×h×w of an image 1×3×H×W in [-1, 1], its edges replicated to whole patches."""
    factor = tokenizer.config.factor
    height, width = image.shape[-2:]
    latent = tokenizer.encode(functional.pad(image, (0, -width % factor, 0, -height % factor), mode="replicate"))
    return latent, tokenizer.quantize(latent)


def usage_table(inspections: Sequence[Inspection]) -> pd.DataFrame:
    """One row per codec and stage.

    Columns: ``codec, stage, indices, codewords, used, dead, perplexity``, and in bits per index ``entropy`` (of this
    set's frequencies) and ``model`` (the codec's own, without z).
    """
    import pandas as pd

    rows = []
    for inspection in inspections:
        for stage, counts in enumerate(inspection.counts):
            bits = sum(float(costs[stage].sum()) for costs in inspection.maps if stage < len(costs))
            total, used = int(counts.sum()), int((counts > 0).sum())
            rows.append(
                {
                    "codec": inspection.codec,
                    "stage": stage + 1,
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
                        "bits_per_index": total[code] / int(inspection.counts.sum()),
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


def _known_frequencies(codec: VQCodec) -> tuple[dict[str, IndexModel], Tensor | None]:
    """The codes of training frequencies, where the codec's options name these, and the frequencies S×K."""
    option = "weights" if codec.spec.options["index_model"] in ("huffman", "static") else "frequencies"
    if option not in codec.spec.options:
        return {}, None
    path = (codec.spec.folder / codec.spec.options[option]).resolve()
    static = Static(path, codec.tokenizer)
    return {"huffman": Huffman(path, codec.tokenizer), "static": static}, static.weights
