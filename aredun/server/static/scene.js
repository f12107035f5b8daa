// What is drawn of a dataflow: a box for a call or a value, or for many alike, each at a place that it keeps.

import { findRanks, groupNodes } from "./groups.js";

export const WIDTH = 216;
export const HEIGHT = 56;
export const COLUMN = 264;
export const ROW = 72;
const STACK = 8;
export const MOVE = 350;
// Of what a line leads through only so many are told.
const TOLD = 12;

class Box {
  constructor(key, members, isGroup) {
    this.key = key;
    this.isGroup = isGroup;
    this.column = null;
    this.row = 0;
    this.x = 0;
    this.y = 0;
    this.hidden = 0;
    this.set(members);
  }

  set(members) {
    this.members = members;
    [this.node] = members;
    this.kind = this.node.kind;
    this.task = this.node.task;
    this.inputs = [];
    this.outputs = [];
    this.isShown = true;
  }

  stand(column, row) {
    this.column = column;
    this.row = row;
    this.x = column * COLUMN;
    this.y = row * ROW;
  }
}

export class Scene {
  // Of a group that is unfolded those come first that `isUrgent` tells.
  constructor(isDownstream, isUrgent) {
    this.isDownstream = isDownstream;
    // Whether it grows to the right: so does a run that goes on, though it is walked upstream.
    this.isForward = isDownstream;
    this.isUrgent = isUrgent;
    this.all = new Map();
    this.boxes = [];
    this.links = [];
    this.root = null;
    this.opened = new Set();
    this.closed = new Set();
    this.isTidy = true;
    this.nodes = 0;
    this.flow = { nodes: new Map(), edges: [], root: null };
    this.measure();
  }

  show(flow) {
    this.flow = flow;
    this.nodes = flow.nodes.size;
    this.ranks = findRanks(flow, this.isForward);
    this.rankJobs();
    this.build();
  }

  // Jobs whose arguments are not recorded yet stand with calls of their task.
  rankJobs() {
    const jobs = [...this.flow.nodes.values()].filter((node) => node.job);
    if (!jobs.length) return;
    const known = new Map();
    for (const node of this.flow.nodes.values()) if (node.kind === "call" && !node.job && !known.has(node.task)) known.set(node.task, this.ranks.get(node));
    for (const node of jobs) this.ranks.set(node, known.get(node.task) ?? 1);
  }

  // Boxes of the nodes and groups as they are now: those that stood stay, new ones stand beside what they belong to.
  build() {
    const { boxOf, groups } = groupNodes(this.flow, this.ranks, this.opened, this.isUrgent);
    const before = this.all;
    const stood = new Map([...this.nodeBoxes ?? []].map(([node, box]) => [node.key, box]));
    this.all = new Map();
    for (const { key, members, isGroup, home } of groups) {
      const box = before.get(key) ?? new Box(key, members, isGroup);
      box.set(members);
      box.home = home;
      this.all.set(key, box);
    }
    this.nodeBoxes = new Map([...boxOf].map(([node, key]) => [node, this.all.get(key)]));
    this.root = this.flow.root ? this.nodeBoxes.get(this.flow.root) : null;
    this.link();
    this.hide();
    this.placeNew(before, stood);
    this.measure();
  }

  link() {
    const links = new Map();
    for (const edge of this.flow.edges) {
      const from = this.nodeBoxes.get(edge.from);
      const to = this.nodeBoxes.get(edge.to);
      if (!from || !to || from === to) continue;
      const key = `${from.key}>${to.key}`;
      let link = links.get(key);
      if (!link) {
        links.set(key, link = { key, from, to, count: 0, names: new Set(), through: new Set(), route: this.routes?.get(key) ?? [] });
        from.outputs.push(link);
        to.inputs.push(link);
      }
      link.count += 1;
      for (const name of edge.names) link.names.add(name);
      const passed = edge.to.kind === "value" ? edge.to.through : edge.through;
      for (const task of passed) if (link.through.size < TOLD) link.through.add(task);
    }
    this.allLinks = [...links.values()];
  }

  // What the walk reaches from a box: its inputs upstream, its outputs downstream.
  beyond(box) {
    return this.isDownstream ? box.outputs.map((link) => link.to) : box.inputs.map((link) => link.from);
  }

  // What stood before a box does, where new ones are put beside what stands, and what stands behind it.
  before(box) {
    return this.isForward ? box.inputs.map((link) => link.from) : box.outputs.map((link) => link.to);
  }

  reach(start, isClosed) {
    const seen = new Set(start);
    const stack = [...start];
    while (stack.length) {
      const box = stack.pop();
      if (isClosed(box)) continue;
      for (const next of this.beyond(box)) if (!seen.has(next)) { seen.add(next); stack.push(next); }
    }
    return seen;
  }

  // What is only reached through a folded box is not drawn.
  hide() {
    const isClosed = (box) => this.closed.has(box.key);
    if (this.closed.size && this.root) {
      const shown = this.reach([this.root], isClosed);
      for (const box of this.all.values()) box.isShown = shown.has(box);
    }
    for (const box of this.all.values()) {
      box.hidden = isClosed(box) ? [...this.reach([box], () => false)].filter((other) => !other.isShown).length : 0;
    }
    this.boxes = [...this.all.values()].filter((box) => box.isShown);
    this.links = this.allLinks.filter((link) => link.from.isShown && link.to.isShown);
  }

  placeNew(before, stood) {
    const taken = new Map();
    const take = (box) => taken.set(box.column, [...(taken.get(box.column) ?? []), box.row]);
    const fresh = [];
    for (const box of this.boxes) {
      if (box.column === null) fresh.push(box);
      else take(box);
    }
    if (!fresh.length) return;
    this.isTidy = false;
    const rank = (box) => this.ranks.get(box.node);
    const formers = new Map(fresh.map((box) => [box, (box.home && before.get(box.home)) ?? this.findFormer(box, stood)]));
    // Who follows on what stood goes there first.
    fresh.sort((one, other) => Boolean(formers.get(other)) - Boolean(formers.get(one)) || rank(one) - rank(other));
    for (const box of fresh) {
      const former = formers.get(box);
      const [column, row] = former ? [former.column, former.row] : this.findPlace(box, taken);
      box.stand(column, findRow(taken.get(column) ?? [], row));
      take(box);
    }
  }

  // Where a new box would best stand.
  findPlace(box, taken) {
    const sign = this.isForward ? 1 : -1;
    if (box.node.job) {
      const column = this.findJobColumn(box);
      return [column, Math.max(-1, ...(taken.get(column) ?? [])) + 1];
    }
    const standing = (boxes) => boxes.filter((other) => other.column !== null);
    const row = (boxes) => boxes.reduce((sum, other) => sum + other.row, 0) / boxes.length;
    const beside = standing(this.before(box));
    if (beside.length) return [Math.max(...beside.map((other) => other.column * sign)) * sign + sign, row(beside)];
    const behind = this.isForward ? standing(box.outputs.map((link) => link.to)) : [];
    return behind.length ? [Math.min(...behind.map((other) => other.column)) - 1, row(behind)] : [sign * this.ranks.get(box.node), 0];
  }
  // Where what is in a box stood before, alone or with others: jobs become calls, calls become many.
  findFormer(box, stood) {
    for (const node of box.members) {
      const former = stood.get(node.key) ?? stood.get(node.was);
      if (former && former.column !== null) return former;
    }
    return null;
  }

  // What a running job was given is recorded when it ends: it stands with its like, else to the right of all that has ended.
  findJobColumn(box) {
    let last = 0;
    for (const other of this.boxes) {
      if (other === box || other.column === null) continue;
      if (other.kind === "call" && other.task === box.task) return other.column;
      if (!other.node.job || other.node.isOver) last = Math.max(last, other.column + (other.kind === "call" ? 1 : 0));
    }
    return last + 1;
  }

  // What a layout is asked for: the numbers of the boxes that each link joins, as far as they form no cycle.
  describe() {
    const numbers = new Map(this.boxes.map((box, index) => [box, index]));
    const rank = (box) => this.ranks.get(box.node) * (this.isForward ? 1 : -1);
    const links = this.links.filter((link) => rank(link.from) < rank(link.to));
    const edges = links.map((link) => [numbers.get(link.from), numbers.get(link.to)]);
    for (const box of this.boxes) {
      const left = box.node.job && !box.inputs.length ? this.boxes.find((other) => other.column === box.column - 1 && !other.node.job) : null;
      if (left) edges.push([numbers.get(left), numbers.get(box)]);
    }
    return { boxes: this.boxes, links, shape: { nodes: this.boxes.length, edges } };
  }

  // Lets the boxes go to where a layout has them; the anchor stays where it is.
  apply({ boxes, links }, layout, anchor, isMoving) {
    const index = Math.max(0, boxes.indexOf(anchor ?? this.root));
    const [layer, row] = layout.places[index];
    const column = boxes[index].column - layer;
    const shift = boxes[index].row - row;
    const moves = boxes.map((box, number) => ({ box, x: box.x, y: box.y, column: layout.places[number][0] + column, row: layout.places[number][1] + shift }));
    this.makeRoom(moves);
    this.routes = new Map(layout.routes.map(([number, places]) => [links[number].key, places.map(([at, line]) => [(at + column) * COLUMN, (line + shift) * ROW + HEIGHT / 2])]));
    this.isTidy = true;
    this.began = performance.now();
    // The bounds are at once those of where the boxes go to.
    this.move(this.began + MOVE, moves);
    if (!isMoving) return;
    for (const link of this.links) link.route = [];
    this.moves = moves;
    this.move(this.began);
  }

  // What joined after the layout was asked for stands where it does, or beside whatever comes to stand there.
  makeRoom(moves) {
    const known = new Set(moves.map(({ box }) => box));
    for (const box of this.boxes) {
      if (known.has(box) || box.column === null) continue;
      const taken = moves.filter(({ column }) => column === box.column).map(({ row }) => row);
      moves.push({ box, x: box.x, y: box.y, column: box.column, row: findRow(taken, box.row) });
    }
  }

  // Moves boxes on their way; tells whether they are still moving.
  move(now, moves = this.moves) {
    if (!moves) return false;
    const part = Math.min(1, Math.max(0, (now - this.began) / MOVE));
    const eased = 1 - (1 - part) ** 3;
    for (const { box, x, y, column, row } of moves) {
      box.stand(column, row);
      box.x = x + (box.x - x) * eased;
      box.y = y + (box.y - y) * eased;
    }
    if (part === 1) {
      this.moves = null;
      for (const link of this.links) link.route = this.routes.get(link.key) ?? [];
      this.measure();
    }
    return part < 1;
  }

  // All that is drawn lies within these bounds: boxes, with the cards behind them and their signs, and lines.
  measure() {
    const bounds = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
    const add = (left, top, right, bottom) => {
      bounds.left = Math.min(bounds.left, left);
      bounds.top = Math.min(bounds.top, top);
      bounds.right = Math.max(bounds.right, right);
      bounds.bottom = Math.max(bounds.bottom, bottom);
    };
    for (const box of this.boxes) add(box.x - (box.hidden ? 60 : 2), box.y - 2, box.x + WIDTH + (box.hidden ? 60 : STACK), box.y + HEIGHT + STACK);
    for (const link of this.links) for (const [x, y] of link.route) add(x, y, x + WIDTH, y);
    this.bounds = this.boxes.length ? bounds : { left: 0, top: 0, right: WIDTH, bottom: HEIGHT };
  }

  open(box) {
    if (box.isGroup) this.opened.add(box.key);
    this.build();
  }

  // Puts the nodes of an unfolded group together again.
  gather(box) {
    if (box.home) this.opened.delete(box.home);
    this.build();
  }

  toggle(box) {
    if (!this.closed.delete(box.key) && this.beyond(box).length) this.closed.add(box.key);
    this.build();
  }

  reveal(node) {
    this.closed.clear();
    let box = this.nodeBoxes.get(node);
    while (box?.isGroup) {
      this.opened.add(box.key);
      this.build();
      const next = this.nodeBoxes.get(node);
      if (next === box) break;
      box = next;
    }
    this.build();
    return this.nodeBoxes.get(node);
  }

  at(x, y) {
    return this.boxes.findLast((box) => x >= box.x && x <= box.x + WIDTH && y >= box.y && y <= box.y + HEIGHT) ?? null;
  }
}

// The free row of a column that is nearest to one.
function findRow(taken, wanted) {
  const isFree = (row) => taken.every((other) => Math.abs(other - row) >= 1);
  for (let step = 0; ; step += 1) {
    if (isFree(wanted + step)) return wanted + step;
    if (isFree(wanted - step)) return wanted - step;
  }
}
