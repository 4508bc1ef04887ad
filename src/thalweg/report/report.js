"use strict";
// A cursor for the charts and the confusion matrix, by pointer and by arrow keys. Without it the page is whole.
const SVG = "http://www.w3.org/2000/svg";
const numbers = (text) => text.split(" ").map(Number);

function written(value, shares) {
  if (shares) return (100 * value).toFixed(1) + "\u202f%";
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-4 || size >= 1e6)) return value.toExponential(2);
  return Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
}

function make(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  return parent.appendChild(element);
}

function nearest(sorted, target) {
  let best = 0;
  for (let i = 1; i < sorted.length; i++)
    if (Math.abs(sorted[i] - target) <= Math.abs(sorted[best] - target)) best = i;
  return best;
}

function addCursor(svg) {
  const [s0, s1, x0, x1] = svg.dataset.x.split(" ").map(Number);
  const yParts = svg.dataset.y.split(" ");
  const [v0, v1, y0, y1] = yParts.slice(0, 4).map(Number);
  const scale = yParts[4] === "log" ? Math.log10 : (v) => v;
  const shares = "shares" in svg.dataset;
  const perEpoch = Number(svg.dataset.epoch);
  const out = svg.parentElement.querySelector("output");
  const xOf = (step) => x0 + ((step - s0) / (s1 - s0)) * (x1 - x0);
  const yOf = (value) => {
    const inside = Math.min(Math.max(value, v0), v1);
    return y0 + ((scale(inside) - scale(v0)) / (scale(v1) - scale(v0))) * (y1 - y0);
  };
  const lines = [...svg.querySelectorAll("g.line")].map((g) => ({
    name: g.dataset.name,
    kind: g.classList[1],
    steps: numbers(g.dataset.steps),
    values: numbers(g.dataset.values),
    low: g.dataset.low && numbers(g.dataset.low),
    high: g.dataset.high && numbers(g.dataset.high),
  }));
  const stops = [...new Set(lines.flatMap((line) => line.steps))].sort((a, b) => a - b);
  const rule = make("line", { class: "cursor", y1: y0, y2: y1, visibility: "hidden" }, svg);
  const dots = lines.map((line) => make("circle", { class: "at " + line.kind, r: 4, visibility: "hidden" }, svg));
  let stop = stops.length - 1;

  function show(index) {
    stop = Math.min(Math.max(index, 0), stops.length - 1);
    const step = stops[stop];
    const x = xOf(step);
    rule.setAttribute("x1", x);
    rule.setAttribute("x2", x);
    rule.setAttribute("visibility", "visible");
    const epoch = perEpoch ? `epoch ${((step + 1) / perEpoch).toFixed(perEpoch > 1 ? 1 : 0)}, ` : "";
    const readings = lines.map((line, i) => {
      const at = nearest(line.steps, step);
      dots[i].setAttribute("cx", xOf(line.steps[at]));
      dots[i].setAttribute("cy", yOf(line.values[at]));
      dots[i].setAttribute("visibility", "visible");
      const range = line.low && line.low[at] < line.high[at]
        ? ` (${written(line.low[at], shares)} to ${written(line.high[at], shares)})` : "";
      return `${line.name} ${written(line.values[at], shares)}${range}`;
    });
    out.textContent = `${epoch}step ${step.toLocaleString("en")}: ${readings.join(", ")}`;
    svg.setAttribute("aria-valuenow", step);
    svg.setAttribute("aria-valuetext", out.textContent);
  }

  function hide() {
    if (svg === document.activeElement) return;
    rule.setAttribute("visibility", "hidden");
    dots.forEach((dot) => dot.setAttribute("visibility", "hidden"));
    out.textContent = "";
  }

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    show(nearest(stops, s0 + ((x - x0) / (x1 - x0)) * (s1 - s0)));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("focus", () => show(stop));
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const jump = Math.max(1, Math.round(stops.length / 10));
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -jump, PageUp: jump, Home: -Infinity, End: Infinity };
    if (!(event.key in moves)) return;
    event.preventDefault();
    show(stop + moves[event.key]);
  });
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("role", "slider");
  svg.setAttribute("aria-valuemin", stops[0]);
  svg.setAttribute("aria-valuemax", stops[stops.length - 1]);
  svg.setAttribute("aria-valuenow", stops[stop]);
}

function addReading(table) {
  const box = table.parentElement;
  const out = box.parentElement.querySelector("output");
  const rows = [...table.tBodies[0].rows];
  const names = rows.map((row) => row.cells[0].textContent);
  const totals = rows.map((row) => [...row.cells].slice(1).reduce((sum, cell) => sum + Number(cell.textContent), 0));
  let row = 0, column = 0, marked = null;

  function show(r, c) {
    row = Math.min(Math.max(r, 0), rows.length - 1);
    column = Math.min(Math.max(c, 0), names.length - 1);
    if (marked) marked.classList.remove("at");
    marked = rows[row].cells[column + 1];
    marked.classList.add("at");
    const count = Number(marked.textContent);
    const share = totals[row] ? ` (${Math.round((100 * count) / totals[row])}\u202f%)` : "";
    out.textContent = row === column
      ? `${count} of ${totals[row]} ${names[row]}${share} were called so`
      : `${count} of ${totals[row]} ${names[row]}${share} were called ${names[column]}`;
  }

  function hide() {
    if (marked) marked.classList.remove("at");
    out.textContent = "";
  }

  table.addEventListener("pointerover", (event) => {
    const cell = event.target.closest("tbody td");
    if (cell) show(cell.parentElement.rowIndex - 1, cell.cellIndex - 1);
  });
  table.addEventListener("pointerleave", hide);
  box.addEventListener("blur", hide);
  box.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    show(row + moves[event.key][0], column + moves[event.key][1]);
    marked.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

// On paper nothing can be unfolded.
let folded = [];
window.addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((details) => (details.open = true));
});
window.addEventListener("afterprint", () => folded.forEach((details) => (details.open = false)));

document.querySelectorAll("svg[data-x]").forEach(addCursor);
document.querySelectorAll("table.matrix").forEach(addReading);
