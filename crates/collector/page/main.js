// Where we are, what the collector tells of it each second, and what the reader does.
import { h, morph } from "./dom.js";
import { mesh } from "./mesh.js";
import { pod } from "./pod.js";
import { say, service } from "./service.js";
import { servicePath } from "./words.js";

const main = document.getElementById("main");
const link = document.getElementById("link");
const news = document.getElementById("news");
const sort = { column: "path", reversed: false };
const SILENT = 5000;

let source = null, view = null, lastSeen = 0, states = new Map();

// "#/services/shop/api" is kind, namespace and name.
function place() {
  const [kind, namespace, name] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  return ["services", "pods"].includes(kind) && name ? { kind, namespace, name } : { kind: "mesh" };
}

// A link that somebody cut off in the middle of a character is one to nowhere, and no error.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function path({ kind, namespace, name }) {
  return kind === "mesh" ? kind : `${kind}/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
}

function go() {
  view = null;
  states = new Map();
  listen();
  trail();
}

// What nobody sees is not asked for: a browser has six connections to one address, for all its tabs together.
function listen() {
  source?.close();
  source = null;
  if (document.hidden) return;
  lastSeen = Date.now();
  source = new EventSource(`api/v1/events/${path(place())}`);
  source.onmessage = (event) => {
    view = JSON.parse(event.data);
    lastSeen = Date.now();
    render();
    connected(true);
  };
  source.addEventListener("absent", () => {
    lastSeen = Date.now();
    connected(true);
    morph(main, h("main", {}, h("p", { class: "quiet" }, "This is not there, or not any more. ", h("a", { href: "#/" }, "Back to the mesh"))));
  });
  source.onerror = () => connected(false);
}

function render() {
  const { kind } = place();
  const content = kind === "mesh" ? mesh(view) : kind === "services" ? service(view, sort) : pod(view, sort);
  morph(main, h("main", {}, content));
  document.title = kind === "mesh" ? "Mesh · Outrigger" : `${view.name} · Outrigger`;
  trail();
  announce(kind === "mesh" ? view.services : [view, ...(view.podCards ?? [])]);
}

// For those who do not see it: what has changed its state, and nothing else.
function announce(things) {
  // A service and a pod of it may have one name, as services of two namespaces may.
  const key = (thing) => `${thing.kind ?? ""} ${thing.namespace}/${thing.name}`;
  const changed = things.filter((thing) => states.has(key(thing)) && states.get(key(thing)) !== thing.state);
  states = new Map(things.map((thing) => [key(thing), thing.state]));
  if (changed.length) news.textContent = changed.map(say).join(", ");
}

function trail() {
  const { kind, namespace, name } = place();
  const steps = [kind === "mesh" ? h("span", { "aria-current": "page" }, "Mesh") : h("a", { href: "#/" }, "Mesh")];
  if (kind === "pods" && view?.service) steps.push(h("a", { href: servicePath(namespace, view.service) }, view.service));
  if (kind !== "mesh") steps.push(h("span", { "aria-current": "page" }, name));
  morph(document.getElementById("trail"), h("nav", {}, h("ol", {}, steps.map((step) => h("li", {}, step)))));
}

function connected(is) {
  link.className = `link ${is ? "live" : "lost"}`;
  link.textContent = is ? "live" : "connection lost, trying again";
}

// Where site data is blocked each of these is an error, and the page goes on without.
function remember(name) {
  try {
    localStorage.setItem("theme", name);
  } catch {}
}

function remembered() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

const THEMES = ["auto", "light", "dark"];
function theme(name) {
  document.documentElement.dataset.theme = name;
  remember(name);
  document.getElementById("theme").textContent = `Theme: ${name}`;
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-action]");
  if (target?.dataset.action === "theme") {
    theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
  } else if (target?.dataset.action === "skip") {
    // A hash of its own would be taken for a place.
    event.preventDefault();
    main.focus();
  } else if (target?.dataset.action === "sort") {
    const { column } = target.dataset;
    sort.reversed = sort.column === column && !sort.reversed;
    sort.column = column;
    if (view) render();
  }
});
window.addEventListener("hashchange", () => {
  go();
  main.focus();
  window.scrollTo(0, 0);
});
document.addEventListener("visibilitychange", listen);
setInterval(() => {
  if (source && Date.now() - lastSeen > SILENT) {
    connected(false);
    // Browsers give up on an answer that is no stream, as behind a port-forward whose other end has gone.
    if (source.readyState === EventSource.CLOSED) go();
  }
}, 1000);

const kept = remembered();
theme(THEMES.includes(kept) ? kept : "auto");
go();
