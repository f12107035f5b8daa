// Thousands of lines take longer to draw than a frame lasts: a worker draws them, and the page shows its latest picture
// where the lines are by now.

// From so many lines on.
const MANY = 300;
// What lies beside what is in sight, in pixels: it comes into sight while the next picture is made.
const MARGIN = 200;
const HEAD = 6;

// Lines as numbers: what a worker is given, it is given at once.
function encode(links) {
  let size = 0;
  for (const { route } of links) size += HEAD + 2 * route.length;
  const numbers = new Float32Array(size);
  let at = 0;
  for (const { from, to, count, route } of links) {
    numbers[at] = from.x;
    numbers[at + 1] = from.y;
    numbers[at + 2] = to.x;
    numbers[at + 3] = to.y;
    numbers[at + 4] = count;
    numbers[at + 5] = route.length;
    at += HEAD;
    for (const [x, y] of route) {
      numbers[at] = x;
      numbers[at + 1] = y;
      at += 2;
    }
  }
  return numbers;
}

export function decode(numbers) {
  const links = [];
  for (let at = 0; at < numbers.length;) {
    const [x, y, toX, toY, count, bends] = numbers.subarray(at, at + HEAD);
    at += HEAD;
    const route = [];
    for (let bend = 0; bend < bends; bend += 1, at += 2) route.push([numbers[at], numbers[at + 1]]);
    links.push({ from: { x, y }, to: { x: toX, y: toY }, count, route });
  }
  return links;
}

function isSame(one, other) {
  return one.length === other.length && one.every((number, index) => number === other[index]);
}

export class LineLayer {
  constructor(onReady) {
    this.onReady = onReady;
    this.margin = MARGIN;
    this.picture = null;
    this.asked = null;
    this.isWaiting = false;
    this.isBroken = false;
  }

  takes(number) {
    return number > MANY && !this.isBroken;
  }

  // `groups` of lines, each with its colour; `scale`, `ratio` and `sight` as the canvas has them.
  draw(context, groups, { scale, ratio, sight }) {
    if (!this.isWaiting) this.ask(groups, scale, ratio, sight);
    if (!this.picture) return;
    const { bitmap, left, top, width, height } = this.picture;
    context.drawImage(bitmap, left, top, width, height);
  }

  ask(groups, scale, ratio, sight) {
    const beside = MARGIN / scale;
    const place = { left: sight.left - beside, top: sight.top - beside, width: sight.right - sight.left + 2 * beside, height: sight.bottom - sight.top + 2 * beside };
    const key = JSON.stringify([place, scale, ratio, groups.map(({ links, ...look }) => look)]);
    const lines = groups.map(({ links }) => encode(links));
    if (this.asked?.key === key && lines.every((numbers, index) => isSame(numbers, this.asked.lines[index]))) return;
    this.asked = { key, lines };
    this.isWaiting = true;
    this.start();
    this.worker.postMessage({ place, scale, ratio, groups: groups.map(({ links, ...look }, index) => ({ ...look, numbers: lines[index] })) });
  }

  start() {
    if (this.worker) return;
    this.worker = new Worker(new URL("lines_worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => {
      this.picture?.bitmap.close();
      this.picture = data;
      this.isWaiting = false;
      this.onReady();
    };
    // Then the page draws them itself, however long it takes.
    this.worker.onerror = () => {
      this.isBroken = true;
      this.onReady();
    };
  }

  close() {
    this.worker?.terminate();
    this.picture?.bitmap.close();
  }
}
