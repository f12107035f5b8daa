// Shows a scene on a canvas: what is in sight of it, moved and zoomed by pointer, wheel and keys.

import { LineLayer } from "./line_layer.js";
import { distance, FAR, LEGIBLE, Painter } from "./painter.js";
import { HEIGHT, WIDTH } from "./scene.js";

const MIN_SCALE = 0.0005;
const MAX_SCALE = 2.5;
const MARGIN = 28;
// Where on a group its number unfolds it.
const BADGE = 84;
const FIT_SCALE = 1.25;
const COLOURS = ["paper", "surface", "sunken", "line", "line-strong", "ink", "ink-2", "ink-3", "accent", "accent-soft", "abandoned", "cached", "failed", "failed-soft", "running"];

export class GraphCanvas {
  constructor(canvas, scene, labels, { onPick, onPoint, onDraw }) {
    Object.assign(this, { canvas, scene, labels, onPick, onPoint, onDraw });
    this.context = canvas.getContext("2d", { alpha: false });
    this.view = { x: 0, y: 0, scale: 1 };
    // Until somebody moves it, the view follows what is drawn.
    this.isFollowing = true;
    this.isComplete = false;
    this.selected = null;
    this.matches = null;
    this.hover = null;
    this.flashes = new Map();
    this.pointers = new Map();
    this.stats = { frames: 0, drawn: 0, worst: 0, first: null };
    this.layer = new LineLayer(() => this.schedule());
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.themed = new MutationObserver(() => this.recolour());
    this.themed.observe(document.documentElement, { attributes: true });
    this.recolour = this.recolour.bind(this);
    this.scheme.addEventListener("change", this.recolour);
    this.readColours();
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener("dblclick", (event) => this.zoom(1.6, event.offsetX, event.offsetY));
  }

  recolour() {
    this.readColours();
    this.schedule();
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colours = Object.fromEntries(COLOURS.map((name) => [name, read(name)]));
    this.sans = read("sans");
    this.mono = read("mono");
  }

  resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    this.width = width;
    this.height = height;
    this.ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    if (this.isFollowing) this.follow();
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame((now) => {
      this.frame = null;
      const isMoving = this.scene.move(now);
      if (this.isFollowing && isMoving) this.follow();
      this.draw();
      if (isMoving || this.flashes.size) this.schedule();
      else if (this.wasMoving && this.isFollowing) this.fit();
      this.wasMoving = isMoving;
    });
  }

  get look() {
    const { colours, sans, mono, labels, selected, matches, hover, isComplete, flashes, layer, ratio, scene } = this;
    return { colours, sans, mono, labels, selected, matches, hover, isComplete, flashes, layer, ratio, isDownstream: scene.isDownstream };
  }

  draw() {
    if (!this.width) return;
    const began = performance.now();
    const { context, view } = this;
    for (const [hash, until] of this.flashes) if (until < began) this.flashes.delete(hash);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = this.colours.sunken;
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.scale(this.ratio, this.ratio);
    context.translate(view.x, view.y);
    context.scale(view.scale, view.scale);
    const shown = new Painter(context, { ...this.look, scale: view.scale }).paint(this.scene, this.sight);
    if (view.scale >= FAR) this.labels.want(shown);
    this.onDraw();
    if (shown.length) this.stats.first ??= began;
    this.stats.frames += 1;
    this.stats.drawn = shown.length;
    this.stats.worst = Math.max(this.stats.worst, performance.now() - began);
  }

  get sight() {
    const { view } = this;
    return { left: -view.x / view.scale, top: -view.y / view.scale, right: (this.width - view.x) / view.scale, bottom: (this.height - view.y) / view.scale };
  }

  // Marks calls that have just ended.
  flash(hash) {
    this.flashes.set(hash, performance.now() + 1600);
    this.schedule();
  }

  wheel(event) {
    event.preventDefault();
    const isZoom = event.ctrlKey || event.metaKey || (event.deltaMode === 0 && Math.abs(event.deltaY) >= 40 && event.deltaX === 0);
    if (isZoom) this.zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) * (event.ctrlKey ? 0.01 : 0.0022)), event.offsetX, event.offsetY);
    else this.pan(-event.deltaX, -event.deltaY);
  }

  pan(x, y) {
    this.isFollowing = false;
    this.view.x += x;
    this.view.y += y;
    this.schedule();
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const { view } = this;
    const scale = Math.max(MIN_SCALE, Math.min(MAX_SCALE, view.scale * factor));
    this.isFollowing = false;
    view.x = x - ((x - view.x) * scale) / view.scale;
    view.y = y - ((y - view.y) * scale) / view.scale;
    view.scale = scale;
    this.schedule();
  }

  // All of the graph, lines included, as large as it may be.
  fit() {
    this.isFollowing = true;
    this.follow();
    this.schedule();
  }

  follow() {
    if (!this.width) return;
    const { left, top, right, bottom } = this.scene.bounds;
    const margin = Math.min(MARGIN, this.width * 0.03);
    const scale = Math.max(MIN_SCALE, Math.min(FIT_SCALE, (this.width - 2 * margin) / (right - left), (this.height - 2 * margin) / (bottom - top)));
    this.view = { scale, x: (this.width - (left + right) * scale) / 2, y: (this.height - (top + bottom) * scale) / 2 };
  }

  // While it grows: the whole as long as it can be read, then as it is, so that nothing jumps.
  grow() {
    if (!this.isFollowing) return;
    const before = this.view;
    this.follow();
    if (this.hasGrown && this.view.scale < LEGIBLE && before.scale >= this.view.scale) this.view = before;
    this.hasGrown = true;
  }

  centre(box) {
    const { view } = this;
    if (view.scale < 0.5) view.scale = 0.9;
    this.isFollowing = false;
    view.x = this.width / 2 - (box.x + WIDTH / 2) * view.scale;
    view.y = this.height / 2 - (box.y + HEIGHT / 2) * view.scale;
    this.schedule();
  }

  show(box) {
    const { view } = this;
    const left = box.x * view.scale + view.x;
    const top = box.y * view.scale + view.y;
    const isSeen = left > 8 && top > 8 && left + WIDTH * view.scale < this.width - 8 && top + HEIGHT * view.scale < this.height - 8;
    if (!isSeen) this.centre(box);
    this.schedule();
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    this.travelled = this.pointers.size > 1 ? 100 : 0;
    this.point(null);
  }

  drag(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) { this.point(event); return; }
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
    if (!isClick) return;
    const [x, y] = this.toScene(event.offsetX, event.offsetY);
    const box = this.scene.at(x, y);
    this.onPick(box, Boolean(box?.isGroup) && x > box.x + WIDTH - BADGE && y < box.y + HEIGHT * 0.6);
  }

  toScene(x, y) {
    return [(x - this.view.x) / this.view.scale, (y - this.view.y) / this.view.scale];
  }

  // What the pointer is at: a box, else the line that is near.
  point(event) {
    const before = this.hover;
    this.hover = event && this.view.scale >= LEGIBLE * 0.7 ? this.find(event) : null;
    if (before?.link !== this.hover?.link || before?.box !== this.hover?.box) {
      this.onPoint(this.hover);
      this.schedule();
    }
  }

  find(event) {
    const [x, y] = this.toScene(event.offsetX, event.offsetY);
    const place = { x: event.offsetX, y: event.offsetY };
    const box = this.scene.at(x, y);
    if (box) return { box, ...place };
    let link = null;
    let best = 7 / this.view.scale;
    for (const other of this.scene.links) {
      if (x < Math.min(other.from.x, other.to.x) || x > Math.max(other.from.x, other.to.x) + WIDTH) continue;
      const found = distance(other, x, y);
      if (found < best) { best = found; link = other; }
    }
    return link ? { link, ...place } : null;
  }

  close() {
    this.observer.disconnect();
    this.themed.disconnect();
    this.scheme.removeEventListener("change", this.recolour);
    cancelAnimationFrame(this.frame);
    this.layer.close();
  }
}
