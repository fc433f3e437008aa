// Elements, and how a tree on the page becomes another one: focus, scroll and selection stay where they are.

const SVG = new Set(["svg", "path", "rect", "circle", "line", "text", "g", "title", "marker", "defs", "tspan"]);

// h("p", {class: "quiet"}, "text", node, [more]): an element. Attributes that are null or false are left out.
export function h(tag, attributes, ...children) {
  const node = SVG.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// What is kept up to date while it is in sight, and when its state changes: of hundreds of rows a reader sees a few.
// later("tr", "GET /carts", "good", () => h("tr", ...)): its place, until morph() builds it.
export function later(tag, key, state, build) {
  return Object.assign(h(tag, { "data-key": key, "data-later": true }), { state, build });
}

const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.away = !isIntersecting;
    if (isIntersecting && target.late) update(target, target.late);
  }
}, { rootMargin: "50%" });

// A new node, with all that is to be built in it.
function built(node) {
  for (const place of node.querySelectorAll?.("[data-later]") ?? []) place.replaceWith(built(place));
  if (!node.build) return node;
  const whole = Object.assign(node.build(), { state: node.state });
  sight.observe(whole);
  return whole;
}

const key = (node) => node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;

// Makes the children of `old` what those of `wanted` are. Rows that moved are moved, by their data-key.
export function morph(old, wanted) {
  const known = new Map([...old.childNodes].filter(key).map((node) => [key(node), node]));
  let at = old.firstChild;
  for (const child of [...wanted.childNodes]) {
    const mine = key(child) ? known.get(key(child)) : at && !key(at) ? at : null;
    if (mine && mine.nodeName === child.nodeName) {
      if (mine === at) at = at.nextSibling;
      else old.insertBefore(mine, at);
      update(mine, child);
    } else {
      old.insertBefore(built(child), at);
    }
    if (key(child)) known.delete(key(child));
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function update(old, wanted) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== wanted.nodeValue) old.nodeValue = wanted.nodeValue;
    return;
  }
  if (wanted.build) {
    const { state, build } = wanted;
    old.late = old.away && old.state === state ? wanted : null;
    if (old.late) return;
    old.state = state;
    wanted = build();
  }
  // What the reader opened stays open.
  const own = old.nodeName === "DETAILS" ? ["open"] : [];
  for (const { name } of [...old.attributes]) {
    if (!wanted.hasAttribute(name) && !own.includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  morph(old, wanted);
}
