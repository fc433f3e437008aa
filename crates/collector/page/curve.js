// Curves of the last minutes, drawn by hand: no library, no canvas, so they scale and can be read aloud.
import { h } from "./dom.js";
import { duration, rate } from "./words.js";

const STEP = 5;
// Points that the width stands for: few at the beginning, so that there is something to see.
const wide = (values, most) => Math.min(Math.max(values.length, 12), most);
const ago = (seconds) => (seconds < 120 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`);
const known = (values) => values.filter((value) => value !== null);

// The d of a line with gaps where nothing is known; the newest point is at the right edge of `span` points.
function line(values, span, width, height, top) {
  let path = "", pen = false;
  values.forEach((value, index) => {
    if (value === null) {
      pen = false;
      return;
    }
    const x = width - ((values.length - 1 - index) / Math.max(span - 1, 1)) * width;
    const y = height - (value / top) * (height - 2) - 1;
    path += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = true;
  });
  return path;
}

// A small curve with what it says for those who do not see it.
export function spark(values, kind, say, label) {
  const width = 120, height = 30, span = wide(values, 60);
  const points = known(values);
  const top = Math.max(...points, kind === "errors" ? 0.1 : 1) * 1.15;
  const words = points.length ? `${label}: ${say(points.at(-1))} now, ${say(Math.max(...points))} at most` : `${label}: nothing yet`;
  const path = line(values, span, width, height, top);
  return h("svg", { class: `spark ${kind}`, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": words },
    h("line", { class: "grid", x1: 0, x2: width, y1: height - 1, y2: height - 1, "vector-effect": "non-scaling-stroke" }),
    h("path", { d: path, "vector-effect": "non-scaling-stroke" }));
}

// A round number that is no less.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

// A chart of a quarter of an hour. `curves` are [class, label, values].
export function chart(title, curves, say) {
  const width = 600, height = 150, span = wide(curves[0][2], 180);
  const all = curves.flatMap(([, , values]) => known(values));
  const top = ceiling(Math.max(...all, 1));
  const lines = [0, 0.5, 1].map((share) => {
    const y = height - share * (height - 2) - 1;
    return h("line", { class: "grid", x1: 0, x2: width, y1: y, y2: y, "vector-effect": "non-scaling-stroke" });
  });
  const paths = curves.map(([kind, , values]) =>
    h("path", { class: kind, d: line(values, span, width, height, top), "vector-effect": "non-scaling-stroke" }));
  const words = curves.map(([, label, values]) => {
    const points = known(values);
    return `${label} ${points.length ? say(points.at(-1)) : "–"}`;
  });
  return h("figure", { class: "chart" },
    h("figcaption", {}, h("span", {}, title),
      h("span", { class: "legend" }, curves.map(([kind], index) => h("span", { class: `key ${kind}` }, words[index])))),
    h("div", { class: "plot" },
      h("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title} since ${ago(span * STEP)}: ${words.join(", ")}` }, lines, paths),
      h("span", { class: "top", "aria-hidden": "true" }, say(top)),
      h("span", { class: "zero", "aria-hidden": "true" }, "0")),
    h("div", { class: "times", "aria-hidden": "true" }, h("span", {}, ago(span * STEP)), h("span", {}, "now")));
}

export const rates = (history) => chart("Requests", [["rate", "all", history.rate], ["errors", "errors", history.errors]], rate);
export const durations = (history) =>
  chart("Duration", [["p99", "p99", history.p99], ["p95", "p95", history.p95], ["p50", "p50", history.p50]], duration);

// Where p50 to p99 lie between 1 ms and 10 s, on a scale that all pods share: the odd one sticks out.
export function strip(figures) {
  const place = (ms) => `${(Math.min(Math.max(Math.log10(Math.max(ms, 1)), 0), 4) / 4) * 96 + 2}%`;
  const stroke = (kind, from, to, y1, y2) => h("line", { class: kind, x1: from, x2: to, y1, y2 });
  const ticks = [1, 10, 100, 1000, 10000].map((ms) => stroke("grid", place(ms), place(ms), 0, 16));
  const marks = figures.p50 === null ? [] : [
    stroke("range", place(figures.p50), place(figures.p99), 8, 8),
    stroke("tail", place(figures.p95), place(figures.p95), 2, 14),
    h("circle", { class: "middle", cx: place(figures.p50), cy: 8, r: 4.5 })];
  return h("svg", { class: "strip", "aria-hidden": "true" }, ticks, marks);
}

// How much of a limit is used.
export function meter(label, usage, say) {
  if (!usage) return null;
  const share = usage.limit ? Math.min(usage.used / usage.limit, 1) : null;
  const text = usage.limit ? `${say(usage.used)} of ${say(usage.limit)}` : `${say(usage.used)}, no limit`;
  const whose = usage.of === "pod" ? "" : " (proxy)";
  return h("div", { class: "meter" },
    h("span", {}, `${label}${whose}`), h("span", {}, text),
    share === null ? null : h("svg", { viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true", class: share >= 0.9 ? "near" : "" },
      h("rect", { class: "track", width: 100, height: 4, rx: 2 }), h("rect", { class: "fill", width: Math.max(share * 100, 1), height: 4, rx: 2 })));
}
