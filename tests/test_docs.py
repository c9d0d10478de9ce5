"""The documentation says what is so: links lead somewhere, commands parse, examples run, tables name what there is."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from hvqbench import cli
from hvqbench.adapters import command
from hvqbench.catalog import load_codec, read_spec
from hvqbench.codec import CodecSpec
from hvqbench.manifest import Manifest, read_manifest
from hvqbench.protocol import Needs, Protocol

ROOT = Path(__file__).parents[1]
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted(ROOT.glob("docs/*.md"))]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def section(text: str, title: str) -> str:
    """From the heading *title* to the next heading of its level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def table(text: str) -> dict[str, list[str]]:
    """The rows of Markdown tables: every name in backticks of a first cell, and the other cells."""
    rows: dict[str, list[str]] = {}
    for line in text.splitlines():
        first, *others = [cell.strip() for cell in line.strip().strip("|").split(" |")]
        if line.startswith("| `"):
            rows |= dict.fromkeys(re.findall(r"`([^`]+)`", first), others)
    return rows


def commands(program: str) -> Iterator[tuple[str, str]]:
    """Every command line of *program* in a fenced block, with the page that has it."""
    for path in PAGES:
        for block in blocks(path.read_text(encoding="utf-8"), "console"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith(f"$ {program} "):
                    yield path.name, line.removeprefix("$ ")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_and_images_exist(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if not re.match(r"https?:|#", link)]
    missing = [link for link in local if not (path.parent / link).exists()]
    assert not missing


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", page("index.md")))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}


@pytest.fixture(scope="module")
def parse() -> Callable[[list[str]], Any]:
    """Parses a command line as ``hvqbench`` does, and runs nothing."""
    command: Any = typer.main.get_command(cli.app)

    def disarm(command: Any) -> None:
        command.callback = lambda **_: None
        for child in getattr(command, "commands", {}).values():
            disarm(child)

    disarm(command)
    return lambda arguments: command(arguments, prog_name="hvqbench", standalone_mode=False)


def test_the_parser_of_this_test_refuses_what_is_wrong(parse: Callable[[list[str]], Any]) -> None:
    parse(["run", "--codec", "jpeg", "--dataset", "sample"])
    for wrong in ("rnu --codec jpeg", "run --codec jpeg", "run --codec jpeg --dataset x --jbos 2", "train tokeniser"):
        with pytest.raises(Exception, match=r"No such|Missing"):
            parse(wrong.split())


@pytest.mark.parametrize(("where", "line"), list(commands("hvqbench")))
def test_commands_parse(parse: Callable[[list[str]], Any], where: str, line: str) -> None:
    parse(shlex.split(line)[1:])


@pytest.mark.parametrize(("where", "line"), list(commands("make")))
def test_make_targets_exist(where: str, line: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in line.split()[1:]:
        name, is_variable, _ = word.partition("=")
        there = rf"\$\((if )?{name}\b" if is_variable else rf"^{re.escape(name)}:"
        assert re.search(there, makefile, re.MULTILINE), word


@pytest.mark.parametrize(
    "path", [path for path in PAGES if "```python" in path.read_text()], ids=lambda path: path.name
)
def test_python_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(path.read_text(encoding="utf-8"), "python"):
        exec(compile(block, path.name, "exec"), {"__name__": "example"})


def test_toml_examples_are_toml() -> None:
    for path in PAGES:
        for block in blocks(path.read_text(encoding="utf-8"), "toml"):
            tomllib.loads(block)


def test_the_codec_of_the_documentation_works(tmp_path: Path) -> None:
    own = section(page("codecs.md"), "How do I add my own?")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "codec.toml").write_text(blocks(own, "toml")[0])
    (folder / "adapter.py").write_text(blocks(own, "python")[0])
    codec = load_codec(str(folder))
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    stream = codec.encode(image, codec.points[0])
    assert {name: part.bytes for name, part in stream.ledger.items()} == {"header": 8, "pixels": 45}
    assert np.array_equal(codec.decode(stream.data), image)


CODEC_KEYS = {field.name for field in dataclasses.fields(CodecSpec)} - {"id", "folder"}


def test_keys_of_a_codec() -> None:
    documented = table(section(page("codecs.md"), "The keys of a codec.toml").partition("Options of the shipped")[0])
    assert documented.keys() == CODEC_KEYS


def test_every_documented_key_of_a_codec_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    values = {"summary": '"s"', "points": "[1]", "point_name": '"q"', "adapter": '"a:B"', "tags": '["t"]'}
    values |= {"options": "{x = 1}", "reference": '"r"', "protocol": "{resizes = true}", "needs": "{gpu = true}"}
    assert values.keys() == CODEC_KEYS
    (folder / "codec.toml").write_text("\n".join(f"{key} = {value}" for key, value in values.items()))
    spec = read_spec(folder / "codec.toml")
    assert (spec.id, spec.adapter, spec.summary, spec.points) == ("mine", "a:B", "s", (1.0,))
    assert (spec.point_name, spec.options, spec.tags, spec.reference) == ("q", {"x": 1}, ("t",), "r")
    assert (spec.protocol, spec.needs) == (Protocol(resizes=True), Needs(gpu=True))


def test_every_option_of_the_command_adapter_is_documented() -> None:
    text = section(page("codecs.md"), "How do I run an external encoder and decoder?")
    names, _, options = text.partition("| option |")
    assert table(names).keys() == set(command.NAMES)
    fields = {field.name: field.default for field in dataclasses.fields(command.CommandOptions)}
    assert table(options).keys() == fields.keys()
    defaults = {name: cells[0] for name, cells in table(options).items()}
    assert float(defaults["timeout_s"]) == fields["timeout_s"]
    assert defaults["suffix"] == f"`{fields['suffix']}`"
    assert {name for name, default in defaults.items() if default == "required"} == {"encode", "decode", "input"}


def test_both_tables_of_a_declaration_are_documented() -> None:
    text = section(page("codecs.md"), "What must a codec declare?")
    protocol, _, needs = text.partition("`[needs]`")
    assert table(protocol).keys() == Protocol.__dataclass_fields__.keys()
    assert table(needs).keys() == Needs.__dataclass_fields__.keys()


def test_keys_of_a_manifest(tmp_path: Path) -> None:
    own = section(page("datasets.md"), "How do I add a data set?")
    assert table(own).keys() == {field.name for field in dataclasses.fields(Manifest)} - {"id"}
    required = {name for name, cells in table(own).items() if "required" in cells[0]}
    without_default = [f.name for f in dataclasses.fields(Manifest) if f.default is dataclasses.MISSING]
    assert required == set(without_default) - {"id"}
    (tmp_path / "mine.toml").write_text(blocks(own, "toml")[0])
    assert len(read_manifest(tmp_path / "mine.toml").files) == 2


def test_data_sets_are_those_of_the_catalog() -> None:
    documented = table(section(page("datasets.md"), "Which are there, and which are on this machine?"))
    manifests = {path.stem: read_manifest(path) for path in (ROOT / "datasets").glob("*.toml")}
    assert documented.keys() == manifests.keys()
    assert all(cells[0].startswith(str(manifests[name].images)) for name, cells in documented.items())


def test_metrics_are_those_of_the_registry() -> None:
    from hvqbench.metrics import METRICS

    documented = {name: cells for name, cells in table(page("metrics.md")).items() if name in METRICS}
    assert documented.keys() == METRICS.keys()
    for name, (_, value_range, better, side) in documented.items():
        info = METRICS[name]
        assert value_range == f"{info.range[0]:g} to {info.range[1]:g}".replace("inf", "∞")
        assert better == ("higher" if info.higher_is_better else "lower")
        assert side == str(info.minimum_side)


def test_columns_are_those_of_the_store() -> None:
    from hvqbench.bench.parquet import INTEGER, TEXT
    from hvqbench.bench.reading import FRONT

    documented = table(section(page("results.md"), "What does each column mean?"))
    assert documented.keys() == {*FRONT, *TEXT, *INTEGER, "bytes.<stream>"}


def test_columns_are_those_of_a_timing_pass() -> None:
    from hvqbench.bench.timing import FRONT

    documented = table(section(page("timing.md"), "What does each column mean?"))
    assert documented.keys() >= {*FRONT, "encode_s.<stage>", "decode_s.<stage>"}


def test_values_of_rerun() -> None:
    from hvqbench.bench.plan import RERUN

    assert tuple(table(section(page("results.md"), "How do I resume, repeat, complete?"))) == RERUN


def test_flags_of_a_bd_rate() -> None:
    from hvqbench.analysis.bd import FLAGS

    assert tuple(table(section(page("statistics.md"), "BD-rate"))) == tuple(FLAGS)


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("a tokenizer", "TokenizerTraining"),
        ("an index model", "HyperpriorTraining"),
        ("a painter", "PainterTraining"),
        ("a transformer", "TransformerTraining"),
        ("a joint training", "JointTraining"),
    ],
)
def test_keys_of_a_training(title: str, kind: str) -> None:
    from hvqbench.training import hyperprior, index_model, joint, painter, tokenizer, transformer

    (found,) = (getattr(m, kind) for m in (tokenizer, hyperprior, painter, transformer, joint) if hasattr(m, kind))
    fields = dataclasses.fields(found)
    if title == "a transformer":  # what it does not share with every index model
        shared = {field.name: field.default for field in dataclasses.fields(index_model.IndexModelTraining)}
        fields = tuple(field for field in fields if shared.get(field.name, "none") != field.default)
    documented = table(section(page("training.md"), f"The keys of {title}'s train.toml"))
    assert documented.keys() == {field.name for field in fields}
    for field in fields:
        if isinstance(field.default, bool):
            assert documented[field.name][0] == str(field.default).lower(), field.name
        elif isinstance(field.default, int | float):
            assert float(documented[field.name][0]) == field.default, field.name


def test_grids_of_the_bitstream() -> None:
    from hvqbench.vq import container, pee
    from hvqbench.vq import exact as integer
    from hvqbench.vq.models import hyperprior

    text = section(page("bitstream.md"), "Why it decodes elsewhere").translate(
        str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
    )
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+ \| [^|]+) \|$", text, re.MULTILINE))
    assert rows["z"] == f"1 | -{hyperprior.Z_LIMIT} to {hyperprior.Z_LIMIT}"
    mean, low_high = int(pee.MEAN_LIMIT), pee.LOG_PRECISION_LIMITS
    assert rows["μ"] == f"2-{integer.MEAN_BITS} | -{mean} to {mean}"
    assert rows["log 1/σ2"] == f"2-{integer.LOG_PRECISION_BITS} | {low_high[0]:g} to {low_high[1]:g}"
    assert rows["log2(e)/σ2"].startswith(f"2-{integer.PRECISION_BITS} ")
    limit = integer.ANCHOR_LIMIT
    assert rows["codebook entries e_k"] == f"2-{integer.ANCHOR_BITS} | -{limit} to {limit}"
    assert rows["logits, b_k, in bits"].startswith(f"2-{integer.LOGIT_BITS} ")
    assert rows["weights for the coder"] == f"2-{integer.EXPONENT_BITS} | 1 to 2{integer.LARGEST_EXPONENT}"
    assert f"**Format version** is {container.VERSION}, or {container.SLICES_VERSION} where" in page("bitstream.md")
