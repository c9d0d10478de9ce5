"""The HTML report in a real browser: what is drawn, what a mouse and a keyboard do, at every width and in the dark."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import hvqbench
from hvqbench.data import load_dataset
from hvqbench.errors import HvqbenchError
from hvqbench.report.html import pictures, write_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (390, 1024, 1600)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with (
        api.sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a real run over five images of Kodak, or where it is not, of the shipped ones."""
    folder = tmp_path_factory.mktemp("report")
    dataset = "sample"
    if os.environ.get("HVQBENCH_DATA"):
        with contextlib.suppress(HvqbenchError):  # the folder has other data
            dataset = load_dataset("kodak").id
    hvqbench.run(
        ["jpeg", "webp", "jpeg2000"],
        dataset,
        metrics=["psnr", "ms-ssim"],
        limit=5,
        points=[10, 30, 80],
        results=folder / "results",
        progress=False,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "SIDE", 384)  # to be quick
        return write_html(hvqbench.read_results(folder / "results"), folder, streams=folder / "results")


class Tab:
    """A page, what it logged and what it asked for."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page, self.said, self.asked = page, [], []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("#chart svg")

    def curves(self) -> int:
        return self.page.locator("#chart svg .mark-line path").count()

    def picture(self, selector: str) -> np.ndarray:
        shot = self.page.locator(selector).screenshot()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), int)

    def colours(self, selector: str) -> set[tuple[int, ...]]:
        return {tuple(colour) for colour in np.unique(self.picture(selector).reshape(-1, 3), axis=0).tolist()}


@pytest.fixture
def tab(browser: Browser, report: Path) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1024, "height": 900}, reduced_motion="reduce")
    tab = Tab(context.new_page(), report)
    yield tab
    assert tab.said == []
    assert [url for url in tab.asked if not url.startswith("data:")] == [report.as_uri()]
    context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_every_width_and_both_themes(browser: Browser, report: Path, tmp_path: Path, width: int) -> None:
    phone = width < 500
    context = browser.new_context(viewport={"width": width, "height": 844}, is_mobile=phone, has_touch=phone)
    tab = Tab(context.new_page(), report)
    assert tab.page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme)
        tab.page.wait_for_timeout(400)
        assert tab.curves() == 3
        ink = (0x15, 0x18, 0x1C) if scheme == "light" else (0xE9, 0xEB, 0xEE)
        assert {ink, (0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)} <= tab.colours("#chart")
        tab.page.screenshot(path=tmp_path / f"report-{width}-{scheme}.png", full_page=True)
        shown = np.asarray(Image.open(tmp_path / f"report-{width}-{scheme}.png").convert("L"))
        assert (shown[-1, -1] < 40) == (scheme == "dark")
        assert tab.page.evaluate(CONTRAST) == []
    assert tab.said == []
    context.close()


def test_a_click_in_the_legend_hides_a_curve(tab: Tab) -> None:
    button = tab.page.locator("#legend button", has_text="webp")
    assert tab.curves() == 3
    button.click()
    tab.page.wait_for_function("document.querySelectorAll('#chart svg .mark-line path').length === 2")
    assert button.get_attribute("aria-pressed") == "false"
    button.press("Enter")
    tab.page.wait_for_function("document.querySelectorAll('#chart svg .mark-line path').length === 3")
    button.dblclick()
    tab.page.wait_for_function("document.querySelectorAll('#chart svg .mark-line path').length === 1")


def test_metric_zoom_and_hover(tab: Tab) -> None:
    axes = "[...document.querySelectorAll('#chart svg .role-axis-title text')].map(t => t.textContent).join()"
    assert "MS-SSIM" in tab.page.evaluate(axes)  # the page opens on what is nearest to an eye
    tab.page.get_by_role("button", name="psnr", exact=True).click()
    tab.page.wait_for_function(f"({axes}).includes('PSNR')")
    before = tab.page.locator("#chart svg .role-axis-label").first.text_content()
    tab.page.get_by_role("button", name="Zoom in", exact=True).click()
    tab.page.wait_for_timeout(300)
    assert tab.page.locator("#chart svg .role-axis-label").first.text_content() != before
    tab.page.get_by_role("button", name="Reset").click()
    tab.page.wait_for_timeout(300)
    tab.page.locator("#chart svg .mark-symbol path").first.hover(force=True)
    tooltip = tab.page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    assert all(word in tooltip.inner_text() for word in ("setting", "95 % interval", "images", "5", "bpp"))


def test_a_drag_zooms_the_chart(tab: Tab) -> None:
    box = tab.page.locator("#chart svg").bounding_box()
    assert box
    before = tab.page.evaluate("chart.view.scale('x').domain()")
    tab.page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.3 * box["height"])
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"], steps=5)
    tab.page.mouse.up()
    tab.page.wait_for_function("chart.domain !== null")
    tab.page.wait_for_timeout(300)
    after = tab.page.evaluate("chart.view.scale('x').domain()")
    assert before[0] < after[0] < after[1] < before[1]


def test_tables_sort_both_ways(tab: Tab) -> None:
    head = tab.page.locator("table.points th", has_text="bpp")
    rates = "[...document.querySelectorAll('table.points tbody tr')].map(row => Number(row.cells[3].textContent))"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    values = tab.page.evaluate(rates)
    assert len(values) == 9
    assert values == sorted(values)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert tab.page.evaluate(rates) == sorted(values, reverse=True)


def test_the_room_opens_on_the_case_that_the_page_names(tab: Tab) -> None:
    opening = tab.page.evaluate("roomNow().opening")
    assert opening["says"] in tab.page.locator("#pictures").inner_text()
    assert tab.page.locator("#image").input_value() == opening["image"]
    shown = tab.page.evaluate("room.slots.map(slot => slot.codec)")
    assert shown == [opening["codec"], opening["rival"], ""]
    assert tab.page.evaluate("decodeIn(room.slots[0]).point") == opening["point"]
    assert opening["codec"] in tab.page.locator(".finding").inner_text()


def test_the_divider_moves_by_mouse_and_by_keyboard(tab: Tab) -> None:
    divider = tab.page.get_by_role("slider").first
    divider.scroll_into_view_if_needed()
    box = tab.page.locator("#stage").bounding_box()
    assert box
    assert divider.get_attribute("aria-valuenow") == "50"
    left = tab.picture("#stage .pane >> nth=0")
    middle = box["y"] + box["height"] / 2
    tab.page.mouse.move(box["x"] + box["width"] / 2, middle)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + box["width"] * 0.8, middle, steps=4)
    tab.page.mouse.up()
    assert divider.get_attribute("aria-valuenow") == "80"
    assert (tab.picture("#stage .pane >> nth=0") != left).any()
    divider.press("ArrowLeft")
    assert divider.get_attribute("aria-valuenow") == "78"
    divider.press("Home")
    assert divider.get_attribute("aria-valuenow") == "0"


def test_views_zoom_original_and_error_map(tab: Tab) -> None:
    page = tab.page
    sources = "[...document.querySelectorAll('#stage img')].map(image => image.src)"
    page.wait_for_function("[...document.querySelectorAll('#stage img')].every(i => i.complete && i.naturalWidth > 0)")
    first, second = page.evaluate(sources)
    assert first != second
    page.get_by_role("button", name="Side by side").click()
    boxes = [page.locator("#stage .pane").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0]
    assert boxes[1]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    page.get_by_role("button", name="Error map").click()
    assert not set(page.evaluate(sources)) & {first, second}
    page.get_by_role("button", name="Error map").click()
    page.locator("#stage").press("o")
    originals = page.evaluate(sources)
    assert originals[0] == originals[1] not in (first, second)
    page.locator("#stage").press("o")
    page.locator("#stage").press("+")
    assert page.get_by_role("button", name="2×").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Flicker").click()
    seen = page.evaluate("[...document.querySelectorAll('.pane')].map(p => p.classList.contains('off'))")
    page.locator("#stage").press(" ")
    now = page.evaluate("[...document.querySelectorAll('.pane')].map(p => p.classList.contains('off'))")
    assert sorted(seen) == [False, True]
    assert now == seen[::-1]


def test_every_map_has_a_button_and_e_goes_through_them(browser: Browser, report: Path, tmp_path: Path) -> None:
    """As after ``report --map dists``, with another picture of each decode in the map's place, and with names."""
    text = report.read_text(encoding="utf-8")
    start = text.index('id="data">') + len('id="data">')
    end = text.index("</script>", start)
    data = json.loads(text[start:end])
    data["maps"]["dists"] = {"title": "DISTS", "lightest": "0.5"}
    data["names"] = {"webp": "Codec W", "jpeg": "Codec J", "jpeg2000": "Codec T", "ms-ssim": "Structure"}
    for room in data["rooms"].values():
        for decode in room["decodes"]:
            decode["maps"]["dists"] = decode["src"]
    button = '<button type="button" data-map="dists" aria-pressed="false">DISTS map</button>\n</div>'
    text = text[:start] + json.dumps(data).replace("<", "\\u003c") + text[end:]
    place = text.index('data-map="error"')
    text = text[:place] + text[place:].replace("</div>", button, 1)
    (tmp_path / "maps.html").write_text(text, encoding="utf-8")
    tab = Tab(browser.new_page(viewport={"width": 1024, "height": 900}), tmp_path / "maps.html")
    stage, scale = tab.page.locator("#stage"), tab.page.locator("#map-scale")
    pressed = "[...document.querySelectorAll('#maps [aria-pressed=true]')].map(button => button.textContent)"
    shown = "(() => {const d = decodeIn(room.slots[0]); return [d.src, d.maps.error, d.maps.dists].map(url)})()"
    picture, error, dists = tab.page.evaluate(shown)
    first = "document.querySelector('#stage img').src"
    for now, source, said in ((["Error map"], error, "Error 0"), (["DISTS map"], dists, "DISTS 0"), ([], picture, "")):
        stage.press("e")
        assert tab.page.evaluate(pressed) == now
        assert tab.page.evaluate(first) == source
        assert scale.is_visible() == bool(said)
        assert said in scale.inner_text()
    tab.page.get_by_role("button", name="DISTS map").click()
    assert scale.inner_text().split() == ["DISTS", "0", "0.5"]
    for place, least in (("#legend", 3), ("#captions", 2), ("#slots", 6), ("#stage", 2)):
        said = tab.page.locator(place).inner_text()
        assert len(re.findall("Codec [WJT]", said)) >= least
        assert not re.search("webp|jpeg", said)
    assert tab.page.get_by_role("button", name="Structure", exact=True).is_visible()
    tab.page.locator("#chart svg .mark-symbol path").first.hover(force=True)
    tooltip = tab.page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    assert "Structure" in tooltip.inner_text()
    assert tab.said == []


def test_a_third_codec_and_the_rate_nearest_to_the_first(tab: Tab) -> None:
    page = tab.page
    page.get_by_label("Codec C").select_option(index=2)
    assert page.locator("#stage .pane").count() == 3
    assert page.get_by_role("slider").count() == 2
    page.get_by_label("Operating point of A").select_option(index=2)
    rates = page.evaluate(
        "(() => {const [a, b] = room.slots.map(decodeIn); return [a.bpp, b.bpp, decodesOf(b.codec).map(d => d.bpp)]})()"
    )
    assert min(rates[2], key=lambda bpp: abs(np.log(bpp / rates[0]))) == rates[1]
    assert f"{rates[1]:.4f}" in page.locator("#captions").inner_text()


def test_the_picture_in_the_browser_is_the_decode(tab: Tab) -> None:
    source = tab.page.evaluate("document.querySelector('#stage img').src")
    kind, data = source.split(",", 1)
    assert kind == "data:image/avif;base64"
    size = Image.open(io.BytesIO(base64.b64decode(data))).size
    assert list(size) == tab.page.evaluate(
        "(i => [i.naturalWidth, i.naturalHeight])(document.querySelector('#stage img'))"
    )


def test_a_command_is_copied(tab: Tab) -> None:
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = tab.page.locator("table.points .copier").first
    button.click()
    tab.page.wait_for_function("document.querySelector('table.points .copier').textContent.startsWith('Copied')")
    assert tab.page.evaluate("navigator.clipboard.readText()") == button.get_attribute("data-copy")


CONTRAST = """() => {
  const channel = (v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const dot = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const canvas = dot.getContext("2d", { willReadFrequently: true });
  const rgb = (colour, under) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/(, 0\\)|\\/ 0\\)|transparent)$/.test(colour)) return colour;
    }
    return "white";
  };
  const bad = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("script, svg, .away, .chip, .divider")) continue;
    const under = behind(element);
    const [a, b] = [rgb(getComputedStyle(element).color, under), rgb(under, "white")].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.add(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return [...bad];
}"""
"""The elements with text that has less contrast than WCAG's AA asks for: 4.5 to 1."""
