// What the row of a job shows, in the tree and in the timeline.

import { h, statusBadge, STATUS_TEXT, svg } from "./dom.js";
import { duration, jobSeconds, shortHash } from "./format.js";

function indent(depth) {
  return h("span", { class: "indent", style: { width: `${Math.min(depth, 14) * 18}px` } });
}

export function treeCells(row, onToggle) {
  const { job } = row;
  const twist = row.hasChildren
    ? h("span", { class: "twist", "aria-hidden": "true", on: { click: (event) => { event.stopPropagation(); onToggle(); } } },
      svg("svg", { viewBox: "0 0 12 12", width: 12, height: 12 }, svg("path", { d: row.isOpen ? "M2.500 4 L6 8 L9.500 4" : "M4 2.500 L8 6 L4 9.500", fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round" })))
    : h("span", { class: "twist" });
  return [indent(row.depth), twist, taskName(job), h("span", { class: "row-hash hash" }, shortHash(job.id)),
    h("span", { class: "row-duration" }, duration(jobSeconds(job))), statusBadge(job.status)];
}

export function foldRow(row, onToggle) {
  const counts = {};
  for (const job of row.jobs) counts[job.status] = (counts[job.status] ?? 0) + 1;
  const text = row.isOpen ? `Fold ${row.task}` : `${row.jobs.length.toLocaleString("en")} more ${row.task}`;
  return h("div", { class: "row fold-row", role: "treeitem", "aria-level": row.depth + 1, on: { click: onToggle } },
    indent(row.depth), h("span", { class: "twist" }), h("span", { class: "row-name" }, text),
    Object.entries(counts).map(([status, number]) => h("span", { class: "fold-count", data: { status } }, `${number} ${STATUS_TEXT[status].toLowerCase()}`)));
}

export function laneCells(job, span) {
  const whole = span.end - span.begin;
  const begin = (Date.parse(job.start_time) - span.begin) / whole;
  const end = job.end_time ? (Date.parse(job.end_time) - span.begin) / whole : job.status === "RUNNING" ? 1 : begin;
  const text = duration(jobSeconds(job));
  const label = h("span", { class: "bar-text" }, text ? `${text} · ${STATUS_TEXT[job.status]}` : STATUS_TEXT[job.status]);
  const bar = h("span", { class: "bar-span", data: { status: job.status }, style: { left: `${begin * 100}%`, width: `${Math.max(end - begin, 0) * 100}%` } });
  label.style.setProperty(end > 0.7 ? "right" : "left", end > 0.7 ? `calc(${(1 - begin) * 100}% + 6px)` : `calc(${end * 100}% + 8px)`);
  if (end > 0.7 && begin < 0.3) { label.style.removeProperty("right"); label.style.setProperty("left", `calc(${begin * 100}% + 8px)`); label.classList.add("inside"); }
  return [taskName(job), h("span", { class: "lane" }, bar, label)];
}

// The namespace is mostly the same all the way down: it steps back behind the name.
function taskName(job) {
  const parts = (job.task ?? "job").split(".");
  const name = parts.pop();
  // Only what has ended has led to a call.
  const call = job.arguments === null ? "" : `(${job.arguments})`;
  return h("span", { class: "row-name", title: `${job.task ?? "job"}${call}` },
    parts.length ? h("span", { class: "namespace" }, `${parts.join(".")}.`) : null, name, call ? h("span", { class: "row-arguments" }, call) : null);
}
