"""Ablations: every variant is trained as its specification says, once, and its row says what its models give."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hvqbench import cli
from hvqbench.data import load_dataset
from hvqbench.errors import HvqbenchError
from hvqbench.training import ablation, crops, evaluation, index_model
from hvqbench.training.ablation import ablate
from hvqbench.training.index_model import read_training
from hvqbench.training.photos import Photos, to_tensor
from hvqbench.training.tokenizer import train_tokenizer
from hvqbench.training.variants import SpecificationTable, VariantTable, read_specification
from hvqbench.vq.inspect import CODES, nearest_indices
from hvqbench.vq.models.hyperprior import Hyperprior
from hvqbench.vq.models.static import static_bits
from hvqbench.vq.tokenizer import Tokenizer
from hvqbench.vq.weights import load_weights

ROOT = Path(__file__).parents[1]
TOKENIZERS = """
steps = 40
crop = 32
learning_rate = 4e-3
perceptual = []
codebook_from = 5
[autoencoder]
encoder_widths = [8, 8, 12]
decoder_widths = [8, 8, 12]
encoder_blocks = [1, 1, 1]
decoder_blocks = [1, 1, 1]
head_width = 4
[[tokenizer]]
name = "single"
share = 2
codewords = 24
dim = 4
[[tokenizer]]
name = "residual"
codewords = 16
dim = 4
stages = 2
"""
INDEX_MODEL = """
tokenizer = "../tokenizers/single"
steps = 1000
batch = 4
crop = 64
crops = 24
width = 8
z_channels = 2
learning_rate = 5e-3
"""
SPECIFICATION = """
dataset = "photos"
[index_model]
base = "codecs/hypervq/train.toml"
steps = 12
[tokenizer]
base = "codecs/tokenizers/train.toml"
start = "codecs/tokenizers"
keep = { name = "single", share = 3 }
steps = 10
rate = 20.0
rate_from = 0
[[variant]]
name = "anchor"
[[variant]]
name = "free"
index_model = { head = "free", seed = 0 }
[[variant]]
name = "no-bias"
index_model = { bias = false }
[[variant]]
name = "context"
after = "anchor"
index_model = { context = true, steps = 6 }
[[variant]]
name = "residual"
index_model = { tokenizer = "codecs/tokenizers/residual" }
[[variant]]
name = "ste"
tokenizer = { rate_mode = "ste" }
[[variant]]
name = "soft"
tokenizer = { rate_mode = "soft" }
index_model = { width = 12 }
[[variant]]
name = "ste-context"
after = "ste"
index_model = { context = true, steps = 6 }
"""
NAMES = ["anchor", "free", "no-bias", "context", "residual", "ste", "soft", "ste-context"]


@pytest.fixture(scope="module", autouse=True)
def quick() -> pytest.MonkeyPatch:
    """No networks for quality, no Kodak for model cards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HVQBENCH_DATA", raising=False)
        patch.setattr(evaluation, "QUALITY", ("psnr",))
        patch.setattr(ablation, "QUALITY", ("psnr",))
        yield patch


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, a specification, and the configurations and tokenizers that it builds on."""
    from skimage.data import astronaut, chelsea

    from hvqbench.image import write_image

    root = tmp_path_factory.mktemp("project")
    for folder in ("photos", "codecs/tokenizers", "codecs/hypervq"):
        (root / folder).mkdir(parents=True)
    for name, image in {"a": astronaut()[:128, :160], "b": chelsea()[:90, :100]}.items():
        write_image(root / "photos" / f"{name}.png", image)
    (root / "codecs/tokenizers/train.toml").write_text(TOKENIZERS)
    (root / "codecs/hypervq/train.toml").write_text(INDEX_MODEL)
    (root / "ablations.toml").write_text(SPECIFICATION)
    train_tokenizer(root / "codecs/tokenizers/train.toml", root / "photos", root / "codecs/tokenizers")
    return root


@pytest.fixture(scope="module")
def done(root: Path) -> Path:
    """The folder of the whole ablation, which was interrupted twice on its way."""
    calls: list[str] = []

    def stumbling(*arguments, **keywords):
        calls.append(arguments[2].name)
        if len(calls) in (3, 6):
            keywords["steps"] = 3  # as if Ctrl-C came after three steps
            index_model.train_index_model(*arguments, **keywords)
            for name in ("README.md", "hyperprior.safetensors"):
                (arguments[2] / name).unlink()
            raise KeyboardInterrupt
        return index_model.train_index_model(*arguments, **keywords)

    out = root / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "train_index_model", stumbling)
        patch.setattr(crops, "Photos", Counting)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(root)
        run(root)
    # Every variant was trained once, but for the two that were interrupted.
    assert calls == [*NAMES[:2], "no-bias", *NAMES[2:4], "residual", *NAMES[4:]]
    return out


class Counting(Photos):
    """Photos that count how often they are read."""

    count = 0

    def __init__(self, *arguments) -> None:
        Counting.count += 1
        super().__init__(*arguments)


def run(root: Path, name: str = "ablations.toml", limit: int | None = None) -> pd.DataFrame:
    path = ablate(root / name, root / "photos", root / "out", dataset=str(root / "photos"), limit=limit)
    return pd.read_csv(path.with_suffix(".csv")).set_index("variant")


def test_each_variant_is_trained_as_it_says(done: Path) -> None:
    table = pd.read_csv(done / "ablation.csv").set_index("variant")
    assert list(table.index) == NAMES
    assert table["steps"].tolist() == [12, 12, 12, 6, 12, 12, 12, 6]
    assert table["tokenizer"].tolist() == ["single"] * 4 + ["residual"] + ["single"] * 3
    assert table["tokenizer_steps"].dropna().to_dict() == {"ste": 10, "soft": 10}
    assert table["changes"].dropna().to_dict() == {
        "free": "head = free, seed = 0",
        "no-bias": "bias = false",
        "context": "context = true, steps = 6, after anchor",
        "residual": "tokenizer = codecs/tokenizers/residual",
        "ste": "rate_mode = ste",
        "soft": "rate_mode = soft, width = 12",
        "ste-context": "context = true, steps = 6, after ste",
    }
    configs = {name: Hyperprior.load(done / name / "hyperprior.safetensors")[0].config for name in NAMES}
    assert [config.head for config in configs.values()] == ["anchor", "free"] + ["anchor"] * 6
    assert [config.bias for config in configs.values()] == [True, True, False, *[True] * 5]
    assert [config.context for config in configs.values()] == [False] * 3 + [True] + [False] * 3 + [True]
    assert [config.width for config in configs.values()] == [8] * 6 + [12, 8]
    assert (table["minutes"] > 0).all()


def test_rows_say_what_the_models_give(root: Path, done: Path) -> None:
    table = pd.read_csv(done / "ablation.csv").set_index("variant")
    for name, folder in {"free": root / "codecs/tokenizers/single", "ste": done / "ste/tokenizer/single"}.items():
        tokenizer = Tokenizer.load(folder / "tokenizer.safetensors")
        model = Hyperprior.load(done / name / "hyperprior.safetensors")[0]
        counts = load_weights(done / name / "frequencies.safetensors")[0]["counts"]
        sums, errors = np.zeros(4), []
        for file in load_dataset(root / "photos").images:
            image = file.read()
            with torch.no_grad():
                latent, maps = nearest_indices(tokenizer, to_tensor(image[None]))
                indices = torch.stack(maps, 1)
                bits, z_bits = model(latent, indices, tokenizer.codebooks)
                pixels = ((tokenizer.decode(maps)[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
            static = sum(costs.sum() for costs in static_bits(list(counts), maps))
            sums += [indices.numel() * math.log2(24), float(static), float(bits.sum()), float(z_bits)]
            height, width = image.shape[:2]
            errors.append(10 * math.log10(255**2 / np.square(pixels[:height, :width] - image).mean()))
        row = table.loc[name]
        assert row[["fixed_bits", "static_bits", "index_bits", "z_bits"]].astype(float).tolist() == pytest.approx(
            list(sums / 2), rel=1e-5
        )
        assert row["saved_percent"] == pytest.approx(100 * (1 - sums[2:].sum() / sums[0]))
        assert row["static_saved_percent"] == pytest.approx(100 * (1 - sums[1] / sums[0]))
        assert row["z_percent"] == pytest.approx(100 * sums[3] / sums[2:].sum())
        assert (row["psnr"] == pytest.approx(np.mean(errors), abs=1e-3)) if name == "ste" else np.isnan(row["psnr"])


def test_parameters_of_a_free_head_do_not_count_the_anchors(done: Path) -> None:
    table = pd.read_csv(done / "ablation.csv").set_index("variant")
    width, dim, codewords = 8, 4, 24
    anchor, free = (2 * dim) * (9 * width + 1) + codewords, codewords * (width + 1)
    assert table.loc["free", "parameters"] - table.loc["anchor", "parameters"] == free - anchor
    assert table.loc["anchor", "parameters"] - table.loc["no-bias", "parameters"] == codewords


def test_a_variant_after_another_goes_on_from_its_weights(done: Path) -> None:
    """Six steps move the networks of a continued hyperprior less than they lie apart from a fresh one's."""
    for before, after in (("anchor", "context"), ("ste", "ste-context")):
        old, new = (Hyperprior.load(done / name / "hyperprior.safetensors")[0] for name in (before, after))
        other = Hyperprior.load(done / "no-bias" / "hyperprior.safetensors")[0]
        moved = float((new.analysis[0].weight - old.analysis[0].weight).norm())
        torch.manual_seed(1)
        fresh = Hyperprior(other.config)
        assert 0 < moved < 0.5 * float((new.analysis[0].weight - fresh.analysis[0].weight).norm())
        digests = {Hyperprior.load(done / name / "hyperprior.safetensors")[2] for name in (before, after)}
        assert len(digests) == 1


def test_rate_modes_change_the_tokenizer_from_one_start(root: Path, done: Path) -> None:
    start = Tokenizer.load(root / "codecs/tokenizers/single/tokenizer.safetensors")
    ste, soft = (Tokenizer.load(done / name / "tokenizer/single/tokenizer.safetensors") for name in ("ste", "soft"))
    assert not torch.equal(ste.enter[-1].weight, soft.enter[-1].weight)
    fresh = torch.nn.Conv2d(12, 4, 1).weight
    for tokenizer in (ste, soft):
        moved = (tokenizer.enter[-1].weight - start.enter[-1].weight).norm()
        assert 0 < moved < 0.5 * (fresh - start.enter[-1].weight).norm()
    assert not (done / "ste" / "tokenizer" / "residual").exists()


def test_what_is_finished_is_not_trained_or_measured_again(
    root: Path, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unexpected(*_: object, **__: object) -> None:
        raise AssertionError("trained or measured again")

    before = (done / "ablation.md").read_bytes()
    for name in ("train_index_model", "train_tokenizer"):
        monkeypatch.setattr(ablation, name, unexpected)
    both, first = run(root), run(root, limit=1)  # the limit asks for a new measurement, and for no training
    assert first.loc["anchor", "fixed_bits"] == pytest.approx(10 * 8 * math.log2(24))
    assert both.loc["anchor", "fixed_bits"] == pytest.approx((10 * 8 + 7 * 6) / 2 * math.log2(24))
    run(root)
    monkeypatch.setattr(ablation, "ideal_bits", unexpected)
    run(root)
    assert (done / "ablation.md").read_bytes() == before


def test_photos_are_turned_into_latents_once_per_tokenizer(root: Path, done: Path) -> None:
    assert Counting.count == 4  # those of single, residual, ste and soft, for eight variants
    assert not (done / "indices").exists()


def test_another_training_in_the_same_folder(root: Path, done: Path, tmp_path: Path) -> None:
    (root / "longer.toml").write_text(SPECIFICATION.replace("steps = 12", "steps = 13"))
    with pytest.raises(HvqbenchError, match=r"anchor was trained with another 'steps' of its index_model; delete"):
        run(root, "longer.toml")
    (root / "faster.toml").write_text(SPECIFICATION.replace("rate = 20.0", "rate = 2.0"))
    with pytest.raises(HvqbenchError, match=r"ste was trained with another 'rate' of its tokenizer"):
        run(root, "faster.toml")
    moved = tmp_path / "moved"
    done.rename(moved)
    try:
        path = ablate(root / "ablations.toml", root / "photos", moved, dataset=str(root / "photos"))
        assert len(pd.read_csv(path.with_suffix(".csv"))) == len(NAMES)
    finally:
        moved.rename(done)


def test_weights_that_changed_in_their_place(root: Path, done: Path) -> None:
    file = root / "codecs/tokenizers/residual/tokenizer.safetensors"
    content = file.read_bytes()
    tokenizer = Tokenizer.load(file)
    tokenizer.codebooks += 0.1
    tokenizer.save(file, root / "codecs/tokenizers/autoencoder.safetensors")
    try:
        with pytest.raises(HvqbenchError, match=r"residual was trained with another 'inputs'"):
            run(root)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset =": "datasets ="}, "unknown key 'datasets'"),
        ({'name = "free"\n': 'name = "free"\nhead = "free"\n'}, "variant: unknown key 'head': known are name, after"),
        ({"bias = false": "biass = false"}, "unknown key 'biass'"),
        ({'rate_mode = "ste"': 'rate_mod = "ste"'}, "unknown key 'rate_mod'"),
        (
            {'name = "single", share': 'name = "sngle", share'},
            r"'ste' keeps no tokenizer: write keep = .*single, residual",
        ),
        ({'name = "free"': 'name = "anchor"'}, "'anchor' names no variant"),
        ({'name = "free"': 'name = "../free"'}, "'../free' names no variant"),
        ({'after = "anchor"': 'after = "soft"'}, "comes after 'soft', which is no variant above it"),
        ({'after = "ste"': 'after = "ste"\ntokenizer = {}'}, "shares its tokenizer; leave out its own"),
        ({'base = "codecs/hypervq/train.toml"\n': ""}, "the index_model of 'anchor' has no base"),
        ({'base = "codecs/tokenizers/train.toml"\n': ""}, "the tokenizer of 'ste' has no base"),
    ],
)
def test_a_wrong_specification_is_told_before_anything_is_trained(
    root: Path, change: dict[str, str], message: str
) -> None:
    text = SPECIFICATION
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    (root / "wrong.toml").write_text(text)
    with pytest.raises(HvqbenchError, match=message):
        read_specification(root / "wrong.toml")


def test_a_specification_without_variants(tmp_path: Path) -> None:
    (tmp_path / "none.toml").write_text('dataset = "kodak"\n')
    with pytest.raises(HvqbenchError, match=r"has no \[\[variant\]\]"):
        read_specification(tmp_path / "none.toml")


def test_command_prints_the_table(root: Path, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(root / "ablations.toml"), "--data", str(root / "photos"), "--out", str(done)]
    with pytest.raises(SystemExit) as exit_:
        cli.main(["ablate", *arguments, "--dataset", str(root / "photos")])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert shown == (done / "ablation.md").read_text()
    assert "No byte was coded" in shown
    assert "| ste-context" in shown


def test_the_shipped_specification_builds_on_what_there_is() -> None:
    spec = read_specification(ROOT / "reports" / "ablations.toml")
    kinds = {variant.tokenizer.get("rate_mode") for variant in spec.variants if variant.tokenizer}
    assert kinds >= {"hard", "ste", "soft"}
    for variant in spec.variants:
        if variant.tokenizer is None and not variant.after:
            base, overrides = variant.index_training()
            name = read_training(base, overrides).tokenizer
            assert (base.parent / name).resolve().parent == ROOT / "codecs" / "tokenizers"


def test_documented_keys_are_those_that_are_read() -> None:
    page = (ROOT / "docs" / "ablations.md").read_text(encoding="utf-8")
    tables = [set(re.findall(r"^\| `([a-z_-]+)` \|", part, re.MULTILINE)) for part in page.split("\n## ")]
    own = [[field.name for field in dataclasses.fields(kind)] for kind in (SpecificationTable, VariantTable)]
    for known in (*own, CODES):
        assert any(set(known) == table for table in tables), known
