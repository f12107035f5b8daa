// Saves the whole of a drawing as a file: a picture, or an SVG.

import { LEGIBLE, Painter } from "./painter.js";
import { SvgContext } from "./svg_context.js";

const MARGIN = 24;
// A picture is as sharp as this, unless it would be larger than browsers can make.
const SHARPNESS = 2;
const MAX_SIDE = 16000;
const MAX_PIXELS = 60e6;

function frame({ left, top, right, bottom }) {
  return { left: left - MARGIN, top: top - MARGIN, width: right - left + 2 * MARGIN, height: bottom - top + 2 * MARGIN };
}

// Everything is painted, nothing of it chosen or searched for.
function paint(context, canvas, scale) {
  const sight = { left: -Infinity, top: -Infinity, right: Infinity, bottom: Infinity };
  new Painter(context, { ...canvas.look, selected: null, matches: null, hover: null, flashes: null, layer: null, scale: Math.max(scale, LEGIBLE) }).paint(canvas.scene, sight);
}

function makeSvg(canvas) {
  const context = new SvgContext();
  paint(context, canvas, 1);
  return new Blob([context.toString(frame(canvas.scene.bounds), canvas.colours.sunken)], { type: "image/svg+xml" });
}

function makePng(canvas) {
  const { left, top, width, height } = frame(canvas.scene.bounds);
  const scale = Math.min(SHARPNESS, MAX_SIDE / width, MAX_SIDE / height, Math.sqrt(MAX_PIXELS / (width * height)));
  const picture = new OffscreenCanvas(Math.ceil(width * scale), Math.ceil(height * scale));
  const context = picture.getContext("2d", { alpha: false });
  context.fillStyle = canvas.colours.sunken;
  context.fillRect(0, 0, picture.width, picture.height);
  context.scale(scale, scale);
  context.translate(-left, -top);
  paint(context, canvas, scale);
  return encode(picture.transferToImageBitmap());
}

// A page encodes pictures when it has nothing else to do, which may take seconds to come: a worker does it at once.
function encode(bitmap) {
  const worker = new Worker(new URL("png_worker.js", import.meta.url));
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message || "the picture could not be made"));
    worker.postMessage(bitmap, [bitmap]);
  }).finally(() => worker.terminate());
}

export async function save(canvas, kind, title) {
  // What is out of sight has not asked for its labels yet.
  await canvas.labels.loadAll(canvas.scene.boxes);
  const blob = kind === "svg" ? makeSvg(canvas) : await makePng(canvas);
  const name = title.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[-.]+|-+$/g, "").slice(0, 80) || "dataflow";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${name}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
