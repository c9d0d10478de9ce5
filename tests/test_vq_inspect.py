"""Diagnostics of indices: counts are counts, and bits are those that the codec itself codes with."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from hvqbench import cli
from hvqbench.catalog import load_codec
from hvqbench.data import Dataset, load_dataset
from hvqbench.errors import HvqbenchError
from hvqbench.metrics.maps import load_map
from hvqbench.report.indices import bits_figure
from hvqbench.vq.inspect import (
    CODES,
    Inspection,
    adaptive_bits,
    coded_bits,
    codes_table,
    entropy,
    grid_counts,
    inspect_codec,
    nearest_indices,
    perplexity,
    usage_table,
)
from hvqbench.vq.layout import ABSENT, Layout
from hvqbench.vq.models.static import static_bits
from hvqbench.vq.weights import load_weights

MODELS = ("hyperprior", "context", "static", "huffman", "fixed")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three parts of photos, of whole patches and not."""
    from skimage.data import astronaut, chelsea

    from hvqbench.image import write_image

    folder = tmp_path_factory.mktemp("photos")
    for name, image in {
        "a": astronaut()[:96, :128],
        "b": chelsea()[:70, :90],
        "c": astronaut()[100:164, 60:124],
    }.items():
        write_image(folder / f"{name}.png", image)
    return load_dataset(folder)


def codec_of(catalog: Path, name: str):
    return load_codec(str(catalog / "codecs" / name))


def inspected(catalog: Path, name: str, images: Dataset) -> Inspection:
    return inspect_codec(codec_of(catalog, name), images.images)


def test_counts_entropy_perplexity() -> None:
    maps = [torch.tensor([[[0, 1], [1, 3]]]), torch.tensor([[[2, 2], [2, ABSENT]]])]
    counts = grid_counts(maps, [4, 3])
    assert [part.tolist() for part in counts] == [[1, 2, 0, 1], [0, 0, 3]]
    assert entropy(counts[0]) == pytest.approx(1.5)
    assert perplexity(counts[0]) == pytest.approx(2**1.5)
    assert perplexity(counts[1]) == 1
    assert entropy(torch.zeros(4)) == 0


@pytest.mark.parametrize("known", [False, True])
def test_adaptive_bits_are_those_of_a_model_that_learns_index_by_index(known: bool) -> None:
    rng = np.random.default_rng(0)
    codewords, shares = 6, np.array([0.5, 0.2, 0.1, 0.1, 0.1, 0.0])
    indices = rng.choice(codewords, 40, p=shares)
    frequencies = shares + 0.01 if known else np.ones(codewords)
    seen, bits = frequencies / frequencies.sum() * codewords / 2, 0.0
    for index in indices:
        bits -= math.log2(seen[index] / seen.sum())
        seen[index] += 1
    counts = torch.tensor(np.bincount(indices, minlength=codewords))
    assert adaptive_bits(counts, torch.tensor(frequencies)) == pytest.approx(bits)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("family", ["tiny", "rvq", "large"])
def test_bits_are_those_that_the_codec_codes_with(vq_catalog: Path, images: Dataset, family: str, kind: str) -> None:
    codec = codec_of(vq_catalog, f"{family}-{kind}")
    image = images.images[1].read()
    indices = [torch.from_numpy(part).long() for part in codec.decode_indices(codec.encode(image, 0).data)]
    side = codec.index_model.side(codec.tokenizer.embed([part[None] for part in indices]))
    layout = Layout.of(codec.tokenizer, *image.shape[:2])
    bits, z = coded_bits(codec.index_model, layout, indices, side)
    assert [part.shape for part in bits] == (3 if family == "rvq" else 1) * [(5, 6)]
    for stages in range(1, len(indices) + 1):
        coded = codec.index_model.code(layout.first(stages), indices[:stages], side)
        assert z == pytest.approx(coded.ideal_bits.get("z", 0))
        length = z + sum(float(part.sum()) for part in bits[:stages])
        if kind == "fixed":
            length = stages * 30 * math.ceil(math.log2(codec.tokenizer.config.codewords))
        if kind in ("hyperprior", "context", "static"):
            assert length == pytest.approx(sum(coded.ideal_bits.values()))
        # Trailing zero bytes are dropped, so a lucky payload is a little shorter than its information.
        assert length / 8 - 1 <= len(coded.payload) <= 1.002 * length / 8 + 1
    assert (z > 0) == (kind in ("hyperprior", "context"))


def test_bits_of_a_position_are_those_of_its_index(vq_catalog: Path) -> None:
    """Not only their sum: another index at one position changes that position's cost and no other's."""
    codec = codec_of(vq_catalog, "rvq-static")
    indices = torch.randint(37, (3, 4, 5), generator=torch.Generator().manual_seed(0))
    changed = indices.clone()
    changed[1, 2, 3] = (changed[1, 2, 3] + 1) % 37
    layout = Layout.of(codec.tokenizer, 64, 80)
    before, after = (torch.stack(coded_bits(codec.index_model, layout, list(i))[0]) for i in (indices, changed))
    assert (before != after).nonzero().tolist() == [[1, 2, 3]]
    counts = load_weights(vq_catalog / "codecs/tokenizers/rvq/frequencies.safetensors")[0]["counts"]
    expected = torch.stack(static_bits(list(counts), list(indices)))
    assert torch.allclose(before.float(), expected, atol=1e-4)


def test_latent_and_indices_of_any_size_are_the_codecs(vq_catalog: Path, images: Dataset) -> None:
    from hvqbench.training.photos import to_tensor

    codec = codec_of(vq_catalog, "rvq-fixed")
    image = images.images[1].read()
    latent, indices = nearest_indices(codec.tokenizer, to_tensor(image[None]))
    assert torch.allclose(latent, codec.features(image), atol=1e-5)
    found = codec.decode_indices(codec.encode(image, 0).data)
    assert all(np.array_equal(part[0].numpy(), other) for part, other in zip(indices, found, strict=True))


def test_inspection_adds_up(vq_catalog: Path, images: Dataset) -> None:
    codec = codec_of(vq_catalog, "rvq-hyperprior")
    inspection = inspect_codec(codec, images.images)
    assert inspection.images == ("a", "b", "c")
    positions = [3 * rows * columns for rows, columns in ((6, 8), (5, 6), (4, 4))]
    assert [bits["fixed"] for bits in inspection.bits] == [6 * n for n in positions]
    for file, bits, costs in zip(images.images, inspection.bits, inspection.maps, strict=True):
        assert bits["file"] == 8 * len(codec.encode(file.read(), 0).data)
        assert bits["model"] == pytest.approx(sum(float(part.sum()) for part in costs) + bits["z"])

    usage = usage_table([inspection])
    assert usage["stage"].tolist() == [1, 2, 3]
    assert (usage["indices"] * 3 == sum(positions)).all()
    assert (usage["used"] + usage["dead"] == 37).all()
    assert (usage["perplexity"] <= usage["used"]).all()
    own = sum(bits["model"] - bits["z"] for bits in inspection.bits)
    assert float((usage["model"] * usage["indices"]).sum()) == pytest.approx(own)

    codes = codes_table([inspection]).set_index("code")
    assert list(codes.index) == list(CODES)
    assert codes.loc["fixed", "bits_per_index"] == 6
    assert codes.loc["fixed", "saved_percent"] == 0
    total = sum(bits["model"] for bits in inspection.bits)
    assert codes.loc["model", "saved_percent"] == pytest.approx(100 * (1 - total / (6 * sum(positions))))
    assert codes.loc["model", "z_percent"] == pytest.approx(100 * sum(b["z"] for b in inspection.bits) / total)
    # Nothing that gives each codeword of a stage one cost throughout beats the entropy of the set.
    assert codes.loc["oracle", "bits_per_index"] <= codes.loc[["static", "huffman"], "bits_per_index"].min()
    assert codes.loc["static", "bits_per_index"] <= codes.loc["huffman", "bits_per_index"] + 1e-9


def test_inspection_of_a_codec_without_frequencies(vq_catalog: Path, images: Dataset) -> None:
    inspection = inspected(vq_catalog, "tiny-fixed", images)
    assert inspection.training is None
    assert codes_table([inspection])["code"].tolist() == ["fixed", "adaptive", "oracle", "model", "file"]


def test_own_model_of_baselines_is_the_row_of_that_name(vq_catalog: Path, images: Dataset) -> None:
    for kind in ("static", "huffman"):
        for bits in inspected(vq_catalog, f"tiny-{kind}", images).bits:
            assert bits["model"] == pytest.approx(bits[kind])


def test_inspection_at_a_point(vq_catalog: Path, images: Dataset) -> None:
    """At a high price of bits the model's own fall, and residual stages may stay at home."""
    codec = codec_of(vq_catalog, "rvq-static")
    free, dear = (inspect_codec(codec, images.images, point) for point in (0, 5.0))
    assert sum(b["model"] for b in dear.bits) < sum(b["model"] for b in free.bits)
    assert [len(costs) for costs in dear.maps] == [1, 1, 1]
    assert usage_table([dear])["indices"].tolist()[1:] == [0, 0]


def test_only_vq_codecs_have_indices(images: Dataset) -> None:
    with pytest.raises(HvqbenchError, match="jpeg is no VQ codec"):
        inspect_codec(load_codec("jpeg"), images.images)


def test_command_writes_tables_figures_and_maps(
    vq_catalog: Path, images: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVQBENCH_CATALOG", str(vq_catalog))
    folder = images.images[0].path.parent
    arguments = ["inspect", "--codec", "tiny-hyperprior,rvq-context", "--dataset", str(folder), "--limit", "2"]
    with pytest.raises(SystemExit) as exit_:
        cli.main([*arguments, "--out", str(tmp_path)])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert (tmp_path / "indices.md").read_text().count(shown.strip()) == 1
    assert "| rvq-context" in shown
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        *("indices.md", "usage.csv", "codes.csv", "images.csv"),
        *(f"usage-{codec}.{kind}" for codec in ("tiny-hyperprior", "rvq-context") for kind in ("png", "pdf")),
        *(f"{codec}/{image}.png" for codec in ("tiny-hyperprior", "rvq-context") for image in "ab"),
    }
    per_image = pd.read_csv(tmp_path / "images.csv")
    assert per_image["codec"].tolist() == ["tiny-hyperprior"] * 2 + ["rvq-context"] * 2
    assert per_image["fixed"].tolist() == [6 * 48, 6 * 30, 18 * 48, 18 * 30]


def test_maps_of_metrics_stand_beside_those_of_the_bits(
    vq_catalog: Path, images: Dataset, tmp_path: Path, backbones: None, capsys: pytest.CaptureFixture
) -> None:
    codec, file = codec_of(vq_catalog, "tiny-hyperprior"), images.images[0]
    mapper = load_map("lpips-alex")
    inspection = inspect_codec(codec, [file], mappers={"lpips-alex": mapper})
    decoded = codec.decode(codec.encode(file.read(), 0).data)
    (seen,) = inspection.seen
    np.testing.assert_array_equal(seen["lpips-alex"], mapper.map(file.read(), decoded))
    figure = bits_figure(file.read(), inspection.maps[0], inspection, seen, {"lpips-alex": 0.25})
    titled = {ax.get_title(): ax for ax in figure.axes}
    shown = titled["LPIPS (AlexNet): light is 0.25"].images[0]
    assert shown.get_array().shape == file.read().shape[:2]
    assert shown.get_clim() == (0, 0.25)
    command = ["inspect", "--codec", str(vq_catalog / "codecs" / "tiny-hyperprior"), "--dataset", str(file.path)]
    for options, said in (
        (["--map", "lpips-alex"], "name a folder for them with --out"),
        (["--map", "psnr", "--out", str(tmp_path / "out")], "psnr has no map"),
    ):
        with pytest.raises(SystemExit) as exit_:
            cli.main([*command, *options])
        assert exit_.value.code == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_map_lies_where_its_patches_are(tmp_path: Path) -> None:
    """One dear patch of 16 pixels, in a picture that ends within the last patches: its corner is red, all else blue."""
    bits = torch.zeros(3, 4, dtype=torch.float64)
    bits[1, 2] = 20
    image = np.full((40, 60, 3), 128, np.uint8)
    inspection = Inspection("codec", ("f16",), (16,), (torch.ones(1024),), None, ("image",), ({},), ([bits],))
    figure = bits_figure(image, [bits], inspection)
    ax = figure.axes[1]
    assert ax.get_xlim() == (-0.5, 59.5)
    assert ax.get_ylim() == (39.5, -0.5)
    figure.savefig(tmp_path / "map.png", dpi=200)
    pixels = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).astype(int)

    def colour(x: float, y: float) -> np.ndarray:
        across, down = ax.transData.transform((x, y)) * 2  # laid out at 100 dpi, saved at 200
        return pixels[pixels.shape[0] - 1 - round(down), round(across)]

    for x, y in ((33, 17), (46, 30)):
        red, _, blue = colour(x, y)
        assert red > blue + 30
    for x, y in ((30, 17), (33, 14), (50, 30), (46, 34), (2, 2), (57, 38)):
        red, _, blue = colour(x, y)
        assert blue > red + 30
