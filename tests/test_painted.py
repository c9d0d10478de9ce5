"""Tokenizers around the painter: single scale, residual, pyramid; prefixes, absent positions, and their training."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path

import pytest
import torch

from hvqbench.errors import HvqbenchError
from hvqbench.training.binding import bind_index_models
from hvqbench.training.descent import Grids, draw_present
from hvqbench.training.painter import train_painter
from hvqbench.training.photos import Photos
from hvqbench.training.rate import Rate
from hvqbench.vq.bottleneck import BottleneckConfig
from hvqbench.vq.distance import nearest
from hvqbench.vq.models.pyramid import Hyperpriors
from hvqbench.vq.models.static import save_counts
from hvqbench.vq.painted import Descent, PainterTokenizer

SHAPES = {"single": (16,), "residual": (16, 16, 16), "fine": (8,), "pyramid": (32, 16, 8)}


def tokenizer(grids: tuple[int, ...]) -> PainterTokenizer:
    torch.manual_seed(3)
    config = BottleneckConfig(grids, 24, 4, width=16, fine_width=12, blocks_in=1, blocks_out=1, fine_blocks=1)
    made = PainterTokenizer(config)
    made.codebooks.normal_()
    for name, parameter in made.bottleneck.named_parameters():
        if "conv2" in name:  # blocks that are no longer identities
            torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


@pytest.mark.parametrize("kind", SHAPES)
@torch.no_grad()
def test_each_grid_takes_the_nearest_entry_to_its_target(kind: str) -> None:
    made = tokenizer(SHAPES[kind])
    latent = torch.randn(2, 32, 8, 12)
    indices = made.quantize(latent)
    assert [64 // factor for factor in SHAPES[kind]] == [i.shape[1] for i in indices]
    walk, entries = Descent(made.bottleneck, latent), made.embed(indices)
    for number, sent in enumerate(entries):
        target = walk.target().permute(0, 2, 3, 1).flatten(0, 2)
        assert torch.equal(nearest(target, made.codebooks[number]), indices[number].flatten())
        walk.send(sent)
    assert torch.allclose(walk.finish(), made.compose(entries), atol=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
@torch.no_grad()
def test_tiles_are_as_in_the_whole(kind: str) -> None:
    made = tokenizer(SHAPES[kind])
    factor, reach = made.factor, made.reach
    side = 2 * reach + 3
    for module in (made.encoder, made.decoder):
        for parameter in module.parameters():
            parameter.mul_(1.7)  # far influence would be lost in rounding else
    image = torch.rand(1, 3, factor * 2, factor * side) * 2 - 1
    maps = made.quantize(made.encode(image))
    painted = made.decode(maps)
    for first, last in ((0, reach + 1), (reach + 1, side)):  # two tiles, each seen with what surrounds it
        low, high = max(0, first - reach), min(side, last + reach)
        kept = slice(factor * (first - low), factor * (last - low))
        scales = [factor // spec.factor for spec in made.grids]
        seen = [part[..., scale * low : scale * high] for part, scale in zip(maps, scales, strict=True)]
        again = made.decode(seen)[..., kept]
        assert torch.allclose(again, painted[..., factor * first : factor * last], atol=1e-4)
        latent = made.encode(image[..., factor * low : factor * high])
        inner = slice(factor // 8 * (first - low), factor // 8 * (last - low))
        whole = made.encode(image)[..., factor // 8 * first : factor // 8 * last]
        assert torch.allclose(latent[..., inner], whole, atol=1e-4)


@torch.no_grad()
def test_residual_stages_code_what_is_left() -> None:
    made = tokenizer(SHAPES["residual"])
    walk = Descent(made.bottleneck, torch.randn(1, 32, 4, 4))
    first = walk.target()
    for _ in range(2):
        walk.send(torch.full_like(first, 0.25))
    assert torch.allclose(walk.target(), first - 0.5)


@pytest.mark.parametrize("kind", ["residual", "pyramid"])
@torch.no_grad()
def test_a_prefix_is_grids_that_are_absent_everywhere(kind: str) -> None:
    made = tokenizer(SHAPES[kind])
    entries = made.embed(made.quantize(torch.randn(1, 32, 8, 8)))
    nothing = [None, *(torch.zeros_like(e[:, :1]) for e in entries[1:])]
    assert torch.allclose(made.compose(entries[:1]), made.compose(entries, nothing), atol=1e-5)
    assert not torch.allclose(made.compose(entries[:1]), made.compose(entries), atol=1e-2)


@torch.no_grad()
def test_absent_positions_carry_nothing_and_are_known_to_be_absent() -> None:
    made = tokenizer(SHAPES["pyramid"])
    entries = made.embed(made.quantize(torch.randn(1, 32, 8, 8)))
    present = [None, None, torch.ones(1, 1, 8, 8)]
    present[2][..., :4, :4] = 0
    other = [*entries[:2], entries[2] + 3 * (1 - present[2])]
    assert torch.equal(made.compose(entries, present), made.compose(other, present))
    zeroed = [*entries[:2], entries[2] * present[2]]
    assert not torch.allclose(made.compose(entries, present), made.compose(zeroed), atol=1e-3)


@torch.no_grad()
def test_file_holds_all_that_the_tokenizer_is(tmp_path: Path) -> None:
    made = tokenizer(SHAPES["pyramid"])
    made.save(tmp_path / "tokenizer.safetensors")
    again = PainterTokenizer.load(tmp_path / "tokenizer.safetensors")
    assert again.config == made.config
    assert torch.equal(again.codebooks, made.codebooks)
    latent = torch.randn(1, 32, 8, 8)
    painted = [x.paint(x.embed(made.quantize(latent))) for x in (made, again)]
    assert torch.allclose(*painted, atol=0.05)
    again.save(tmp_path / "again.safetensors")
    assert PainterTokenizer.load(tmp_path / "again.safetensors").digest == again.digest


@pytest.mark.parametrize(
    ("grids", "reason"), [((16, 32), "coarse to fine"), ((12,), "8, 16 or 32"), ((32, 8), "leave out"), ((), "8, 16")]
)
def test_grids_that_make_no_sense(grids: tuple[int, ...], reason: str) -> None:
    with pytest.raises(HvqbenchError, match=reason):
        BottleneckConfig(grids)


@pytest.mark.parametrize("kind", ["single", "residual", "pyramid"])
def test_gradient_passes_straight_through_each_level_once(kind: str) -> None:
    made = tokenizer(SHAPES[kind])
    grids = Grids(made, memory=25)
    grids.ready = [True] * len(grids.ready)
    latent = torch.randn(2, 32, 8, 8)
    part = grids.quantize(latent, [None] * len(grids.ready), learn=False)
    assert torch.allclose(part.latent, made.compose(made.embed(made.quantize(latent))), atol=1e-4)
    assert [torch.equal(*pair) for pair in zip(part.indices, made.quantize(latent), strict=True)] == [True] * len(
        grids.ready
    )
    into = made.bottleneck.enter[str(SHAPES[kind][0])][-1].weight
    straight = torch.autograd.grad(part.latent.square().sum(), into)[0]

    walk = Descent(made.bottleneck, latent)  # the same with a constant added to the first target of each level
    entries, number = made.embed(made.quantize(latent)), 0
    for _, stages in made.config.levels:
        target, level = walk.target(), torch.stack(entries[number : number + stages]).sum(0)
        for stage in range(stages):
            walk.send(target + (level - target).detach() if stage == 0 else torch.zeros_like(target))
        number += stages
    assert torch.allclose(straight, torch.autograd.grad(walk.finish().square().sum(), into)[0], rtol=1e-3, atol=1e-4)


def test_codebooks_learn_from_what_is_sent_only() -> None:
    made = tokenizer(SHAPES["pyramid"])
    grids = Grids(made, memory=2)
    grids.ready = [True] * 3
    for trainer in grids.codebooks:
        trainer.adopt(per_batch=64)
    before = made.codebooks.clone()
    absent = [torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 8, 8)]
    part = grids.quantize(torch.randn(1, 32, 8, 8), absent)
    assert not torch.equal(made.codebooks[0], before[0])
    assert torch.equal(made.codebooks[1:], before[1:])
    assert float(part.commitment) > 0


def test_drawn_masks_are_nested_and_of_all_kinds() -> None:
    torch.manual_seed(0)
    coarse, middle, fine = draw_present((32, 16, 8), 400, 64, whole=0.4)
    assert coarse.all()
    up = [m.repeat_interleave(2, 2).repeat_interleave(2, 3) for m in (coarse, middle)]
    assert not (middle & ~up[0]).any()
    assert not (fine & ~up[1]).any()
    shares = fine.float().mean((1, 2, 3))
    assert 0.4 < float((shares == 1).float().mean()) < 0.62
    assert float(((shares > 0) & (shares < 1)).float().mean()) > 0.1
    one, two = draw_present((16, 16), 200, 64, whole=0.5)
    assert one.all()
    assert set(two.float().mean((1, 2, 3)).tolist()) == {0.0, 1.0}


TRAINING = """
latent_steps = 12
latent_batch = 4
latent_crop = 64
cached = 8
codebook_from = 2
steps = 24
batch = 2
crop = 64
latent_learning_rate = 3e-3
learning_rate = 1e-3
perceptual = []
adversarial = 0.02
adversarial_from = 20
learn_encoder_from = 18
average = 0.9
[bottleneck]
grids = [32, 16, 8]
codewords = 12
dim = 4
width = 12
fine_width = 12
blocks_in = 1
blocks_out = 1
"""


def test_training_learns_stops_and_goes_on(photos: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.toml"
    # Codebooks begin 30 steps after each other; here they must all have begun.
    config.write_text(TRAINING.replace("latent_steps = 12", "latent_steps = 70"))
    path = train_painter(config, [photos], tmp_path / "out", steps=75)
    before = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[0])
    assert before["latent"] > 0
    first = PainterTokenizer.load(path)
    assert torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)["step"] == 75
    assert (first.codebooks.std((1, 2)) > 0).all()
    train_painter(config, [photos], tmp_path / "out", steps=80)
    second = PainterTokenizer.load(path)
    assert torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)["step"] == 80
    assert not torch.equal(first.decoder[0].weight, second.decoder[0].weight)

    config.write_text(f'start = "{path.as_posix()}"\n' + TRAINING.replace("grids = [32, 16, 8]", "grids = [32, 16, 8]"))
    third = PainterTokenizer.load(
        train_painter(
            config, [photos], tmp_path / "more", steps=1, latent_steps=0, learning_rate=1e-9, painter_learning_rate=1e-9
        )
    )
    assert torch.allclose(third.decoder[0].weight, second.decoder[0].weight, atol=1e-4)
    assert torch.allclose(third.codebooks[0], second.codebooks[0], atol=0.5)


def test_rate_reaches_the_encoder_of_whole_images_alone() -> None:
    pyramid = tokenizer(SHAPES["pyramid"]).train()
    grids = Grids(pyramid, memory=25)
    for trainer in grids.codebooks:
        trainer.adopt(per_batch=64)
    grids.ready = [True] * 3
    rate = Rate(grids, "cpu")
    latent = torch.randn(3, 32, 16, 16, requires_grad=True)
    present = [torch.ones(3, 1, side, side, dtype=torch.bool) for side in (4, 8, 16)]
    present[2][1, :, 3, 5] = False  # the second image lacks one position
    bpp = rate.bpp(grids.quantize(latent, present), present, 128**2, "ste", ramp=1.0)
    # About log2 K bits for each of 16 + 64 + 256 indices: the hyperpriors begin near the static code.
    expected = 336 * math.log2(pyramid.config.codewords) / 128**2
    assert 0.8 * expected < float(bpp) < 1.8 * expected
    bpp.backward()
    assert latent.grad is not None
    assert [bool(image.any()) for image in latent.grad] == [True, False, True]
    before = [p.detach().clone() for p in rate.hyperpriors.parameters()]
    rate.step()
    assert any(not torch.equal(*pair) for pair in zip(before, rate.hyperpriors.parameters(), strict=True))
    present = [torch.zeros_like(mask) for mask in present]
    assert float(rate.bpp(grids.quantize(latent, present), present, 128**2, "ste", 1.0)) == 0


def test_hyperprior_of_the_loss_belongs_to_the_exported_tokenizer(photos: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.toml"
    config.write_text("rate = 1.0\nrate_from = 70\n" + TRAINING.replace("latent_steps = 12", "latent_steps = 70"))
    for steps in (73, 75):
        path = train_painter(config, [photos], tmp_path / "out", steps=steps)
    hyperpriors, _, digest = Hyperpriors.load(path.with_name("hyperprior.safetensors"))
    assert digest == PainterTokenizer.load(path).digest
    assert [config.codewords for config in hyperpriors.configs] == [12] * 3
    # Another run goes on from it.
    start = path.with_name("hyperprior.safetensors")
    grids = Grids(PainterTokenizer.load(path), memory=25)
    rate = Rate(grids, "cpu", start)
    assert rate.started
    assert torch.equal(rate.hyperpriors.state_dict()["parts.0.bias"], hyperpriors.state_dict()["parts.0.bias"])


@pytest.mark.parametrize("grids", ["[32, 16, 8]", "[16, 16]"])
def test_decoder_alone_learns_on_under_finished_index_models(grids: str, photos: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.toml"
    config.write_text(TRAINING.replace("[32, 16, 8]", grids).replace("latent_steps = 12", "latent_steps = 70"))
    path = train_painter(config, [photos], tmp_path / "first", steps=72)
    (tmp_path / "second.toml").write_text('start = "first/tokenizer.safetensors"\nlearn = "decoder"\n' + TRAINING)
    again = {
        "latent_steps": 0,
        "steps": 3,
        "learn_encoder_from": 0,
        "bottleneck": tomllib.loads(config.read_text())["bottleneck"],
    }
    after = train_painter(tmp_path / "second.toml", [photos], tmp_path / "second", **again)
    old, new = PainterTokenizer.load(path), PainterTokenizer.load(after)
    same = {name for name, tensor in old.state_dict().items() if torch.equal(tensor, new.state_dict()[name])}
    assert {name for name in old.state_dict() if not name.startswith(old.painting)} <= same
    assert "decoder.0.weight" not in same
    assert f"bottleneck.merge.{old.config.grids[-1]}.weight" not in same
    image = torch.rand(1, 3, 96, 64) * 2 - 1
    with torch.no_grad():
        maps = [each.quantize(each.encode(image)) for each in (old, new)]
    assert all(torch.equal(*pair) for pair in zip(*maps, strict=True))
    counts = tmp_path / "frequencies.safetensors"
    save_counts(counts, [torch.ones(12, dtype=torch.int64)] * len(old.grids), old.digest)
    assert bind_index_models([counts], after.parent, path.parent) == [counts]
    with pytest.raises(HvqbenchError, match="needs start"):
        train_painter(config, [photos], tmp_path / "third", learn="decoder")


def test_held_out_photos_are_not_drawn(photos: Path) -> None:
    names = {photo.name for photo in Photos(photos, 64).photos}
    split = Photos(photos, 64, held_out=2)
    assert {photo.name for photo in split.photos} | {photo.name for photo in split.held} == names
    assert not {photo.name for photo in split.photos} & {photo.name for photo in split.held}
    assert split.held_crops(64, 2).shape[1:] == (64, 64, 3)
    assert split.held_crops(999, 2).shape == (0, 999, 999, 3)
