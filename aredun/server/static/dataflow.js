// The dataflow of a record: a graph that grows while it streams, and the same in words.

import { closeSocket, idPath, openSocket } from "./api.js";
import { GraphCanvas } from "./canvas.js";
import { DataflowFrame, dataflowLink, DIRECTIONS } from "./dataflow_frame.js";
import { errorBox, refill } from "./dom.js";
import { save } from "./export.js";
import { Flow } from "./flow.js";
import { count, shortTask } from "./format.js";
import { findWholeId } from "./graph_address.js";
import { GraphLayout } from "./graph_layout.js";
import { GraphPanel, tellLink } from "./graph_panel.js";
import { GraphSearch } from "./graph_search.js";
import { Labels } from "./labels.js";
import { Live } from "./live.js";
import { Minimap } from "./minimap.js";
import { HEIGHT, Scene, WIDTH } from "./scene.js";
import { makeBoxes, makeWords, tellBox, toldBoxes } from "./words.js";

const BATCH = 200;
const MAX_EDGES = 50000;
const PAUSE = 150;
// How long after its first edge, in milliseconds, a graph that is complete at once waits for its layout before it is shown.
const PATIENCE = 400;

class DataflowView {
  constructor(main, target) {
    this.id = target.parts.join("/");
    this.direction = target.query.get("direction") in DIRECTIONS ? target.query.get("direction") : "upstream";
    const isDownstream = this.direction === "downstream";
    // What is drawn, and what a walk is making: the same, the first time.
    this.flow = this.walked = new Flow(isDownstream);
    this.scene = new Scene(isDownstream, (node) => this.labels.isFailed(node));
    this.sections = [];
    this.maxEdges = MAX_EDGES;
    this.frame = new DataflowFrame(main, this.id, this.direction, {
      onKey: (event) => this.handleKey(event), onSearch: () => this.search.run(), onNext: () => this.search.next(), onTool: (name) => this.use(name), onClose: () => this.closePanel(),
    });
    this.labels = new Labels(() => this.showLabels());
    this.canvas = new GraphCanvas(this.frame.surface, this.scene, this.labels, {
      onPick: (box, isBadge) => this.pick(box, isBadge), onPoint: (hit) => this.point(hit), onDraw: () => this.map.draw(),
    });
    this.panel = new GraphPanel(this.frame.panel, this.labels, {
      onClose: () => this.closePanel(), onUnfold: (box) => this.unfold(box), onNode: (node) => this.go(this.revealed(node)), onBox: (box) => this.go(box),
    });
    this.search = new GraphSearch(this.frame, this.canvas, { onGo: (box) => this.go(box), reveal: (node) => this.revealed(node) });
    this.map = new Minimap(this.frame.map, this.canvas);
    this.live = new Live(this);
    this.layout = new GraphLayout(this.scene, this.canvas);
    // For the tests, and for whoever wonders how much is drawn.
    const view = this;
    globalThis.aredunGraph = { get flow() { return view.flow; }, width: WIDTH, height: HEIGHT, scene: this.scene, canvas: this.canvas, view };
    this.open();
    this.update(target);
  }

  open(after = 0) {
    const parameters = new URLSearchParams({ batch: BATCH, direction: this.direction, max_edges: this.maxEdges, after });
    this.socket = openSocket(`ws/dataflow/${idPath(this.id)}?${parameters}`);
    this.isDone = false;
    this.opened = performance.now();
    this.socket.onmessage = (event) => {
      const messages = JSON.parse(event.data);
      for (const message of Array.isArray(messages) ? messages : [messages]) this.receive(message);
    };
    const { socket } = this;
    socket.onclose = () => {
      if (this.isDone || this.isClosed || socket !== this.socket) return;
      this.frame.status.textContent = `Interrupted after ${count(this.walked.edges, "edge")}; going on…`;
      this.sections = [];
      // What goes on meanwhile has other edges then.
      this.retry = setTimeout(() => (this.walked.isOpen ? this.walkAgain() : this.open(this.walked.edges)), 1500);
    };
  }

  receive(message) {
    if (message.type === "run") {
      this.walked.isOpen = true;
      this.live.watchRun(message);
    } else if (message.type === "edge") {
      this.firstEdge ??= performance.now();
      this.walked.add(message);
      // A run is watched: it is first drawn with its jobs, laid out, unless that takes long.
      if (this.walked === this.flow) this.grow(this.flow.isOpen ? PATIENCE : undefined);
    } else if (message.type === "section") {
      this.sections.push(message);
    } else if (message.type === "end") {
      this.isDone = true;
      this.end = message;
      this.flow = this.walked;
      this.lastEdge = performance.now();
      this.spent = this.lastEdge - this.opened;
      this.live.endWalk();
      if (!this.flow.isOpen || this.live.execution) this.grow(0);
      this.settleAddress();
      this.live.watch();
    } else if (message.type === "error") {
      this.isDone = true;
      this.frame.showProblem(errorBox(message));
    }
  }

  walkAgain() {
    this.isAgain = true;
    this.walked = new Flow(this.flow.isDownstream);
    this.live.beginWalk();
    closeSocket(this.socket);
    this.open();
  }

  // Edges come much faster than eyes move: they are taken up a few times a second, the seldomer the more there are.
  grow(pause = Math.max(PAUSE, 4 * (this.cost ?? 0))) {
    if (this.timer && pause) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = null;
      this.refresh();
    }, pause);
  }

  async refresh() {
    const began = performance.now();
    const isComplete = this.isDone || Boolean(this.isAgain);
    if (this.isDone) await this.unfoldAgain();
    if (this.isClosed) return;
    this.scene.isForward ||= this.flow.isOpen;
    this.scene.show(this.live.addTo(this.flow.fold(isComplete)));
    this.canvas.isGrowing = !this.isDone;
    this.canvas.isComplete = this.isDone && !this.end?.is_cut && !this.flow.isOpen;
    this.followSelected();
    this.cost = performance.now() - began;
    this.showStatus();
    if (this.isDone) {
      this.showWords();
      // What came while somebody was looking stands beside the rest, which stays where it is.
      const isLater = this.isAgain || (this.flow.isOpen && this.isArranged);
      this.isArranged = true;
      this.frame.tidy.hidden = !isLater || this.scene.isTidy;
      const arranging = isLater ? null : this.arrange();
      const since = (!this.flow.isOpen && this.firstEdge) || began;
      if (!this.canvas.isSettled) await Promise.race([arranging, new Promise((resolve) => setTimeout(resolve, PATIENCE + since - began))]);
      if (this.isClosed) return;
      this.search.run();
    }
    if (this.live.root === null) this.canvas.grow();
    else this.canvas.accompany();
    this.canvas.schedule();
    if (this.isDone && this.wanted) this.select(this.wanted);
  }

  async arrange(anchor) {
    if (!(await this.layout.arrange(anchor)) || this.isClosed) return;
    this.frame.tidy.hidden = !this.layout.problem;
    this.showStatus();
  }

  // Groups that the address has unfolded: which members come first is known once their labels are there.
  async unfoldAgain() {
    const keys = this.unfolded;
    if (!keys.length) return;
    this.scene.show(this.live.addTo(this.flow.fold(true)));
    await this.labels.loadAll(keys.map((key) => this.scene.all.get(key)).filter(Boolean));
    for (const key of keys) this.scene.opened.add(key);
    this.unfolded = [];
  }

  showStatus() {
    const { status } = this.frame;
    const edges = count(this.flow.edges, "edge");
    const nodes = count(this.scene.nodes, "node");
    const boxes = this.scene.boxes.length < this.scene.nodes ? `, ${count(this.scene.boxes.length, "box", "boxes")}` : "";
    const { problem, isTooLarge } = this.layout;
    const { isOpen } = this.flow;
    const state = isOpen ? `, ${this.live.state}` : this.isDone ? "" : ", still growing";
    status.textContent = `${this.isDone && this.end.is_cut ? "The first " : ""}${edges}, ${nodes}${boxes}${state}${problem && `; ${problem}`}`;
    status.dataset.done = String(this.isDone);
    // The other directions need a result.
    for (const link of this.frame.directions.querySelectorAll("a:not([aria-current])")) link.inert = isOpen;
    this.frame.nothing.hidden = !this.isDone || isOpen || !this.isAlone();
    this.frame.gather.hidden = !this.scene.opened.size;
    this.frame.more.hidden = !this.isDone || !this.end?.is_cut || this.flow.edges < this.maxEdges;
    if (problem) this.frame.tidy.hidden = isTooLarge;
    const { root } = this.scene;
    if (root && !this.isNamed) this.labels.want([root]);
  }

  // Whether the graph shows nothing but what it began at: of a call that is its result, or its arguments.
  isAlone() {
    const { nodes, root } = this.scene.flow;
    if (this.direction === "upstream") return nodes.size <= 1;
    const calls = [...nodes.values()].filter((node) => node.kind === "call");
    return this.direction === "inside" ? calls.length <= 1 : calls.every((node) => node === root);
  }

  nameRun(task) {
    if (!this.isNamed) this.frame.showTitle(`Inside ${shortTask(task)}`, task);
  }

  // A job that was chosen stays chosen when it has become a call.
  followSelected() {
    const { selected } = this.canvas;
    if (!selected?.node.job || this.scene.all.has(selected.key)) return;
    const [, heir] = [...this.scene.nodeBoxes].find(([node]) => node.was === selected.key) ?? [];
    this.go(heir ?? null);
  }

  showLabels() {
    const { root } = this.scene;
    const known = root && (root.kind === "call" ? this.labels.calls : this.labels.values).get(root.node.hash);
    if (known && !this.isNamed) {
      this.isNamed = true;
      const called = this.flow.root.kind === "Value" ? null : shortTask(this.flow.root.task);
      const text = root.kind === "call" ? `${called}(${this.labels.subtitle(root)})` : known.path ?? this.labels.title(root);
      this.frame.showTitle(this.direction === "inside" ? `Inside ${called}` : `Dataflow of ${text}`, this.labels.full(root.node));
      if (root.kind === "call") this.frame.offerInside();
    }
    if (this.frame.find.value) this.search.run();
    this.say();
    if (!this.labels.timer) this.showWords();
    this.panel.refresh();
    this.canvas.schedule();
  }

  pick(box, isBadge) {
    if (box && isBadge) this.unfold(box);
    else this.go(box);
  }

  point(hit) {
    const told = hit?.link ? tellLink(hit.link) : hit?.box ? this.tellBox(hit.box) : "";
    this.frame.showTip(hit, told);
    this.frame.surface.classList.toggle("pointing", Boolean(hit?.box));
  }

  tellBox(box) {
    return box.isGroup ? `${box.members.length.toLocaleString("en")} × ${box.task ?? this.labels.title(box)}` : this.labels.full(box.node);
  }

  go(box) {
    this.keepAddress(box?.key);
    this.select(box?.key ?? null);
  }

  keepAddress(node) {
    const more = { ...(this.mode === "words" ? { as: "words" } : {}), open: [...new Set([...this.scene.opened, ...this.unfolded])], ...(node ? { node } : {}) };
    history.replaceState(null, "", dataflowLink(this.id, this.direction, more));
  }

  async settleAddress() {
    const whole = await findWholeId(this.id);
    if (!whole || this.isClosed) return;
    this.id = whole;
    this.frame.lead(whole);
    this.keepAddress(this.wanted ?? this.canvas.selected?.key);
  }

  select(key) {
    const node = key && this.isDone && !this.scene.all.has(key) ? this.scene.flow.nodes.get(key) : null;
    const box = node ? this.revealed(node) : this.scene.all.get(key) ?? null;
    // What an address names may still be on its way.
    this.wanted = key && !box && !this.isDone ? key : null;
    this.canvas.selected = box;
    if (box) this.canvas.show(box);
    this.say();
    this.panel.show(box);
    this.canvas.schedule();
  }

  // Tells whoever does not see it what was chosen, once all of that is named.
  say() {
    const { selected: box } = this.canvas;
    if (box) this.labels.want(toldBoxes(box));
    if (!this.labels.timer) this.frame.said.textContent = box ? tellBox(box, this.labels) : "";
  }

  // Back to where the box was chosen.
  closePanel() {
    const { words, surface } = this.frame;
    const key = this.canvas.selected?.key;
    this.go(null);
    if (this.mode === "words") [...words.querySelectorAll("[data-key]")].find((item) => item.dataset.key === key)?.focus();
    else surface.focus();
  }

  revealed(node) {
    const box = this.scene.reveal(node);
    this.rearrange(box);
    return box;
  }

  // After something was folded or unfolded: what was chosen stays where it is.
  rearrange(anchor) {
    this.canvas.isFollowing = false;
    this.search.run();
    this.showStatus();
    this.showWords();
    this.canvas.schedule();
    return this.arrange(anchor);
  }

  unfold(box) {
    const [first] = box.members;
    this.scene.open(box);
    this.go(null);
    this.rearrange(this.scene.nodeBoxes.get(first));
  }

  fold(box) {
    if (box.home && !box.isGroup) {
      this.scene.gather(box);
      this.go(this.scene.nodeBoxes.get(box.node));
      this.rearrange(this.canvas.selected);
      return;
    }
    this.scene.toggle(box);
    this.rearrange(box);
  }

  use(name) {
    const { canvas, scene } = this;
    const actions = {
      in: () => canvas.zoom(1.3), out: () => canvas.zoom(1 / 1.3), fit: () => canvas.fit(), tidy: () => this.arrange(), more: () => this.loadMore(),
      png: () => save(canvas, "png", document.title), svg: () => save(canvas, "svg", document.title),
      gather: () => { scene.opened.clear(); scene.build(); this.go(null); this.rearrange(scene.root); },
    };
    actions[name]?.();
  }

  // The walk begins again on the server, and goes on where it was cut.
  loadMore() {
    this.maxEdges += MAX_EDGES;
    this.sections = [];
    if (this.flow.isOpen) this.walkAgain();
    else this.open(this.flow.edges);
    this.showStatus();
  }

  handleKey(event) {
    const { canvas, scene } = this;
    const box = canvas.selected;
    const column = box ? scene.boxes.filter((other) => other.column === box.column).sort((one, other) => one.row - other.row) : [];
    const targets = {
      ArrowRight: () => box?.outputs.find((link) => link.to.isShown)?.to, ArrowLeft: () => box?.inputs.find((link) => link.from.isShown)?.from,
      ArrowDown: () => column[column.indexOf(box) + 1], ArrowUp: () => column[column.indexOf(box) - 1], Home: () => scene.root,
    };
    const actions = {
      c: () => box && this.fold(box), u: () => box?.isGroup && this.unfold(box), f: () => canvas.fit(), "+": () => canvas.zoom(1.3), "=": () => canvas.zoom(1.3), "-": () => canvas.zoom(1 / 1.3),
      Escape: () => this.go(null), Enter: () => (this.frame.panel.querySelector("a, button:not(.close)") ?? this.frame.panel).focus(),
    };
    if (event.key in targets) {
      const next = box ? targets[event.key]() : scene.root ?? scene.boxes[0];
      if (next) this.go(next);
    } else if (event.key in actions && !event.ctrlKey && !event.metaKey) actions[event.key]();
    else return;
    event.preventDefault();
  }

  showMode() {
    this.frame.showModes(this.mode, (mode) => { this.mode = mode; this.showMode(); });
    this.showWords();
  }

  showWords() {
    const { words } = this.frame;
    if (this.mode !== "words" || words.classList.contains("problem")) return;
    if (this.direction === "upstream") { refill(words, makeWords(this.sections, this.isDone)); return; }
    refill(words, makeBoxes(this.scene.boxes, this.labels, (box) => { this.go(box); this.frame.panel.focus(); }, this.isDone));
  }

  update(target) {
    this.mode = target.query.get("as") === "words" ? "words" : "graph";
    this.showMode();
    this.unfolded = target.query.getAll("open").filter((key) => !this.scene.opened.has(key));
    if (this.unfolded.length && this.isDone) this.grow(0);
    this.select(target.query.get("node"));
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
    clearTimeout(this.retry);
    closeSocket(this.socket);
    this.live.close();
    this.labels.close();
    this.layout.close();
    this.canvas.close();
  }
}

export function showDataflow(main, target) {
  return new DataflowView(main, target);
}
