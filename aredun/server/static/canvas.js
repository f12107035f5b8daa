// Shows a scene on a canvas: what is in sight of it, moved and zoomed by pointer, wheel and keys.

import { LineLayer } from "./line_layer.js";
import { distance, FAR, LEGIBLE, Painter } from "./painter.js";
import { HEIGHT, MOVE, WIDTH } from "./scene.js";

const MIN_SCALE = 0.0005;
const MAX_SCALE = 2.5;
const MARGIN = 28;
// Where on a group its number unfolds it.
const BADGE = 110;
const FIT_SCALE = 1.25;
// A run is first shown no larger, from the left on: it grows to the right.
const BEGIN_SCALE = 0.75;
// The scale of what is too large to be seen at once and read, and of what still grows: so wide a part, if it can be read.
const PART_SCALE = 0.7;
const PART_WIDTH = 2000;
// How long, in milliseconds, a drawing may be seen and still be put elsewhere.
const SETTLED = 300;
const COLOURS = ["paper", "surface", "sunken", "line", "line-strong", "ink", "ink-2", "ink-3", "accent", "accent-soft", "abandoned", "cached", "failed", "failed-soft", "running"];

export class GraphCanvas {
  constructor(canvas, scene, labels, { onPick, onPoint, onDraw }) {
    Object.assign(this, { canvas, scene, labels, onPick, onPoint, onDraw });
    this.context = canvas.getContext("2d", { alpha: false });
    this.view = { x: 0, y: 0, scale: 1 };
    // Until somebody moves it, the view keeps the start in sight, or the whole where that is asked for.
    this.isFollowing = true;
    this.isWhole = false;
    this.isGrowing = true;
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
    else if (this.selected) this.show(this.selected);
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame((now) => {
      this.frame = null;
      const isMoving = this.scene.move(now);
      const isGliding = this.glide(now);
      this.draw();
      if (isMoving || isGliding || this.flashes.size) this.schedule();
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
    this.gliding = null;
    this.view.x += x;
    this.view.y += y;
    this.schedule();
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const { view } = this;
    const scale = Math.max(MIN_SCALE, Math.min(MAX_SCALE, view.scale * factor));
    this.isFollowing = false;
    this.gliding = null;
    view.x = x - ((x - view.x) * scale) / view.scale;
    view.y = y - ((y - view.y) * scale) / view.scale;
    view.scale = scale;
    this.schedule();
  }

  // All of the graph, lines included, as large as it may be.
  fit() {
    this.isFollowing = this.isWhole = true;
    this.follow();
    this.schedule();
  }

  follow() {
    this.gliding = null;
    if (this.width) this.view = this.aim();
  }

  // The whole, where it can be read or is asked for; else what is around the start.
  aim() {
    const { left, top, right, bottom } = this.reach;
    const margin = Math.min(MARGIN, this.width * 0.03);
    const whole = Math.max(MIN_SCALE, Math.min(FIT_SCALE, (this.width - 2 * margin) / (right - left), (this.height - 2 * margin) / (bottom - top)));
    const isPart = !this.isWhole && (this.isGrowing || whole < LEGIBLE);
    const scale = isPart ? Math.max(LEGIBLE, Math.min(PART_SCALE, this.width / PART_WIDTH)) : whole;
    const { x, y } = this.scene.root ?? { x: right, y: bottom };
    return { scale, x: place(this.width, left, right, x + WIDTH / 2, scale, margin), y: place(this.height, top, bottom, y + HEIGHT / 2, scale, margin) };
  }

  // How far the drawing may reach: while it grows, from its start on without an end.
  get reach() {
    const { bounds, root, isDownstream } = this.scene;
    if (!this.isGrowing || this.isWhole || !root) return bounds;
    const { left, right } = bounds;
    return { left: isDownstream ? left : -Infinity, right: isDownstream ? Infinity : right, top: -Infinity, bottom: Infinity };
  }

  // What is added leaves the view as it is: only at the very beginning it may be put elsewhere.
  grow() {
    if (this.isFollowing && !this.isSettled) this.follow();
  }

  // With the boxes that go to their places the view goes to where all of them can be seen and read, if it is not there.
  goAlong(isSteady) {
    if (!this.isFollowing || !this.width) return;
    const { bounds: { left, top, right, bottom } } = this.scene;
    const isAll = ({ x, y, scale }) => left * scale + x >= 0 && top * scale + y >= 0 && right * scale + x <= this.width && bottom * scale + y <= this.height;
    const to = this.aim();
    const isOwed = isAll(to) && !isAll(this.view);
    if (!this.isSettled || (isOwed && !isSteady)) this.follow();
    else if (isOwed) this.gliding = { from: { ...this.view }, to, began: this.scene.began };
  }

  glide(now) {
    if (!this.gliding) return false;
    const { from, to, began } = this.gliding;
    const part = Math.min(1, Math.max(0, (now - began) / MOVE));
    const eased = 1 - (1 - part) ** 3;
    for (const name of ["scale", "x", "y"]) this.view[name] = from[name] + (to[name] - from[name]) * eased;
    if (part === 1) this.gliding = null;
    return part < 1;
  }

  // What has been seen for a while stays where it is.
  get isSettled() {
    return this.stats.first !== null && performance.now() - this.stats.first > SETTLED;
  }

  // While a run goes on: what is new and out of sight comes in sight, so slowly that eyes can follow.
  accompany() {
    if (!this.width || !this.isFollowing) return;
    const { left, top, right, bottom } = this.scene.bounds;
    const isFirst = this.stats.first === null;
    const margin = Math.min(MARGIN, this.width * 0.03);
    const whole = Math.min((this.width - 2 * margin) / (right - left), (this.height - 2 * margin) / (bottom - top));
    const scale = Math.max(LEGIBLE, Math.min(isFirst ? BEGIN_SCALE : this.view.scale, whole));
    // What is too large for its legible size is shown at its newest end.
    const keep = (at, size, low, high) => Math.min(size - margin - high * scale, Math.max(margin - low * scale, at));
    const to = { scale, x: keep(isFirst ? -Infinity : this.view.x, this.width, left, right), y: keep(isFirst ? (this.height - (top + bottom) * scale) / 2 : this.view.y, this.height, top, bottom) };
    this.gliding = isFirst || matchMedia("(prefers-reduced-motion: reduce)").matches ? null : { from: { ...this.view }, to, began: performance.now() };
    if (!this.gliding) this.view = to;
    this.schedule();
  }

  centre(box) {
    const { view } = this;
    if (view.scale < LEGIBLE) view.scale = 0.9;
    this.isFollowing = false;
    view.x = this.width / 2 - (box.x + WIDTH / 2) * view.scale;
    view.y = this.height / 2 - (box.y + HEIGHT / 2) * view.scale;
    this.schedule();
  }

  // Brings a box in sight; the view stays as it is where the box is in sight already.
  show(box) {
    const { view } = this;
    this.isFollowing = false;
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
    this.onPick(box, Boolean(box?.isGroup) && this.view.scale >= LEGIBLE && x > box.x + WIDTH - BADGE && y > box.y + HEIGHT / 2);
  }

  toScene(x, y) {
    return [(x - this.view.x) / this.view.scale, (y - this.view.y) / this.view.scale];
  }

  // What the pointer is at: a box, else the line that is near.
  point(event) {
    const before = this.hover;
    this.hover = event && this.view.scale >= LEGIBLE / 2 ? this.find(event) : null;
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

// Where an axis begins on the screen: what fits stands in the middle, else the start and as much beside it as there is room for.
function place(size, low, high, start, scale, margin) {
  if ((high - low) * scale <= size - 2 * margin) return (size - (low + high) * scale) / 2;
  return Math.max(size - margin - high * scale, Math.min(margin - low * scale, size / 2 - start * scale));
}
