// The room of the chart: its legend and the tools around it are plain buttons; chart.js says what is drawn.
"use strict";

const MANY = 12; // with more codecs than this, those with a single point start hidden

function curvesNow() {
  return data.datasets[dataset]?.[chart.metric] ?? [];
}

let turn = 0;

async function drawChart() {
  const place = find("chart");
  if (!place) return;
  const curves = curvesNow().filter((curve) => !chart.hidden.has(curve.codec));
  const metric = data.metrics[chart.metric];
  const mine = ++turn; // a later call must not be overtaken by an earlier one
  find("chart-room").hidden = !metric;
  if (!metric) return;
  chart.view?.finalize();
  chart.view = null;
  place.setAttribute(
    "aria-label",
    `${metric.title} over bits per pixel on ${called(dataset)}: ${curves.map((curve) => called(curve.codec)).join(", ") || "no codec"}. ` +
      "The numbers are in the table Operating points.",
  );
  describeChart(curves, metric);
  if (!curves.length) {
    place.replaceChildren(make("p", { class: "empty", text: "Every codec is hidden: choose one in the legend." }));
    return;
  }
  const embedded = await vegaEmbed(place, chartSpec(curves, place.clientWidth), {
    ...{ actions: false, renderer: "svg", ast: false, tooltip: { theme: isDark() ? "dark" : "light" }, mode: "vega-lite" },
  });
  if (mine !== turn) return embedded.finalize();
  chart.view = embedded.view;
  watchBrush(embedded.view);
}

function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
}

function describeChart(curves, metric) {
  const counts = [...new Set(curves.map((curve) => curve.images).filter(Boolean))];
  const single = curves.filter((curve) => curve.bpp.length === 1).length;
  const parts = [];
  if (counts.length) {
    const [least, most] = [Math.min(...counts), Math.max(...counts)];
    parts.push(`Mean over ${least === most ? most : `${least} to ${most}`} image${most === 1 ? "" : "s"} of ${called(dataset)}.`);
  }
  if (chart.bands && curves.some((curve) => curve.low.some((low) => low !== null))) parts.push("Bands: 95 % interval over the images.");
  if (curves.some((curve) => data.codecs[curve.codec].kind === "classic")) parts.push("Dashed: classic codecs.");
  if (curves.some((curve) => data.codecs[curve.codec].kind === "published")) parts.push("Dotted: published by others.");
  if (single) parts.push(`${single} codec${single === 1 ? " has" : "s have"} one operating point: a mark without a line.`);
  find("chart-says").textContent = parts.join(" ");
}

/** Drag a rectangle to zoom in on it. */
function watchBrush(view) {
  if (!matchMedia("(pointer: fine)").matches) return; // then there is no brush
  let last = null;
  view.addSignalListener("brush", (_, value) => (last = value));
  find("chart").onpointerup = () =>
    setTimeout(() => {
      if (last?.bpp && last?.value && Math.abs(last.bpp[1] - last.bpp[0]) > 0 && last.value[1] !== last.value[0]) {
        const sorted = (range) => [...range].sort((a, b) => a - b);
        chart.domain = { bpp: sorted(last.bpp), value: sorted(last.value) };
        drawChart();
      }
      last = null;
    });
}

/** Zoom about the middle: a factor below 1 shows less. */
function zoomChart(factor) {
  if (!chart.view) return;
  const around = ([low, high], log) => {
    const [a, b] = log ? [Math.log(low), Math.log(high)] : [low, high];
    const ends = [(a + b) / 2 - ((b - a) / 2) * factor, (a + b) / 2 + ((b - a) / 2) * factor];
    return log ? ends.map(Math.exp) : ends;
  };
  chart.domain = {
    bpp: around(chart.view.scale("x").domain(), chart.log),
    value: around(chart.view.scale("y").domain(), false),
  };
  if (!chart.log) chart.domain.bpp[0] = Math.max(chart.domain.bpp[0], 0);
  drawChart();
}

function mark(codec) {
  const { colour: hue, dash, shape, points, kind } = data.codecs[codec];
  const line = hue === "ink" ? "var(--ink)" : hue;
  const [fill, edge] = kind ? ["var(--bg)", line] : [line, "var(--bg)"];
  const stroke = points > 1 ? `<path d="M-14,0H14" stroke="${line}" stroke-width="2.2" stroke-dasharray="${dash.join(" ")}"/>` : "";
  return `<svg viewBox="-15 -8 30 16" width="30" height="16" aria-hidden="true">${stroke}<path transform="scale(5.2)" d="${shape}" fill="${fill}" stroke="${edge}" stroke-width=".28"/></svg>`;
}

function drawLegend() {
  const codecs = curvesNow().map((curve) => curve.codec);
  codecs.sort((a, b) => Object.keys(data.codecs).indexOf(a) - Object.keys(data.codecs).indexOf(b));
  find("legend").replaceChildren(
    ...codecs.map((codec) => {
      const button = make("button", { type: "button", "aria-pressed": String(!chart.hidden.has(codec)), title: data.codecs[codec].summary });
      button.dataset.codec = codec;
      button.innerHTML = mark(codec);
      button.append(make("span", { text: called(codec) }));
      return make("li", {}, button);
    }),
  );
}

function hide(change) {
  change();
  for (const button of find("legend").querySelectorAll("button"))
    button.setAttribute("aria-pressed", String(!chart.hidden.has(button.dataset.codec)));
  drawChart();
}

function startCurves() {
  const names = Object.keys(data.codecs);
  const several = names.filter((name) => data.codecs[name].points > 1);
  if (names.length > MANY && several.length > 1)
    for (const name of names) if (data.codecs[name].points < 2) chart.hidden.add(name);

  const legend = find("legend");
  legend.addEventListener("click", (event) => {
    const codec = event.target.closest("button")?.dataset.codec;
    if (codec && event.detail < 2)
      hide(() => (chart.hidden.has(codec) ? chart.hidden.delete(codec) : chart.hidden.add(codec)));
  });
  legend.addEventListener("dblclick", (event) => {
    const codec = event.target.closest("button")?.dataset.codec;
    if (codec) hide(() => (chart.hidden = new Set(names.filter((name) => name !== codec))));
  });
  const focus = (event) => {
    const codec = event.target.closest?.("button")?.dataset.codec ?? "";
    chart.view?.signal("focus", chart.hidden.has(codec) ? "" : codec).runAsync();
  };
  for (const kind of ["pointerover", "focusin"]) legend.addEventListener(kind, focus);
  for (const kind of ["pointerleave", "focusout"])
    legend.addEventListener(kind, () => chart.view?.signal("focus", "").runAsync());

  find("all").addEventListener("click", () => hide(() => chart.hidden.clear()));
  find("none-shown").addEventListener("click", () => hide(() => (chart.hidden = new Set(names))));
  toggle(find("log"), (on) => ((chart.log = on), (chart.domain = null), drawChart()));
  toggle(find("bands"), (on) => ((chart.bands = on), drawChart()));
  find("chart-in").addEventListener("click", () => zoomChart(0.7));
  find("chart-out").addEventListener("click", () => zoomChart(1 / 0.7));
  find("chart-reset").addEventListener("click", () => ((chart.domain = null), drawChart()));
  find("chart-save").addEventListener("click", async () => {
    const svg = await chart.view?.toSVG();
    if (svg) make("a", { download: `${dataset}-${chart.metric}.svg`, href: `data:image/svg+xml,${encodeURIComponent(svg)}` }).click();
  });

  const press = choice(find("metrics"), (metric) => {
    chart.metric = metric;
    chart.domain = null;
    press(metric);
    drawLegend();
    drawChart();
  });
  document.addEventListener("dataset", () => {
    const metrics = Object.keys(data.datasets[dataset] ?? {});
    find("metrics").replaceChildren(
      ...metrics.map((id) => make("button", { type: "button", "data-value": id, text: called(id), title: data.metrics[id].summary })),
    );
    if (!metrics.includes(chart.metric)) chart.metric = data.opens[dataset];
    chart.domain = null;
    press(chart.metric);
    drawLegend();
    drawChart();
  });
  document.addEventListener("theme", drawChart);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) drawChart(); // a phone's address bar changes the height only
    width = innerWidth;
  });
}

if (find("chart")) startCurves();
