// The page /status: draws what Prometheus answers, panel by panel, and again every quarter of a minute.

import { forgetKey, getCurves, getHealth, listPanels, useKey, whenKeyWanted } from "./client.js";

const AGAIN_MS = 15_000;
const WIDTH = 360;
const HEIGHT = 150;
const LEFT = 60;
const BOTTOM = 18;
const NUM_COLOURS = 8;
const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);
let panels = [];
let round = 0;

const UNITS = {
  count: (value) => short(value),
  per_second: (value) => `${short(value)}/s`,
  ratio: (value) => `${short(100 * value)} %`,
  seconds: duration,
  bytes: (value) => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]),
};

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 10_000) return scaled(value, 1000, ["", "k", "M", "G"]).replace(" ", "");
  return String(Number(value.toPrecision(size >= 100 ? 4 : 3)));
}

function scaled(value, step, names) {
  let place = 0;
  while (Math.abs(value) >= step && place < names.length - 1) {
    value /= step;
    place += 1;
  }
  return `${Number(value.toPrecision(3))} ${names[place]}`.trim();
}

function duration(seconds) {
  if (Math.abs(seconds) < 1) return `${Number((1000 * seconds).toPrecision(3))} ms`;
  for (const [name, length] of [["d", 86_400], ["h", 3600], ["min", 60]]) {
    if (Math.abs(seconds) >= 2 * length) return `${Number((seconds / length).toPrecision(3))} ${name}`;
  }
  return `${Number(seconds.toPrecision(3))} s`;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A round number at or above: the end of the axis. */
function roundUp(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((end) => end >= value * 0.9999);
}

function chart(panel, series, seconds) {
  const unit = UNITS[panel.unit];
  const values = series.flatMap((each) => each.points.map(([, value]) => value));
  const highest = roundUp(Math.max(0, ...values));
  const lowest = Math.min(0, ...values);
  const end = Date.now() / 1000;
  const x = (at) => LEFT + ((at - end + seconds) / seconds) * (WIDTH - LEFT);
  const y = (value) => 6 + (1 - (value - lowest) / (highest - lowest)) * (HEIGHT - BOTTOM - 6);
  const words = series.map((each) => `${each.name} ${unit(last(each))}`).join(", ");
  const drawn = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${panel.title}: ${words}` });
  for (const value of [lowest, (lowest + highest) / 2, highest]) {
    drawn.append(shape("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value) }));
    drawn.append(shape("text", { class: "mark", x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, unit(value)));
  }
  drawn.append(shape("text", { class: "mark", x: LEFT, y: HEIGHT - 4 }, `${duration(seconds)} ago`));
  drawn.append(shape("text", { class: "mark", x: WIDTH, y: HEIGHT - 4, "text-anchor": "end" }, "now"));
  series.forEach((each, place) => drawn.append(...curve(each, { x, y, colour: place % NUM_COLOURS, gap: (3 * seconds) / 120 })));
  return drawn;
}

/** A path that is broken where nothing was measured; a lone point is a dot. */
function curve(series, { x, y, colour, gap }) {
  const pieces = [];
  for (const point of series.points) {
    const piece = pieces.at(-1);
    if (piece && point[0] - piece.at(-1)[0] <= Math.max(gap, 60)) piece.push(point);
    else pieces.push([point]);
  }
  return pieces.map((piece) => {
    if (piece.length === 1) return shape("circle", { class: `lone c${colour}`, cx: x(piece[0][0]), cy: y(piece[0][1]), r: 2.5 });
    const path = piece.map(([at, value], place) => `${place ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    return shape("path", { class: `curve c${colour}`, d: path });
  });
}

const last = (series) => series.points.at(-1)[1];

function legend(panel, series) {
  const unit = UNITS[panel.unit];
  return element("ul", {}, ...series.map((each, place) => element("li", { class: `c${place % NUM_COLOURS}` }, `${each.name} `, element("b", {}, unit(last(each))))));
}

function show(panel, series, seconds) {
  const drawn = series.filter((each) => each.points.length > 0);
  const place = $(`panel-${panel.id}`);
  const none = panel.needs_gpu ? "No GPU here." : "No data yet.";
  place.querySelector(".picture").replaceChildren(
    ...(drawn.length ? [chart(panel, drawn, seconds), legend(panel, drawn)] : [element("p", { class: "none" }, none)]),
  );
  place.dataset.state = drawn.length ? "drawn" : "empty";
}

function notice(text, { isBad = false } = {}) {
  $("notice").textContent = text;
  $("notice").classList.toggle("bad", isBad);
  $("notice").hidden = !text;
}

async function showHealth() {
  try {
    const health = await getHealth();
    $("health").dataset.state = health.status;
    $("health-text").textContent = health.status === "ok" ? `${health.live_workers} live, ${health.queue_depth} waiting` : health.reasons.join(" ");
  } catch (error) {
    $("health").dataset.state = "unavailable";
    $("health-text").textContent = error.message;
  }
}

async function build() {
  const status = await listPanels();
  $("key-form").hidden = true;
  if (!status.has_prometheus) {
    notice("These charts need a Prometheus that scrapes this gateway and its workers: set WANSERVE_PROMETHEUS_URL. docs/operations.md says how.");
    return false;
  }
  panels = status.dashboards.flatMap((board) => board.panels);
  $("boards").replaceChildren(
    ...status.dashboards.map((board) =>
      element(
        "section",
        { class: "board", "aria-label": board.title },
        element("h2", {}, board.title),
        element(
          "div",
          { class: "panels" },
          ...board.panels.map((panel) =>
            element("article", { class: "panel", id: `panel-${panel.id}` }, element("h3", {}, panel.title), element("p", { class: "about" }, panel.about), element("div", { class: "picture" })),
          ),
        ),
      ),
    ),
  );
  return true;
}

/** One after another: a Prometheus has other work too. */
async function refresh() {
  const own = (round += 1);
  const seconds = Number($("seconds").value);
  try {
    for (const panel of panels) {
      const { series } = await getCurves(panel.id, seconds);
      if (own !== round) return;
      show(panel, series, seconds);
    }
    notice("");
  } catch (error) {
    if (own === round) notice(error.message, { isBad: true });
  }
}

async function start() {
  try {
    if (!(await build())) return;
  } catch (error) {
    notice(error.message, { isBad: true });
    return;
  }
  await refresh();
}

function askForKey(error) {
  $("key-form").hidden = false;
  $("key-problem").hidden = error.code === "missing_api_key";
  $("key-problem").textContent = error.message;
  $("key").focus();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  forgetKey();
  useKey($("key").value.replace(/[^\x21-\x7e]/g, "") || "ws_");
  notice("");
  start();
});
$("seconds").addEventListener("change", refresh);
whenKeyWanted(askForKey);
showHealth();
start();
setInterval(() => {
  showHealth();
  if (panels.length && !document.hidden) refresh();
}, AGAIN_MS);
