from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hvqbench import downloads
from hvqbench.catalog import dataset_files
from hvqbench.data import ImageFile, dataset_unavailable, load_dataset
from hvqbench.errors import HvqbenchError, UnavailableError
from hvqbench.image import write_image
from hvqbench.manifest import read_manifest

GREY = np.full((4, 6, 3), 128, np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVQBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HVQBENCH_DATA", raising=False)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, *_: object) -> None:
        raise UnavailableError(f"cannot download {url}: no connection")

    monkeypatch.setattr(downloads, "fetch", fail)


def test_sample_needs_no_network(no_data: None, offline: None) -> None:
    sample = load_dataset("sample")
    assert [image.name for image in sample.images] == [
        *("astronaut", "chelsea", "coffee", "hubble_deep_field"),
        *("ihc", "motorcycle_left", "retina", "rocket"),
    ]
    assert sample.images[0].read().shape == (512, 512, 3)
    assert dataset_unavailable("sample") is None


def test_manifests_are_complete() -> None:
    counts = {"sample": 8, "kodak": 24, "clic2020-professional-valid": 41, "clic2020-test": 428, "div2k-valid": 100}
    manifests = {name: read_manifest(path) for name, path in dataset_files().items()}
    assert counts.items() <= {name: m.images for name, m in manifests.items()}.items()
    for manifest in manifests.values():
        assert manifest.licence
        assert manifest.citation
        assert not manifest.files or len(manifest.files) == manifest.images
        assert manifest.urls or manifest.package or manifest.obtain
        for source in (*manifest.files, *manifest.archives):
            assert not source.sha256 or len(bytes.fromhex(source.sha256)) == 32
    assert all(file.sha256 for file in manifests["kodak"].files)


def test_kodak_is_found_and_verified(data_root: Path, offline: None) -> None:
    kodak = load_dataset("kodak")
    assert [image.name for image in kodak.images] == [f"kodim{n:02d}" for n in range(1, 25)]
    assert kodak.images[3].read().shape == (768, 512, 3)


def test_div2k_crops_are_found(data_root: Path, offline: None) -> None:
    crops = load_dataset("div2k-val-256")
    assert len(crops) == 100
    assert crops.title == "DIV2K-val 256 crops"
    assert crops.images[0].name == "0801"
    assert crops.images[0].read().shape == (256, 256, 3)


def test_an_incomplete_or_altered_kodak_is_an_error(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(data_root / "kodak", tmp_path / "kodak")
    monkeypatch.setenv("HVQBENCH_DATA", str(tmp_path))
    (tmp_path / "kodak" / "kodim05.png").unlink()
    assert "23 of its 24" in (dataset_unavailable("kodak") or "")
    with pytest.raises(HvqbenchError, match=r"has 23 \(the first that is missing: kodim05\.png\)"):
        load_dataset("kodak")
    write_image(tmp_path / "kodak" / "kodim05.png", GREY)
    with pytest.raises(HvqbenchError, match=r"kodim05\.png is not the kodim05\.png of 'kodak'"):
        load_dataset("kodak")


def test_without_data_and_network_the_error_says_where_to_put_it(
    no_data: None, offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UnavailableError, match="put the 24 images of kodak into FOLDER/kodak and set HVQBENCH_DATA=FOLDER"
    ):
        load_dataset("kodak")
    assert not list((tmp_path / "cache" / "datasets").iterdir())  # nothing half-finished stays
    monkeypatch.setenv("HVQBENCH_DATA", str(tmp_path))
    with pytest.raises(UnavailableError, match=f"into {tmp_path}/kodak"):
        load_dataset("kodak")
    with pytest.raises(UnavailableError, match="not on this machine: take the 100 crops"):
        load_dataset("div2k-val-256")
    assert "downloads it (15 MB)" in (dataset_unavailable("kodak") or "")


@pytest.fixture
def archived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own catalog with the data set ``mine``, whose two images lie in a zip archive; returns the archive."""
    archive = tmp_path / "remote.zip"
    write_image(tmp_path / "a.png", GREY)
    with zipfile.ZipFile(archive, "w") as content:
        content.write(tmp_path / "a.png", "valid/b.png")
        content.write(tmp_path / "a.png", "valid/../../a.png")  # must not leave the folder
        content.writestr("__MACOSX/valid/._b.png", b"no image")
        content.writestr("valid/readme.txt", b"no image either")
    manifest = tmp_path / "catalog" / "datasets" / "mine.toml"
    manifest.parent.mkdir(parents=True)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    manifest.write_text(
        f'title = "m"\nsummary = "s"\nlicence = "l"\nimages = 2\n'
        f'[[archives]]\nname = "all"\nurl = "https://example.org/x.zip"\nsha256 = "{digest}"\n'
    )
    monkeypatch.setenv("HVQBENCH_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setattr(downloads, "fetch", lambda url, path, sha256: shutil.copy(archive, path))
    return archive


def test_an_archive_is_downloaded_once_and_unpacked(
    archived: Path, no_data: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [image.name for image in load_dataset("mine").images]
    assert names == ["a", "b"]
    assert load_dataset("mine").images[0].path == tmp_path / "cache" / "datasets" / "mine" / "all" / "a.png"
    assert dataset_unavailable("mine") is None
    monkeypatch.setattr(downloads, "fetch", lambda *_: pytest.fail("downloaded twice"))
    load_dataset("mine")


def test_an_archive_with_too_few_images_leaves_nothing_behind(archived: Path, no_data: None, tmp_path: Path) -> None:
    with zipfile.ZipFile(archived, "w") as content:
        content.write(tmp_path / "a.png", "a.png")
    with pytest.raises(HvqbenchError, match=r"has 2 images, but .* has 1"):
        load_dataset("mine")
    archived.write_bytes(b"PK but no archive")
    with pytest.raises(UnavailableError, match="is not a complete zip archive"):
        load_dataset("mine")
    assert not (tmp_path / "cache" / "datasets" / "mine").exists()


def test_a_folder_of_images(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    for name in ("b.png", "a.PNG", ".hidden.png"):
        write_image(folder / name, GREY)
    (folder / "a.txt").write_text("no image")
    photos = load_dataset(folder)
    assert photos.id == "my-photos"
    assert [image.name for image in photos.images] == ["a", "b"]
    assert load_dataset(str(folder)) == photos
    shutil.copy(folder / "b.png", folder / "b.webp")  # two files of one stem keep their suffixes
    assert [image.name for image in load_dataset(folder).images] == ["a", "b.png", "b.webp"]
    write_image(folder / "b.png.png", GREY)  # a stem that is another's whole name
    assert [image.name for image in load_dataset(folder).images] == ["a", "b.png", "b.png.png", "b.webp"]


def test_names_in_any_script_but_no_broken_ones(tmp_path: Path) -> None:
    for name in ("写真", "画像"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "a.png", GREY)
        assert load_dataset(tmp_path / name).id == name
    write_image(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")), GREY)
    with pytest.raises(HvqbenchError, match=r"caf\\udce9.png' is not valid UTF-8; rename"):
        load_dataset(tmp_path)


def test_a_folder_never_passes_for_a_known_data_set(tmp_path: Path) -> None:
    (tmp_path / "kodak").mkdir()
    write_image(tmp_path / "kodak" / "mine.png", GREY)
    assert load_dataset(tmp_path / "kodak").id == "kodak-folder"


def test_one_image_file(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", GREY)
    single = load_dataset(tmp_path / "a.png")
    assert single.images == (ImageFile("a", tmp_path / "a.png"),)
    np.testing.assert_array_equal(single.images[0].read(), GREY)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match="has no image"):
        load_dataset(tmp_path)
    with pytest.raises(HvqbenchError, match="no folder or image"):
        load_dataset(tmp_path / "missing")
    with pytest.raises(HvqbenchError, match="did you mean 'kodak'"):
        load_dataset("kodack")
    with pytest.raises(HvqbenchError, match="unknown dataset"):
        dataset_unavailable("kodack")


def test_a_bad_manifest_is_one_clear_line(tmp_path: Path) -> None:
    manifest = tmp_path / "x.toml"
    manifest.write_text('title = "x"\ncolour = "red"\n')
    with pytest.raises(HvqbenchError, match="unknown key 'colour'"):
        read_manifest(manifest)
    manifest.write_text('title = "x"\n')
    with pytest.raises(HvqbenchError, match=r"the key 'summary' is missing"):
        read_manifest(manifest)
    manifest.write_text('title = "x"\nfiles = [{ nam = "a.png" }]\n')
    with pytest.raises(HvqbenchError, match="'nam'"):
        read_manifest(manifest)


GOOD = 'title = "x"\nsummary = "s"\nlicence = "l"\nimages = 1\n'
SHA = "0" * 64


@pytest.mark.parametrize("kind", ["files", "archives"])
@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (f'name = "../../TRAVERSED.png", url = "https://e.org/x", sha256 = "{SHA}"', "must be a bare file name"),
        (f'name = "/tmp/a.png", url = "https://e.org/x", sha256 = "{SHA}"', "must be a bare file name"),
        (f'name = "a\\\\b.png", url = "https://e.org/x", sha256 = "{SHA}"', "must be a bare file name"),
        (f'name = "..", url = "https://e.org/x", sha256 = "{SHA}"', "must be a bare file name"),
        (f'name = "", url = "https://e.org/x", sha256 = "{SHA}"', "must be a bare file name"),
        (f'name = "a.png", url = "http://e.org/x", sha256 = "{SHA}"', "must begin with https://"),
        (f'name = "a.png", url = "file:///etc/passwd", sha256 = "{SHA}"', "must begin with https://"),
        ('name = "a.png", url = "https://e.org/x"', "needs its sha256, 64 digits"),
        ('name = "a.png", url = "https://e.org/x", sha256 = "7be5be79"', "needs its sha256, 64 digits"),
        ('name = "a.png", url = 3', "url = 3: set it to text in quotes"),
    ],
)
def test_a_manifest_writes_and_fetches_only_what_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, source: str, problem: str
) -> None:
    manifest = tmp_path / "catalog" / "datasets" / "evil.toml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(f"{GOOD}{kind} = [{{ {source} }}]\n")
    monkeypatch.setenv("HVQBENCH_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setattr(downloads, "fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(HvqbenchError, match=problem) as caught:
        load_dataset("evil")
    assert str(manifest) in str(caught.value)


def test_a_manifest_of_wrong_types_or_outside_its_package_is_one_line(tmp_path: Path) -> None:
    manifest = tmp_path / "x.toml"
    for text, problem in (
        (GOOD.replace("images = 1", 'images = "one"'), "images = .one.: set it to a whole number"),
        (GOOD.replace('"s"', "3"), "summary = 3: set it to text in quotes"),
        (GOOD + 'files = ["a.png"]\n', "files = 'a.png': write it as a table"),
        (GOOD + "files = 3\n", "files = 3: make it a list"),
        (GOOD + 'package = "skimage/../../.."\n', "below the module"),
    ):
        manifest.write_text(text)
        with pytest.raises(HvqbenchError, match=problem):
            read_manifest(manifest)


def test_all_suffixes_of_what_can_be_read_count_and_others_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image as pil

    kinds = {"a.png": "PNG", "b.jfif": "JPEG", "c.JPE": "JPEG", "d.jp2": "JPEG2000", "e.pbm": "PPM", "f.apng": "PNG"}
    for name, kind in kinds.items():
        pil.new("1" if kind == "PPM" else "RGB", (4, 4)).save(tmp_path / name, kind)
    assert [image.name for image in load_dataset(tmp_path).images] == ["a", "b", "c", "d", "e", "f"]
    assert all(image.read().shape == (4, 4, 3) for image in load_dataset(tmp_path).images)
    assert capsys.readouterr().err == ""
    for name in ("g.heic", "h.heic", "i.jxl", "j", "notes.txt", ".hidden.heic"):
        (tmp_path / name).write_bytes(b"anything")
    (tmp_path / "folder.tga").mkdir()
    assert len(load_dataset(tmp_path)) == 6
    said = capsys.readouterr().err
    assert said == f"hvqbench: left out of {tmp_path}, no image by its suffix: 2 .heic, 1 .jxl, 1 without a suffix\n"


def test_a_long_name_in_any_script_is_an_id(tmp_path: Path) -> None:
    ids = set()
    for name in ("\u5199\u771f\u30c7\u30fc\u30bf\u96c6" * 8, "f" * 255, "f" * 254 + "g"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "a.png", GREY)
        ids.add(load_dataset(tmp_path / name).id)
    assert len(ids) == 3
    assert "\u5199\u771f\u30c7\u30fc\u30bf\u96c6" * 8 in ids  # 144 bytes are not too long
    assert max(len(name.encode()) for name in ids) <= 200


def test_an_image_is_read_as_what_it_was_or_not_at_all(tmp_path: Path) -> None:
    from dataclasses import replace

    from hvqbench.codec import image_digest

    write_image(tmp_path / "a.png", GREY)
    (image,) = load_dataset(tmp_path).images
    known = replace(image, sha256=image_digest(GREY))
    np.testing.assert_array_equal(known.read(), GREY)
    write_image(tmp_path / "a.png", GREY + 1)
    assert image.read()[0, 0, 0] == 129
    with pytest.raises(HvqbenchError, match=r"a\.png has other pixels than when the run began: .*run the same command"):
        known.read()
