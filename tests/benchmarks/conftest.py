"""What the benchmarks share: a photograph of Kodak's size, and a clock that only runs inside chosen spans."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as PillowImage

from hvqbench.catalog import codec_files, load_codec, read_spec
from hvqbench.codec import Codec, Image
from hvqbench.data import load_dataset


@pytest.fixture(scope="session")
def photo() -> Image:
    """A photograph of 768×512 that every machine has: "coffee", whose sides are 3:2 too."""
    (coffee,) = (file for file in load_dataset("sample").images if file.name.startswith("coffee"))
    return np.array(PillowImage.fromarray(coffee.read()).resize((768, 512), PillowImage.Resampling.LANCZOS))


def _vq_codecs() -> list[str]:
    """Every codec of the catalog that codes a VQ tokenizer's indices under a hyperprior."""
    specs = [read_spec(path) for path in codec_files().values()]
    return [s.id for s in specs if s.adapter == "vq" and s.options.get("index_model") == "hyperprior"]


@pytest.fixture(scope="session")
def prepare() -> Callable[[str], Codec]:
    """Loads a codec once; where it cannot run, the benchmark is skipped with the reason."""
    ready: dict[str, Codec] = {}

    def prepare(name: str) -> Codec:
        if name not in ready:
            codec = load_codec(name)
            if reason := codec.unavailable():
                pytest.skip(reason)
            codec.prepare()
            ready.clear()  # one codec's weights at a time: the codecs come one after the other
            ready[name] = codec
        return ready[name]

    return prepare


@pytest.fixture(scope="module", params=_vq_codecs())
def vq_codec(request: pytest.FixtureRequest, prepare: Callable[[str], Codec]) -> Codec:
    return prepare(request.param)
