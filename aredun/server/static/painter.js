// Paints a scene on whatever has the methods of a canvas: the screen, a picture, or an SVG.

import { HEIGHT, WIDTH } from "./scene.js";

const RADIUS = 8;
const ARROW = 7;
// The smaller the scale, the larger a text is written. From this scale on all can be read well; from the next on there is
// room for two lines, and below the last for none.
export const LEGIBLE = 0.5;
const NEAR = 0.36;
export const FAR = 0.14;

// Of more boxes at once nobody reads the titles, and all of them take longer than a frame.
const MANY = 500;
// Of the chosen lines so many have their names beside them.
const NAMED = 100;
// A path of more lines takes longer than several.
const AT_ONCE = 50;

const STRIPES = { FAILED: "failed", CACHED: "cached", RUNNING: "running", ABANDONED: "abandoned" };
const BEHIND = { call: "accent", value: "line-strong" };

export class Painter {
  constructor(context, look) {
    this.context = context;
    Object.assign(this, look);
  }

  paint(scene, sight) {
    const shown = scene.boxes.filter((box) => box.x + WIDTH + 70 >= sight.left && box.x - 70 <= sight.right && box.y + HEIGHT + 8 >= sight.top && box.y <= sight.bottom);
    const chosen = this.links(scene, sight);
    this.isFar = this.scale < FAR || (this.scale < LEGIBLE && shown.length > MANY);
    for (const box of shown) this.box(box, box === scene.root);
    if (this.scale >= LEGIBLE) for (const link of chosen.slice(0, NAMED)) this.name(link);
    return shown;
  }

  links(scene, sight) {
    const { colours } = this;
    const beside = (this.layer?.margin ?? 0) / this.scale;
    const plain = [];
    const chosen = [];
    for (const link of scene.links) {
      const { from, to } = link;
      let top = Math.min(from.y, to.y);
      let bottom = Math.max(from.y, to.y);
      for (const [, y] of link.route) {
        if (y < top) top = y;
        else if (y > bottom) bottom = y;
      }
      if (Math.min(from.x, to.x) > sight.right + beside || Math.max(from.x, to.x) + WIDTH < sight.left - beside || top > sight.bottom + beside || bottom + HEIGHT < sight.top - beside) continue;
      const isChosen = link === this.hover?.link || (this.selected && (from === this.selected || to === this.selected));
      (isChosen ? chosen : plain).push(link);
    }
    const groups = [{ links: plain, colour: colours["ink-3"], weight: 1, alpha: this.matches ? 0.3 : 1 }, { links: chosen, colour: colours.accent, weight: 1.8, alpha: 1 }];
    if (this.layer?.takes(plain.length + chosen.length)) this.layer.draw(this.context, groups, { scale: this.scale, ratio: this.ratio, sight });
    else this.groups(groups);
    return chosen;
  }

  groups(groups) {
    for (const { links, colour, weight, alpha } of groups) {
      this.context.globalAlpha = alpha;
      this.lines(links, colour, weight);
    }
    this.context.globalAlpha = 1;
  }

  lines(links, colour, weight = 1) {
    if (!links.length) return;
    const { context } = this;
    context.strokeStyle = context.fillStyle = colour;
    for (const isMany of [false, true]) {
      const group = links.filter((link) => link.count > 1 === isMany);
      if (!group.length) continue;
      context.lineWidth = Math.max(isMany ? 2.4 : 1.3, 0.6 / this.scale) * weight;
      for (let first = 0; first < group.length; first += AT_ONCE) {
        context.beginPath();
        for (const link of group.slice(first, first + AT_ONCE)) trace(context, link);
        context.stroke();
      }
    }
    if (this.scale >= FAR) this.arrows(links);
  }

  arrows(links) {
    const { context } = this;
    const head = this.size(ARROW + 2, 5.5);
    context.beginPath();
    for (const { to } of links) {
      const y = to.y + HEIGHT / 2;
      context.moveTo(to.x, y);
      context.lineTo(to.x - head, y - head * 0.5);
      context.lineTo(to.x - head, y + head * 0.5);
      context.closePath();
    }
    context.fill();
  }

  // The names of the arguments that an edge stands for, beside its end.
  name(link) {
    const text = [...link.names].filter(Boolean).slice(0, 3).join(", ");
    if (!text) return;
    const { context, colours } = this;
    const size = this.size(11, 9);
    context.font = `600 ${size}px ${this.sans}`;
    const width = Math.min(context.measureText(text).width, 180);
    const [across, y] = middle(link);
    // The head of the arrow stays in sight.
    const x = Math.min(across, link.to.x - ARROW - 8 - width / 2);
    context.fillStyle = colours.sunken;
    context.beginPath();
    context.roundRect(x - width / 2 - 4, y - size / 2 - 2.5, width + 8, size + 5, 4);
    context.fill();
    context.fillStyle = colours.accent;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(this.cut(text, 180), x, y + 0.5);
    context.textAlign = "left";
  }

  box(box, isRoot) {
    const { context, colours, isDownstream } = this;
    const isSelected = this.selected === box;
    const status = this.labels.status(box);
    const isFailed = status === "FAILED";
    context.globalAlpha = this.matches && !this.matches.has(box) ? 0.25 : 1;
    if (this.isFar) {
      context.fillStyle = isFailed ? colours.failed : box.kind === "call" ? colours.accent : colours["ink-3"];
      context.fillRect(box.x, box.y, WIDTH, HEIGHT);
      context.globalAlpha = 1;
      return;
    }
    const radius = box.kind === "value" ? HEIGHT / 2 : RADIUS;
    const edge = isSelected || isRoot ? colours.accent : isFailed ? colours.failed : status === "RUNNING" ? colours.running : box.kind === "call" ? colours["line-strong"] : colours.line;
    if (box.isGroup) for (const step of [6, 3]) this.shape(box.x + step, box.y + step, radius, colours.surface, colours[BEHIND[box.kind]], 1);
    const fill = isSelected ? colours["accent-soft"] : isFailed ? colours["failed-soft"] : colours.surface;
    this.shape(box.x, box.y, radius, fill, edge, isSelected || isRoot ? 2.2 : 1.2);
    if (this.flashes?.has(box.node.hash)) this.shape(box.x - 4, box.y - 4, radius + 3, null, colours.running, 2, 8);
    if (box.kind === "call") this.stripe(box, colours[STRIPES[status]] ?? colours.accent);
    const end = isDownstream ? box.outputs : box.inputs;
    const isEnd = this.isComplete && !end.length && !box.hidden && !isRoot;
    if (this.scale >= NEAR) this.texts(box, isFailed, isEnd);
    else this.headline(box, isEnd);
    if (isEnd) this.ring(isDownstream ? box.x + WIDTH - 14 : box.x + 14, box.y + HEIGHT / 2);
    if (box.hidden) this.hidden(box);
    context.globalAlpha = 1;
  }

  shape(x, y, radius, fill, stroke, width, grow = 0) {
    const { context } = this;
    context.beginPath();
    context.roundRect(x, y, WIDTH + grow, HEIGHT + grow, radius);
    if (fill) {
      context.fillStyle = fill;
      context.fill();
    }
    context.lineWidth = width;
    context.strokeStyle = stroke;
    context.stroke();
  }

  stripe(box, colour) {
    const { context } = this;
    context.beginPath();
    context.roundRect(box.x, box.y, 5, HEIGHT, [RADIUS, 0, 0, RADIUS]);
    context.fillStyle = colour;
    context.fill();
  }

  // Of a text its height in the units of the scene: as it is, or as many pixels on the screen as it takes to be read.
  size(height, pixels) {
    return Math.max(height, pixels / this.scale);
  }

  // Writes a title as large as its room allows, between two sizes; what is too long even so is cut.
  title(text, weight, [least, most], room, x, y) {
    const { context } = this;
    context.font = `${weight} ${most}px ${this.sans}`;
    const part = room / context.measureText(text.slice(0, 300)).width;
    if (part < 1) context.font = `${weight} ${Math.max(least, most * part)}px ${this.sans}`;
    context.fillStyle = this.colours.ink;
    context.textBaseline = "middle";
    context.fillText(most * part < least ? this.cut(text, room) : text, x, y);
  }

  texts(box, isFailed, isEnd) {
    const { context, colours } = this;
    const left = box.x + (box.kind === "value" ? 20 : 15) + (isEnd && !this.isDownstream ? 8 : 0);
    const right = box.x + WIDTH - (box.kind === "value" ? 18 : 11) - (isEnd && this.isDownstream ? 8 : 0);
    const subtitle = this.labels.subtitle(box);
    const [large, small] = this.scale < LEGIBLE ? [9.5, 8] : [11, 9];
    const sizes = [this.size(13, large - 1), this.size(13, large)];
    const below = this.size(11, small);
    const isAlone = !subtitle && !box.isGroup;
    const gap = (HEIGHT - sizes[1] - below) / 3;
    const line = box.y + HEIGHT - gap - below / 2;
    this.title(this.labels.title(box), box.kind === "call" ? 620 : 550, sizes, right - left, left, box.y + (isAlone ? HEIGHT / 2 : gap + sizes[1] / 2));
    const room = right - left - (box.isGroup ? this.badge(box, right, line, this.size(12, small)) + 5 : 0);
    if (!subtitle) return;
    const isArguments = box.kind === "call" && !box.isGroup;
    context.font = `${below}px ${isArguments ? this.mono : this.sans}`;
    context.fillStyle = isFailed && box.isGroup ? colours.failed : colours["ink-2"];
    context.fillText(this.cut(subtitle, room), left, line);
  }

  // From afar: only what it is, as large as it may be.
  headline(box, isEnd) {
    const text = `${this.labels.title(box)}${box.isGroup ? ` ×${box.members.length}` : ""}`;
    // A ring has its room at the end that the walk goes to.
    const room = WIDTH - (isEnd ? 58 : 32);
    const shift = isEnd ? (this.isDownstream ? -11 : 13) : 3;
    this.context.textAlign = "center";
    this.title(text, 600, [18, Math.min(30, this.size(18, 12))], room, box.x + WIDTH / 2 + shift, box.y + HEIGHT / 2 + 1);
    this.context.textAlign = "left";
  }

  // How many there are, on what unfolds them; returns its width.
  badge(box, right, line, size) {
    const { context, colours } = this;
    const text = `×${box.members.length.toLocaleString("en")} +`;
    context.font = `650 ${size}px ${this.sans}`;
    const width = context.measureText(text).width + 10;
    context.beginPath();
    context.roundRect(right - width, line - size / 2 - 3, width, size + 6, size / 2 + 3);
    context.fillStyle = colours["accent-soft"];
    context.fill();
    context.fillStyle = colours.accent;
    context.textAlign = "center";
    context.fillText(text, right - width / 2, line);
    context.textAlign = "left";
    return width;
  }

  // Upstream nothing is recorded before it; downstream nothing followed.
  ring(x, y) {
    const { context, colours } = this;
    context.beginPath();
    context.arc(x, y, 4, 0, Math.PI * 2);
    context.lineWidth = 1.8;
    context.strokeStyle = colours.abandoned;
    context.stroke();
  }

  hidden(box) {
    const { context, colours } = this;
    const size = this.size(11, 9);
    const text = `+${box.hidden}`;
    context.font = `600 ${size}px ${this.sans}`;
    const width = Math.max(36, context.measureText(text).width + 12);
    const x = this.isDownstream ? box.x + WIDTH + 6 : box.x - width - 6;
    context.beginPath();
    context.roundRect(x, box.y + HEIGHT / 2 - 12, width, 24, 12);
    context.fillStyle = colours.accent;
    context.fill();
    context.fillStyle = colours.surface;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(text, x + width / 2, box.y + HEIGHT / 2);
    context.textAlign = "left";
  }

  cut(text, width) {
    const { context } = this;
    const whole = text.length > 300 ? text.slice(0, 300) : text;
    if (context.measureText(whole).width <= width) return whole;
    let low = 0;
    let high = whole.length;
    while (low < high) {
      const at = (low + high + 1) >> 1;
      if (context.measureText(`${whole.slice(0, at)}…`).width <= width) low = at;
      else high = at - 1;
    }
    return `${whole.slice(0, low)}…`;
  }
}

// The points of a line: where it leaves, where it passes between boxes of other columns, where it ends.
export function points({ from, to, route }) {
  const places = [[from.x + WIDTH, from.y + HEIGHT / 2]];
  for (const [x, y] of route) places.push([x, y], [x + WIDTH, y]);
  places.push([to.x - (to.x > from.x ? ARROW : 0), to.y + HEIGHT / 2]);
  return places;
}

function trace(context, link) {
  const places = points(link);
  context.moveTo(...places[0]);
  for (let index = 1; index < places.length; index += 2) {
    const [x, y] = places[index - 1];
    const [toX, toY] = places[index];
    const bend = Math.max(24, Math.abs(toX - x) / 2);
    context.bezierCurveTo(x + bend, y, toX - bend, toY, toX, toY);
    if (places[index + 1]) context.lineTo(...places[index + 1]);
  }
}

export function middle(link) {
  const places = points(link);
  const [x, y] = places[places.length - 2];
  const [toX, toY] = places[places.length - 1];
  return [(x + toX) / 2, (y + toY) / 2];
}

// How far a point is from a line, in the units of the scene; far where it is not near.
export function distance(link, x, y) {
  const places = points(link);
  let best = Infinity;
  for (let index = 1; index < places.length; index += 1) {
    const [fromX, fromY] = places[index - 1];
    const [toX, toY] = places[index];
    if (x < Math.min(fromX, toX) - 8 || x > Math.max(fromX, toX) + 8) continue;
    const part = Math.min(1, Math.max(0, (x - fromX) / (toX - fromX || 1)));
    const eased = index % 2 ? part * part * (3 - 2 * part) : part;
    best = Math.min(best, Math.abs(fromY + (toY - fromY) * eased - y));
  }
  return best;
}
