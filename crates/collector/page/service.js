// One service: its pods side by side, and its endpoints.
import { h, later } from "./dom.js";
import { chips, versions } from "./files.js";
import { durations, meter, rates, spark, strip } from "./curve.js";
import { badge, bytes, cores, duration, durationState, errorState, figure, findings, memory, number, percent, podPath, rate, word } from "./words.js";

export function service(view, sort) {
  return h("div", { class: "view" },
    h("div", { class: "headline" }, h("h1", {}, view.name), badge(view.state),
      h("p", { class: "quiet" }, `${view.kind} in ${view.namespace}`)),
    findings(view.findings),
    summary(view.figures),
    h("div", { class: "charts" }, rates(view.history), durations(view.history)),
    versions(view.podCards),
    h("h2", {}, "Pods"),
    h("p", { class: "quiet" }, "The bar shows p50 (dot), p95 (stroke) and p99 between 1 ms and 10 s: one that lies further right is slower than its peers."),
    h("ul", { class: "pods" }, view.podCards.map((pod) => later("li", pod.name, pod.state, () => card(pod)))),
    h("h2", {}, "Endpoints"),
    endpoints(view.endpoints, sort));
}

export function summary(figures) {
  return h("dl", { class: "figures wide" },
    figure("requests", rate(figures.rate)),
    figure("errors", percent(figures.errorShare), rate(figures.errorRate), errorState(figures.errorShare)),
    figure("average", duration(figures.average)),
    figure("p50", duration(figures.p50), null, durationState(figures.p50)),
    figure("p95", duration(figures.p95), null, durationState(figures.p95)),
    figure("p99", duration(figures.p99), null, durationState(figures.p99)),
    figure("in", `${bytes(figures.bytesIn)}/s`),
    figure("out", `${bytes(figures.bytesOut)}/s`),
    figure("in flight", number(figures.inFlight)),
    figures.openConnections ? figure("connections", number(figures.openConnections)) : null);
}

function card(pod) {
  const { figures } = pod;
  // Of a pod that says nothing nothing is known; that is not zero.
  const known = (value) => (["gone", "waiting"].includes(pod.state) ? "–" : value);
  const worst = pod.findings[0];
  return h("li", { class: `pod ${pod.state}`, "data-key": pod.name },
    h("div", { class: "who" }, h("a", { href: podPath(pod.namespace, pod.name) }, pod.name), badge(pod.state)),
    h("p", { class: "why" }, worst ? worst.text : figures.rate > 0 || figures.connectionRate > 0 ? "nothing to look at" : "nobody asks it"),
    strip(figures),
    h("dl", { class: "figures" },
      figure("rate", known(rate(figures.rate))),
      figure("errors", known(percent(figures.errorShare)), null, errorState(figures.errorShare)),
      figure("p50", duration(figures.p50), null, durationState(figures.p50)),
      figure("p95", duration(figures.p95), null, durationState(figures.p95))),
    h("div", { class: "curves" },
      spark(pod.history.rate, "rate", rate, "Requests"), spark(pod.history.p95, "p95", duration, "p95")),
    extras(pod));
}

export function extras(pod) {
  return h("div", { class: "extras" },
    meter("CPU", pod.cpu, cores), meter("memory", pod.memory, memory),
    pod.breakers.map((breaker) => {
      const open = breaker.mode === "enforce" && breaker.state !== "closed";
      const observed = breaker.mode === "observe" ? " (observed only)" : "";
      return h("span", { class: `chip ${open ? "elevated" : ""}` }, `circuit to ${breaker.upstream}: ${breaker.state}${observed}`);
    }),
    pod.logLagBytes === undefined ? null : h("span", { class: `chip ${pod.logLagBytes >= 2 ** 20 ? "elevated" : ""}` }, `logs lag ${bytes(pod.logLagBytes)}`),
    chips(pod.sync),
    pod.restarts ? h("span", { class: "chip" }, `${pod.restarts} ${pod.restarts === 1 ? "restart" : "restarts"}`) : null);
}

const COLUMNS = [
  ["path", "Endpoint", (endpoint) => [h("span", { class: "method" }, endpoint.method), " ", endpoint.path === "_OTHER" ? "all others" : endpoint.path]],
  ["state", "State", (endpoint) => badge(endpoint.state)],
  ["hits", "Hits", (endpoint) => endpoint.hits.toLocaleString("en")],
  ["rate", "Rate", (endpoint) => rate(endpoint.rate)],
  ["errorShare", "Errors", (endpoint) => percent(endpoint.errorShare), (endpoint) => errorState(endpoint.errorShare)],
  ["average", "Average", (endpoint) => duration(endpoint.average)],
  ["p50", "p50", (endpoint) => duration(endpoint.p50), (endpoint) => durationState(endpoint.p50)],
  ["p95", "p95", (endpoint) => duration(endpoint.p95), (endpoint) => durationState(endpoint.p95)],
  ["p99", "p99", (endpoint) => duration(endpoint.p99), (endpoint) => durationState(endpoint.p99)],
  ["bytesIn", "In", (endpoint) => `${bytes(endpoint.bytesIn)}/s`],
  ["bytesOut", "Out", (endpoint) => `${bytes(endpoint.bytesOut)}/s`],
];
const RANK = ["good", "waiting", "elevated", "slow", "failing", "gone"];

function compare(a, b, column) {
  const value = (endpoint) => (column === "state" ? RANK.indexOf(endpoint.state) : endpoint[column] ?? -1);
  const [x, y] = [value(a), value(b)];
  return typeof x === "string" ? x.localeCompare(y) : y - x;
}

export function endpoints(list, sort) {
  if (list.length === 0) return h("p", { class: "quiet" }, "No requests yet.");
  const sorted = [...list].sort((a, b) => compare(a, b, sort.column) * (sort.reversed ? -1 : 1) || a.path.localeCompare(b.path));
  const head = COLUMNS.map(([column, label]) => {
    const mine = sort.column === column;
    const order = (column === "path") !== sort.reversed ? "ascending" : "descending";
    return h("th", { scope: "col", "aria-sort": mine ? order : null },
      h("button", { type: "button", "data-action": "sort", "data-column": column }, label, mine ? h("span", { "aria-hidden": "true" }, order === "ascending" ? " ↑" : " ↓") : null));
  });
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Endpoints" },
    h("table", {},
      h("caption", {}, "Hits are all since the proxies started, the rest is of the last one to two minutes. Numbers and ids in paths are taken for one."),
      h("thead", {}, h("tr", {}, head)),
      h("tbody", {}, sorted.map((endpoint) => later("tr", name(endpoint), endpoint.state, () => row(endpoint))))));
}

const name = ({ port, method, path }) => `${port} ${method} ${path}`;

function row(endpoint) {
  return h("tr", { "data-key": name(endpoint) },
    COLUMNS.map(([column, label, cell, state]) => h(column === "path" ? "th" : "td", { scope: column === "path" ? "row" : null, "data-label": label, class: state ? state(endpoint) : null }, cell(endpoint))));
}

export const say = (view) => `${view.name} is ${word(view.state)}`;
