// Elements from data. Text is only ever set as text: nothing that a repository holds becomes markup.

const SVG = "http://www.w3.org/2000/svg";

// h("a", {href, class, data: {...}, on: {click}}, ...children): children are elements, texts, lists or null.
export function h(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

export function svg(name, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

function fill(element, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (key === "data") {
      for (const [field, item] of Object.entries(value)) element.dataset[field] = item;
    } else if (key === "style") {
      for (const [field, item] of Object.entries(value)) element.style.setProperty(field, item);
    } else {
      // What ARIA asks has to be answered in words.
      element.setAttribute(key, value === true && !key.startsWith("aria-") ? "" : String(value));
    }
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

// As `replace`; whoever was at one of the controls stays at the one that stands in its place.
export function refill(element, ...children) {
  const controls = () => [...element.querySelectorAll("a, button, input, select, summary")];
  const at = controls().indexOf(document.activeElement);
  replace(element, ...children);
  if (at >= 0) controls()[at]?.focus({ preventScroll: true });
}

const ICONS = {
  RUNNING: ["M6 1.500 A4.500 4.500 0 1 1 1.500 6", "stroke"],
  DONE: ["M2 6.500 L5 9.500 L10 3", "stroke"],
  FAILED: ["M2.500 2.500 L9.500 9.500 M9.500 2.500 L2.500 9.500", "stroke"],
  CACHED: ["M6.800 0.800 L2.200 7 H5.800 L5 11.200 L9.800 5 H6.200 Z", "fill"],
  ABANDONED: ["M3.500 2 V10 M8.500 2 V10", "stroke"],
};

export const STATUS_TEXT = {
  RUNNING: "Running", DONE: "Done", FAILED: "Failed", CACHED: "Cached", ABANDONED: "Abandoned",
};

export function statusBadge(status) {
  const [path, kind] = ICONS[status] ?? ["", "fill"];
  const drawn = kind === "fill"
    ? { d: path, fill: "currentColor" }
    : { d: path, fill: "none", stroke: "currentColor", "stroke-width": 2, "stroke-linecap": "round", "stroke-linejoin": "round" };
  return h("span", { class: "status", data: { status } },
    svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, svg("path", drawn)),
    STATUS_TEXT[status] ?? status);
}

export function tagText(tag) {
  return `${tag.key}=${JSON.stringify(tag.value)}`;
}

// Leads to all that carries it.
export function tagChip(tag) {
  const value = typeof tag.value === "string" ? tag.value : JSON.stringify(tag.value);
  return h("a", { class: "tag", title: `${tag.key}=${value}`, href: `#/tagged?${new URLSearchParams({ tag: tagText(tag) })}` },
    h("span", { class: "key" }, tag.key), value === "null" ? null : h("span", {}, value));
}

export function tagList(tags) {
  return tags.length ? h("div", { class: "tags" }, tags.map(tagChip)) : null;
}

// What is missing and why, and the next step: a command to copy, or links as [text, address].
export function notice(title, text, { command, links = [] } = {}) {
  return h("div", { class: "notice" }, h("strong", {}, title), h("p", {}, text),
    command ? h("p", { class: "command" }, h("code", {}, command), copyButton(command, "the command")) : null,
    links.length ? h("p", { class: "flows" }, links.map(([name, address]) => h("a", { class: "button", href: address }, name))) : null);
}

export function errorBox(error) {
  return h("p", { class: "error", role: "alert" }, error.message ?? String(error));
}

// A long path goes on in the next line after a slash.
export function breakable(path) {
  return path.split(/(?<=\/)/).flatMap((part) => [part, h("wbr")]);
}

// Takes a text along that is shown cut, or that would have to be marked by hand.
export function copyButton(text, what) {
  const button = h("button", { class: "copy", type: "button", "aria-label": `Copy ${what}`, title: `Copy ${what}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return button;
}
