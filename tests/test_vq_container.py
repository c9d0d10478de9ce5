"""The container: what goes in comes out, and nothing damaged gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvqbench.errors import BitstreamError
from hvqbench.vq.container import MAXIMUM_SIDE, MODES, Container, crc24, pack, unpack

MODEL = b"\x01\x02\x03"
sides = st.integers(1, MAXIMUM_SIDE)


def test_crc24_is_the_published_one() -> None:
    assert crc24(b"123456789") == 0x21CF02


@given(sides, sides, st.integers(0, MODES - 1), st.binary(max_size=300), st.integers(1, 255))
def test_round_trip(width: int, height: int, mode: int, payload: bytes, stages: int) -> None:
    content = Container(width, height, mode, payload, stages)
    assert unpack(pack(content, MODEL), MODEL, "codec") == content


def test_overhead_of_an_ordinary_image_is_13_bytes() -> None:
    assert len(pack(Container(768, 512, 0, b""), MODEL)) == 13
    assert len(pack(Container(768, 512, 0, b"", stages=4), MODEL)) == 14


@given(st.binary(min_size=1, max_size=60), st.data())
def test_every_bit_flip_is_noticed(payload: bytes, data: st.DataObject) -> None:
    stream = bytearray(pack(Container(768, 512, 0, payload), MODEL))
    bit = data.draw(st.integers(0, 8 * len(stream) - 1))
    stream[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BitstreamError):
        unpack(bytes(stream), MODEL, "codec")


def test_every_truncation_is_noticed() -> None:
    stream = pack(Container(768, 512, 0, bytes(range(40))), MODEL)
    for length in range(len(stream)):
        with pytest.raises(BitstreamError):
            unpack(stream[:length], MODEL, "codec")


def test_stream_of_another_model_says_so() -> None:
    with pytest.raises(BitstreamError, match=r"made by model 010203, but this is 0a0b0c"):
        unpack(pack(Container(8, 8, 0, b""), MODEL), b"\x0a\x0b\x0c", "codec")


@pytest.mark.parametrize("stages", [0, 1])
def test_a_stages_byte_that_says_nothing_is_refused(stages: int) -> None:
    stream = bytearray(pack(Container(768, 512, 0, b"payload", stages=4), MODEL)[:-3])
    stream[10] = stages
    with pytest.raises(BitstreamError, match=f"{stages} stages"):
        unpack(bytes(stream) + crc24(stream).to_bytes(3), MODEL, "codec")


@pytest.mark.parametrize("foreign", [b"\x89PNG\r\n\x1a\n" + bytes(40), b"\xff\xd8\xff\xe0" + bytes(40)])
def test_foreign_file_says_so(foreign: bytes) -> None:
    with pytest.raises(BitstreamError, match="not a VQ stream"):
        unpack(foreign, MODEL, "codec")
