"""Tiles: what a tokenizer's networks make of an image piece by piece is what they make of it whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hvqbench.errors import HvqbenchError
from hvqbench.vq.tiling import DEFAULT_TILE, WHOLE, windows
from hvqbench.vq.tokenizer import Autoencoder, AutoencoderConfig, Tokenizer, TokenizerConfig


@pytest.fixture(scope="module", params=[(16, 0, 1), (16, 1, 0), (8, 1, 2)], ids=["f16", "f16-in", "f8"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Untrained, every weight at work: new residual blocks would be the identity."""
    torch.manual_seed(1)
    factor, inner, outer = request.param
    autoencoder = Autoencoder(AutoencoderConfig((4, 4, 6), (1, 2, 1), (4, 6, 4), (1, 1, 2), head_width=4))
    config = TokenizerConfig(factor, 16, 3, encoder_blocks=inner, decoder_blocks=outer)
    tokenizer = Tokenizer(config, autoencoder).double().eval()
    for parameter in tokenizer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    tokenizer.codebooks.normal_()
    return tokenizer


def influence(before: torch.Tensor, after: torch.Tensor, centre: float, scale: float) -> int:
    """How far from position *centre* anything differs, in positions."""
    rows = (before != after).any(1).any(-1)[0].nonzero().flatten()
    return max(abs(int(np.floor(float(row) / scale)) - int(centre)) for row in (rows.min(), rows.max()))


@torch.no_grad()
def test_networks_reach_as_far_as_they_say(tokenizer: Tokenizer) -> None:
    factor, reach, side = tokenizer.config.factor, tokenizer.reach, 61
    indices = torch.zeros(1, side, side, dtype=torch.long)
    other = indices.clone()
    other[0, 30, 30] = 5
    out = influence(tokenizer.decode([indices]), tokenizer.decode([other]), 30, factor)
    image = torch.rand(1, 3, factor * side, factor * side, dtype=torch.double)
    into = 0
    for corner in (0, factor - 1):  # of the patch of position 30
        changed = image.clone()
        changed[0, :, 30 * factor + corner, 30 * factor + corner] += 1
        into = max(into, influence(tokenizer.encode(image), tokenizer.encode(changed), 30, 1))
    assert max(into, out) <= reach <= max(into, out) + 1


@torch.no_grad()
def test_tiles_give_what_the_whole_gives(tokenizer: Tokenizer) -> None:
    factor = tokenizer.config.factor
    indices = torch.randint(16, (1, 40, 23))
    whole = tokenizer.decode([indices])
    for window in windows(tokenizer, (40, 23), 10 * factor):
        rows, columns = (slice(part.start * factor, part.stop * factor) for part in window.kept)
        top, left = (part.start * factor for part in window.inner)
        piece = tokenizer.decode([indices[..., *window.seen]])[..., top:, left:]
        expected = whole[..., rows, columns]
        assert torch.allclose(piece[..., : expected.shape[-2], : expected.shape[-1]], expected, atol=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (37, 5), (20, 20)])
def test_windows_cover_every_position_once(tokenizer: Tokenizer, size: tuple[int, int]) -> None:
    covered = np.zeros(size, int)
    for window in windows(tokenizer, size, 7 * tokenizer.config.factor):
        covered[window.kept] += 1
        assert covered[window.seen][window.inner].shape == covered[window.kept].shape
    assert (covered == 1).all()


def test_a_large_image_comes_in_tiles_unless_it_must_be_seen_whole(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = math.isqrt(WHOLE) // tokenizer.factor
    ordinary, large = (side, side), (side, side + 1)
    assert [window.seen for window in windows(tokenizer, ordinary)] == [(slice(0, side), slice(0, side))]
    seen = [window.seen for window in windows(tokenizer, large)]
    rows, columns = (-(-positions * tokenizer.factor // DEFAULT_TILE) for positions in large)
    assert len(seen) == rows * columns
    most = DEFAULT_TILE // tokenizer.factor + 2 * tokenizer.reach
    assert max(part.stop - part.start for pair in seen for part in pair) <= most
    monkeypatch.setattr(Tokenizer, "reach", None)
    assert len(list(windows(tokenizer, large))) == 1


def test_a_tokenizer_that_sees_everything_takes_no_tiles(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tokenizer, "reach", None)
    with pytest.raises(HvqbenchError, match="must see an image whole"):
        list(windows(tokenizer, (9, 9), 64))
