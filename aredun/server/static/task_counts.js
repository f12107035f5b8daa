// How many jobs there are, by status and by task: numbers that lead to those jobs.

import { h, STATUS_TEXT } from "./dom.js";
import { ORDER } from "./job_filter.js";

// `counts` as the API has them: [{task, counts: {STATUS: number}}].
export function countTable(counts, link) {
  const totals = sumCounts(counts);
  const present = ORDER.filter((status) => totals[status]);
  const number = (value, values) => h("td", { data: values.status ? { status: values.status } : {} },
    value ? h("a", { href: link(values), "aria-label": describe(value, values) }, value.toLocaleString("en")) : h("span", { class: "none" }, "0"));
  const row = (name, task, byStatus) => h("tr", {},
    h("th", { scope: "row" }, task ? h("a", { href: link({ task }) }, name) : name),
    present.map((status) => number(byStatus[status], task ? { task, status } : { status })),
    number(Object.values(byStatus).reduce((sum, value) => sum + value, 0), task ? { task } : {}));
  return h("div", { class: "counts", tabindex: 0, role: "region", "aria-label": "Jobs by task and status" }, h("table", {},
    h("caption", { class: "sr" }, "Jobs by task and status"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Task"), present.map((status) => h("th", { scope: "col" }, STATUS_TEXT[status])), h("th", { scope: "col" }, "Total"))),
    h("tbody", {}, counts.map((item) => row(item.task, item.task, item.counts))),
    h("tfoot", {}, row("All tasks", "", totals))));
}

function describe(value, { task, status }) {
  return [value.toLocaleString("en"), status ? STATUS_TEXT[status].toLowerCase() : "jobs", task ? `of ${task}` : "in all"].join(" ");
}

export function sumCounts(counts) {
  const totals = {};
  for (const item of counts) for (const [status, value] of Object.entries(item.counts)) totals[status] = (totals[status] ?? 0) + value;
  return totals;
}

export function progressBar(counts, link) {
  const present = ORDER.filter((status) => counts[status]);
  const total = present.reduce((sum, status) => sum + counts[status], 0);
  return [
    h("div", { class: "progress-bar", role: "img", "aria-label": present.map((status) => `${counts[status]} ${STATUS_TEXT[status]}`).join(", ") },
      present.map((status) => h("span", { data: { status }, style: { "flex-grow": String(counts[status] / total) } }))),
    h("p", { class: "progress-text" }, present.map((status) => h("a", { data: { status }, href: link(status) }, h("b", {}, counts[status].toLocaleString("en")), ` ${STATUS_TEXT[status].toLowerCase()}`))),
  ];
}
