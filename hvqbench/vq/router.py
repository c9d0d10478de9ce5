"""Where a quadtree is split: the router of granularities, as arithmetic on maps.

:func:`cheapest_tree` minimises distortion + L * bits exactly, from the finest cells up (Chou, Lookabaugh, Gray 1989, as
pruning of a tree), provided that what one cell costs does not hang on how others are split. :func:`tree_by_ratio` is
Control-GIC's (arXiv 2406.00758): the cells with the highest scores are split, so many that each granularity covers the
share of the image that was asked for; there the scores are :func:`patch_entropy`. It ranks the cells of one image, not
those of a batch.

Maps of level g (0 is the coarsest) are h_g×w_g; a cell of level g has four children of level g + 1. A tree is a list of
masks (bool h_g×w_g, for all levels but the finest), nowhere split where a cell does not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from hvqbench.errors import HvqbenchError
from hvqbench.vq.granular import doubled

Tree = list[Tensor]
BINS, SIGMA = 32, 0.01
"""Of Control-GIC's soft histogram of grey values in [0, 1]."""


@dataclass(frozen=True)
class Costs:
    """What the parts of a quadtree cost, each on its own.

    Parameters
    ----------
    distortion
        For each level, of every cell of the finest grid if that place stays at this level.
    bits
        For each level, of the index of every cell.
    mask_bits
        For all levels but the finest, h_g×w_g×2: of saying that a cell is whole, and that it is split.
    z_bits
        For each level, ⌈h_g/4⌉×⌈w_g/4⌉: of a z, which is sent where any of the 4×4 cells that it speaks of exists.
    """

    distortion: Sequence[Tensor]
    bits: Sequence[Tensor]
    mask_bits: Sequence[Tensor]
    z_bits: Sequence[Tensor]


def cheapest_tree(costs: Costs, weight: float) -> Tree:
    """The tree with the least distortion + *weight* * bits."""
    levels = len(costs.bits)
    sizes = [tuple(bits.shape) for bits in costs.bits]
    distortion = [_pooled(part, part.shape[0] // size[0]) for part, size in zip(costs.distortion, sizes, strict=True)]
    blocks: Tensor | None = None  # what the four children of a cell cost together, if they exist
    wanted: Tree = []
    for level in reversed(range(levels)):
        own = weight * costs.bits[level].double()
        whole = own + distortion[level]
        if level == levels - 1:
            blocks = _pooled(whole, 2)
            continue
        assert blocks is not None
        whole = whole + weight * costs.mask_bits[level][..., 0]
        split = own + weight * costs.mask_bits[level][..., 1] + blocks
        # A z of the next level speaks of the children of 2×2 cells: it is paid if any of them is split.
        unsplit = _pooled(whole, 2)
        mixed = _pooled(torch.minimum(whole, split), 2) + weight * costs.z_bits[level + 1].double()
        pays = doubled(mixed < unsplit)[: sizes[level][0], : sizes[level][1]]
        wanted.insert(0, (split < whole) & pays)
        blocks = torch.minimum(unsplit, mixed)
    return existing(wanted)


def cheapest_depth(costs: Costs, weight: float) -> Tree:
    """The cheapest tree of any depth: of a level that is split nowhere no mask is sent at all."""
    trees: list[tuple[float, Tree]] = []
    for levels in range(1, len(costs.bits) + 1):
        masks = costs.mask_bits[: levels - 1]
        part = Costs(costs.distortion[:levels], costs.bits[:levels], masks, costs.z_bits[:levels])
        tree = cheapest_tree(part, weight)
        none = [torch.zeros(bits.shape, dtype=torch.bool) for bits in costs.bits[levels - 1 : -1]]
        trees.append((tree_cost(part, tree, weight), [*tree, *none]))
    return min(trees, key=lambda found: found[0])[1]


def tree_cost(costs: Costs, tree: Tree, weight: float) -> float:
    """Distortion + *weight* * bits of a tree."""
    exists = torch.ones(costs.bits[0].shape, dtype=torch.bool)
    total = torch.zeros((), dtype=torch.float64)
    for level, bits in enumerate(costs.bits):
        z = costs.z_bits[level][functional.max_pool2d(exists[None].float(), 4, ceil_mode=True)[0] > 0]
        total += weight * (bits[exists].double().sum() + z.double().sum())
        whole = exists
        if level < len(tree):
            symbols = tree[level].long()
            asked = costs.mask_bits[level].gather(2, symbols[..., None])[..., 0]
            total += weight * asked[exists].double().sum()
            whole = exists & ~tree[level]
        scale = costs.distortion[level].shape[0] // bits.shape[0]
        total += _pooled(costs.distortion[level], scale)[whole].sum()
        if level < len(tree):
            exists = doubled(tree[level])
    return float(total)


def tree_by_ratio(scores: Sequence[Tensor], shares: Sequence[float]) -> Tree:
    """The tree in which level g covers *shares*[g] of the image, as nearly as whole cells can.

    *scores* has a map for all levels but the finest; of the cells that exist the highest are split, of equals the
    first.
    """
    check_shares(shares, len(scores) + 1)
    tree: Tree = []
    exists = torch.ones(scores[0].shape, dtype=torch.bool)
    for level, score in enumerate(scores):
        count = min(round(score.numel() * sum(shares[level + 1 :])), int(exists.sum()))
        ranked = score.double().masked_fill(~exists, -torch.inf).flatten().argsort(descending=True, stable=True)
        mask = torch.zeros(score.numel(), dtype=torch.bool)
        mask[ranked[:count]] = True
        tree.append(mask.view(score.shape))
        exists = doubled(tree[-1])
    return tree


def check_shares(shares: Sequence[float], levels: int) -> None:
    """Raise unless *shares* are those of so many granularities."""
    if len(shares) != levels or min(shares) < 0 or abs(sum(shares) - 1) > 1e-3:
        raise HvqbenchError(
            f"granularity {', '.join(f'{share:g}' for share in shares)}: name the shares of {levels} granularities "
            "from coarse to fine that add up to 1"
        )


def shares_of(tree: Tree) -> list[float]:
    """The share of the image that each level covers, from coarse to fine."""
    split = [1.0, *(float(mask.double().mean()) for mask in tree), 0.0]
    return [above - below for above, below in pairwise(split)]


def existing(wanted: Tree) -> Tree:
    """Masks without what lies in cells that are not split."""
    tree: Tree = []
    for mask in wanted:
        tree.append(mask & doubled(tree[-1]) if tree else mask)
    return tree


def patch_entropy(image: Tensor, side: int) -> Tensor:
    """Entropy in nats of the grey values of each patch of *side* pixels: 1×3×H×W in [-1, 1] to H/side×W/side."""
    grey = (image[0] * torch.tensor([0.299, 0.587, 0.114], device=image.device)[:, None, None]).sum(0) * 0.5 + 0.5
    height, width = (size // side for size in grey.shape)
    patches = grey.view(height, side, width, side).transpose(1, 2).reshape(height, width, -1)
    centres = torch.linspace(0, 1, BINS, device=image.device)
    rows = []
    for row in patches:  # memory follows a row of patches, not the image
        near = torch.exp(-0.5 * ((row[..., None] - centres) / SIGMA).square()).mean(1)
        share = near / (near.sum(-1, keepdim=True) + 1e-12)
        rows.append(-(share * (share + 1e-12).log()).sum(-1))
    return torch.stack(rows)


def _pooled(values: Tensor, scale: int) -> Tensor:
    """Sums over squares of *scale* cells, which may go over the edge: h×w to ⌈h/scale⌉×⌈w/scale⌉ (float64)."""
    height, width = values.shape
    padded = functional.pad(values.double(), (0, -width % scale, 0, -height % scale))
    return functional.avg_pool2d(padded[None, None], scale)[0, 0] * scale**2
