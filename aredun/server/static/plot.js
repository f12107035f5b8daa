// How long the latest jobs of a task took, over time: one mark a job, coloured where it failed or was cached.

import { h, replace, svg, STATUS_TEXT } from "./dom.js";
import { count, duration, fullTime } from "./format.js";
import { chooseStep, tickText } from "./timeline.js";

const HEIGHT = 190;
const EDGE = { top: 12, right: 12, bottom: 26, left: 58 };
// A shape besides the colour.
const MARKS = {
  FAILED: (x, y) => svg("path", { d: `M${x - 4} ${y - 4} L${x + 4} ${y + 4} M${x + 4} ${y - 4} L${x - 4} ${y + 4}`, "stroke-width": 2, stroke: "currentColor" }),
  CACHED: (x, y) => svg("circle", { cx: x, cy: y, r: 3.5, fill: "none", "stroke-width": 1.6, stroke: "currentColor" }),
  DONE: (x, y) => svg("circle", { cx: x, cy: y, r: 3.5, fill: "currentColor" }),
};

// As short as the stretch of time allows: two of them stand side by side on a phone.
function getTimes(first, last) {
  const day = { month: "short", day: "numeric" };
  const clock = { hour: "numeric", minute: "2-digit" };
  const span = (last - first) / 1000;
  const format = new Intl.DateTimeFormat(undefined, span > 300 * 86400 ? { ...day, year: "numeric" } : span > 120 ? { ...day, ...clock } : { ...clock, second: "2-digit" });
  return [first, last].map((time) => format.format(new Date(time)));
}

function getMedian(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// What the plot shows, in words.
export function describe(jobs) {
  const ran = jobs.filter((job) => job.status !== "CACHED").map((job) => job.duration);
  const number = (status) => jobs.filter((job) => job.status === status).length;
  const words = [`${count(jobs.length, "latest job")} that ended`];
  if (ran.length) words.push(`median ${duration(getMedian(ran))}`, `longest ${duration(Math.max(...ran))}`);
  for (const status of ["FAILED", "CACHED"]) if (number(status)) words.push(`${number(status)} ${STATUS_TEXT[status].toLowerCase()}`);
  return words.join(", ");
}

function draw(place, jobs, width) {
  const times = jobs.map((job) => Date.parse(job.start_time));
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const [begin, end] = getTimes(first, last);
  const longest = Math.max(...jobs.map((job) => job.duration), 0.001);
  const step = chooseStep(longest, 240);
  const top = Math.ceil(longest / step) * step;
  const [right, bottom] = [width - EDGE.right, HEIGHT - EDGE.bottom];
  const x = (time) => (last > first ? EDGE.left + 6 + ((time - first) / (last - first)) * (right - EDGE.left - 12) : (EDGE.left + right) / 2);
  const y = (seconds) => bottom - (seconds / top) * (bottom - EDGE.top);
  const lines = Array.from({ length: Math.round(top / step) + 1 }, (_, index) => index * step);
  // What is coloured lies on top.
  const order = [...jobs].sort((a, b) => (a.status === "DONE" ? 0 : 1) - (b.status === "DONE" ? 0 : 1));
  replace(place, svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-labelledby": "plot-title plot-text" },
    svg("title", { id: "plot-title" }, "Durations of the latest jobs over time"),
    svg("desc", { id: "plot-text" }, `${describe(jobs)}, from ${fullTime(new Date(first))} to ${fullTime(new Date(last))}. The jobs are listed below.`),
    lines.map((seconds) => [
      svg("line", { class: "plot-line", x1: EDGE.left, x2: right, y1: y(seconds), y2: y(seconds) }),
      svg("text", { x: EDGE.left - 8, y: y(seconds) + 4, "text-anchor": "end" }, tickText(seconds, step)),
    ]),
    last > first
      ? [svg("text", { x: EDGE.left, y: HEIGHT - 6 }, begin), svg("text", { x: right, y: HEIGHT - 6, "text-anchor": "end" }, end)]
      : svg("text", { x: (EDGE.left + right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, fullTime(new Date(first))),
    order.map((job) => svg("g", { class: "mark", data: { status: job.status } },
      svg("title", {}, `${STATUS_TEXT[job.status] ?? job.status}, ${duration(job.duration)}, ${fullTime(job.start_time)}`),
      MARKS[job.status in MARKS ? job.status : "DONE"](x(Date.parse(job.start_time)), y(job.duration))))));
}

// Returns the figure and what ends its watching of the window's width; null where no job has ended.
export function durationPlot(all) {
  const jobs = all.filter((job) => job.duration !== null && job.duration >= 0);
  if (!jobs.length) return null;
  const place = h("div", { class: "plot-place" });
  const kinds = Object.keys(MARKS).filter((status) => jobs.some((job) => job.status === status));
  const key = kinds.map((status) => h("span", { class: "mark", data: { status } },
    svg("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, MARKS[status](6, 6)), STATUS_TEXT[status]));
  const element = h("figure", { class: "plot" }, place, h("figcaption", {}, h("span", {}, describe(jobs)), kinds.length > 1 ? h("span", { class: "plot-key" }, key) : null));
  let drawn = 0;
  const observer = new ResizeObserver(() => {
    const width = Math.floor(place.clientWidth);
    if (width && width !== drawn) draw(place, jobs, drawn = width);
  });
  observer.observe(place);
  return { element, close: () => observer.disconnect() };
}
