"""Search at encode time: better pictures in the same format, from any tokenizer, within the memory of a tile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import hvqbench
from hvqbench.adapters.vq import VQCodec
from hvqbench.codec import Codec
from hvqbench.errors import HvqbenchError


def with_options(codec: Codec, **options: Any) -> VQCodec:
    changed = VQCodec(replace(codec.spec, options={**codec.spec.options, **options}))
    changed.prepare()
    return changed


@pytest.fixture(scope="module")
def plain() -> VQCodec:
    codec = hvqbench.load_codec("hypervq")
    assert isinstance(codec, VQCodec)
    return codec


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(hvqbench.load_dataset("sample").images[0].read()[100:228, 60:236])


@pytest.mark.parametrize("metric", ["lpips-alex", "dists"])
def test_a_few_steps_look_better(plain: VQCodec, photo: np.ndarray, metric: str) -> None:
    searching, judge = with_options(plain, search=6), hvqbench.load_metric(metric)
    before, after = (codec.decode(codec.encode(photo, 0).data) for codec in (plain, searching))
    assert judge(photo, after) < judge(photo, before)


def test_the_decoder_knows_nothing_of_it(plain: VQCodec, photo: np.ndarray) -> None:
    searching = hvqbench.load_codec("hypervq-search")
    data = with_options(searching, search=2).encode(photo, 0.8).data
    assert np.array_equal(plain.decode(data), searching.decode(data))


def test_tiles_search_the_whole_image(plain: VQCodec, photo: np.ndarray) -> None:
    judge = hvqbench.load_metric("lpips-alex")
    tiled = with_options(plain, search=6, tile=96)
    assert judge(photo, tiled.decode(tiled.encode(photo, 0).data)) < judge(
        photo, plain.decode(plain.encode(photo, 0).data)
    )


@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (65, 64)])
def test_any_size(plain: VQCodec, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    searching = with_options(plain, search=2)
    assert searching.decode(searching.encode(image, 0).data).shape == image.shape


def test_residual_stages_are_searched_together(photo: np.ndarray) -> None:
    codec = hvqbench.load_codec("hypervq-rvq")
    plain, searching = with_options(codec), with_options(codec, search=3)
    assert len(searching.decode_indices(searching.encode(photo, 0).data)) == 4
    assert searching.encode(photo, 0).data != plain.encode(photo, 0).data


@pytest.mark.parametrize("steps", [-1, 2.5, "many"])
def test_a_wrong_number_of_steps_is_named(plain: VQCodec, steps: Any) -> None:
    with pytest.raises(HvqbenchError, match=r"search = .*(whole number|valid integer)"):
        with_options(plain, search=steps)
