"""The table of comparators agrees with the catalog and with the published curves."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hvqbench.catalog import codec_files, load_spec
from hvqbench.cli import app
from hvqbench.comparators import COMMAND, Comparator, comparators, comparators_page
from hvqbench.curves import published_points

PAGE = Path(__file__).parents[1] / "docs" / "comparators.md"


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[str, Comparator]:
    monkeypatch.delenv("HVQBENCH_CATALOG", raising=False)
    return {row.codec: row for row in comparators()}


def test_the_page_is_what_the_command_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HVQBENCH_CATALOG", raising=False)
    assert PAGE.read_text(encoding="utf-8") == comparators_page(), f"run `{COMMAND} > docs/comparators.md`"
    assert CliRunner().invoke(app, ["ls", "comparators"]).stdout == comparators_page()


def test_every_codec_of_others_and_every_published_curve_has_one_row(rows: dict[str, Comparator]) -> None:
    assert len(rows) == len(comparators())
    assert {name for name in codec_files() if load_spec(name).adapter != "vq"} <= rows.keys()
    curves = {point.codec for point in published_points()}
    assert curves == {name for row in rows.values() for name in _curves(row)}


def _curves(row: Comparator) -> list[str]:
    """The curves that a row names: of its own codec without a name."""
    parts = row.published.split("; ") if row.published else []
    return [part.partition(": ")[0] if ": " in part else row.codec for part in parts]


@pytest.mark.parametrize(
    ("codec", "how", "unlike"),
    [
        ("jpeg", "runs", ""),
        ("vtm", "needs", ""),
        ("perco", "needs", "resized"),
        ("oscar", "needs a coder", "nominal-rate resized"),
        ("mlic", "published", "unknown-rate"),
    ],
)
def test_rows_say_how_a_codec_can_be_had(rows: dict[str, Comparator], codec: str, how: str, unlike: str) -> None:
    assert (rows[codec].how, rows[codec].unlike) == (how, unlike)
    assert rows[codec].source


def test_a_variant_and_anothers_measurement_stand_with_their_codec(rows: dict[str, Comparator]) -> None:
    assert "rdeic-2: " in rows["rdeic"].published
    assert "vtm@diffeic: " in rows["vtm"].published
    assert "hific" not in rows["hific-pytorch"].published


@pytest.mark.parametrize("name", [name for name in codec_files() if load_spec(name).adapter == "published"])
def test_a_codec_without_a_coder_says_what_would_have_to_be_written(name: str) -> None:
    spec = load_spec(name)
    assert spec.needs.repository.startswith("https://")
    assert spec.needs.install
    assert spec.protocol.note
