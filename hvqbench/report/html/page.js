// The page itself: its data, the theme, the data set that is shown. The other scripts build on what is named here.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);

/** A new element with attributes and children; an attribute "text" is its text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Tell a screen reader. */
function say(text) {
  find("said").textContent = text;
}

/** Make a group of buttons one choice: calls back with the value of the one that is pressed. */
function choice(group, chosen) {
  group.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-value]");
    if (button) chosen(button.dataset.value);
  });
  return (value) => {
    for (const button of group.querySelectorAll("button[data-value]"))
      button.setAttribute("aria-pressed", String(button.dataset.value === String(value)));
  };
}

/** Make a button a switch; returns a function that turns it. */
function toggle(button, turned) {
  const isOn = () => button.getAttribute("aria-pressed") === "true";
  const turn = (on) => {
    button.setAttribute("aria-pressed", String(on));
    turned(on);
  };
  button.addEventListener("click", () => turn(!isOn()));
  return { isOn, turn };
}

/** What a codec, a data set or a metric is called, by its id. */
const called = (id) => data.names?.[id] ?? id;

/** A number as the tables write it, with a real minus sign. */
function number(value, decimals) {
  return value.toFixed(decimals).replace("-", "−");
}

// The data set: tables of the others are hidden, and whoever listens draws anew.
const datasets = Object.keys(data.datasets);
let dataset = datasets[0];

function showDataset(name) {
  dataset = name;
  for (const element of document.querySelectorAll("[data-dataset]")) element.hidden = element.dataset.dataset !== name;
  pressDataset(name);
  document.dispatchEvent(new CustomEvent("dataset"));
}
const pressDataset = find("datasets") ? choice(find("datasets"), showDataset) : () => {};

// The theme: the system's, unless chosen here.
const THEMES = ["auto", "light", "dark"];
const remembered = (() => {
  try {
    return localStorage.getItem("hvqbench-theme");
  } catch {
    return null; // some browsers refuse storage to files
  }
})();

function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  find("theme").textContent = `Theme: ${theme}`;
  try {
    localStorage.setItem("hvqbench-theme", theme);
  } catch {} // then it is not remembered
  document.dispatchEvent(new CustomEvent("theme"));
}
find("theme").addEventListener("click", () => {
  const now = THEMES.indexOf(document.documentElement.dataset.theme);
  showTheme(THEMES[(now + 1) % THEMES.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  document.dispatchEvent(new CustomEvent("theme")),
);

addEventListener("DOMContentLoaded", () => {
  showTheme(THEMES.includes(remembered) ? remembered : "auto");
  showDataset(dataset);
});
