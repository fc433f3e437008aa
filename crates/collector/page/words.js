// Numbers and states in words.
import { h } from "./dom.js";

const round = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: 0 });

export const number = (value) => round(value, value < 10 ? 1 : 0);
export const rate = (value) => `${number(value)}/s`;
export const percent = (share) => `${round(share * 100, share < 0.1 ? 1 : 0)} %`;

export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1) return `${round(ms, 2)} ms`;
  if (ms < 1000) return `${round(ms, ms < 10 ? 1 : 0)} ms`;
  return `${round(ms / 1000, 1)} s`;
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${round(value, value < 10 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}

export function memory(value) {
  return value >= 2 ** 30 ? `${round(value / 2 ** 30, 1)} GiB` : `${round(value / 2 ** 20, value < 2 ** 24 ? 1 : 0)} MiB`;
}

export const cores = (value) => (value < 0.995 ? `${round(value * 1000, value < 0.01 ? 1 : 0)}m` : `${round(value, 2)} cores`);

// Each state has a word and a shape of its own, so that no meaning hangs on a colour.
const STATES = {
  good: ["good", "M2 8.500l4 4 8-9"],
  waiting: ["waiting", "M3 8h.01M8 8h.01M13 8h.01"],
  elevated: ["elevated", "M8 2v8M8 13.500v.01"],
  slow: ["slow", "M8 1.500a6.500 6.500 0 1 0 .01 0M8 4.500v4l2.500 2"],
  failing: ["failing", "M3 3l10 10M13 3L3 13"],
  gone: ["gone", "M2.500 8h11"],
};

export const word = (state) => STATES[state]?.[0] ?? state;

export function badge(state) {
  const path = STATES[state]?.[1] ?? "";
  return h("span", { class: `badge ${state}` },
    h("svg", { viewBox: "0 0 16 16", width: 12, height: 12, "aria-hidden": "true" }, h("path", { d: path })),
    word(state));
}

export const servicePath = (namespace, name) => `#/services/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
export const podPath = (namespace, name) => `#/pods/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;

export function figure(label, value, note, state) {
  return h("div", { class: `figure ${state ?? ""}` }, h("dt", {}, label), h("dd", {}, value, note ? h("small", {}, ` ${note}`) : null));
}

export const errorState = (share) => (share >= 0.05 ? "failing" : share > 0 ? "elevated" : "");
export const durationState = (ms) => (ms === null || ms === undefined ? "" : ms >= 500 ? "slow" : ms >= 100 ? "elevated" : "");

export function findings(list) {
  if (list.length === 0) return null;
  return h("ul", { class: "findings" },
    list.map((finding) => h("li", { class: finding.state }, badge(finding.state), h("span", {}, finding.text))));
}
