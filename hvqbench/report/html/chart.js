// What Vega-Lite draws: the rate-distortion chart of some curves, as a specification.
"use strict";

const chart = { metric: null, hidden: new Set(), log: true, bands: true, domain: null, view: null };

/** A colour of the style sheet, as the chart needs it: resolved for the theme. */
function colour(name) {
  const probe = make("i", { style: `color: var(${name})` });
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

const inked = (value) => (value === "ink" ? colour("--ink") : value);

function chartRows(curves) {
  const { decimals } = data.metrics[chart.metric];
  return curves.flatMap((curve) =>
    curve.bpp.map((bpp, i) => ({
      codec: curve.codec,
      name: called(curve.codec),
      bpp,
      value: curve.values[i],
      low: curve.low[i],
      high: curve.high[i],
      alone: curve.bpp.length === 1,
      setting: curve.points[i] === null ? "as published" : `${curve.unit} ${curve.points[i]}`.trim(),
      rate: `${bpp.toFixed(4)} bpp`,
      score: number(curve.values[i], decimals),
      interval: curve.low[i] === null ? "none" : `${number(curve.low[i], decimals)} to ${number(curve.high[i], decimals)}`,
      images: curve.images || "unknown",
    })),
  );
}

/** 1, 2 and 5 of each decade, or every whole step where little of a decade is shown. */
function logTicks(curves) {
  const rates = chart.domain?.bpp ?? curves.flatMap((curve) => curve.bpp);
  const [low, high] = [Math.min(...rates) / 1.3, Math.max(...rates) * 1.3];
  const steps = high / low > 8 ? [1, 2, 5] : [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9];
  const ticks = [];
  for (let decade = Math.floor(Math.log10(low)); decade <= Math.ceil(Math.log10(high)); decade++)
    ticks.push(...steps.map((step) => Number((step * 10 ** decade).toPrecision(3))).filter((t) => t >= low && t <= high));
  return ticks;
}

function chartSpec(curves, width) {
  const metric = data.metrics[chart.metric];
  const codecs = curves.map((curve) => curve.codec);
  const looks = codecs.map((codec) => data.codecs[codec]);
  const scale = (range) => ({ domain: codecs, range });
  const [ink, muted, line, ground] = ["--ink", "--muted", "--line", "--bg"].map(colour);
  const narrow = width < 560;
  const x = {
    field: "bpp",
    type: "quantitative",
    title: "bits per pixel",
    scale: { type: chart.log ? "log" : "linear", nice: false, padding: 16, domain: chart.domain?.bpp, ...(chart.log ? {} : { zero: false }) },
    axis: { tickCount: narrow ? 5 : 8, format: "~g", labelOverlap: "greedy", ...(chart.log ? { values: logTicks(curves) } : {}) },
  };
  const y = {
    field: "value",
    type: "quantitative",
    title: `${metric.title}${metric.unit ? ` (${metric.unit})` : ""}, ${metric.higher ? "higher" : "lower"} is better`,
    scale: { zero: false, nice: false, padding: 16, domain: chart.domain?.value },
    axis: { tickCount: 6, format: "~g" },
  };
  const color = { field: "codec", scale: scale(looks.map((look) => inked(look.colour))), legend: null };
  const faint = { condition: { test: "focus && datum.codec !== focus", value: 0.15 }, value: 1 };
  const tooltip = [
    { field: "name", title: "codec" },
    { field: "setting", title: "setting" },
    { field: "rate", title: "rate" },
    { field: "score", title: called(chart.metric) },
    { field: "interval", title: "95 % interval" },
    { field: "images", title: "images" },
  ];
  const rows = chartRows(curves);
  const of = (alone) => rows.filter((row) => row.low !== null && row.alone === alone);
  const bands = [
        {
          data: { values: of(false) },
          mark: { type: "area", clip: true },
          encoding: {
            ...{ x, y: { ...y, field: "low" }, y2: { field: "high" }, color, detail: { field: "codec" } },
            opacity: { condition: { test: "focus && datum.codec !== focus", value: 0.02 }, value: 0.13 },
          },
        },
        {
          data: { values: of(true) },
          mark: { type: "rule", clip: true, strokeWidth: 1.5 },
          encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, color, opacity: faint },
        },
  ].filter((layer) => chart.bands && layer.data.values.length);
  return {
    width: "container",
    height: narrow ? 320 : 440,
    autosize: { type: "fit", contains: "padding" },
    background: null,
    params: [{ name: "focus", value: "" }],
    data: { values: rows },
    layer: [
      ...bands,
      {
        mark: { type: "line", clip: true, strokeWidth: 2, strokeCap: "round", strokeJoin: "round" },
        encoding: {
          ...{ x, y, color, opacity: faint, order: { field: "bpp" } },
          strokeDash: { field: "codec", scale: scale(looks.map((look) => look.dash)), legend: null },
        },
      },
      {
        // Hollow for classic and published codecs, as in the figures: what print without colours can tell apart.
        mark: { type: "point", clip: true, filled: true, strokeWidth: 1.4 },
        encoding: {
          ...{ x, y, opacity: faint },
          fill: { field: "codec", scale: scale(looks.map((look) => (look.kind ? ground : inked(look.colour)))), legend: null },
          stroke: { field: "codec", scale: scale(looks.map((look) => (look.kind ? inked(look.colour) : ground))), legend: null },
          shape: { field: "codec", scale: scale(looks.map((look) => look.shape)), legend: null },
          size: { condition: { param: "hover", empty: false, value: 210 }, value: 80 },
        },
      },
      {
        // Unseen and larger, so that a pointer or a finger finds a point.
        params: [
          { name: "hover", select: { type: "point", fields: ["codec", "bpp"], on: "pointerover", clear: "pointerout" } },
          // Fingers scroll the page; zooming has buttons.
          ...(matchMedia("(pointer: fine)").matches
            ? [{ name: "brush", select: { type: "interval", mark: { fill: muted, fillOpacity: 0.15, stroke: muted } } }]
            : []),
        ],
        mark: { type: "circle", clip: true, size: 500, opacity: 0 },
        encoding: { x, y, tooltip, detail: { field: "codec" } },
      },
    ],
    config: {
      font: getComputedStyle(document.body).fontFamily,
      axis: {
        ...{ labelColor: muted, titleColor: ink, gridColor: line, domainColor: muted, tickColor: muted },
        ...{ labelFontSize: 12, titleFontSize: 13, titleFontWeight: 500, titlePadding: 10, labelPadding: 6, tickSize: 4 },
      },
      view: { stroke: null },
    },
  };
}
