// The whole of a large graph in a corner, and the part of it that is in sight.

import { HEIGHT, WIDTH } from "./scene.js";

const EDGE = 6;
const LOWEST = 36;

export class Minimap {
  constructor(canvas, graph) {
    this.canvas = canvas;
    this.graph = graph;
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); this.go(event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) this.go(event); });
  }

  // Is of use only where there is more than is in sight.
  get isWanted() {
    const { scene, sight } = this.graph;
    const { left, top, right, bottom } = scene.bounds;
    return scene.boxes.length > 0 && (left < sight.left || top < sight.top || right > sight.right || bottom > sight.bottom);
  }

  draw() {
    this.canvas.hidden = !this.isWanted;
    const { clientWidth: width } = this.canvas;
    if (this.canvas.hidden || !width) return;
    const { scene, sight, colours, ratio } = this.graph;
    const { left, top, right, bottom } = scene.bounds;
    // As high as what it shows, within limits.
    const height = Math.round(Math.max(LOWEST, Math.min(width * 0.64, ((width - 2 * EDGE) * (bottom - top)) / (right - left) + 2 * EDGE)));
    if (this.height !== height || this.width !== width || this.ratio !== ratio) {
      Object.assign(this, { width, height, ratio });
      this.canvas.style.setProperty("height", `${height}px`);
      Object.assign(this.canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    }
    this.scale = Math.min((width - 2 * EDGE) / (right - left), (height - 2 * EDGE) / (bottom - top));
    this.x = (width - (left + right) * this.scale) / 2;
    this.y = (height - (top + bottom) * this.scale) / 2;
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.paintBoxes(), 0, 0);
    context.scale(ratio, ratio);
    const clip = (value, most) => Math.max(1, Math.min(most - 1, value));
    const x = clip(sight.left * this.scale + this.x, width);
    const y = clip(sight.top * this.scale + this.y, height);
    context.strokeStyle = colours.ink;
    context.lineWidth = 1.5;
    context.strokeRect(x, y, clip(sight.right * this.scale + this.x, width) - x, clip(sight.bottom * this.scale + this.y, height) - y);
  }

  // The boxes of a map stay as they are while somebody only looks about.
  paintBoxes() {
    const { scene, labels, colours, ratio } = this.graph;
    const { width, height } = this.canvas;
    const state = [scene.boxes, scene.bounds, labels.version, colours, width, height];
    if (!scene.moves && this.state?.every((part, index) => part === state[index])) return this.picture;
    this.state = state;
    this.picture = new OffscreenCanvas(width, height);
    const context = this.picture.getContext("2d");
    context.scale(ratio, ratio);
    for (const box of scene.boxes) {
      context.fillStyle = labels.status(box) === "FAILED" ? colours.failed : box.kind === "call" ? colours.accent : colours["ink-3"];
      context.fillRect(box.x * this.scale + this.x, box.y * this.scale + this.y, Math.max(1.5, WIDTH * this.scale), Math.max(1.5, HEIGHT * this.scale));
    }
    return this.picture;
  }

  go(event) {
    const { graph } = this;
    const { view } = graph;
    graph.pan(graph.width / 2 - ((event.offsetX - this.x) / this.scale) * view.scale - view.x, graph.height / 2 - ((event.offsetY - this.y) / this.scale) * view.scale - view.y);
  }
}
