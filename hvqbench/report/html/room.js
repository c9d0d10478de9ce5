// The picture room: two or three decodes of one image, to slide over one another, flicker, or see side by side.
"use strict";

const blobs = JSON.parse(find("blobs").textContent);
const SLOTS = ["A", "B", "C"];
const ORIGINAL = "original";
const FAR = 10; // per cent: rates that differ more are no match, and said in colour
const FLICKER_MS = 700; // below three flashes a second

const room = {
  image: null,
  slots: [],
  mode: "split",
  zoom: 1,
  centre: [0.5, 0.5],
  dividers: [50, 75],
  turn: 0,
  timer: 0,
  original: false,
  map: "", // or an id of data.maps
};

const roomNow = () => data.rooms[dataset] ?? { images: [], decodes: [] };
const imageNow = () => roomNow().images.find((image) => image.name === room.image);
const decodesOf = (codec) => roomNow().decodes.filter((d) => d.image === room.image && d.codec === codec).sort((a, b) => a.bpp - b.bpp);
const codecsNow = () => [...new Set(roomNow().decodes.filter((d) => d.image === room.image).map((d) => d.codec))].sort();
const order = Object.keys(data.codecs);

/** The picture for a key; AVIF and WebP tell themselves apart. */
const url = (key) => `data:image/${blobs[key].startsWith("UklGR") ? "webp" : "avif"};base64,${blobs[key]}`;

const ratio = (a, b) => Math.abs(Math.log(a / b));
const nearest = (decodes, bpp) => decodes.reduce((best, d) => (!best || ratio(d.bpp, bpp) < ratio(best.bpp, bpp) ? d : best), null);

/** What a slot shows: a decode, or null for the original. A slot without a point takes the rate nearest to slot A's. */
function decodeIn(slot) {
  if (slot.codec === ORIGINAL) return null;
  const own = decodesOf(slot.codec);
  const chosen = own.find((d) => d.point === slot.point);
  if (chosen) return chosen;
  const first = slot === room.slots[0] ? null : decodeIn(room.slots[0]);
  return first ? nearest(own, first.bpp) : own[0] ?? null;
}

const shownSlots = () => room.slots.filter((slot) => slot.codec && (slot.codec === ORIGINAL || decodeIn(slot)));

/** To begin with: the two codecs of the finding; without one, two of different kinds at the rates nearest to one another. */
function firstSlots() {
  const { opening } = roomNow();
  if (opening) return [{ codec: opening.codec, point: opening.point }, { codec: opening.rival, point: null }, { codec: "" }];
  const decodes = roomNow().decodes.filter((d) => d.image === room.image);
  const rank = (d) => order.indexOf(d.codec);
  let best = null;
  for (const a of decodes)
    for (const b of decodes) {
      if (a.src === b.src || a.codec === b.codec || rank(a) > rank(b)) continue;
      const alike = data.codecs[a.codec]?.kind === data.codecs[b.codec]?.kind;
      const cost = ratio(a.bpp, b.bpp) + (alike ? 2 : 0) + 0.01 * (rank(a) + rank(b));
      if (!best || cost < best.cost) best = { cost, a, b };
    }
  // The new kinds of codec first, what they must beat second.
  if (best && data.codecs[best.a.codec]?.kind && !data.codecs[best.b.codec]?.kind) [best.a, best.b] = [best.b, best.a];
  if (best) return [{ codec: best.a.codec, point: best.a.point }, { codec: best.b.codec, point: null }, { codec: "" }];
  return [{ codec: decodes[0].codec, point: decodes[0].point }, { codec: ORIGINAL }, { codec: "" }];
}

function describe(decode) {
  const unit = (data.datasets[dataset] && Object.values(data.datasets[dataset]).flat().find((c) => c.codec === decode.codec)?.unit) || "";
  return `${unit} ${decode.point}`.trim();
}

function drawSlots() {
  const codecs = codecsNow().sort((a, b) => order.indexOf(a) - order.indexOf(b));
  find("slots").classList.toggle("two", !room.slots[2].codec);
  find("slots").replaceChildren(
    ...room.slots.map((slot, i) => {
      const option = (value, text, selected) => {
        const element = make("option", { value, text });
        element.selected = selected;
        return element;
      };
      const codec = make("select", { "aria-label": `Codec ${SLOTS[i]}` });
      if (i === 2) codec.append(option("", "no third", !slot.codec));
      codec.append(option(ORIGINAL, "original", slot.codec === ORIGINAL), ...codecs.map((name) => option(name, called(name), name === slot.codec)));
      codec.addEventListener("change", () => {
        Object.assign(slot, { codec: codec.value, point: null });
        drawRoom();
      });
      const point = make("select", { "aria-label": `Operating point of ${SLOTS[i]}` });
      const shown = slot.codec && slot.codec !== ORIGINAL ? decodeIn(slot) : null;
      if (shown) {
        const first = i ? decodeIn(room.slots[0]) : null;
        if (first) point.append(option("", `near A: ${nearest(decodesOf(slot.codec), first.bpp).bpp.toFixed(3)} bpp`, slot.point === null));
        for (const d of decodesOf(slot.codec))
          point.append(option(d.point, `${d.bpp.toFixed(3)} bpp, ${describe(d)}`, first ? d.point === slot.point : d === shown));
      }
      point.disabled = !shown;
      if (!shown) point.append(option("", "–", true));
      point.addEventListener("change", () => {
        slot.point = point.value === "" ? null : Number(point.value);
        drawRoom();
      });
      return make("div", { class: "slot" }, make("b", { text: SLOTS[i] }), codec, point);
    }),
  );
}

function drawStage() {
  const stage = find("stage");
  const image = imageNow();
  const slots = shownSlots();
  stage.className = room.mode;
  stage.style.setProperty("--ratio", image.width / image.height);
  stage.style.setProperty("--count", slots.length);
  const panes = slots.map((slot) => {
    const decode = decodeIn(slot);
    const map = room.original ? undefined : decode?.maps[room.map];
    const source = room.original || !decode ? image.src : map ?? decode.src;
    const name = decode ? `${called(decode.codec)}, ${decode.bpp.toFixed(3)} bpp` : "original";
    const what = room.original ? "original" : map ? `${data.maps[room.map].title} map of ${name}` : name;
    const picture = make("img", { src: url(source), alt: `${room.image}: ${what}`, draggable: "false" });
    const label = make("span", { class: "chip", text: `${SLOTS[room.slots.indexOf(slot)]}  ${room.original || !decode ? "original" : called(decode.codec)}` });
    return make("div", { class: map ? "pane map" : "pane" }, picture, label);
  });
  const dividers =
    room.mode === "split"
      ? panes.slice(1).map((_, i) =>
          make("div", {
            ...{ class: "divider", role: "slider", tabindex: "0", "aria-valuemin": "0", "aria-valuemax": "100" },
            "aria-label": `Divider between ${SLOTS[i]} and ${SLOTS[i + 1]}`,
          }),
        )
      : [];
  stage.replaceChildren(...panes, ...dividers);
  placeStage();
}

/** What moves without new pictures: zoom, place, dividers, flicker's turn. */
function placeStage() {
  const stage = find("stage");
  const panes = [...stage.querySelectorAll(".pane")];
  const dividers = [...stage.querySelectorAll(".divider")];
  const half = 0.5 / room.zoom;
  room.centre = room.centre.map((c) => Math.min(Math.max(c, half), 1 - half));
  stage.style.setProperty("--zoom", room.zoom);
  stage.style.setProperty("--x", `${(0.5 - room.centre[0] * room.zoom) * 100}%`);
  stage.style.setProperty("--y", `${(0.5 - room.centre[1] * room.zoom) * 100}%`);
  stage.classList.toggle("zoomed", room.zoom > 1);
  if (dividers.length === 1) room.dividers[1] = 100;
  else if (dividers.length && room.dividers[1] >= 100) room.dividers = [33, 67];
  const ends = [0, ...room.dividers.slice(0, dividers.length), 100];
  panes.forEach((pane, i) => {
    pane.style.clipPath = dividers.length ? `inset(0 ${100 - ends[i + 1]}% 0 ${ends[i]}%)` : "";
    pane.classList.toggle("off", room.mode === "flicker" && i !== room.turn % panes.length);
    pane.querySelector(".chip").style.left = dividers.length ? `calc(${ends[i]}% + 10px)` : "";
    pane.querySelector(".chip").hidden = dividers.length > 0 && ends[i + 1] - ends[i] < 4;
  });
  dividers.forEach((divider, i) => {
    divider.style.left = `${ends[i + 1]}%`;
    divider.setAttribute("aria-valuenow", Math.round(ends[i + 1]));
    divider.setAttribute("aria-valuetext", `${Math.round(ends[i + 1])} % from the left`);
  });
}

function moveDivider(i, percent) {
  const count = find("stage").querySelectorAll(".divider").length;
  const low = i ? room.dividers[i - 1] : 0;
  const high = i + 1 < count ? room.dividers[i + 1] : 100;
  room.dividers[i] = Math.min(Math.max(percent, low), high);
  placeStage();
}

function drawCaptions() {
  const slots = shownSlots();
  const first = decodeIn(slots[0] ?? {});
  const metrics = Object.keys(data.metrics);
  find("captions").style.setProperty("--count", slots.length);
  find("captions").replaceChildren(
    ...slots.map((slot) => {
      const decode = slot.codec === ORIGINAL ? null : decodeIn(slot);
      const name = SLOTS[room.slots.indexOf(slot)];
      if (!decode) return make("div", {}, make("h4", {}, make("b", { text: name }), " original"), make("p", { text: `${room.image}, ${imageNow().full.join(" × ")} pixels` }));
      const list = make("dl");
      const row = (term, text, note = "", far = false) => list.append(make("div", {}, make("dt", { text: term }), make("dd", {}, text, make("small", { text: note, class: far ? "far" : null }))));
      const more = first && decode !== first ? 100 * (decode.bpp / first.bpp - 1) : null;
      row("bpp", decode.bpp.toFixed(4), more === null ? "" : `${Math.abs(more).toFixed(0)} % ${more < 0 ? "less" : "more"} than A`, Math.abs(more) > FAR);
      row("bytes", decode.bytes.toLocaleString("en"));
      for (const id of metrics)
        if (decode.metrics[id] !== undefined)
          row(`${called(id)} ${data.metrics[id].higher ? "↑" : "↓"}`, number(decode.metrics[id], data.metrics[id].decimals));
      return make("div", {}, make("h4", {}, make("b", { text: name }), ` ${called(decode.codec)}`, make("small", { text: describe(decode) })), list);
    }),
  );
}

function drawRoom() {
  const image = imageNow();
  find("room").hidden = !image;
  clearInterval(room.timer);
  if (!image) return;
  find("image").value = room.image;
  drawSlots();
  drawStage();
  drawCaptions();
  pressMode(room.mode);
  pressZoom(room.zoom);
  const map = data.maps[room.map];
  find("map-scale").hidden = !map || room.original;
  if (map) find("map-scale").replaceChildren(make("span", { text: `${map.title} 0` }), make("i"), make("span", { text: map.lightest }));
  const hints = {
    split: "Drag the divider, or focus it and use the arrow keys.",
    side: "All pictures zoom and move together.",
    flicker: matchMedia("(prefers-reduced-motion: reduce)").matches ? "Space shows the next one." : "Space stops and goes on.",
  };
  const same = new Set(shownSlots().map((slot) => decodeIn(slot)?.src ?? image.src));
  find("room-hint").textContent =
    (same.size < shownSlots().length ? "Some of these restore the same pixels. " : "") +
    `${hints[room.mode]} Double-click zooms; keys: +, −, arrows, O original, E ${Object.keys(data.maps).length > 1 ? "the next map" : "error map"}.`;
  if (room.mode === "flicker" && !matchMedia("(prefers-reduced-motion: reduce)").matches) play();
}

function play() {
  clearInterval(room.timer);
  room.timer = setInterval(() => ((room.turn += 1), placeStage()), FLICKER_MS);
  room.playing = true;
}

function space() {
  if (room.mode !== "flicker") return;
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
    room.turn += 1;
    placeStage();
  } else if (room.playing) {
    clearInterval(room.timer);
    room.playing = false;
  } else play();
}

function setZoom(zoom, centre = room.centre) {
  room.zoom = Math.min(Math.max(zoom, 1), 8);
  room.centre = [...centre];
  pressZoom(room.zoom);
  placeStage();
}

function stepImage(step) {
  const names = roomNow().images.map((image) => image.name);
  showImage(names[(names.indexOf(room.image) + step + names.length) % names.length]);
}

function showImage(name) {
  room.image = name;
  room.centre = [0.5, 0.5];
  drawRoom();
}

/** Where in the image a pointer is, from 0 to 1 each way. */
function placeOf(event) {
  const pane = (event.target.closest(".pane") ?? find("stage").querySelector(".pane")).getBoundingClientRect();
  const at = [(event.clientX - pane.left) / pane.width, (event.clientY - pane.top) / pane.height];
  return at.map((value, i) => room.centre[i] + (value - 0.5) / room.zoom);
}

function startRoom() {
  const stage = find("stage");
  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const box = (stage.querySelector(".pane") ?? stage).getBoundingClientRect();
    const dividers = [...stage.querySelectorAll(".divider")];
    const at = (100 * (event.clientX - box.left)) / box.width;
    const grabbed = event.target.closest(".divider");
    let i = grabbed ? dividers.indexOf(grabbed) : -1;
    if (i < 0 && dividers.length && room.zoom === 1)
      i = dividers.reduce((best, _, j) => (Math.abs(room.dividers[j] - at) < Math.abs(room.dividers[best] - at) ? j : best), 0);
    drag = { i, box, x: event.clientX, y: event.clientY, centre: [...room.centre] };
    stage.setPointerCapture(event.pointerId);
    if (i >= 0) {
      moveDivider(i, at);
      dividers[i].focus({ preventScroll: true });
      event.preventDefault();
    }
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (drag.i >= 0) return moveDivider(drag.i, (100 * (event.clientX - drag.box.left)) / drag.box.width);
    const moved = [(event.clientX - drag.x) / drag.box.width, (event.clientY - drag.y) / drag.box.height];
    room.centre = drag.centre.map((c, i) => c - moved[i] / room.zoom);
    placeStage();
  });
  for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, () => (drag = null));
  stage.addEventListener("dblclick", (event) => {
    if (!event.target.closest(".divider")) setZoom(room.zoom >= 8 ? 1 : room.zoom * 2, placeOf(event));
  });
  stage.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey) return; // the plain wheel scrolls the page
      event.preventDefault();
      setZoom(event.deltaY < 0 ? room.zoom * 2 : room.zoom / 2, event.deltaY < 0 ? placeOf(event) : room.centre);
    },
    { passive: false },
  );
  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const divider = event.target.closest(".divider");
    const step = event.shiftKey ? 10 : 2;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const i = divider ? [...stage.querySelectorAll(".divider")].indexOf(divider) : -1;
    if (divider && (way || event.key === "Home" || event.key === "End"))
      moveDivider(i, way ? room.dividers[i] + step * (way[0] || -way[1]) : event.key === "Home" ? 0 : 100);
    else if (way && room.zoom > 1) {
      room.centre = room.centre.map((c, axis) => c + (0.05 * step * way[axis]) / room.zoom);
      placeStage();
    } else if (event.key === "+" || event.key === "=") setZoom(room.zoom * 2);
    else if (event.key === "-") setZoom(room.zoom / 2);
    else if (event.key === "0") setZoom(1);
    else if (event.key === " ") space();
    else if (event.key === "o" || event.key === "O") original.turn(!original.isOn());
    else if (event.key === "e" || event.key === "E") showMap(maps[(maps.indexOf(room.map) + 1) % maps.length]);
    else return;
    event.preventDefault();
  });
  const original = toggle(find("original"), (on) => ((room.original = on), drawRoom()));
  const maps = ["", ...Object.keys(data.maps)];
  const showMap = (map) => {
    room.map = map;
    for (const button of find("maps").querySelectorAll("[data-map]")) button.setAttribute("aria-pressed", String(button.dataset.map === map));
    drawRoom();
  };
  find("maps").addEventListener("click", (event) => {
    const map = event.target.closest("[data-map]")?.dataset.map;
    if (map) showMap(room.map === map ? "" : map);
  });
  find("image").addEventListener("change", () => showImage(find("image").value));
  find("image-before").addEventListener("click", () => stepImage(-1));
  find("image-after").addEventListener("click", () => stepImage(1));
  document.addEventListener("dataset", () => {
    const names = roomNow().images.map((image) => image.name);
    find("image").replaceChildren(...names.map((name) => make("option", { value: name, text: name })));
    room.image = roomNow().opening?.image ?? names[0] ?? null;
    if (room.image) room.slots = firstSlots();
    drawRoom();
  });
}

const pressMode = choice(find("modes"), (mode) => {
  room.mode = mode;
  drawRoom();
});
const pressZoom = choice(find("zooms"), (zoom) => setZoom(Number(zoom)));
startRoom();
