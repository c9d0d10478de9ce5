// Tables: sorting by a click on a column's head, and buttons that copy.
"use strict";

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest(".sort")?.closest("th");
    if (!head) return;
    const down = head.getAttribute("aria-sort") === "ascending";
    sortRows(table, heads.indexOf(head), down ? -1 : 1);
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    say(`Sorted by ${head.textContent}, ${down ? "descending" : "ascending"}`);
  });
}

/** Sort by a column; what has no number comes last in either direction, and equal rows keep their order. */
function sortRows(table, column, direction) {
  const value = (row) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent;
    if (text === "inf") return Infinity;
    return cell.dataset.v !== undefined && text !== "" && !isNaN(text) ? Number(text) : text;
  };
  const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
  rows.sort(([a], [b]) => {
    if (a === Infinity || b === Infinity) return (a === Infinity) - (b === Infinity);
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(b, "en", { numeric: true });
    return order * direction;
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copier");
  if (!button) return;
  const done = await copy(button.dataset.copy);
  const label = button.firstChild;
  label.textContent = done ? "Copied" : "Press Ctrl+C";
  say(done ? "Copied" : "Could not copy");
  setTimeout(() => (label.textContent = "Copy"), 1500);
});

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { class: "away" }); // where a file may not use the clipboard
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
