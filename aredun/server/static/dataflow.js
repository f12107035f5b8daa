// The dataflow of a record: a graph that grows while it streams, and the same in words.

import { get, idPath, openSocket, showLive } from "./api.js";
import { errorBox, h, replace } from "./dom.js";
import { GraphCanvas } from "./canvas.js";
import { count, shortHash } from "./format.js";
import { Graph } from "./graph.js";
import { loadDetails, makeDetails } from "./record.js";

const BATCH = 200;
const MAX_EDGES = 50000;
const LAYOUT_PAUSE = 120;

class DataflowView {
  constructor(main, target) {
    this.id = target.parts.join("/");
    this.direction = target.query.get("direction") === "downstream" ? "downstream" : "upstream";
    this.graph = new Graph();
    this.sections = [];
    this.build(main);
    this.canvas = new GraphCanvas(this.surface, this.graph, (hit) => this.pick(hit), (hashes) => this.loadPreviews(hashes));
    // Upstream a path ends where nothing is recorded before; downstream, where nothing followed.
    if (this.direction === "downstream") this.canvas.endText = "end";
    // For the tests, and for whoever wonders how much is drawn.
    globalThis.aredunGraph = { graph: this.graph, canvas: this.canvas };
    this.open();
    this.update(target);
  }

  build(main) {
    this.surface = h("canvas", { class: "graph", tabindex: 0, role: "application", "aria-label": "Dataflow graph. Arrow keys move, Enter shows details, C folds, F fits.", "aria-describedby": "graph-status" });
    this.surface.addEventListener("keydown", (event) => this.handleKey(event));
    this.status = h("p", { class: "graph-status", id: "graph-status", role: "status" }, "Starting…");
    this.find = h("input", { type: "search", placeholder: "Search this graph", "aria-label": "Search this graph", on: { input: () => this.search(), keydown: (event) => { if (event.key === "Enter") this.nextMatch(); } } });
    this.found = h("span", { class: "found-count", "aria-live": "polite" });
    this.panel = h("aside", { class: "panel", "aria-label": "Details", hidden: true });
    this.words = h("ol", { class: "words", hidden: true, "aria-label": "The dataflow in words" });
    this.modes = h("nav", { class: "segments", "aria-label": "View" });
    const button = (text, label, action) => h("button", { class: "button", type: "button", "aria-label": label, title: label, on: { click: action } }, text);
    this.tools = h("div", { class: "graph-tools" },
      button("+", "Zoom in", () => this.canvas.zoom(1.3)), button("−", "Zoom out", () => this.canvas.zoom(1 / 1.3)), button("Fit", "Show everything", () => this.canvas.fit()));
    const sign = (kind, text) => h("li", {}, h("i", { class: `sign sign-${kind}`, "aria-hidden": true }), text);
    this.legend = h("ul", { class: "legend", "aria-label": "Legend" },
      sign("call", "Call"), sign("value", "Value"), sign("outside", "Argument given from outside"),
      sign("ring", this.direction === "upstream" ? "Nothing recorded before" : "Nothing followed"), sign("dashes", "Leads to a node shown already"),
      h("li", { class: "keys" }, ["Arrows", " move ", "Enter", " details ", "C", " fold ", "F", " fit"].map((text, index) => (index % 2 ? text : h("kbd", {}, text)))));
    this.heading = h("h1", {}, `Dataflow of ${/^[0-9a-f-]{36,40}$/.test(this.id) ? shortHash(this.id) : this.id}`);
    const direction = (name, text) => h("a", { href: `#/dataflow/${idPath(this.id)}${name === "downstream" ? "?direction=downstream" : ""}`, "aria-current": this.direction === name ? "page" : null }, text);
    replace(main, h("div", { class: "dataflow" },
      h("div", { class: "dataflow-head" },
        h("div", { class: "dataflow-title" }, this.heading, this.status),
        h("nav", { class: "segments", "aria-label": "Direction" }, direction("upstream", "Where it comes from"), direction("downstream", "What followed")),
        this.modes,
        h("div", { class: "graph-search" }, this.find, this.found)),
      h("div", { class: "split" }, h("section", { class: "graph-area" }, this.surface, this.legend, this.tools, this.words), this.panel)));
    document.title = "Dataflow · aredun";
  }

  loadPreviews(hashes) {
    return get("previews", { value_hash: hashes });
  }

  // A hash tells a reader nothing; what it stands for does.
  async showTitle(root) {
    this.isNamed = true;
    let text = root.title;
    if (root.kind === "value") {
      const [found] = await this.loadPreviews([root.hash]).catch(() => []);
      text = found?.preview;
    }
    if (!text) return;
    this.heading.textContent = `Dataflow of ${text}`;
    this.heading.title = this.id;
    document.title = `Dataflow of ${text.slice(0, 40)} · aredun`;
  }

  open(after = 0) {
    const parameters = new URLSearchParams({ batch: BATCH, direction: this.direction, max_edges: MAX_EDGES, after });
    this.socket = openSocket(`ws/dataflow/${idPath(this.id)}?${parameters}`);
    this.isDone = false;
    this.socket.onmessage = (event) => {
      const messages = JSON.parse(event.data);
      for (const message of Array.isArray(messages) ? messages : [messages]) this.receive(message);
    };
    this.socket.onclose = () => {
      showLive("off", "");
      if (this.isDone || this.isClosed) return;
      this.status.textContent = `Interrupted after ${count(this.graph.edges, "edge")}; going on…`;
      this.sections = [];
      this.retry = setTimeout(() => this.open(this.graph.edges), 1500);
    };
  }

  receive(message) {
    if (message.type === "edge") {
      this.graph.add(message);
      this.grow();
    } else if (message.type === "section") {
      this.sections.push(message);
    } else if (message.type === "end") {
      this.isDone = true;
      this.end = message;
      this.grow(0);
      this.drawWords();
    } else if (message.type === "error") {
      this.isDone = true;
      this.status.textContent = "";
      replace(this.words, errorBox(message));
      this.words.hidden = false;
      this.legend.hidden = this.tools.hidden = true;
      this.words.classList.add("problem");
    }
  }

  // Edges come much faster than eyes move: they are laid out and drawn a few times a second.
  grow(pause = LAYOUT_PAUSE) {
    if (this.timer && pause) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = null;
      requestAnimationFrame(() => {
        if (this.graph.isDirty) this.graph.layOut();
        if (this.isDone) this.canvas.settle();
        this.canvas.schedule();
        this.showStatus();
      });
    }, pause);
  }

  showStatus() {
    const edges = count(this.graph.edges, "edge");
    const boxes = count(this.graph.boxes.size, "node");
    this.status.textContent = !this.isDone ? `${edges}, ${boxes}, still growing`
      : this.end.is_cut ? `The first ${edges}, ${boxes}` : `${edges}, ${boxes}`;
    const { root } = this.graph;
    if (root && !this.isNamed) this.showTitle(root);
    this.status.dataset.done = String(this.isDone);
  }

  pick(hit) {
    if (!hit) { this.go(null); return; }
    if (hit.isToggle) { this.toggle(hit.box); return; }
    this.go(hit);
  }

  go(hit) {
    const node = hit ? `${hit.box.key}${hit.port >= 0 ? `.${hit.port}` : ""}` : null;
    const query = new URLSearchParams();
    if (this.direction === "downstream") query.set("direction", this.direction);
    if (this.mode === "words") query.set("as", "words");
    if (node) query.set("node", node);
    const text = query.toString();
    history.replaceState(null, "", `#/dataflow/${idPath(this.id)}${text ? `?${text}` : ""}`);
    this.select(node);
  }

  select(node) {
    const [key, port] = (node ?? "").split(".");
    const box = this.graph.boxes.get(key) ?? null;
    this.canvas.selected = box ? { box, port: port === undefined ? -1 : Number(port) } : null;
    if (box) {
      if (!box.isShown) this.graph.reveal(box);
      this.canvas.show(box);
      this.showPanel(this.canvas.selected);
    } else this.panel.hidden = true;
    this.canvas.schedule();
  }

  async showPanel({ box, port }) {
    const isValue = port >= 0 || box.kind === "value";
    const hash = port >= 0 ? box.ports[port].value : box.hash;
    const close = h("button", { class: "button quiet close", type: "button", on: { click: () => { this.go(null); this.surface.focus(); } } }, "Close");
    this.panel.hidden = false;
    this.wanted = hash;
    replace(this.panel, close, h("p", { class: "sub" }, "Loading…"));
    try {
      const record = await loadDetails(isValue ? "value" : "call", hash);
      if (this.wanted === hash) replace(this.panel, close, makeDetails(record));
    } catch (error) {
      if (this.wanted === hash) replace(this.panel, close, errorBox(error));
    }
  }

  toggle(box) {
    this.graph.toggle(box);
    this.canvas.schedule();
  }

  search() {
    const text = this.find.value.trim();
    const matches = text ? this.graph.find(text) : [];
    this.canvas.matches = text ? new Set(matches) : null;
    this.matchList = matches;
    this.matchIndex = -1;
    this.found.textContent = text ? `${matches.length} found` : "";
    this.canvas.schedule();
  }

  nextMatch() {
    if (!this.matchList?.length) return;
    this.matchIndex = (this.matchIndex + 1) % this.matchList.length;
    const box = this.matchList[this.matchIndex];
    if (!box.isShown) this.graph.reveal(box);
    this.canvas.centre(box);
    this.go({ box, port: -1 });
    this.found.textContent = `${this.matchIndex + 1} of ${this.matchList.length}`;
  }

  handleKey(event) {
    const box = this.canvas.selected?.box ?? null;
    const siblings = box?.parent ? box.parent.children : [];
    const place = siblings.indexOf(box);
    const targets = {
      ArrowRight: () => (box ? (box.isClosed ? null : box.children[0]) : this.graph.root), ArrowLeft: () => box?.parent ?? this.graph.root,
      ArrowDown: () => siblings[place + 1] ?? this.beside(box, 1), ArrowUp: () => siblings[place - 1] ?? this.beside(box, -1), Home: () => this.graph.root,
    };
    if (event.key in targets) {
      const next = targets[event.key]();
      if (next) this.go({ box: next, port: -1 });
    } else if (event.key === "c" && box) this.toggle(box);
    else if (event.key === "f") this.canvas.fit();
    else if (event.key === "+" || event.key === "=") this.canvas.zoom(1.3);
    else if (event.key === "-") this.canvas.zoom(1 / 1.3);
    else if (event.key === "Escape") this.go(null);
    else if (event.key === "Enter" && box) this.panel.querySelector("a, button")?.focus();
    else return;
    event.preventDefault();
  }

  beside(box, step) {
    if (!box) return this.graph.root;
    const column = this.graph.columns[box.depth] ?? [];
    return column[column.indexOf(box) + step] ?? null;
  }

  drawModes() {
    const link = (mode, text) => h("button", { type: "button", "aria-pressed": String(this.mode === mode), on: { click: () => { this.mode = mode; this.drawModes(); } } }, text);
    replace(this.modes, this.direction === "upstream" ? [link("graph", "Graph"), link("words", "In words")] : null);
    this.modes.hidden = this.direction !== "upstream";
    this.words.hidden = this.mode !== "words" && !this.words.classList.contains("problem");
    this.surface.hidden = this.mode === "words";
    this.tools.hidden = this.legend.hidden = !this.words.hidden;
    if (this.mode === "words") this.drawWords();
  }

  drawWords() {
    if (this.mode !== "words" || this.words.classList.contains("problem")) return;
    const shown = this.sections.slice(0, 2000);
    const clause = (item) => [item.prefix ? `${item.prefix} ` : "", item.hash ? h("a", { href: `#/call/${item.hash}`, class: "mono" }, item.display) : h("span", { class: "mono" }, item.display)];
    // An origin is no place that something came by: it is where the trail begins.
    const isOrigin = (item) => !item.hash && item.display === "origin";
    const begins = "nothing is recorded before it";
    replace(this.words, shown.map((section) => h("li", {},
      h("p", {}, h("b", { class: "mono" }, section.assign.var_name), isOrigin(section.assign) ? ` is an origin: ${begins}` : [" came from ", clause(section.assign)]),
      section.routing.map((item) => h("p", { class: "by-way" }, isOrigin(item) ? `an origin: ${begins}` : ["by way of ", clause(item)])),
      section.args.length ? h("dl", { class: "word-args" }, section.args.map((argument) => [h("dt", { class: "mono" }, argument.var_name), h("dd", { class: "mono" }, h("a", { href: `#/value/${argument.hash}` }, argument.value_display))])) : null)),
    this.isDone ? (shown.length ? null : h("li", {}, "Nothing is recorded before it.")) : h("li", {}, "Still walking…"));
  }

  update(target) {
    this.mode = target.query.get("as") === "words" ? "words" : "graph";
    this.drawModes();
    this.select(target.query.get("node"));
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
    clearTimeout(this.retry);
    this.socket.close();
    this.canvas.close();
  }
}

export function showDataflow(main, target) {
  return new DataflowView(main, target);
}
