"""What an adapter imports from beside it is found, is its own, and counts into a row's key."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvqbench.catalog import load_codec
from hvqbench.errors import HvqbenchError
from hvqbench.sources import import_file, local_sources, module_sources

TOML = 'summary = "test"\npoints = [1]\npoint_name = "level"\n'
ADAPTER = """
import json
import {helper}
from parts.more import LEVEL
from hvqbench.codec import Bitstream, Codec, Stream


class Mine(Codec):
    def encode(self, image, point):
        return Bitstream(bytes([{helper}.VALUE]), {{"all": Stream(1)}})

    def decode(self, data):
        raise NotImplementedError
"""


def write(folder: Path, value: int, helper: str = "helper") -> Path:
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    files = {
        "codec.toml": TOML,
        "adapter.py": ADAPTER.format(helper=helper),
        f"{helper}.py": f"VALUE = {value}\n",
        "unused.py": "",
        "parts/__init__.py": "",
        "parts/more.py": "from . import less\n\nLEVEL = less.LEVEL\n",
        "parts/less.py": "LEVEL = 1\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_all_that_is_imported_beside_a_file_is_found(tmp_path: Path) -> None:
    found = local_sources(write(tmp_path, 1) / "adapter.py")
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "adapter.py",
        "helper.py",
        "parts/__init__.py",
        "parts/less.py",
        "parts/more.py",
    ]


@pytest.mark.parametrize("name", ["helper.py", "parts/less.py", "parts/__init__.py", "adapter.py"])
def test_an_edit_in_any_of_it_is_another_codec(tmp_path: Path, name: str) -> None:
    write(tmp_path, 1)
    before = load_codec(str(tmp_path)).fingerprint
    (tmp_path / name).write_text((tmp_path / name).read_text() + "# edited\n")
    assert load_codec(str(tmp_path)).fingerprint != before
    now = load_codec(str(tmp_path)).fingerprint
    (tmp_path / "unused.py").write_text("# edited\n")
    assert load_codec(str(tmp_path)).fingerprint == now


def test_an_adapter_alone_keeps_the_key_that_it_had(tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "codec.toml").write_text(TOML)
    text = ADAPTER.format(helper="zlib").replace("from parts.more import LEVEL", "")
    (tmp_path / "adapter.py").write_text(text)
    codec = load_codec(str(tmp_path))
    assert codec.ingredients["adapter"] == hashlib.sha256((tmp_path / "adapter.py").read_bytes()).hexdigest()


def test_each_folder_has_its_own_helper(tmp_path: Path) -> None:
    import numpy as np

    one, two = load_codec(str(write(tmp_path / "one", 1))), load_codec(str(write(tmp_path / "two", 2)))
    image = np.zeros((1, 1, 3), np.uint8)
    assert [codec.encode(image, 1).data for codec in (one, two, load_codec(str(tmp_path / "one")))] == [
        b"\1",
        b"\2",
        b"\1",
    ]


def test_modules_of_packages() -> None:
    found = {path.name for path in module_sources("hvqbench.vq.walk")}
    assert {"walk.py", "layout.py", "__init__.py"} <= found
    assert [path.name for path in module_sources("numpy_of_nobody")] == []
    assert all("numpy" not in str(path.parent) for path in module_sources("hvqbench.vq.walk"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match="is not a Python file"):
        import_file(tmp_path / "nothing.py")
