// What the row of a job shows, in the tree and in the timeline.

import { h, statusBadge, STATUS_TEXT, svg } from "./dom.js";
import { duration, jobSeconds, shortHash, shorten } from "./format.js";

function indent(depth, step = 18) {
  return h("span", { class: "indent", style: { width: `${Math.min(depth, 14) * step}px` } });
}

function twist(row, onToggle) {
  return h("span", { class: "twist", "aria-hidden": "true", on: { click: (event) => { event.stopPropagation(); onToggle(); } } },
    svg("svg", { viewBox: "0 0 12 12", width: 12, height: 12 }, svg("path", { d: row.isOpen ? "M2.500 4 L6 8 L9.500 4" : "M4 2.500 L8 6 L4 9.500", fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round" })));
}

export function treeCells(row, onToggle) {
  const { job } = row;
  return [indent(row.depth), row.hasChildren ? twist(row, onToggle) : h("span", { class: "twist" }), taskName(job), h("span", { class: "row-hash hash" }, shortHash(job.id)),
    h("span", { class: "row-duration" }, duration(jobSeconds(job))), statusBadge(job.status)];
}

// `timeline` where the jobs shall be seen in time.
export function foldRow(row, onToggle, timeline = null) {
  const counts = {};
  for (const job of row.jobs) counts[job.status] = (counts[job.status] ?? 0) + 1;
  const text = row.isOpen ? `Fold ${row.task}` : `${row.jobs.length.toLocaleString("en")} more ${row.task}`;
  const name = h("span", { class: "row-name", title: text }, text);
  const numbers = Object.entries(counts).map(([status, number]) => h("span", { class: "fold-count", data: { status } }, `${number} ${STATUS_TEXT[status].toLowerCase()}`));
  return h("div", { class: "row fold-row", role: "treeitem", "aria-level": row.depth + 1, on: { click: onToggle } },
    timeline ? [h("span", { class: "lane-name" }, indent(row.depth, 12), h("span", { class: "twist" }), name), timeline.laneOf(row.jobs)]
      : [indent(row.depth), h("span", { class: "twist" }), name, numbers]);
}

export function laneCells(row, timeline, onToggle) {
  const { job } = row;
  return [h("span", { class: "lane-name" }, indent(row.depth, 12), row.hasChildren ? twist(row, onToggle) : h("span", { class: "twist" }), taskName(job)), timeline.lane(job)];
}

// The namespace is mostly the same all the way down: it steps back behind the name.
function taskName(job) {
  const parts = (job.task ?? "job").split(".");
  const name = parts.pop();
  // Only what has ended has led to a call.
  const call = job.arguments === null ? "" : `(${job.arguments})`;
  return h("span", { class: "row-name", title: `${job.task ?? "job"}${call}` },
    parts.length ? h("span", { class: "namespace" }, `${parts.join(".")}.`) : null, name, call ? h("span", { class: "row-arguments" }, shorten(call)) : null);
}
