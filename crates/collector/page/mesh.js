// All services.
import { h } from "./dom.js";
import { spark } from "./curve.js";
import { graph } from "./graph.js";
import { badge, duration, durationState, errorState, figure, percent, rate, servicePath, word } from "./words.js";

export function mesh(view) {
  const count = (list, one, many) => `${list} ${list === 1 ? one : many}`;
  const troubled = view.services.filter((service) => service.state !== "good" && service.state !== "waiting");
  const verdict = troubled.length === 0 ? "nothing to look at" : troubled.map((service) => `${service.name} is ${word(service.state)}`).join(", ");
  return h("div", { class: "view" },
    h("div", { class: "headline" },
      h("h1", {}, "Mesh"),
      h("p", { class: "quiet" }, `${count(view.services.length, "service", "services")}, ${count(view.pods, "pod", "pods")}: ${verdict}`)),
    view.podsLeftOut > 0 ? h("p", { class: "note" }, `${view.podsLeftOut} more pods are not watched: there are more than one collector takes.`) : null,
    view.services.length === 0 ? empty() : null,
    graph(view),
    view.services.length ? h("h2", {}, "Services") : null,
    h("ul", { class: "services" }, view.services.map(row)));
}

function empty() {
  return h("div", { class: "empty" },
    h("p", {}, "No injected pods yet. Label a namespace, and make its pods anew:"),
    h("pre", {}, "kubectl label namespace shop outrigger.dev/inject=enabled\nkubectl -n shop rollout restart deployment"));
}

function row(service) {
  const { figures } = service;
  const pods = Object.values(service.pods).reduce((sum, count) => sum + count, 0);
  const worst = service.findings[0];
  return h("li", { class: `service ${service.state}`, "data-key": `${service.namespace}/${service.name}` },
    h("div", { class: "who" },
      h("a", { href: servicePath(service.namespace, service.name) }, service.name),
      h("span", { class: "quiet" }, `${service.namespace} · ${pods} ${pods === 1 ? "pod" : "pods"}`)),
    h("div", { class: "state" }, badge(service.state), worst ? h("span", { class: "why" }, worst.text) : null),
    h("div", { class: "curves" },
      h("div", {}, spark(service.history.rate, "rate", rate, "Requests"), h("span", { class: "quiet" }, "requests")),
      h("div", {}, spark(service.history.p95, "p95", duration, "p95"), h("span", { class: "quiet" }, "p95"))),
    h("dl", { class: "figures" },
      figure("rate", rate(figures.rate)),
      figure("errors", percent(figures.errorShare), null, errorState(figures.errorShare)),
      figure("p50", duration(figures.p50), null, durationState(figures.p50)),
      figure("p95", duration(figures.p95), null, durationState(figures.p95)),
      figure("p99", duration(figures.p99), null, durationState(figures.p99))));
}
