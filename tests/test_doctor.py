"""The doctor finds nothing wrong with a good codec, and in each broken one what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hvqbench import cli
from hvqbench.doctor import CHECK_NAMES, Examination, Finding, examine
from hvqbench.doctor import examination as examining
from hvqbench.doctor.check_runner import CheckRunner
from hvqbench.doctor.checks import CHECKS
from hvqbench.doctor.pictures import SIZES, inputs, photographs, sizes, synthetic
from hvqbench.errors import HvqbenchError

DOCS = Path(__file__).parents[1] / "docs"
TOML = 'summary = "shifted and zipped"\npoint_name = "bits"\npoints = [1, 3, 5, 8]\n[options]\nlevel = 6\n'
GOOD = """
import os, time, zlib
import numpy as np
from hvqbench.codec import Bitstream, Codec, ImageEncoder, Stream, image_digest
from hvqbench.errors import BitstreamError, HvqbenchError

class Good(Codec):
    point_range = (1.0, 8.0)

    def encode(self, image, point):
        if point not in range(1, 9):
            raise HvqbenchError(f"{self.id}: bits {point:g} are none of 1 to 8; correct the point")
        shift = 8 - int(point)
        height, width = image.shape[:2]
        head = b"GOOD" + height.to_bytes(4) + width.to_bytes(4) + bytes([shift])
        body = zlib.compress((image >> shift).tobytes(), self.spec.options["level"])
        data = head + body + zlib.crc32(head + body).to_bytes(4)
        ledger = {"header": Stream(17), "body": Stream(len(body), 8.0 * len(body))}
        digest = image_digest(self.restored(image >> shift, shift))
        return Bitstream(data, ledger, digest)

    def decode(self, data):
        if data[:4] != b"GOOD" or data[-4:] != zlib.crc32(data[:-4]).to_bytes(4):
            raise BitstreamError(f"{self.id}: checksum mismatch; encode the image again")
        height, width, shift = int.from_bytes(data[4:8]), int.from_bytes(data[8:12]), data[12]
        rgb = np.frombuffer(zlib.decompress(data[13:-4]), np.uint8).reshape(height, width, 3)
        return self.restored(rgb, shift)

    def restored(self, rgb, shift):
        return (rgb << shift) + np.uint8((1 << shift) >> 1)
"""
Edit = tuple[str, str]
"""What is replaced in the good codec, and by what."""
NO_CHECKSUM: Edit = ("data[-4:] != zlib.crc32(data[:-4]).to_bytes(4)", "False")
NO_POINTS: Edit = ("point not in range(1, 9)", "False")
RANDOM_PIXELS: Edit = (
    "np.uint8((1 << shift) >> 1)",
    "(np.frombuffer(os.urandom(rgb.size), np.uint8) % 2).reshape(rgb.shape)",
)


def has(member: str) -> Edit:
    """One more member of the class."""
    return "point_range = (1.0, 8.0)\n", f"point_range = (1.0, 8.0)\n    {member}\n"


def encodes(*lines: str) -> Edit:
    """More lines in encode()."""
    return "shift = 8 - int(point)\n", "\n        ".join(["shift = 8 - int(point)", *lines]) + "\n"


def decodes(expression: str) -> Edit:
    """What decode() returns instead."""
    return "return self.restored(rgb, shift)", f"return {expression}"


def body(expression: str) -> Edit:
    """More bytes in the body, which zlib does not mind."""
    return '["level"])', f'["level"]) + {expression}'


def refuses(*lines: str) -> Edit:
    """More lines where decode() meets a damaged stream."""
    return "raise BitstreamError(", "\n            ".join([*lines, "raise BitstreamError("])


def write(folder: Path, *edits: Edit, toml: str = TOML) -> Path:
    """The good codec with some edits."""
    source = GOOD
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    folder.mkdir(parents=True)
    (folder / "codec.toml").write_text(toml)
    (folder / "adapter.py").write_text(source)
    return folder


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Finding]:
    """One check of the good codec with some edits, in this process."""

    def ask(check: str, *edits: Edit, toml: str = TOML) -> Finding:
        folder = write(tmp_path / "codecs" / "own", *edits, toml=toml)
        return CheckRunner()(check, str(folder), "cpu", tmp_path / "notes")

    return ask


def found(examination: Examination, check: str) -> Finding:
    return next(finding for finding in examination.findings if finding.check == check)


def test_a_good_codec_passes_every_check(tmp_path: Path) -> None:
    told: list[Finding] = []
    examination = examine(str(write(tmp_path / "own")), watch=told.append)
    assert [finding.check for finding in examination.findings] == list(CHECK_NAMES)
    assert {finding.status for finding in examination.findings} == {"ok"}, examination
    assert tuple(told) == examination.findings
    assert examination.codec == "own"
    assert re.fullmatch(r"\d+ of \d+ refused", found(examination, "damage").detail)


BROKEN: dict[str, tuple[str, str, tuple[Edit, ...]]] = {
    "no remedy": ("availability", "not what to do: 'no weights'", (has('unavailable = lambda self: "no weights"'),)),
    "two lines": ("availability", r"returned 'a\\nb'", (has(r'unavailable = lambda self: "a\nb"'),)),
    "raises": ("availability", "ZeroDivisionError", (has("unavailable = lambda self: 1 / 0"),)),
    "no weights": (
        "preparation",
        r"prepare\('cpu'\): ZeroDivisionError",
        (has("prepare = lambda self, device: 1 / 0"),),
    ),
    "prepares once": ("preparation", "IndexError: pop", (has("prepare = lambda self, device, seen=[0]: seen.pop()"),)),
    "no bitstream": (
        "round-trip",
        r"encode\(\) returned bytes",
        (("return Bitstream(data, ledger, digest)", "return data"),),
    ),
    "floats": ("round-trip", r"decode\(\) returned float64 of shape", (decodes("self.restored(rgb, shift) / 1.0"),)),
    "loses a row": ("round-trip", "256x192 came back as 256x191", (decodes("self.restored(rgb, shift)[:-1]"),)),
    "wrong sum": (
        "round-trip",
        r"encoding a photograph at bits 1: ValueError: the ledger adds up to \d+ bytes but the bitstream has \d+",
        (("Stream(17)", "Stream(16)"),),
    ),
    "BGR": ("picture", "like the original with red and blue", (decodes("self.restored(rgb, shift)[..., ::-1]"),)),
    "flipped": ("picture", "like the original upside down", (decodes("self.restored(rgb, shift)[::-1]"),)),
    "cut wrongly": ("picture", "shifted by -1 in axis 1", (decodes("np.roll(self.restored(rgb, shift), -1, 1)"),)),
    "all black": ("picture", "next to plain", (decodes("0 * rgb"),)),
    "no single columns": (
        "sizes",
        r"3 of 19 fail \(1x1, 1x2, 1x180\); 1x1: ZeroDivisionError: .*\(at bits 1\)",
        (encodes("1 // (image.shape[1] - 1)"),),
    ),
    "even sides only": (
        "sizes",
        r"13 of 19 fail \(1x1, .*, \.\.\.\); 1x1: 1x1 came back as 1x2",
        (decodes("np.pad(self.restored(rgb, shift), ((0, height % 2), (0, 0), (0, 0)))"),),
    ),
    "nothing plain": (
        "contents",
        r"2 of 6 fail \(black, white\); black: ZeroDivision",
        (encodes("1 // int(np.ptp(image))"),),
    ),
    "grey is flat": (
        "inputs",
        r"4 of 7 fail \(grey, grey with alpha, black and white, 16-bit grey\); grey: decode\(\) returned uint8 of sh",
        (decodes("self.restored(rgb[..., 0] if (rgb == rgb[..., :1]).all() else rgb, shift)"),),
    ),
    "ideal bytes": (
        "ledger",
        r"coded bits for \d+ ideal ones \(at bits 1\) are not",
        (("8.0 * len(body)", "1.0 * len(body)"),),
    ),
    "better than ideal": ("ledger", "are not plausible", (("8.0 * len(body)", "16.0 * len(body)"),)),
    "no number": ("ledger", "stream 'body' has nan ideal bits", (("8.0 * len(body)", "float('nan')"),)),
    "negative stream": (
        "ledger",
        "stream 'header' has -3 bytes",
        (("Stream(17)", "Stream(-3)"), ("Stream(len(body),", "Stream(len(body) + 20,")),
    ),
    "changed later": (
        "ledger",
        r"the ledger adds up to 0 bytes, the bitstream has",
        (
            (
                "return Bitstream(data, ledger, digest)",
                "made = Bitstream(data, ledger, digest); ledger.clear(); return made",
            ),
        ),
    ),
    "random bytes": ("repeatable", "encoded twice .*, to different bytes", (body("os.urandom(9)"),)),
    "encoder remembers": (
        "repeatable",
        "encoded twice .*, to different bytes",
        (encodes("self.seen = getattr(self, 'seen', 0) + 1"), body("bytes([self.seen])")),
    ),
    "random pixels": ("repeatable", "decoded twice .* different digests", (RANDOM_PIXELS,)),
    "wrong digest": (
        "digest",
        "the encoder declares another digest",
        (("shift, shift))\n", "shift, shift)[::-1])\n"),),
    ),
    "constant digest": (
        "digest",
        "two photographs have one digest",
        (
            has("digest = lambda self, data, image: 'same'"),
            ("image_digest(self.restored(image >> shift, shift))", "'same'"),
        ),
    ),
    "no digest": ("digest", r"digest\(\) returned None", (has("digest = lambda self, data, image: None"),)),
    "clips points": (
        "points",
        "bits -1 is taken, though the points go from 1 to 8",
        (NO_POINTS, encodes("shift = min(max(shift, 0), 7)")),
    ),
    "no upper end": (
        "points",
        "bits 1008 is taken",
        (("point not in range(1, 9)", "point < 1"), encodes("shift = max(shift, 0)")),
    ),
    "wrong error": ("points", "bits -1 ends in ValueError: ", (("raise HvqbenchError(", "raise ValueError("),)),
    "rounds points": (
        "points",
        "bits 7.5 is taken for an integer without a word",
        (("point not in range(1, 9)", "not 1 <= point <= 8"),),
    ),
    "ladder falls": (
        "ladder",
        r"from bits 3 to 5 the rate goes the wrong way: \d+ to \d+ bytes",
        (encodes("shift = 6 if point == 5 else shift"),),
    ),
    "worse for more": (
        "ladder",
        r"from bits 5 to 8 the PSNR goes the wrong way: [\d.]+ to [\d.]+ dB",
        (decodes("self.restored(rgb ^ np.uint8(0 if shift else 15), shift)"),),
    ),
    "flat ladder": ("ladder", r"both ends of the ladder give \d+ bytes", (encodes("shift = 2"),)),
    "other encoder": (
        "encoder",
        r"encoder\(\) at bits 1 gives other bytes",
        (has("encoder = lambda self, image: ImageEncoder(lambda point: self.encode(image, 9 - point))"),),
    ),
    "no encoder": (
        "encoder",
        "returns dict, not ImageEncoder",
        (has("encoder = lambda self, image: {'a': None}"),),
    ),
    "encoder cuts": (
        "encoder",
        "variant 'a' at bits 1 makes a stream that decodes to another size",
        (
            has(
                "encoder = lambda self, i: "
                "ImageEncoder(lambda p: self.encode(i, p), {'a': lambda p: self.encode(i[1:], p)})"
            ),
        ),
    ),
    "constant fingerprint": (
        "fingerprint",
        "'level' changed and the fingerprint did",
        (has("fingerprint = 64 * 'a'"),),
    ),
    "random fingerprint": (
        "fingerprint",
        "another object of the same codec has another fingerprint",
        (has("fingerprint = property(lambda self: os.urandom(32).hex())"),),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_codec_fails_for_the_right_reason(ask: Callable[..., Finding], name: str) -> None:
    check, reason, edits = BROKEN[name]
    finding = ask(check, *edits)
    assert finding.status == "failed", finding
    assert re.search(reason, finding.detail), finding.detail
    assert finding.remedy
    assert "\n" not in finding.detail


def test_every_check_is_seen_to_fail() -> None:
    assert {check for check, _, _ in BROKEN.values()} | {"definition"} == set(CHECKS)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ("[1, 1, 8]", r"the ladder is \[1.0, 1.0, 8.0\]"),
        ("[]", "ladder is"),
        ("[1, nan]", "nan"),
        ("[1, 9]", "from 1 to 8"),
    ],
)
def test_a_ladder_that_is_none(ask: Callable[..., Finding], points: str, reason: str) -> None:
    finding = ask("definition", toml=TOML.replace("[1, 3, 5, 8]", points))
    assert finding.status == "failed"
    assert re.search(reason, finding.detail)


def test_a_codec_that_cannot_be_loaded_fails_its_definition(ask: Callable[..., Finding]) -> None:
    finding = ask("definition", ("import os,", "import no_such_module,"))
    assert finding.status == "failed"
    assert "No module named 'no_such_module'" in finding.detail


def test_a_coarse_quantiser_rounds_no_points(ask: Callable[..., Finding]) -> None:
    """2.5 is 3 to it, but 7.5 is neither 7 nor 8."""
    halves = encodes("point = point if point == 7.5 else int(point + 0.5)", "shift = 8 - int(point)")
    finding = ask(
        "points", ("point not in range(1, 9)", "not 1 <= point <= 8"), halves, body("bytes([int(2 * point)])")
    )
    assert finding.status == "ok", finding


def test_what_has_no_ladder_cannot_run_either(ask: Callable[..., Finding]) -> None:
    finding = ask("definition", LACKING, toml=TOML.replace("[1, 3, 5, 8]", "[]"))
    assert (finding.status, finding.detail) == ("ok", "no ladder, and no way to run")


def test_one_point_is_no_ladder(ask: Callable[..., Finding]) -> None:
    finding = ask("ladder", toml=TOML.replace("[1, 3, 5, 8]", "[4]"))
    assert (finding.status, finding.detail) == ("skipped", "the ladder has one point only")


def test_a_stochastic_decoder_is_let_differ_if_it_says_so(ask: Callable[..., Finding]) -> None:
    finding = ask("repeatable", RANDOM_PIXELS, toml=TOML + "[protocol]\nstochastic = true\n")
    assert finding.status == "ok"
    assert "decodes may differ" in finding.detail


def examined(folder: Path, check: str, *edits: Edit, **options: float) -> Finding:
    examination = examine(str(write(folder / "own", *edits)), checks=[check], **options)
    return found(examination, check)


def test_what_kills_the_process_is_told_with_the_step(tmp_path: Path) -> None:
    finding = examined(tmp_path, "sizes", encodes("if image.shape[1] == 3: os.abort()"))
    assert finding.status == "failed"
    assert finding.detail.startswith("encoding 3x5 at bits 5: the codec process was killed by SIGABRT")


def test_what_hangs_is_ended(tmp_path: Path) -> None:
    finding = examined(tmp_path, "sizes", encodes("while image.shape[1] == 3: time.sleep(1)"), timeout_s=3)
    assert finding.detail == "encoding 3x5 at bits 5: no answer after 3 s"
    assert "--timeout" in finding.remedy


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        (
            (encodes("Good.last = image >> shift"), decodes("self.restored(getattr(Good, 'last', rgb // 2), shift)")),
            "a process that did not encode the stream decodes it to another digest",
        ),
        (
            (encodes("Good.last = image"), decodes("self.restored(rgb * (Good.last[0, 0, 0] > 0), shift)")),
            "AttributeError",
        ),
        ((body("os.getpid().to_bytes(4)"),), "another process encodes the photograph to other bytes"),
        (
            (has("fingerprint = property(lambda self: f'{os.getpid():020}')"),),
            "another process computes another fingerprint",
        ),
    ],
)
def test_what_only_another_process_shows(tmp_path: Path, edits: tuple[Edit, ...], reason: str) -> None:
    finding = examined(tmp_path, "other-process", *edits)
    assert finding.status == "failed"
    assert reason in finding.detail


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (NO_CHECKSUM, r"\d+ of 30 damaged streams are no BitstreamError; .*: error: Error -\d+ while decompressing"),
        (refuses("os.abort()"), "the first 0 bytes: decoding .* killed by SIGABRT"),
        (refuses("time.sleep(60)"), "no answer after 2 s"),
        (refuses("np.ones(1 << 34)"), "it takes more than 8 GiB of memory"),
        (refuses("return np.zeros((3, 5))"), r"returned float64 of shape \(3, 5\)"),
        (refuses("if not data: return np.zeros((3, 5, 3), np.uint8)"), "it decodes, so something else"),
    ],
)
def test_what_a_damaged_stream_must_not_do(tmp_path: Path, edit: Edit, reason: str) -> None:
    finding = examined(tmp_path, "damage", edit, timeout_s=2 if "sleep" in edit[1] else 60)
    assert finding.status == "failed"
    assert re.search(reason, finding.detail), finding.detail


def test_damage_that_nobody_notices_is_told(tmp_path: Path) -> None:
    finding = examined(tmp_path, "damage", refuses("if data: return np.zeros((3, 5, 3), np.uint8)"))
    assert finding.status == "ok"
    assert finding.detail == "1 of 30 refused, 29 decoded to other pixels"


def test_damages_are_each_another_stream() -> None:
    data = bytes(range(200))
    streams = examining.damages(data)
    assert data not in streams.values()
    assert len(set(streams.values())) == len(streams)
    assert streams == examining.damages(data)
    assert b"" in streams.values()
    assert examining.damages(b"")  # what a broken encoder may give


def test_without_an_essential_check_the_others_are_skipped(tmp_path: Path) -> None:
    examination = examine(str(write(tmp_path / "own", ("Stream(17)", "Stream(16)"))))
    assert examination.count("failed") == 1
    assert found(examination, "round-trip").status == "failed"
    skipped = [finding for finding in examination.findings if finding.status == "skipped"]
    assert [finding.check for finding in skipped] == list(CHECK_NAMES[4:])
    assert "before round-trip is well" in skipped[0].detail


def test_an_unknown_check_is_one_line() -> None:
    with pytest.raises(HvqbenchError, match=r"unknown check 'size': did you mean 'sizes'\? they are definition, "):
        examine("jpeg", checks=["size"])


def test_pictures_are_what_they_are_called() -> None:
    assert all(photo.shape == (192, 256, 3) and photo.std() > 30 for photo in photographs())
    assert {name: image.shape for name, image in sizes().items()} == {f"{w}x{h}": (h, w, 3) for w, h in SIZES}
    assert all(image.dtype == np.uint8 and image.shape == (48, 64, 3) for image in synthetic().values())
    read = inputs()
    assert all(image.dtype == np.uint8 and image.shape == (81, 101, 3) for image in read.values())
    np.testing.assert_array_equal(read["16-bit RGB"], photographs()[0][60:141, 70:171])
    np.testing.assert_array_equal(read["16-bit grey"][..., 2], photographs()[0][60:141, 70:171, 1])
    assert (read["RGBA"][:, 0] == 255).all()


def doctor(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor", *map(str, arguments)])
    assert isinstance(caught.value.code, int)
    return caught.value.code, capsys.readouterr().out


def test_the_command_tells_each_check_and_exits_with_0(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text = doctor(capsys, write(tmp_path / "own"), "--check", "sizes,ladder")
    assert code == 0
    lines = text.splitlines()
    assert lines[0].endswith("own")
    checks = ["definition", "availability", "preparation", "round-trip", "sizes", "ladder"]
    assert [line.split()[:2] for line in lines[1:7]] == [["ok", check] for check in checks]
    assert lines[7] == "  6 ok, 0 failed, 0 skipped"


def test_the_command_exits_with_1_and_tells_the_remedy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = write(tmp_path / "own", *BROKEN["BGR"][2])
    code, text = doctor(capsys, folder, "--check", "picture")
    assert code == 1
    assert "  failed   picture         what is decoded is more like the original with red and blue exchanged" in text
    assert "do: check the order of channels" in text
    code, text = doctor(capsys, folder, "--check", "picture", "--json")
    assert code == 1
    (examination,) = json.loads(text)
    assert examination["codec"] == "own"
    assert examination["findings"][-1]["status"] == "failed"
    assert examination["findings"][-1]["remedy"].startswith("check the order")


LACKING = has('unavailable = lambda self: "x.pt is missing: download it from https://example.org"')


def test_a_codec_that_cannot_run_is_said_and_exits_with_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text = doctor(capsys, write(tmp_path / "own", LACKING))
    assert code == 2
    assert "not available: x.pt is missing: download it from https://example.org" in text
    examination = json.loads(doctor(capsys, tmp_path / "own", "--json")[1])[0]
    assert examination["unavailable"].startswith("x.pt is missing")
    assert [finding["check"] for finding in examination["findings"]] == ["definition", "availability"]


def test_without_a_name_all_are_examined_and_none_stops_the_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "codecs" / "fine")
    write(tmp_path / "codecs" / "lacking", LACKING)
    monkeypatch.setenv("HVQBENCH_CATALOG", str(tmp_path))
    monkeypatch.setattr("hvqbench.catalog.content_folders", lambda kind: [tmp_path / kind])
    code, text = doctor(capsys, "--check", "round-trip")
    assert code == 0, text
    assert "fine\n  ok       definition" in text
    assert "lacking\n  not available: x.pt" in text


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_a_shipped_codec_passes(name: str) -> None:
    """`hvqbench doctor` examines all of them, in minutes."""
    examination = examine(name)
    assert examination.count("ok") == len(CHECK_NAMES), examination


def test_a_vq_codec_passes(vq_catalog: Path) -> None:
    """It declares digests and ideal bits, and has no last point."""
    examination = examine(str(vq_catalog / "codecs" / "rvq-hyperprior"))
    assert [f for f in examination.findings if f.status == "failed" and f.check not in ("picture", "ladder")] == []
    assert "what the encoder declares holds" in found(examination, "digest").detail
    assert "coded for" in found(examination, "ledger").detail
    assert "refused" in found(examination, "damage").detail
    assert "stages" in found(examination, "encoder").detail


def test_the_documentation_names_every_check() -> None:
    text = (DOCS / "doctor.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)) == CHECK_NAMES


def test_the_documentation_shows_what_is_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = (DOCS / "codecs.md").read_text(encoding="utf-8").partition("## How do I add my own?")[2]
    folder = tmp_path / "codecs" / "mine"
    folder.mkdir(parents=True)
    for language, name in (("toml", "codec.toml"), ("python", "adapter.py")):
        (folder / name).write_text(re.findall(rf"^```{language}\n(.*?)^```$", own, re.DOTALL | re.MULTILINE)[0])
    monkeypatch.setenv("HVQBENCH_CATALOG", "")
    code, text = doctor(capsys, "mine", "--catalog", tmp_path)
    assert code == 1
    shown = re.search(
        r"^```text\n(.*?)^```$", (DOCS / "doctor.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert shown
    assert text.strip() == shown[1].strip()
