// A dataflow as boxes: one per call, with a row for each argument, or one per value. It grows edge by edge.
//
// The layout is the tree in which boxes were first reached, from left to right; other edges are drawn across it.

export const BOX_WIDTH = 212;
export const HEAD = 30;
export const PORT = 22;
export const COLUMN = 264;
const GAP = 14;

class Box {
  constructor(key, kind, title, hash) {
    this.key = key;
    this.kind = kind;
    this.title = title;
    this.hash = hash;
    this.ports = [];
    this.parent = null;
    this.parentPort = -1;
    this.children = [];
    this.cross = [];
    this.isOrigin = false;
    this.isClosed = false;
    this.isShown = true;
    this.depth = 0;
    this.x = 0;
    this.y = 0;
    this.hidden = 0;
  }

  get height() {
    return HEAD + this.ports.length * PORT + (this.ports.length ? 6 : 0);
  }
}

export function nodeKey(node) {
  switch (node.kind) {
    case "Value": return `V${node.value_hash}`;
    case "CallNode": return `C${node.call_hash}`;
    case "ArgumentValue": return `A${node.arg_hash}${node.value_hash}`;
    default: return `R${node.call_hash}${node.value_hash}`;
  }
}

export class Graph {
  constructor() {
    this.boxes = new Map();
    // Where a node is drawn: its box, and its row there or -1.
    this.places = new Map();
    this.links = new Set();
    this.root = null;
    this.edges = 0;
    this.columns = [];
    this.size = { width: 0, height: 0 };
    this.isDirty = false;
  }

  add(edge) {
    this.edges += 1;
    this.isDirty = true;
    const from = this.place(edge.src, null, null);
    this.root ??= from.box;
    if (edge.dest === null) {
      if (from.port >= 0) from.box.ports[from.port].isOrigin = true;
      else from.box.isOrigin = true;
      return;
    }
    const to = this.place(edge.dest, edge.src, from);
    if (from.box === to.box) return;
    const link = `${from.box.key}>${from.port}>${to.box.key}>${to.port}`;
    if (this.links.has(link)) return;
    this.links.add(link);
    if (to.box.parent === null && to.box !== this.root && !this.isAbove(to.box, from.box)) {
      to.box.parent = from.box;
      to.box.parentPort = from.port;
      to.box.entry = to.port;
      from.box.children.push(to.box);
    } else {
      from.box.cross.push({ from: from.port, box: to.box, to: to.port });
    }
  }

  isAbove(box, other) {
    for (let above = other; above; above = above.parent) if (above === box) return true;
    return false;
  }

  place(node, src, from) {
    const key = nodeKey(node);
    const known = this.places.get(key);
    if (known) return known;
    const place = this.makePlace(node, src, from);
    this.places.set(key, place);
    return place;
  }

  makePlace(node, src, from) {
    if (node.kind === "Value") return { box: this.box(`V${node.value_hash}`, "value", "Value", node.value_hash), port: -1 };
    if (node.kind === "CallNode") return { box: this.callBox(node, "C"), port: -1 };
    if (node.kind === "CallNodeValue") return { box: this.callBox(node, "C"), port: -1 };
    // An argument belongs to its call where the walk came from the call, else to a box of its own beside it.
    const isOwn = (src?.kind === "CallNode" || src?.kind === "CallNodeValue") && src.call_hash === node.call_hash;
    const box = isOwn ? from.box : this.callBox(node, "A");
    box.ports.push({ name: node.name ?? "argument", value: node.value_hash, isOrigin: false });
    return { box, port: box.ports.length - 1 };
  }

  callBox(node, letter) {
    return this.box(`${letter}${node.call_hash}`, letter === "C" ? "call" : "argument", node.task ?? "call", node.call_hash);
  }

  box(key, kind, title, hash) {
    let box = this.boxes.get(key);
    if (!box) {
      box = new Box(key, kind, title, hash);
      this.boxes.set(key, box);
    }
    return box;
  }

  // Places all boxes: a box stands at the middle of those to its right. Linear in what is shown.
  layOut() {
    this.isDirty = false;
    for (const box of this.boxes.values()) box.isShown = false;
    this.columns = [];
    if (!this.root) return;
    const order = [];
    const stack = [this.root];
    this.root.depth = 0;
    while (stack.length) {
      const box = stack.pop();
      box.isShown = true;
      order.push(box);
      if (box.isClosed) continue;
      for (let index = box.children.length - 1; index >= 0; index -= 1) {
        box.children[index].depth = box.depth + 1;
        stack.push(box.children[index]);
      }
    }
    for (let index = order.length - 1; index >= 0; index -= 1) {
      const box = order[index];
      const children = box.isClosed ? [] : box.children;
      box.band = 0;
      for (const child of children) box.band += child.band;
      box.band = Math.max(box.band, box.height + GAP);
    }
    this.root.top = 0;
    for (const box of order) {
      (this.columns[box.depth] ??= []).push(box);
      box.x = box.depth * COLUMN;
      box.y = box.top + (box.band - box.height) / 2;
      if (box.isClosed) continue;
      let total = 0;
      for (const child of box.children) total += child.band;
      let top = box.top + (box.band - total) / 2;
      for (const child of box.children) {
        child.top = top;
        top += child.band;
      }
    }
    this.size = { width: this.columns.length * COLUMN - (COLUMN - BOX_WIDTH), height: this.root.band };
  }

  toggle(box) {
    if (!box.children.length) return;
    box.isClosed = !box.isClosed;
    box.hidden = box.isClosed ? this.countBelow(box) : 0;
    this.layOut();
  }

  countBelow(box) {
    let count = 0;
    const stack = [...box.children];
    while (stack.length) {
      const next = stack.pop();
      count += 1;
      stack.push(...next.children);
    }
    return count;
  }

  reveal(box) {
    for (let above = box.parent; above; above = above.parent) above.isClosed = false;
    this.layOut();
  }

  // The boxes of a column between two heights: a column is sorted, from top to bottom.
  *inColumn(depth, top, bottom) {
    const column = this.columns[depth] ?? [];
    let low = 0;
    let high = column.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (column[middle].y + column[middle].height < top) low = middle + 1;
      else high = middle;
    }
    for (; low < column.length && column[low].y <= bottom; low += 1) yield column[low];
  }

  at(x, y) {
    const depth = Math.floor(x / COLUMN);
    if (x - depth * COLUMN > BOX_WIDTH + 26) return null;
    for (const box of this.inColumn(depth, y, y)) {
      const isOnBox = x - box.x <= BOX_WIDTH;
      if (!isOnBox && !box.children.length) return null;
      const port = Math.floor((y - box.y - HEAD) / PORT);
      return { box, port: isOnBox && port >= 0 && port < box.ports.length ? port : -1, isToggle: !isOnBox };
    }
    return null;
  }

  find(text) {
    const wanted = text.toLowerCase();
    return [...this.boxes.values()].filter((box) => box.title.toLowerCase().includes(wanted) || box.hash.startsWith(wanted)
      || box.ports.some((port) => port.name.toLowerCase().includes(wanted) || port.value.startsWith(wanted)));
  }
}
