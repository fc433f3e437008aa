// Who calls whom: services in columns, callers on the left.
import { h } from "./dom.js";
import { duration, rate, servicePath, word } from "./words.js";

const WIDTH = 190, HEIGHT = 62, ACROSS = 130, DOWN = 26;
const id = (place) => `${place.namespace ?? ""}/${place.name}`;
const short = (text) => (text.length > 22 ? `${text.slice(0, 21)}…` : text);

// How many calls it is from a service that nobody calls. Circles end where they began.
function columns(nodes, edges) {
  const depth = new Map([...nodes.keys()].map((node) => [node, 0]));
  for (let round = 0; round < nodes.size; round += 1) {
    let moved = false;
    for (const edge of edges) {
      const wanted = depth.get(id(edge.from)) + 1;
      if (wanted > depth.get(id(edge.to)) && wanted < nodes.size) {
        depth.set(id(edge.to), wanted);
        moved = true;
      }
    }
    if (!moved) break;
  }
  const all = [];
  for (const [node, column] of depth) (all[column] ??= []).push(node);
  return all.filter(Boolean);
}

export function graph(mesh) {
  if (mesh.edges.length === 0) return null;
  const nodes = new Map();
  for (const edge of mesh.edges) {
    for (const place of [edge.from, edge.to]) {
      const service = mesh.services.find((service) => service.namespace === place.namespace && service.name === place.name);
      nodes.set(id(place), { place, service });
    }
  }
  const all = columns(nodes, mesh.edges);
  const rows = Math.max(...all.map((column) => column.length));
  const width = all.length * WIDTH + (all.length - 1) * ACROSS + 8, height = rows * HEIGHT + (rows - 1) * DOWN + 8;
  all.forEach((column, x) => column.forEach((node, y) => {
    const free = rows - column.length;
    Object.assign(nodes.get(node), { x: 4 + x * (WIDTH + ACROSS), y: 4 + (y + free / 2) * (HEIGHT + DOWN) });
  }));
  return h("section", { class: "graph" },
    h("h2", {}, "Who calls whom"),
    h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Who calls whom" },
      h("svg", { viewBox: `0 0 ${width} ${height}`, width, height },
        mesh.edges.map((edge) => arrow(edge, nodes)), mesh.edges.map((edge) => label(edge, nodes)), [...nodes.values()].map(box))));
}

// Where it begins and ends.
function ends(edge, nodes) {
  const from = nodes.get(id(edge.from)), to = nodes.get(id(edge.to));
  return [from.x + WIDTH, from.y + HEIGHT / 2, to.x - 5, to.y + HEIGHT / 2];
}

function arrow(edge, nodes) {
  const [x1, y1, x2, y2] = ends(edge, nodes);
  const bend = Math.max((x2 - x1) / 2, 40);
  const open = edge.circuitsOpen > 0 ? " · circuit open" : "";
  const words = `${edge.from.name} calls ${edge.to.name}: ${rate(edge.figures.rate)}, p95 ${duration(edge.figures.p95)}, ${word(edge.state)}${open}`;
  return h("g", { class: `edge ${edge.state}`, "data-key": `${id(edge.from)}>${id(edge.to)}`, role: "img", "aria-label": words },
    h("title", {}, words),
    h("path", { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, "stroke-width": 1.5 + Math.min(Math.log10(1 + edge.figures.rate), 3) }),
    h("path", { class: "head", d: `M${x2 + 3} ${y2}l-8 -4.500v9z` }));
}

// In a gap of its curve, and over all curves: beside it, one would go through it.
function label(edge, nodes) {
  const [x1, y1, x2, y2] = ends(edge, nodes);
  const lines = [rate(edge.figures.rate), duration(edge.figures.p95)];
  const [x, y, wide] = [(x1 + x2) / 2, (y1 + y2) / 2, Math.max(...lines.map((line) => line.length)) * 7 + 6];
  return h("g", { class: "label", "data-key": `label ${id(edge.from)}>${id(edge.to)}`, "aria-hidden": "true" },
    h("rect", { x: x - wide / 2, y: y - 17, width: wide, height: 34 }),
    lines.map((line, number) => h("text", { x, y: y - 3 + number * 15, "text-anchor": "middle" }, line)));
}

function box({ place, service, x, y }) {
  const state = service?.state ?? "waiting";
  const under = service ? `${word(state)} · ${rate(service.figures.rate)}` : "outside the mesh";
  const inner = [
    h("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 12 }),
    h("text", { class: "name", x: x + 16, y: y + 26 }, short(place.name)),
    h("text", { x: x + 16, y: y + 46 }, under)];
  const group = h("g", { class: `node ${state}`, "data-key": id(place) }, inner);
  if (!service) return group;
  const link = document.createElementNS("http://www.w3.org/2000/svg", "a");
  link.setAttribute("href", servicePath(place.namespace, place.name));
  link.setAttribute("aria-label", `${place.name}, ${word(state)}`);
  link.setAttribute("data-key", `a${id(place)}`);
  link.append(group);
  return link;
}
