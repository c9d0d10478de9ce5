"""External programs as codecs: what is handed to them, what comes back, and what is said when they fail."""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hvqbench.adapters.yuv import YuvFormat
from hvqbench.catalog import load_codec
from hvqbench.codec import Codec, Image
from hvqbench.errors import BitstreamError, HvqbenchError, UnavailableError

TOML = 'adapter = "command"\nsummary = "test"\npoint_name = "q"\npoints = [2, 5, 10, 20]\n[options]\n'
COPY = f"{sys.executable} -c 'import shutil, sys; shutil.copy(*sys.argv[1:])' {{input}} {{output}}"


def command_codec(folder: Path, more: str = "", **options: Any) -> Codec:
    """A command codec in a folder of its own; by default it copies files."""
    options = {"encode": COPY, "decode": COPY, "input": "ppm"} | options
    lines = [f"{key} = {_toml(value)}" for key, value in options.items() if value is not None]
    (folder / "mine").mkdir(parents=True, exist_ok=True)
    (folder / "mine" / "codec.toml").write_text(TOML + "\n".join(lines) + "\n" + more)
    return load_codec(str(folder / "mine"))


def _toml(value: Any) -> str:
    return f'"""{value}"""' if isinstance(value, str) else repr(value)


def python(code: str) -> str:
    """A command line that runs *code* with the names input and output."""
    return f"{sys.executable} -c 'import sys; source, target = sys.argv[1:3]; {code}' {{input}} {{output}}"


def picture(height: int, width: int) -> Image:
    """Smooth in luma and chroma, so that subsampling loses little; every pixel differs from its neighbours."""
    y, x = np.mgrid[:height, :width] / 64
    planes = [np.sin(2 * x + y), np.cos(x - 2 * y), np.sin(3 * x) * np.cos(y)]
    return np.rint(127.5 + 90 * np.stack(planes, 2)).astype(np.uint8)


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with imageio-ffmpeg's binary in it under the name ``ffmpeg``; ``HVQBENCH_TEST_HOME`` names it."""
    import imageio_ffmpeg

    home = tmp_path / "home of ffmpeg"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    monkeypatch.setenv("HVQBENCH_TEST_HOME", str(home))
    return home


def decoder_elsewhere(codec: Codec) -> Codec:
    """Another object, as another process would have."""
    return load_codec(str(codec.spec.folder))


# A real encoder and decoder


def test_a_real_program_codes_png_files(tmp_path: Path, ffmpeg: Path) -> None:
    codec = command_codec(
        tmp_path,
        encode="ffmpeg -v error -i {input} -q:v {point} -pix_fmt yuvj444p -f mjpeg {output}",
        decode="ffmpeg -v error -f mjpeg -i {input} {output}",
        input="png",
        home="HVQBENCH_TEST_HOME",
        version_command="ffmpeg -version",
    )
    assert codec.unavailable() is None
    image = picture(37, 51)
    sizes = []
    for point in codec.points:
        stream = codec.encode(image, point)
        assert stream.data.startswith(b"\xff\xd8\xff")  # the file as it is, without a header of ours
        assert dict(stream.ledger).keys() == {"payload"}
        decoded = decoder_elsewhere(codec).decode(stream.data)
        assert decoded.shape == image.shape
        assert np.abs(decoded.astype(int) - image).mean() < 6
        sizes.append(len(stream.data))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]
    with pytest.raises(BitstreamError, match=r"mine: ffmpeg failed \(.*\): .*encode the image again"):
        codec.decode(b"no JPEG at all")


@pytest.mark.parametrize(
    ("chroma", "pixels", "size"), [("4:2:0", "yuv420p10le", (33, 47)), ("4:4:4", "yuv444p10le", (1, 1))]
)
def test_a_real_video_encoder_codes_planes_of_odd_sizes(
    tmp_path: Path, ffmpeg: Path, chroma: str, pixels: str, size: tuple[int, int]
) -> None:
    raw = f"-f rawvideo -pix_fmt {pixels} -video_size {{width}}x{{height}}"
    codec = command_codec(
        tmp_path,
        f'[options.yuv]\nchroma = "{chroma}"\nbit_depth = 10\nmatrix = "bt709"\nrange = "limited"\n',
        encode=f"ffmpeg -v error {raw} -i {{input}} -c:v libx264 -qp {{point}} -threads 1 -f h264 {{output}}",
        decode=f"ffmpeg -v error -f h264 -i {{input}} -pix_fmt {pixels} -f rawvideo {{output}}",
        input="yuv",
        home="HVQBENCH_TEST_HOME",
    )
    image = picture(*size)
    stream = codec.encode(image, 2)
    assert sum(part.bytes for part in stream.ledger.values()) == len(stream.data)
    assert stream.ledger["header"].bytes == 7
    decoded = decoder_elsewhere(codec).decode(stream.data)
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).mean() < 2
    for damaged in (stream.data[:-1], stream.data[:3], b"\xc5", stream.data[:-1] + b"?", b"foreign"):
        with pytest.raises(BitstreamError, match="mine: "):
            codec.decode(damaged)


@pytest.mark.skipif(not shutil.which("cjxl"), reason="cjxl is not on PATH (Debian: apt install libjxl-tools)")
def test_the_shipped_cjxl_runs() -> None:
    codec = load_codec("cjxl")
    assert codec.unavailable() is None
    image = picture(40, 56)
    fine, coarse = (codec.encode(image, distance) for distance in (0.5, 8))
    assert len(fine.data) > len(coarse.data)
    decoded = load_codec("cjxl").decode(fine.data)
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).mean() < 2
    with pytest.raises(BitstreamError, match=r"cjxl: djxl failed \("):
        codec.decode(fine.data[: len(fine.data) // 2])


# What is handed over


def test_every_name_is_filled_in_within_its_argument_and_no_shell_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "a folder; with $(touch owned) blanks"
    home.mkdir()
    monkeypatch.setenv("HVQBENCH_TEST_HOME", str(home))
    show = 'open(target, "w").write(repr(sys.argv[3:]))'
    names = "p={point} v={value} {width}x{height} {home}/x {folder} {device} 'one argument' '{unknown but} {'"
    low = '[options.values]\n2 = "low"\n'
    codec = command_codec(tmp_path, low, encode=f"{python(show)} {names}", home="HVQBENCH_TEST_HOME")
    codec.prepare("cuda:1")
    told = ast.literal_eval(codec.encode(picture(3, 5), 2).data.decode())
    folder = str(tmp_path / "mine")
    assert told == ["p=2", "v=low", "5x3", f"{home}/x", folder, "cuda:1", "one argument", "{unknown but} {"]
    assert not list(tmp_path.rglob("owned"))


def test_what_the_decoder_needs_and_no_more_goes_into_a_header(tmp_path: Path) -> None:
    image = picture(6, 9)
    plain = command_codec(tmp_path / "plain")
    assert plain.encode(image, 5).ledger.keys() == {"payload"}
    assert (plain.decode(plain.encode(image, 5).data) == image).all()

    check = 'import shutil; shutil.copy(source, target); sys.exit(sys.argv[3:] != ["9x6", "2.5"])'
    knowing = command_codec(tmp_path / "knowing", decode=python(check) + " {width}x{height} {point}")
    stream = knowing.encode(image, 2.5)
    assert stream.ledger["header"].bytes == 1 + 1 + 1 + 4 + 1 + len("2.5")
    assert (decoder_elsewhere(knowing).decode(stream.data) == image).all()
    with pytest.raises(BitstreamError, match="checksum mismatch"):  # of a codec with another decoder
        command_codec(tmp_path / "other", decode=python("1") + " {point}").decode(stream.data)


def test_a_picture_is_padded_by_its_edge_and_cropped_again(tmp_path: Path) -> None:
    codec = command_codec(tmp_path, size_multiple=8)
    image = picture(5, 17)
    stream = codec.encode(image, 5)
    assert stream.data.endswith(np.pad(image, ((0, 3), (0, 7), (0, 0)), mode="edge").tobytes())
    assert (codec.decode(stream.data) == image).all()


# What is said


def test_a_failing_encoder_shows_the_end_of_what_it_said(tmp_path: Path) -> None:
    code = 'print("first"); print("a\\nb"); sys.exit("cannot open the codebook")'
    codec = command_codec(tmp_path, encode=python(code.replace("\\", "\\\\")))
    with pytest.raises(HvqbenchError, match=r"mine: python\S* failed \(1\): a \| b \| cannot open the codebook; check"):
        codec.encode(picture(3, 3), 5)


def test_a_failing_decoder_is_a_bitstream_error(tmp_path: Path) -> None:
    codec = command_codec(tmp_path, decode=python('sys.exit("bad magic")'))
    with pytest.raises(BitstreamError, match=r"failed \(1\): bad magic; encode the image again"):
        codec.decode(b"anything")
    silent = command_codec(tmp_path / "silent", decode=python("1"))
    with pytest.raises(BitstreamError, match="the decoder wrote no picture"):
        silent.decode(b"anything")
    half = python('data = open(source, "rb").read(); open(target, "wb").write(b"P6 8 4 255 " + data[-96:])')
    wrong = command_codec(tmp_path / "wrong", decode=half, size_multiple=8)
    stream = wrong.encode(picture(8, 8), 5)
    with pytest.raises(BitstreamError, match="the decoder's picture has 8x4 pixels, not the 8x8 coded"):
        wrong.decode(stream.data)


def test_an_encoder_that_writes_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match="the encoder wrote no file for 3x3 pixels; check 'encode'"):
        command_codec(tmp_path, encode=python("1")).encode(picture(3, 3), 5)


def test_a_program_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    code = (
        "import subprocess, time; "
        'child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]); '
        f'open("{child}", "w").write(str(child.pid)); time.sleep(60)'
    )
    codec = command_codec(tmp_path, encode=python(code), timeout_s=3.0)
    with pytest.raises(HvqbenchError, match=r"mine: encode took more than 3 s; raise timeout_s in codec.toml"):
        codec.encode(picture(3, 3), 5)
    for _ in range(100):
        if not _alive(int(child.read_text())):
            return
        time.sleep(0.1)
    pytest.fail("the program's child lives on")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decode": "no-such-program {input} {output}"}, "there is no program 'no-such-program' on PATH: get it there"),
        (
            {"home": "HVQBENCH_NOWHERE", "encode": "{home}/enc {input}"},
            "HVQBENCH_NOWHERE names no folder: get it there",
        ),
        ({"files": ["weights.bin"]}, "there is no .*/mine/weights.bin: get it there"),
        ({"version_command": python("sys.exit(4)")}, r"version_command failed \(.*\): .*: get it there"),
    ],
)
def test_what_is_missing_is_said_with_its_remedy(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    codec = command_codec(tmp_path, '[needs]\ninstall = "get it there"\n', **options)
    reason = codec.unavailable()
    assert reason is not None
    assert re.search(message, reason), reason
    assert not reason.startswith("mine:")


def test_a_gpu_that_is_not_here_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = command_codec(tmp_path, "[needs]\ngpu = true\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "needs an NVIDIA GPU" in str(codec.unavailable())
    (tmp_path / "nvidia-smi").symlink_to(sys.executable)
    assert codec.unavailable() is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 3}, "unknown key 'timeout': did you mean 'timeout_s'"),
        ({"decode": None}, "the key 'decode' is missing"),
        ({"input": "bmp"}, "input = 'bmp': .*set it to one of png, ppm, yuv"),
        ({"encode": "enc {inptu}"}, "encode has {inptu}: did you mean 'input' or"),
        ({"encode": "enc '{input}"}, "encode cannot be split: No closing quotation"),
        ({"encode": " "}, "encode is empty"),
        ({"encode": "{home}/enc"}, "encode has {home}: set the option 'home'"),
        ({"input": "yuv"}, r"needs a table \[options.yuv\]"),
    ],
)
def test_a_wrong_option_says_what_is_wrong(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(HvqbenchError, match=message) as caught:
        command_codec(tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_a_point_out_of_range_or_without_a_value_is_told(tmp_path: Path) -> None:
    codec = command_codec(tmp_path, '[options.values]\n2 = "low"\n', encode=COPY + " {value}")
    with pytest.raises(HvqbenchError, match=r"mine: q 21 is not in 2 to 20"):
        codec.encode(picture(3, 3), 21)
    with pytest.raises(HvqbenchError, match=r"mine: no value for q 5; there are 2"):
        codec.encode(picture(3, 3), 5)


def test_the_fingerprint_follows_commands_files_and_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HVQBENCH_TEST_HOME", str(home))
    shutil.copy("/bin/true", home / "enc")
    weights = home / "weights"
    weights.write_text("one")
    options = {"encode": "enc", "decode": "enc", "home": "HVQBENCH_TEST_HOME", "files": ["{home}/weights"]}

    def fingerprint(**more: Any) -> str:
        return command_codec(tmp_path, **(options | more)).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(encode="enc -x") != first
    asked = fingerprint(version_command=f"{sys.executable} -c 'print(1)'")
    assert asked not in (first, fingerprint(version_command=f"{sys.executable} -c 'print(2)'"))
    weights.write_text("two")
    assert fingerprint() != first
    weights.write_text("one")
    (home / "enc").write_bytes((home / "enc").read_bytes() + b" ")
    assert fingerprint() != first
    os.remove(home / "enc")
    with pytest.raises(UnavailableError, match="there is no program 'enc' in HVQBENCH_TEST_HOME or on PATH"):
        fingerprint()


# Colour


@pytest.mark.parametrize(
    ("rgb", "matrix", "depth", "span", "expected"),
    [  # by hand from H.273's equations
        ((255, 255, 255), "bt709", 8, "full", (255, 128, 128)),
        ((0, 0, 0), "bt601", 8, "limited", (16, 128, 128)),
        ((255, 0, 0), "bt709", 8, "full", (54, 99, 255)),
        ((0, 0, 255), "bt601", 8, "limited", (41, 240, 110)),
        ((255, 255, 255), "bt2020", 10, "limited", (940, 512, 512)),
        ((0, 255, 0), "bt709", 10, "full", (732, 118, 47)),
    ],
)
def test_colours_convert_as_the_standard_says(
    rgb: tuple[int, ...], matrix: str, depth: int, span: Any, expected: tuple[int, ...]
) -> None:
    layout = YuvFormat("4:4:4", depth, matrix, span)
    data = layout.write(np.array([[rgb]], np.uint8))
    assert tuple(np.frombuffer(data, "<u2" if depth > 8 else np.uint8)) == expected
    assert np.abs(layout.read(data, 1, 1)[0, 0].astype(int) - rgb).max() <= 1


def test_planes_are_those_of_ffmpeg(tmp_path: Path, ffmpeg: Path) -> None:
    import subprocess

    image = picture(32, 48)
    (tmp_path / "rgb").write_bytes(image.tobytes())
    scale = "scale=in_range=full:out_color_matrix=bt709:out_range=limited:flags=accurate_rnd+full_chroma_int+bitexact"
    command = [str(ffmpeg / "bin" / "ffmpeg"), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "48x32"]
    command += ["-i", str(tmp_path / "rgb"), "-vf", scale, "-pix_fmt", "yuv444p10le", "-f", "rawvideo", "pipe:1"]
    theirs = subprocess.run(command, capture_output=True, check=True).stdout
    ours = YuvFormat("4:4:4", 10, "bt709", "limited").write(image)
    difference = np.frombuffer(ours, "<u2").astype(int) - np.frombuffer(theirs, "<u2")
    assert np.abs(difference).max() <= 1
    assert np.abs(difference.mean()) < 0.2


def test_conversion_rounds_and_does_not_darken() -> None:
    image = np.random.default_rng(7).integers(0, 256, (64, 64, 3), np.uint8)
    for depth, worst in ((8, 2), (10, 0), (16, 0)):
        layout = YuvFormat("4:4:4", depth, "bt709", "full")
        error = layout.read(layout.write(image), 64, 64).astype(int) - image
        assert np.abs(error).max() <= worst
        assert abs(error.mean()) < 0.02
    smooth = picture(64, 96)
    layout = YuvFormat("4:2:0", 10, "bt709", "limited")
    error = layout.read(layout.write(smooth), 96, 64).astype(int) - smooth
    assert abs(error.mean()) < 0.05  # chroma lies where it was: a shift by half a pixel would show
    assert np.abs(error).mean() < 0.6


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="11 bytes are no 2x2 picture"):
        YuvFormat("4:4:4", 8, "bt709", "full").read(bytes(11), 2, 2)
