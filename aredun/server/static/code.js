// Python in colours: the server says where what stands, the page makes elements of the text's parts.

import { h } from "./dom.js";

// The text line by line, each a list of texts and coloured elements.
export function codeLines(text, spans) {
  const lines = [[]];
  const put = (part, kind) => part.split("\n").forEach((piece, index) => {
    if (index) lines.push([]);
    if (piece) lines[lines.length - 1].push(kind ? h("span", { class: `code-${kind}` }, piece) : piece);
  });
  let place = 0;
  for (const [start, end, kind] of spans) {
    put(text.slice(place, start));
    put(text.slice(start, end), kind);
    place = end;
  }
  put(text.slice(place));
  return lines;
}
