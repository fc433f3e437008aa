// Files that come from git repositories: which version a pod serves, since when, and which one it does not take.
import { h } from "./dom.js";

export function ago(time) {
  const seconds = Math.max(0, (Date.now() - new Date(time)) / 1000);
  const [unit, size] = [["d", 86400], ["h", 3600], ["min", 60]].find(([, size]) => seconds >= size) ?? ["s", 1];
  return `${Math.floor(seconds / size)} ${unit}`;
}

const where = (entry) => `${entry.container}:${entry.path}`;
const served = (entry) => entry.version ?? (entry.hasContent ? "the fallback" : "no files");

// On a pod's card: one for each entry.
export function chips(entries) {
  return (entries ?? []).map((entry) => {
    const since = entry.version && entry.since ? ` for ${ago(entry.since)}` : "";
    const failure = entry.failure ? `, ${entry.failure.reason}` : entry.onTrial ? ", on trial" : "";
    return h("span", { class: `chip ${entry.failure ? "elevated" : ""}`, title: where(entry) }, `${entry.path}: ${served(entry)}${since}${failure}`);
  });
}

// On a service's page: how many pods serve what. Without files, nothing.
export function versions(pods) {
  const counts = new Map();
  for (const entry of pods.flatMap((pod) => pod.sync ?? [])) {
    const place = counts.get(where(entry)) ?? counts.set(where(entry), new Map()).get(where(entry));
    place.set(served(entry), (place.get(served(entry)) ?? 0) + 1);
  }
  const line = ([place, versions]) => h("div", {}, h("dt", {}, place),
    h("dd", {}, [...versions].sort(([a], [b]) => a.localeCompare(b)).map(([version, pods]) => `${version} on ${pods} ${pods === 1 ? "pod" : "pods"}`).join(", ")));
  return counts.size === 0 ? null : [h("h2", {}, "Files"), h("dl", { class: "facts" }, [...counts].map(line))];
}

// On a pod's page: all that is known.
export function files(entries) {
  if (!entries?.length) return null;
  const row = (entry) => h("tr", {},
    h("th", { scope: "row" }, where(entry)),
    h("td", { "data-label": "Serves" }, served(entry), entry.commit ? h("small", { class: "quiet" }, ` ${entry.commit.slice(0, 10)}`) : null),
    h("td", { "data-label": "Since" }, entry.since ? h("time", { datetime: entry.since }, `${ago(entry.since)} ago`) : "–"),
    h("td", { "data-label": "State", class: entry.failure ? "elevated" : null }, entry.failure ? `${entry.failure.reason}: ${entry.failure.message}` : entry.onTrial ? "on trial" : "good"),
    h("td", { "data-label": "Not taken again" }, entry.bad.map((bad) => bad.version).join(", ") || "–"));
  return [h("h2", {}, "Files"),
    h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Files" },
      h("table", { class: "files" },
        h("thead", {}, h("tr", {}, ["Files", "Serves", "Since", "State", "Not taken again"].map((label) => h("th", { scope: "col" }, label)))),
        h("tbody", {}, entries.map(row))))];
}
