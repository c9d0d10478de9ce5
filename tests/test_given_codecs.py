"""Codecs that are given as classes and objects: every process makes them anew, and their sources are in the key."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import hvqbench
from hvqbench.catalog import load_codec, load_spec, source_of
from hvqbench.codec import Bitstream, Codec, Image, Stream
from hvqbench.errors import HvqbenchError
from hvqbench.image import write_image

MODULE = '''
import zlib
from given_helper import SHIFT
from hvqbench.codec import Bitstream, Codec, Stream
import numpy as np

class Zipped(Codec):
    """Zipped pixels."""
    points = (1, 9)
    point_name = "level"

    def encode(self, image, point):
        side = image.shape[0].to_bytes(2) + image.shape[1].to_bytes(2)
        data = side + zlib.compress((image >> SHIFT).tobytes(), int(point))
        return Bitstream(data, {"pixels": Stream(len(data))})

    def decode(self, data):
        pixels = np.frombuffer(zlib.decompress(data[4:]), np.uint8) << (SHIFT + self.spec.options.get("more", 0))
        return pixels.reshape(int.from_bytes(data[:2]), int.from_bytes(data[2:4]), 3)

class Closed(Zipped):
    def __init__(self, spec, level):
        super().__init__(spec)
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "given_codec.py").write_text(MODULE)
    (tmp_path / "given_helper.py").write_text("SHIFT = 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("given_codec")
    for name in ("given_codec", "given_helper"):
        sys.modules.pop(name, None)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 255, (12, 10, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos" / "a.png", image)
    return tmp_path / "photos"


def test_a_class_and_an_object_are_run(module: ModuleType, photos: Path, tmp_path: Path) -> None:
    options = {"metrics": ["psnr"], "results": tmp_path / "results", "progress": False}
    rows = hvqbench.run(module.Zipped, photos, **options)
    assert rows[["codec", "point", "status"]].values.tolist() == [["Zipped", 1, "ok"], ["Zipped", 9, "ok"]]
    assert np.isinf(rows["psnr"]).all()
    spec = replace(load_spec(source_of(module.Zipped)), id="blurred", points=(5.0,), options={"more": 1})
    both = hvqbench.run([module.Zipped(spec), "jpeg@90"], photos, **options)
    assert set(both["codec"]) == {"blurred", "jpeg"}
    assert set(both["status"]) == {"ok"}
    assert np.isfinite(both.set_index("codec")["psnr"]["blurred"])  # the option has reached the other processes
    again = hvqbench.run(module.Zipped, photos, **options)
    assert again["key"].tolist() == rows["key"].tolist()
    assert again["started"].tolist() == rows["started"].tolist()  # nothing was measured again


def test_an_edit_in_what_its_module_imports_is_measured_anew(module: ModuleType, photos: Path, tmp_path: Path) -> None:
    options = {"metrics": ["psnr"], "points": [1.0], "results": tmp_path / "results", "progress": False}
    before = hvqbench.run(module.Zipped, photos, **options)
    (tmp_path / "given_helper.py").write_text("SHIFT = 2\n")
    after = hvqbench.run(module.Zipped, photos, **options)
    assert after["key"].tolist() != before["key"].tolist()
    assert np.isinf(before["psnr"]).all()
    assert np.isfinite(after["psnr"]).all()


def test_a_codec_of_the_catalog_keeps_its_name() -> None:
    codec = load_codec("jpeg")
    assert source_of(codec) == source_of("jpeg") == "jpeg"
    other = type(codec)(replace(codec.spec, points=(7.0,)))
    again = load_codec(source_of(other))
    assert (again.id, again.points, again.fingerprint) == ("jpeg", (7.0,), codec.fingerprint)


class Local(Codec):
    """No other process knows a module of tests, but its name can be imported."""

    def encode(self, image: Image, point: float) -> Bitstream:
        return Bitstream(image.tobytes(), {"pixels": Stream(image.size)})

    def decode(self, data: bytes) -> Image:
        return np.frombuffer(data, np.uint8).reshape(1, -1, 3)


def test_what_cannot_be_made_anew_is_refused(module: ModuleType, photos: Path) -> None:
    class Nested(Local):
        pass

    spec = load_spec(source_of(module.Zipped))
    for codec, problem in (
        (Nested, "is defined where no other process can import it; move it into a module"),
        (module.Closed(spec, 3), "cannot be made of its spec alone .*level"),
        (Path, "is not a subclass of hvqbench.codec.Codec"),
        (Local, "the key 'points' is missing"),
    ):
        with pytest.raises(HvqbenchError, match=problem):
            hvqbench.run(codec, photos)  # type: ignore[arg-type]
