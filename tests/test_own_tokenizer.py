"""A tokenizer of a user's own, as docs/third-party-tokenizers.md shows it: every file is taken from that page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hvqbench.adapters.vq import VQCodec
from hvqbench.catalog import load_codec
from hvqbench.errors import HvqbenchError
from hvqbench.vq.inspect import inspect_codec
from hvqbench.vq.layout import Layout
from hvqbench.vq.own import OwnTokenizer

PAGE = Path(__file__).parents[1] / "docs" / "third-party-tokenizers.md"


def blocks(title: str, language: str) -> list[str]:
    """The fenced blocks of a section of the page."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert found, title
    return re.findall(rf"^```{language}\n(.*?)^```$", found[1], re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def catalog(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's folder ``my``, its hyperprior trained a little."""
    from hvqbench.training import train_index_model

    title, root = "How do I give my tokenizer a HyperVQ?", tmp_path_factory.mktemp("my")
    fixed, train, hyper = blocks(title, "toml")
    for name, files in {"fixed-mine": {"codec.toml": fixed}, "hypervq-mine": {"codec.toml": hyper}}.items():
        folder = root / "codecs" / name
        folder.mkdir(parents=True)
        for file, text in files.items():
            (folder / file).write_text(text)
    (root / "codecs/fixed-mine/tokenizer.py").write_text(blocks(title, "python")[0])
    folder = root / "codecs/hypervq-mine"
    (folder / "train.toml").write_text(train)
    small = {"steps": 30, "crop": 64, "crops": 40, "batch": 4, "width": 8, "z_channels": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HVQBENCH_DATA", raising=False)
        train_index_model(folder / "train.toml", photos, folder, **small)
    return root


def codec_of(catalog: Path, name: str) -> VQCodec:
    codec = load_codec(str(catalog / "codecs" / name))
    assert isinstance(codec, VQCodec)
    return codec


def photo() -> np.ndarray:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[40:140, 150:310])


def test_the_page_from_nothing_to_a_saving(catalog: Path) -> None:
    fixed, hyper = codec_of(catalog, "fixed-mine"), codec_of(catalog, "hypervq-mine")
    image, streams = photo(), {}
    for codec in (fixed, hyper):
        for point in (0, *([0.002] if codec is hyper else [])):
            stream = streams[codec.id, point] = codec.encode(image, point)
            decoded = codec.decode(stream.data)
            assert decoded.shape == image.shape
            assert codec.digest(stream.data, decoded) == stream.digest
    assert streams["fixed-mine", 0].digest == streams["hypervq-mine", 0].digest
    sizes = [len(stream.data) for stream in streams.values()]
    assert sizes[0] > sizes[1] > sizes[2]
    error = np.square(fixed.decode(streams["fixed-mine", 0].data).astype(float) - image).mean()
    assert error < 0.5 * np.square(image - image.mean()).mean()  # it is a picture of the same thing


def test_it_is_inspected_like_any_other(catalog: Path, photos: Path) -> None:
    from hvqbench.data import load_dataset

    found = inspect_codec(codec_of(catalog, "hypervq-mine"), load_dataset(photos).images[:1])
    assert found.bits[0]["fixed"] == 6 * 32 * 32
    assert found.bits[0]["static"] < found.bits[0]["fixed"]


def test_what_it_imports_counts(catalog: Path) -> None:
    codec = codec_of(catalog, "fixed-mine")
    before, source = codec.fingerprint, catalog / "codecs/fixed-mine/tokenizer.py"
    text = source.read_text()
    try:
        source.write_text(text.replace("import math", "import math\n\nimport helper_of_mine"))
        helper = source.parent / "helper_of_mine.py"
        helper.write_text("value = 1\n")
        first = codec_of(catalog, "fixed-mine").fingerprint
        helper.write_text("value = 2\n")
        second = codec_of(catalog, "fixed-mine").fingerprint
        assert len({before, first, second}) == 3
        # Streams are bound to what decodes them, and a helper's text does not change that.
        assert codec_of(catalog, "fixed-mine").model_fingerprint == codec.model_fingerprint
        source.write_text(text.replace("manual_seed(0)", "manual_seed(1)"))
        assert codec_of(catalog, "fixed-mine").model_fingerprint != codec.model_fingerprint
    finally:
        source.write_text(text)


class Given:
    """A tokenizer that gives indices: which quarter of the range each block's mean lies in, and a finer stage."""

    factor = 4

    def __init__(self, stages: int = 1, **changes: Any) -> None:
        line = torch.tensor([[-0.75], [-0.25], [0.25], [0.75]])
        self.codebook = line if stages == 1 else torch.stack([line, line / 4])
        self.__dict__ |= changes

    def encode(self, image: Tensor) -> Tensor:
        mean = torch.nn.functional.avg_pool2d(image.mean(1), 4)
        coarse = ((mean + 1) * 2).floor().clamp(0, 3)
        fine = (((mean - (coarse * 0.5 - 0.75)) + 0.25) * 8).floor().clamp(0, 3)
        return coarse.long() if self.codebook.ndim == 2 else torch.stack([coarse, fine], 1).long()

    def decode(self, indices: Tensor) -> Tensor:
        books = [self.codebook] if self.codebook.ndim == 2 else list(self.codebook)
        stages = [indices] if self.codebook.ndim == 2 else indices.unbind(1)
        value = sum(book[stage, 0] for book, stage in zip(books, stages, strict=False))
        return value[:, None].repeat_interleave(4, -1).repeat_interleave(4, -2).expand(-1, 3, -1, -1)


@pytest.mark.parametrize("stages", [1, 2])
def test_indices_that_a_tokenizer_gives_are_what_is_sent(stages: int) -> None:
    model, image = Given(stages), torch.rand(2, 3, 8, 12) * 2 - 1
    tokenizer = OwnTokenizer(model, "mine")
    maps = tokenizer.quantize(tokenizer.encode(image))
    assert torch.equal(torch.stack(maps, 1).squeeze(1), model.encode(image))
    assert torch.equal(tokenizer.decode(maps), model.decode(model.encode(image)))
    assert tokenizer.decode(maps[:1]).shape == image.shape
    assert not tokenizer.continuous
    assert [spec.factor for spec in tokenizer.grids] == [4] * stages


def test_without_a_latent_there_is_no_rate_control(tmp_path: Path) -> None:
    (tmp_path / "given.py").write_text(f"import torch\n\n{source_of_given()}")
    text = 'adapter = "vq"\nsummary = "test"\npoints = [0]\npoint_name = "L"\n[options]\nindex_model = "fixed"\n'
    (tmp_path / "codec.toml").write_text(text + 'tokenizer = "given.py:Given"\n')
    codec = load_codec(str(tmp_path))
    stream = codec.encode(photo(), 0)
    assert codec.digest(stream.data, codec.decode(stream.data)) == stream.digest
    with pytest.raises(HvqbenchError, match="no latent, so L must be 0"):
        codec.encode(photo(), 0.5)


def source_of_given() -> str:
    import inspect

    return inspect.getsource(Given).replace("Tensor", "object").replace(": Any", "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"codebook": torch.zeros(4)}, "make it K×D"),
        ({"factor": 2.5}, "no whole number of pixels"),
        ({"encode": lambda image: image}, r"gives a latent of \(2, 3, 8, 12\).* make it \(2, 1, 2, 3\)"),
        ({"encode": lambda image: torch.zeros(2, 3, 3, dtype=torch.long)}, r"make it \(2, 2, 3\)"),
        ({"decode": lambda indices: torch.zeros(1)}, r"decode gives \(1,\) instead of an image \(2, 3, 8, 12\)"),
    ],
)
def test_a_class_that_does_not_fit_is_told_how(changes: dict[str, Any], said: str) -> None:
    def through() -> None:
        tokenizer = OwnTokenizer(Given(**changes), "mine")
        tokenizer.decode(tokenizer.quantize(tokenizer.encode(torch.zeros(2, 3, 8, 12))))

    with pytest.raises(HvqbenchError, match=said):
        through()


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere.py:A", "there is no nowhere.py"), ("no_such_package.x:A", "there is no no_such_package.x")],
)
def test_a_class_that_is_not_there_is_one_line(tmp_path: Path, name: str, said: str) -> None:
    text = 'adapter = "vq"\nsummary = "test"\npoints = [0]\npoint_name = "L"\n[options]\nindex_model = "fixed"\n'
    (tmp_path / "codec.toml").write_text(text + f'tokenizer = "{name}"\n')
    assert said in str(load_codec(str(tmp_path)).unavailable())


def test_the_index_model_of_the_page_codes() -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(blocks("How do I add an index model?", "python")[0], PAGE.name, "exec"), names)
    tokenizer = OwnTokenizer(Given(2), "mine")
    layout, model = Layout.of(tokenizer, 20, 24), names["Neighbour"].load(None, tokenizer)
    maps = [part[0] for part in tokenizer.quantize(tokenizer.encode(torch.rand(1, 3, 20, 24) * 2 - 1))]
    coded = model.code(layout, maps, {})
    assert all(torch.equal(*pair) for pair in zip(model.decode(layout, coded.payload), maps, strict=True))
