"""The container: what goes in comes out, and nothing damaged gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvqbench.errors import BitstreamError
from hvqbench.vq.container import MAXIMUM_PIXELS, MAXIMUM_SIDE, MODES, Container, crc24, pack, unpack

MODEL = b"\x01\x02\x03"
sizes = st.integers(1, MAXIMUM_SIDE).flatmap(
    lambda width: st.tuples(st.just(width), st.integers(1, min(MAXIMUM_SIDE, MAXIMUM_PIXELS // width)))
)


def test_crc24_is_the_published_one() -> None:
    assert crc24(b"123456789") == 0x21CF02


@given(sizes, st.integers(0, MODES - 1), st.binary(max_size=300), st.integers(1, 255))
def test_round_trip(size: tuple[int, int], mode: int, payload: bytes, stages: int) -> None:
    content = Container(*size, mode, payload, stages)
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
        unpack(bytes(stream) + (crc24(stream) ^ 0xFFFFFF).to_bytes(3), MODEL, "codec")


@pytest.mark.parametrize("foreign", [b"\x89PNG\r\n\x1a\n" + bytes(40), b"\xff\xd8\xff\xe0" + bytes(40)])
def test_foreign_file_says_so(foreign: bytes) -> None:
    with pytest.raises(BitstreamError, match="not a VQ stream"):
        unpack(foreign, MODEL, "codec")


@given(st.binary(max_size=60), st.integers(1, 20))
def test_zeros_at_the_end_are_noticed(payload: bytes, count: int) -> None:
    stream = pack(Container(768, 512, 0, payload), MODEL)
    with pytest.raises(BitstreamError, match="checksum"):
        unpack(stream + bytes(count), MODEL, "codec")


def test_a_header_cannot_ask_for_all_memory() -> None:
    with pytest.raises(BitstreamError, match="more than"):
        pack(Container(MAXIMUM_SIDE, MAXIMUM_SIDE, 0, b""), MODEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hvqbench.vq.container.MAXIMUM_PIXELS", 2**42)
        stream = pack(Container(MAXIMUM_SIDE, MAXIMUM_SIDE, 0, b""), MODEL)
    with pytest.raises(BitstreamError, match=r"codec: the header says .* above .*; it is damaged, encode it again"):
        unpack(stream, MODEL, "codec")
