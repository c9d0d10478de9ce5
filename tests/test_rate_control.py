"""Finding the operating point of a rate or a quality."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from skimage import data as photographs

from hvqbench import cli, load_codec, load_metric, single
from hvqbench.codec import Bitstream, Codec, CodecSpec, Image, ImageEncoder, Stream
from hvqbench.errors import HvqbenchError
from hvqbench.image import write_image
from hvqbench.rate_control import CLOSE, ENCODES, LARGEST_WEIGHT, Target, UnreachableError, find_point

PHOTO: Image = np.ascontiguousarray(photographs.astronaut()[:160, 160:320])
PIXELS = PHOTO.shape[0] * PHOTO.shape[1]


class Steps(Codec):
    """A stream is as long as a function of the point says; its first bytes tell how far the decoded pixels are off."""

    def __init__(
        self,
        size: Callable[[float], float],
        points: tuple[float, ...] = (0.0, 0.4, 6.4),
        point_name: str = "L",
        options: dict | None = None,
    ) -> None:
        options = {"point_range": (0, math.inf)} if point_name == "L" else options or {}
        super().__init__(CodecSpec("steps", "", "", points, point_name, Path(), options))
        self.size = size
        self.encoded: list[float] = []
        self.decoded = 0

    def encode(self, image: Image, point: float) -> Bitstream:
        self.encoded.append(point)
        length = int(self.size(point))
        return Bitstream(length.to_bytes(4) + bytes(length - 4), {"payload": Stream(length)})

    def decode(self, data: bytes) -> Image:
        self.decoded += 1
        return PHOTO ^ np.uint8(200_000 // len(data))  # the fewer bytes, the worse


def rugged(point: float) -> float:
    """Falls with L, in steps, and now and then rises."""
    smooth = 4000 / math.sqrt(1 + point / 0.4) + 300
    bump = 1.04 if int(math.log1p(point) * 37) % 5 == 0 else 1.0
    return 12 * round(smooth * bump / 12)


def bpp(size: float) -> float:
    return 8 * size / PIXELS


@pytest.mark.parametrize("size", range(320, 4300, 199))
def test_a_rugged_rate_is_met(size: int) -> None:
    codec = Steps(rugged)
    found = find_point(codec, PHOTO, Target("bpp", bpp(size)))
    assert found.reached
    assert abs(found.trial.bpp / bpp(size) - 1) <= 0.02
    assert found.trial.stream.data == codec.encode(PHOTO, found.trial.point).data
    assert len(set(codec.encoded)) == found.encodes <= ENCODES
    assert len(codec.encoded) == found.encodes + 1  # no point twice, but for the line above


def test_a_rate_within_the_tolerance_needs_no_more_than_the_ladder() -> None:
    codec = Steps(rugged)
    assert find_point(codec, PHOTO, Target("bpp", bpp(rugged(6.4)) * (1 + 0.02 * CLOSE / 2))).encodes == 2
    assert codec.encoded == [0, 6.4]


@pytest.mark.parametrize(("size", "nearest"), [(600, 500), (750, 500), (760, 1000)])
def test_a_rate_that_is_jumped_over(size: int, nearest: int) -> None:
    found = find_point(Steps(lambda point: 1000 if point < 1 else 500), PHOTO, Target("bpp", bpp(size)))
    assert not found.reached
    assert len(found.trial.stream.data) == nearest
    assert found.encodes <= ENCODES


def test_a_wide_search_stays_within_its_encodes() -> None:
    """A rate without any order, and a tolerance that nothing meets."""
    codec = Steps(lambda point: 1000 + (crc32(str(point).encode()) % 1000 if point else 999))
    found = find_point(codec, PHOTO, Target("bpp", bpp(1503.7), tolerance=1e-9))
    assert found.encodes == len(codec.encoded) <= ENCODES
    assert not found.reached
    assert found.trial.bpp == min((bpp(codec.size(p)) for p in codec.encoded), key=lambda r: abs(r - bpp(1503.7)))


def test_what_only_the_middle_of_the_ladder_reaches() -> None:
    codec = Steps(lambda point: 1000 if 0.3 < point < 0.5 else 900)
    assert find_point(codec, PHOTO, Target("bpp", bpp(1000))).trial.point == 0.4


def test_points_are_short_numbers() -> None:
    found = find_point(Steps(rugged), PHOTO, Target("bpp", bpp(1500)))
    assert float(f"{found.trial.point:g}") == found.trial.point


@pytest.mark.parametrize("size", [300, 290, 4600])
def test_a_rate_out_of_range(size: int) -> None:
    codec = Steps(lambda point: max(rugged(point), 312))
    with pytest.raises(UnreachableError, match="steps cannot reach bpp") as caught:
        find_point(codec, PHOTO, Target("bpp", bpp(size)))
    assert f"from {bpp(312):.4g} (L " in str(caught.value)
    assert f"to {bpp(rugged(0)):.4g} (L 0)" in str(caught.value)
    assert LARGEST_WEIGHT in codec.encoded


def test_a_codec_with_one_rate() -> None:
    with pytest.raises(UnreachableError, match=r"its bpp is always 0\.3125 \(L 0\)"):
        find_point(Steps(lambda point: 1000, points=(0.0,)), PHOTO, Target("bpp", 0.3))
    found = find_point(Steps(lambda point: 1000, points=(0.0,)), PHOTO, Target("bpp", 0.3125))
    assert (found.reached, found.encodes) == (True, 1)


def test_integer_points_stay_integers() -> None:
    codec = Steps(lambda qp: 8000 * 2 ** (-qp / 6), (27.0, 32.0, 51.0), "qp", {"point_range": [0, 63]})
    found = find_point(codec, PHOTO, Target("bpp", bpp(1000)))
    assert all(point.is_integer() and 0 <= point <= 63 for point in codec.encoded)
    assert (found.trial.point, found.reached) == (18, True)
    between = find_point(codec, PHOTO, Target("bpp", bpp(8000 * 2 ** (-40.4 / 6))))
    assert (between.trial.point, between.reached) == (40, False)


def test_without_a_range_the_ladder_is_all_there_is() -> None:
    codec = Steps(lambda level: 1000 + 100 * level, (1.5, 3.0, 5.0), "level")
    assert find_point(codec, PHOTO, Target("bpp", bpp(1312))).reached
    with pytest.raises(UnreachableError, match=r"\(level 1\.5\) to .* \(level 5\)"):
        find_point(codec, PHOTO, Target("bpp", bpp(2000)))
    assert min(codec.encoded) == 1.5
    assert max(codec.encoded) == 5


def test_the_work_of_an_image_is_shared() -> None:
    class Shared(Steps):
        started = 0

        def encoder(self, image: Image) -> ImageEncoder:
            self.started += 1
            return super().encoder(image)

    codec = Shared(rugged)
    assert find_point(codec, PHOTO, Target("bpp", bpp(2000))).encodes > 2
    assert codec.started == 1


def test_equal_streams_are_judged_once() -> None:
    codec = Steps(lambda point: 4000 if point < 1 else 2000)
    found = find_point(codec, PHOTO, Target("psnr", 14.0))
    assert len(found.trial.stream.data) == 4000
    assert found.encodes > codec.decoded == 2


@pytest.fixture(scope="module", params=["jpeg", "webp"])
def every_quality(request: pytest.FixtureRequest) -> tuple[Codec, list[float], list[float]]:
    """A real codec, and size and PSNR at each of its 101 qualities."""
    codec, psnr = load_codec(request.param), load_metric("psnr")
    streams = [codec.encode(PHOTO, quality).data for quality in range(101)]
    return codec, [bpp(len(s)) for s in streams], [psnr(PHOTO, codec.decode(s)) for s in streams]


def test_rates_of_a_real_codec(every_quality: tuple[Codec, list[float], list[float]]) -> None:
    codec, rates, _ = every_quality
    for wanted in np.geomspace(rates[0], rates[100], 23):
        found = find_point(codec, PHOTO, Target("bpp", float(wanted)))
        nearest = min(abs(rate / wanted - 1) for rate in rates)
        assert found.reached == (nearest <= 0.02)
        assert found.reached or abs(found.trial.bpp / wanted - 1) == pytest.approx(nearest)
        assert found.encodes <= 12


def test_qualities_of_a_real_codec(every_quality: tuple[Codec, list[float], list[float]]) -> None:
    codec, rates, scores = every_quality
    for wanted in np.linspace(scores[0] + 0.01, scores[100], 17):
        found = find_point(codec, PHOTO, Target("psnr", float(wanted)))
        assert found.trial.value >= wanted
        cheapest = min(rate for rate, score in zip(rates, scores, strict=True) if score >= wanted)
        assert found.trial.bpp <= cheapest * 1.02
    found = find_point(codec, PHOTO, Target("psnr", 5.0))  # more than enough everywhere
    assert (found.trial.bpp, found.reached) == (min(rates), True)
    with pytest.raises(UnreachableError, match=rf"cannot reach psnr 70 .* to {max(scores):.4g} \(quality 100\)"):
        find_point(codec, PHOTO, Target("psnr", 70.0))


@pytest.mark.usefixtures("backbones")
def test_less_is_better_for_lpips() -> None:
    codec = load_codec("webp")
    seen: list[float] = []
    found = find_point(codec, PHOTO, Target.parse("lpips=0.1"), lambda trial: seen.append(trial.point))
    assert len(seen) == found.encodes
    assert 0.09 < found.trial.value <= 0.1
    assert load_metric("lpips-alex")(PHOTO, codec.decode(found.trial.stream.data)) == found.trial.value
    worse = codec.decode(codec.encode(PHOTO, found.trial.point - 1).data)
    assert load_metric("lpips-alex")(PHOTO, worse) > 0.1


@pytest.mark.parametrize(("text", "quantity"), [("lpips = 0.2", "lpips-alex"), ("dists=.1", "dists"), ("bpp=1", "bpp")])
def test_names_of_targets(text: str, quantity: str) -> None:
    assert Target.parse(text).quantity == quantity


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lpips", "'lpips' is not a target: write a metric and a number, like lpips-alex=0.2"),
        ("lpips=low", "'lpips=low' is not a target"),
        ("lpisp=0.2", "unknown metric 'lpisp': did you mean"),
        ("dists=2", "dists cannot be 2: name a number from 0 to 1"),
        ("psnr=-1", "psnr cannot be -1: name a number from 0 up"),
        ("psnr=nan", "psnr cannot be nan"),
        ("psnr=inf", "psnr cannot be inf"),
        ("bpp=0", "bpp cannot be 0"),
    ],
)
def test_what_is_no_target(text: str, message: str) -> None:
    with pytest.raises(HvqbenchError, match=re.escape(message)):
        Target.parse(text)


def test_a_metric_that_is_undefined_for_the_image() -> None:
    with pytest.raises(HvqbenchError, match="lpips-alex is undefined below 32 pixels a side"):
        find_point(load_codec("jpeg"), PHOTO[:24, :40].copy(), Target.parse("lpips=0.2"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    write_image(tmp_path / "photo.png", PHOTO)
    return tmp_path / "photo.png"


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``hvqbench compress``."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["compress", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("option", [("--bpp", "1.1"), ("--quality", "psnr=30")])
def test_what_compress_tells(capsys: pytest.CaptureFixture[str], photo: Path, option: tuple[str, str]) -> None:
    out, again = photo.with_name("out.webp"), photo.with_name("again.webp")
    code, said, problems = call(capsys, photo, out, "--codec", "webp", *option)
    assert (code, problems) == (0, "")
    told = re.fullmatch(
        r"\S+: (\d+) bytes, ([\d.]+) bpp(?:, psnr ([\d.]+))? "
        r"\(160x160, webp, quality (\d+), found with \d+ encodes\)\n",
        said,
    )
    assert told, said
    size, rate, psnr, quality = told.groups()
    assert int(size) == out.stat().st_size
    assert float(rate) == pytest.approx(bpp(out.stat().st_size), abs=1e-4)
    assert float(psnr) >= 30 if psnr else float(rate) == pytest.approx(1.1, rel=0.02)
    assert call(capsys, photo, again, "--codec", "webp", "--point", quality)[0] == 0
    assert again.read_bytes() == out.read_bytes()


def test_compress_tells_a_miss(capsys: pytest.CaptureFixture[str], photo: Path) -> None:
    codec = load_codec("jpeg")
    rates = [bpp(len(codec.encode(PHOTO, quality).data)) for quality in range(2, 101)]
    below, above = max(pairwise(rates), key=lambda pair: pair[1] / pair[0])
    assert above > 1.05 * below
    wanted = below + 0.49 * (above - below)
    code, said, _ = call(capsys, photo, photo.with_name("out.jpg"), "--codec", "jpeg", "--bpp", f"{wanted:.6f}")
    assert code == 0
    told = re.search(r"([\d.]+) bpp .*; ([\d.]+) % (above|below) ", said)
    assert told, said
    miss = float(told[1]) / wanted - 1
    assert abs(miss) > 0.02
    assert (float(told[2]), told[3]) == (pytest.approx(100 * abs(miss), abs=0.1), "above" if miss > 0 else "below")


def test_compress_spends_all_that_it_can_where_more_bits_are_allowed(
    capsys: pytest.CaptureFixture[str], photo: Path
) -> None:
    out, best = photo.with_name("out.jpg"), photo.with_name("best.jpg")
    code, said, problem = call(capsys, photo, out, "--codec", "jpeg", "--bpp", "20")
    assert (code, problem) == (0, "")
    assert "the most that it spends on this image, which is below 20 bpp" in said
    call(capsys, photo, best, "--codec", "jpeg", "--point", "100")
    assert out.read_bytes() == best.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bpp", "0.01"], r"jpeg cannot reach bpp 0\.01 on this image: its bpp goes from .*\(quality [01]\) to "),
        (["--quality", "psnr=80"], r"jpeg cannot reach psnr 80 on this image: its psnr goes from .*\(quality 100\)"),
        (["--quality", "sharp=1"], "unknown metric 'sharp'"),
        (["--bpp", "-1"], "bpp cannot be -1: name a number from 0 up"),
        (["--bpp", "1", "--point", "50"], "--point and --bpp each set the operating point: give one of them"),
        (["--lambda", "1"], "codec jpeg has no L, its point is quality: use --point instead of --lambda"),
        (["--lambda", "nan"], "lambda nan is not a finite number; correct --lambda"),
        (["--point", "inf"], "point inf is not a finite number; correct --point"),
    ],
)
def test_compress_fails_with_one_line_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], photo: Path, options: list[str], message: str
) -> None:
    out = photo.with_name("out.jpg")
    out.write_bytes(b"of before")
    code, said, problem = call(capsys, photo, out, "--codec", "jpeg", *options)
    assert (code, said, problem.count("\n")) == (2, "", 1)
    assert re.match(f"hvqbench: {message}", problem), problem
    assert out.read_bytes() == b"of before"
    assert len(list(photo.parent.iterdir())) == 2


@pytest.mark.parametrize(("patience", "shown"), [(-1.0, True), (60.0, False)])
def test_a_long_search_shows_where_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, photo: Path, patience: float, shown: bool
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(single, "PATIENCE_S", patience)
    code, _, progress = call(capsys, photo, photo.with_name("out.jpg"), "--codec", "jpeg", "--bpp", "1")
    assert code == 0
    assert ("looking for bpp 1" in progress) == shown


@pytest.fixture
def vq_codec(vq_catalog: Path) -> Callable[[str], Codec]:
    def load(name: str) -> Codec:
        codec = load_codec(str(vq_catalog / "codecs" / name))
        codec.prepare()
        return codec

    return load


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("tiny-static", (0.2, 0.5, 0.8)),
        ("tiny-hyperprior", (0.2, 0.5, 0.8)),
        ("rvq-context", (0.04, 0.45, 0.7)),  # the last two where one stage more is sent: the rate jumps over them
    ],
)
def test_rates_of_a_vq_codec(vq_codec: Callable[[str], Codec], name: str, shares: tuple[float, ...]) -> None:
    codec = vq_codec(name)
    image = np.ascontiguousarray(photographs.astronaut())
    ends = [8 * len(codec.encode(image, weight).data) / image[..., 0].size for weight in (LARGEST_WEIGHT, 0.0)]
    assert ends[0] < 0.9 * ends[1]
    for share in shares:
        wanted = ends[0] + share * (ends[1] - ends[0])
        found = find_point(codec, image, Target("bpp", wanted))
        assert found.reached
        assert bool(found.encoder) == (name == "rvq-context" and share > 0.1)
        assert abs(8 * len(found.trial.stream.data) / image[..., 0].size / wanted - 1) <= 0.02
    with pytest.raises(UnreachableError, match=r"bpp goes from .* to .*\(L "):
        find_point(codec, image, Target("bpp", ends[1] * 1.1))


def test_lambda_is_the_point_of_a_vq_codec(capsys: pytest.CaptureFixture[str], vq_catalog: Path, photo: Path) -> None:
    folder = vq_catalog / "codecs" / "tiny-static"
    streams = {name: photo.with_name(name) for name in ("lambda", "point")}
    for name, out in streams.items():
        code, said, _ = call(capsys, photo, out, "--codec", folder, f"--{name}", "0.05")
        assert code == 0
        assert "L 0.05)" in said
    assert streams["lambda"].read_bytes() == streams["point"].read_bytes()
    fixed = [photo, photo.with_name("x"), "--codec", folder.with_name("tiny-fixed"), "--bpp"]
    assert "is always" in call(capsys, *fixed, "0.001")[2]
    assert "the most that it spends" in call(capsys, *fixed, "1")[1]
