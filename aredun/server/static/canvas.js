// Draws a graph on a canvas: only what is in sight, and no more detail than can be seen.

import { BOX_WIDTH, COLUMN, HEAD, PORT } from "./graph.js";

const MIN_SCALE = 0.02;
const MAX_SCALE = 2.5;

export class GraphCanvas {
  constructor(canvas, graph, onPick, loadPreviews) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.graph = graph;
    this.onPick = onPick;
    this.loadPreviews = loadPreviews;
    this.previews = new Map();
    this.endText = "origin";
    this.asked = new Set();
    this.view = { x: 48, y: 0, scale: 1 };
    this.isPlaced = false;
    this.selected = null;
    this.matches = null;
    this.pointers = new Map();
    this.stats = { frames: 0, drawn: 0, worst: 0 };
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", () => { this.readColours(); this.schedule(); });
    this.readColours();
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colours = Object.fromEntries(["paper", "surface", "sunken", "line", "line-strong", "ink", "ink-2", "ink-3", "accent", "accent-soft", "abandoned", "cached"].map((name) => [name, read(name)]));
    this.sans = read("sans");
    this.mono = read("mono");
  }

  resize() {
    const ratio = devicePixelRatio || 1;
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    this.width = width;
    this.height = height;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.ratio = ratio;
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    if (!this.width) return;
    const began = performance.now();
    const { context, view, graph, colours } = this;
    if (!this.isPlaced && graph.root) {
      view.y = this.height / 2 - (graph.root.y + graph.root.height / 2) * view.scale;
    }
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.fillStyle = colours.sunken;
    context.fillRect(0, 0, this.width, this.height);
    context.translate(view.x, view.y);
    context.scale(view.scale, view.scale);
    const sight = {
      left: -view.x / view.scale, top: -view.y / view.scale,
      right: (this.width - view.x) / view.scale, bottom: (this.height - view.y) / view.scale,
    };
    const boxes = this.collect(sight);
    this.drawEdges(boxes, sight);
    for (const box of boxes) this.drawBox(box);
    if (view.scale >= 0.4) this.askPreviews(boxes);
    this.stats.frames += 1;
    this.stats.drawn = boxes.length;
    this.stats.worst = Math.max(this.stats.worst, performance.now() - began);
  }

  // What is in sight and not known yet is asked for, a little later: it may be gone by then.
  askPreviews(boxes) {
    const hashes = boxes.flatMap((box) => (box.kind === "value" ? [box.hash] : box.ports.map((port) => port.value)));
    this.unknown = hashes.filter((hash) => !this.previews.has(hash) && !this.asked.has(hash));
    if (!this.unknown.length || this.asking) return;
    this.asking = setTimeout(async () => {
      const wanted = [...new Set(this.unknown)].slice(0, 80);
      this.asking = null;
      if (!wanted.length) return;
      wanted.forEach((hash) => this.asked.add(hash));
      const found = await this.loadPreviews(wanted).catch(() => []);
      for (const { value_hash: hash, preview } of found) this.previews.set(hash, shortPreview(preview));
      this.schedule();
    }, 120);
  }

  collect(sight) {
    const boxes = [];
    const first = Math.max(0, Math.floor((sight.left - BOX_WIDTH) / COLUMN));
    const last = Math.min(this.graph.columns.length - 1, Math.ceil(sight.right / COLUMN));
    for (let depth = first; depth <= last; depth += 1) {
      for (const box of this.graph.inColumn(depth, sight.top - 40, sight.bottom + 40)) boxes.push(box);
    }
    return boxes;
  }

  portY(box, port) {
    return box.y + (port < 0 ? HEAD / 2 : HEAD + port * PORT + PORT / 2 + 1);
  }

  drawEdges(boxes, sight) {
    const { context, colours } = this;
    const lines = new Path2D();
    const cross = new Path2D();
    const chosen = new Path2D();
    const drawn = new Set();
    const line = (path, x1, y1, x2, y2) => {
      const bend = Math.max(30, Math.abs(x2 - x1) / 2);
      path.moveTo(x1, y1);
      path.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2);
    };
    const down = (box, child) => {
      if (drawn.has(child)) return;
      drawn.add(child);
      const isChosen = this.selected && (box === this.selected.box || child === this.selected.box);
      line(isChosen ? chosen : lines, box.x + BOX_WIDTH, this.portY(box, child.parentPort), child.x, this.portY(child, child.entry ?? -1));
    };
    for (const box of boxes) {
      if (box.parent) down(box.parent, box);
      if (!box.isClosed) {
        // Of many children only those near the sight are worth a line.
        for (const child of box.children) {
          if (child.y + child.height >= sight.top - 400 && child.y <= sight.bottom + 400) down(box, child);
        }
      }
      for (const edge of box.cross) {
        if (!edge.box.isShown) continue;
        const isChosen = this.selected && (box === this.selected.box || edge.box === this.selected.box);
        line(isChosen ? chosen : cross, box.x + BOX_WIDTH, this.portY(box, edge.from), edge.box.x, this.portY(edge.box, edge.to));
      }
    }
    const width = Math.max(1.2, 0.7 / this.view.scale);
    context.lineWidth = width;
    context.strokeStyle = colours["ink-3"];
    context.save();
    context.globalAlpha = 0.85;
    context.stroke(lines);
    context.globalAlpha = 0.75;
    context.setLineDash([4, 4]);
    context.stroke(cross);
    context.restore();
    context.lineWidth = width * 1.8;
    context.strokeStyle = colours.accent;
    context.stroke(chosen);
  }

  drawBox(box) {
    const { context, colours, view } = this;
    const isSelected = this.selected?.box === box;
    const isDim = this.matches && !this.matches.has(box);
    context.globalAlpha = isDim ? 0.28 : 1;
    const tone = box.kind === "call" ? colours.accent : box.kind === "value" ? colours.cached : colours["ink-3"];
    if (view.scale < 0.25) {
      context.fillStyle = tone;
      context.fillRect(box.x, box.y, BOX_WIDTH, Math.max(box.height, 3 / view.scale));
      context.globalAlpha = 1;
      return;
    }
    context.beginPath();
    context.roundRect(box.x, box.y, BOX_WIDTH, box.height, 7);
    context.fillStyle = isSelected && this.selected.port < 0 ? colours["accent-soft"] : colours.surface;
    context.fill();
    context.lineWidth = isSelected ? 2.2 : 1;
    context.strokeStyle = isSelected ? colours.accent : colours["line-strong"];
    context.stroke();
    context.fillStyle = tone;
    context.beginPath();
    context.roundRect(box.x, box.y, 4, box.height, [7, 0, 0, 7]);
    context.fill();
    if (view.scale >= 0.4) this.drawTexts(box, isSelected);
    if (box.children.length) this.drawToggle(box);
    context.globalAlpha = 1;
  }

  drawTexts(box, isSelected) {
    const { context, colours } = this;
    context.textBaseline = "middle";
    context.font = `600 13px ${this.sans}`;
    context.fillStyle = box.kind === "argument" ? colours["ink-2"] : colours.ink;
    const isValue = box.kind === "value";
    const name = box.title.split(".").pop();
    const title = isValue ? this.previews.get(box.hash) ?? "Value" : box.kind === "argument" ? `argument of ${name}` : name;
    const room = box.isOrigin ? BOX_WIDTH - 68 : BOX_WIDTH - 24;
    context.fillText(this.cut(title, room), box.x + 13, box.y + HEAD / 2 + 0.5);
    if (box.isOrigin) {
      context.font = `11px ${this.sans}`;
      context.fillStyle = colours.abandoned;
      context.textAlign = "right";
      context.fillText(this.endText, box.x + BOX_WIDTH - 10, box.y + HEAD / 2 + 0.5);
      context.textAlign = "left";
    }
    box.ports.forEach((port, index) => {
      const y = this.portY(box, index);
      if (isSelected && this.selected.port === index) {
        context.fillStyle = colours["accent-soft"];
        context.fillRect(box.x + 5, y - PORT / 2, BOX_WIDTH - 6, PORT);
      }
      context.font = `12px ${this.sans}`;
      context.fillStyle = colours["ink-2"];
      const label = this.cut(port.name, 78);
      context.fillText(label, box.x + 13, y + 0.5);
      const left = 13 + Math.min(78, context.measureText(label).width) + 10;
      context.font = `11px ${this.mono}`;
      context.fillStyle = colours["ink-3"];
      context.textAlign = "right";
      context.fillText(this.cut(this.previews.get(port.value) ?? port.value.slice(0, 8), BOX_WIDTH - left - (port.isOrigin ? 24 : 12)), box.x + BOX_WIDTH - (port.isOrigin ? 22 : 10), y + 0.5);
      context.textAlign = "left";
      if (port.isOrigin) {
        // A ring: nothing is recorded before this value.
        context.beginPath();
        context.arc(box.x + BOX_WIDTH - 12, y, 3.5, 0, Math.PI * 2);
        context.lineWidth = 1.6;
        context.strokeStyle = colours.abandoned;
        context.stroke();
      }
    });
  }

  drawToggle(box) {
    const { context, colours } = this;
    const x = box.x + BOX_WIDTH + 12;
    const y = box.y + HEAD / 2;
    context.beginPath();
    context.arc(x, y, 8, 0, Math.PI * 2);
    context.fillStyle = box.isClosed ? colours.accent : colours.surface;
    context.fill();
    context.lineWidth = 1;
    context.strokeStyle = box.isClosed ? colours.accent : colours["line-strong"];
    context.stroke();
    context.beginPath();
    context.moveTo(x - 3.5, y);
    context.lineTo(x + 3.5, y);
    if (box.isClosed) { context.moveTo(x, y - 3.5); context.lineTo(x, y + 3.5); }
    context.lineWidth = 1.5;
    context.strokeStyle = box.isClosed ? colours.surface : colours["ink-2"];
    context.stroke();
    if (box.isClosed && this.view.scale >= 0.4) {
      context.font = `12px ${this.sans}`;
      context.fillStyle = colours["ink-2"];
      context.fillText(`${box.hidden} hidden`, x + 13, y + 0.5);
    }
  }

  cut(text, width) {
    if (text.length > 300) text = text.slice(0, 300);
    if (this.context.measureText(text).width <= width) return text;
    let low = 0;
    let high = text.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.context.measureText(`${text.slice(0, middle)}…`).width <= width) low = middle;
      else high = middle - 1;
    }
    return `${text.slice(0, low)}…`;
  }

  wheel(event) {
    event.preventDefault();
    const isZoom = event.ctrlKey || event.metaKey || (event.deltaMode === 0 && Math.abs(event.deltaY) >= 40 && event.deltaX === 0);
    if (isZoom) this.zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) * (event.ctrlKey ? 0.01 : 0.0022)), event.offsetX, event.offsetY);
    else this.pan(-event.deltaX, -event.deltaY);
  }

  pan(x, y) {
    this.isPlaced = true;
    this.view.x += x;
    this.view.y += y;
    this.schedule();
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const { view } = this;
    const scale = Math.max(MIN_SCALE, Math.min(MAX_SCALE, view.scale * factor));
    this.isPlaced = true;
    view.x = x - ((x - view.x) * scale) / view.scale;
    view.y = y - ((y - view.y) * scale) / view.scale;
    view.scale = scale;
    this.schedule();
  }

  fit() {
    const { width, height } = this.graph.size;
    if (!width || !this.width) return;
    const scale = Math.max(MIN_SCALE, Math.min(1, (this.width - 40) / width, (this.height - 40) / height));
    this.isPlaced = true;
    this.view = { scale, x: (this.width - width * scale) / 2, y: (this.height - height * scale) / 2 };
    this.schedule();
  }

  centre(box) {
    const { view } = this;
    if (view.scale < 0.4) view.scale = 0.8;
    this.isPlaced = true;
    view.x = this.width / 2 - (box.x + BOX_WIDTH / 2) * view.scale;
    view.y = this.height / 2 - (box.y + box.height / 2) * view.scale;
    this.schedule();
  }

  show(box) {
    const { view } = this;
    const left = box.x * view.scale + view.x;
    const top = box.y * view.scale + view.y;
    const isSeen = left > 8 && top > 8 && left + BOX_WIDTH * view.scale < this.width - 8 && top + box.height * view.scale < this.height - 8;
    if (!isSeen) this.centre(box);
    this.schedule();
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    this.travelled = this.pointers.size > 1 ? 100 : 0;
  }

  move(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    if (others.length === 1) {
      const [other] = others;
      const before = Math.hypot(last.x - other.x, last.y - other.y);
      const after = Math.hypot(event.offsetX - other.x, event.offsetY - other.y);
      if (before > 0) this.zoom(after / before, (event.offsetX + other.x) / 2, (event.offsetY + other.y) / 2);
    } else {
      this.travelled += Math.abs(event.offsetX - last.x) + Math.abs(event.offsetY - last.y);
      if (this.travelled > 4) this.pan(event.offsetX - last.x, event.offsetY - last.y);
    }
    last.x = event.offsetX;
    last.y = event.offsetY;
  }

  release(event) {
    const isClick = this.pointers.delete(event.pointerId) && this.travelled <= 4;
    if (isClick) this.onPick(this.graph.at((event.offsetX - this.view.x) / this.view.scale, (event.offsetY - this.view.y) / this.view.scale));
  }

  // Once all is there and nobody has moved it: all of it, if that can be read; else from the beginning.
  settle() {
    if (this.isPlaced || !this.width) return;
    const { width, height } = this.graph.size;
    const scale = Math.min((this.width - 40) / width, (this.height - 60) / height);
    if (scale >= 0.68) this.fit();
    else if (this.width < 600) { this.view.x = 16; this.view.scale = 0.8; this.schedule(); }
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
  }
}

// A file is known by its name; anything else is shown as it is.
function shortPreview(text) {
  const file = /^(?:[A-Z]\w*)\(path=(.*), hash=\w+\)$/.exec(text);
  const shown = file ? file[1].split("/").filter(Boolean).pop() ?? text : text;
  return shown.replace(/\s+/g, " ");
}
