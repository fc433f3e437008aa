// One pod: its figures, what it was injected with, what failed last.
import { h } from "./dom.js";
import { durations, rates } from "./curve.js";
import { files } from "./files.js";
import { endpoints, extras, summary } from "./service.js";
import { badge, findings } from "./words.js";

export function pod(view, sort) {
  const facts = [
    ["profile", view.profile], ["node", view.node], ["address", view.address], ["phase", view.phase],
    ["ready", view.ready ? "yes" : "no"],
    ["last answer", view.lastAnswerSeconds === undefined ? "none yet" : `${view.lastAnswerSeconds} s ago`],
  ];
  return h("div", { class: "view" },
    h("div", { class: "headline" }, h("h1", { class: "long" }, view.name), badge(view.state),
      h("p", { class: "quiet" }, `${view.kind} ${view.service} in ${view.namespace}`)),
    findings(view.findings),
    summary(view.figures),
    extras(view),
    h("div", { class: "charts" }, rates(view.history), durations(view.history)),
    files(view.sync),
    h("h2", {}, "Last errors"),
    errors(view.lastErrors),
    h("h2", {}, "Endpoints"),
    endpoints(view.endpoints, sort),
    h("h2", {}, "Where it runs"),
    h("dl", { class: "facts" }, facts.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    document_("Sidecar config", view.config),
    document_("What injection did", view.report));
}

function errors(list) {
  if (list.length === 0) return h("p", { class: "quiet" }, "None.");
  const row = (error) => h("tr", {},
    h("td", {}, h("time", { datetime: error.time }, new Date(error.time).toLocaleTimeString("en", { hour12: false }))),
    h("td", {}, h("span", { class: "method" }, error.method), " ", error.path),
    h("td", {}, String(error.status)), h("td", {}, error.reason || "the app's answer"));
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Last errors" },
    h("table", {},
      h("thead", {}, h("tr", {}, ["Time", "Request", "Status", "Why"].map((label) => h("th", { scope: "col" }, label)))),
      h("tbody", {}, list.map(row))));
}

function document_(title, value) {
  return h("details", {}, h("summary", {}, title), h("pre", { tabindex: 0 }, JSON.stringify(value, null, 2)));
}
