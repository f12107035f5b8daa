// The frame of a dataflow's drawing: title, directions, search, legend, tools, and the places for panel and words.

import { idPath } from "./api.js";
import { h, notice, refill, replace } from "./dom.js";
import { shortHash } from "./format.js";

export const DIRECTIONS = { upstream: "Where it comes from", downstream: "What followed", inside: "Inside" };

export function dataflowLink(id, direction, more = {}) {
  const query = new URLSearchParams(direction === "upstream" ? {} : { direction });
  for (const [name, value] of Object.entries(more)) for (const item of [value].flat()) query.append(name, item);
  return `#/dataflow/${idPath(id)}${query.size ? `?${query}` : ""}`;
}

function makeLegend(direction) {
  const sign = (kind, text) => h("li", {}, h("i", { class: `sign sign-${kind}`, "aria-hidden": true }), text);
  return h("ul", { class: "legend", "aria-label": "Legend" },
    sign("call", "Call"), sign("value", "Value or file"), sign("group", "Many alike"), sign("failed", "Failed"), sign("cached", "Cached"),
    direction === "inside" ? sign("running", "Running") : null,
    sign("ring", direction === "downstream" ? "Nothing followed" : "Nothing recorded before"),
    h("li", { class: "keys" }, ["Arrows", " move ", "Enter", " details ", "U", " unfold ", "C", " fold ", "F", " fit"].map((text, index) => (index % 2 ? text : h("kbd", {}, text)))));
}

// Below what stands alone in its graph.
function makeNothing(id, direction) {
  const other = direction === "upstream" ? "downstream" : "upstream";
  const [title, text] = {
    upstream: ["Nothing is recorded before it", "It came from outside, or what made it was not recorded."],
    downstream: ["Nothing followed from it yet", "No recorded call took it. This graph is live: what takes it joins it."],
    inside: ["It called no other task", "What it did, it did in its own code."],
  }[direction];
  return notice(title, text, { links: [[DIRECTIONS[other], dataflowLink(id, other)]] });
}

export class DataflowFrame {
  constructor(main, id, direction, actions) {
    const { onKey, onSearch, onNext, onTool, onClose } = actions;
    this.direction = direction;
    this.surface = h("canvas", { class: "graph", tabindex: 0, role: "application", "aria-label": "Dataflow graph. Arrow keys move, Enter shows details, U unfolds, C folds, F fits.", "aria-describedby": "graph-status", on: { keydown: onKey } });
    this.status = h("p", { class: "graph-status", id: "graph-status", role: "status" }, "Starting…");
    this.find = h("input", { type: "search", placeholder: "Search this graph", "aria-label": "Search this graph", on: { input: onSearch, keydown: (event) => { if (event.key === "Enter") onNext(); } } });
    this.found = h("span", { class: "found-count", "aria-live": "polite" });
    this.panel = h("aside", { class: "panel", "aria-label": "Details", tabindex: -1, hidden: true, on: { keydown: (event) => { if (event.key === "Escape") onClose(); } } });
    this.words = h("ol", { class: "words", hidden: true, "aria-label": "The dataflow in words" });
    this.said = h("p", { class: "sr", "aria-live": "polite" });
    this.tip = h("p", { class: "graph-tip", role: "tooltip", hidden: true });
    this.nothing = h("div", { class: "graph-nothing", hidden: true }, makeNothing(id, direction));
    // Away from where the graph begins.
    this.map = h("canvas", { class: direction === "downstream" ? "minimap" : "minimap left", hidden: true, "aria-hidden": true });
    this.modes = h("nav", { class: "segments", "aria-label": "View" });
    const button = (text, label, name) => h("button", { class: "button", type: "button", "aria-label": label, title: label, on: { click: () => onTool(name) } }, text);
    this.more = button("More", "Load more edges", "more");
    this.tidy = button("Tidy", "Lay the graph out again", "tidy");
    this.gather = button("Group", "Put unfolded groups together again", "gather");
    this.more.hidden = this.tidy.hidden = this.gather.hidden = true;
    this.tools = h("div", { class: "graph-tools", role: "toolbar", "aria-label": "Graph" }, this.more, this.gather, this.tidy,
      button("+", "Zoom in", "in"), button("−", "Zoom out", "out"), button("Fit", "Show everything", "fit"), button("PNG", "Save as a picture (PNG)", "png"), button("SVG", "Save as a drawing (SVG)", "svg"));
    this.legend = makeLegend(direction);
    this.heading = h("h1", {}, `Dataflow of ${/^[0-9a-f-]{36,40}$/.test(id) ? shortHash(id) : id}`);
    const tab = (name) => h("a", { href: dataflowLink(id, name), "aria-current": direction === name ? "page" : null, hidden: name === "inside" && direction !== name }, DIRECTIONS[name]);
    this.directions = h("nav", { class: "segments", "aria-label": "Direction" }, Object.keys(DIRECTIONS).map(tab));
    replace(main, h("div", { class: "dataflow" },
      h("div", { class: "dataflow-head" }, h("div", { class: "dataflow-title" }, this.heading, this.status), this.directions, this.modes, h("div", { class: "graph-search" }, this.find, this.found)),
      h("div", { class: "split" },
        h("section", { class: "graph-area" },
          h("div", { class: "graph-place" }, this.surface, this.map, this.tip, this.nothing, this.said, this.words),
          this.foot = h("div", { class: "graph-foot" }, this.legend, this.tools)),
        this.panel)));
    document.title = "Dataflow · aredun";
  }

  // The id is known in full a little later.
  lead(id) {
    Object.keys(DIRECTIONS).forEach((name, index) => this.directions.children[index].setAttribute("href", dataflowLink(id, name)));
    replace(this.nothing, makeNothing(id, this.direction));
  }

  // Only what was called has an inside.
  offerInside() {
    this.directions.lastElementChild.hidden = false;
  }

  // A hash tells a reader nothing; what it stands for does.
  showTitle(text, full) {
    this.heading.textContent = text;
    this.heading.title = full;
    document.title = `${text.slice(0, 60)} · aredun`;
  }

  showProblem(box) {
    this.status.textContent = "";
    replace(this.words, box);
    this.words.classList.add("problem");
    this.words.hidden = false;
    this.foot.hidden = true;
  }

  showModes(mode, choose) {
    if (this.words.classList.contains("problem")) return;
    const choice = (name, text) => h("button", { type: "button", "aria-pressed": String(mode === name), on: { click: () => choose(name) } }, text);
    refill(this.modes, choice("graph", "Graph"), choice("words", "In words"));
    this.words.hidden = mode !== "words";
    this.surface.hidden = this.foot.hidden = mode === "words";
  }

  showTip(hit, text) {
    this.tip.hidden = !text;
    if (!text) return;
    this.tip.textContent = text;
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    const left = Math.max(8, Math.min(hit.x + 14, this.surface.clientWidth - width - 8));
    const top = hit.y + 18 + height > this.surface.clientHeight ? hit.y - height - 12 : hit.y + 18;
    this.tip.style.setProperty("left", `${left}px`);
    this.tip.style.setProperty("top", `${top}px`);
  }
}
