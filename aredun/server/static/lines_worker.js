// Draws lines for the page, which has other things to do meanwhile.

import { decode } from "./line_layer.js";
import { Painter } from "./painter.js";

onmessage = ({ data: { place, scale, ratio, groups } }) => {
  const canvas = new OffscreenCanvas(Math.round(place.width * scale * ratio), Math.round(place.height * scale * ratio));
  const context = canvas.getContext("2d");
  context.scale(scale * ratio, scale * ratio);
  context.translate(-place.left, -place.top);
  new Painter(context, { scale }).groups(groups.map(({ numbers, ...look }) => ({ ...look, links: decode(numbers) })));
  const bitmap = canvas.transferToImageBitmap();
  postMessage({ ...place, bitmap }, [bitmap]);
};
