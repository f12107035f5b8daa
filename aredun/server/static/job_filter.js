// Which jobs of an execution are shown: by status, task and text, as the address says.

import { h, replace, STATUS_TEXT } from "./dom.js";
import { count } from "./format.js";

export const ORDER = ["DONE", "CACHED", "RUNNING", "FAILED", "ABANDONED"];

export class JobFilter {
  constructor(onChange) {
    this.values = { status: "", task: "", text: "" };
    this.status = h("select", { id: "filter-status" });
    this.task = h("select", { id: "filter-task" });
    this.text = h("input", { id: "filter-text", type: "search", autocomplete: "off", spellcheck: "false", placeholder: "Task, argument or id" });
    this.result = h("output", { class: "filter-result", for: "filter-status filter-task filter-text" });
    this.clear = h("button", { class: "button quiet", type: "button", on: { click: () => onChange({ status: "", task: "", text: "" }, true) } }, "Clear");
    const label = (control, text) => h("div", { class: "filter-field" }, h("label", { class: "sr", for: control.id }, text), control);
    this.element = h("form", { class: "filter", role: "search", "aria-label": "Filter the jobs", on: { submit: (event) => event.preventDefault() } },
      label(this.status, "Status"), label(this.task, "Task"), label(this.text, "Part of a task's name or of the arguments, or an id"), this.result, this.clear);
    for (const name of ["status", "task"]) this[name].addEventListener("change", () => onChange({ ...this.values, [name]: this[name].value }, true));
    // Letters make no steps to go back through.
    this.text.addEventListener("input", () => onChange({ ...this.values, text: this.text.value.trim() }, false));
  }

  get isOn() {
    return Object.values(this.values).some(Boolean);
  }

  // Takes what an address says.
  read(query) {
    const status = query.get("status") ?? "";
    this.values = { status: ORDER.includes(status) ? status : "", task: query.get("task") ?? "", text: query.get("text") ?? "" };
    if (this.text.value.trim() !== this.values.text) this.text.value = this.values.text;
  }

  matches(job) {
    const { status, task, text } = this.values;
    const sought = text.toLowerCase();
    return (!status || job.status === status) && (!task || job.task === task)
      && (!sought || (job.task ?? "").toLowerCase().includes(sought) || (job.arguments ?? "").toLowerCase().includes(sought) || job.id.startsWith(sought));
  }

  draw(tasks, found, total) {
    const options = (select, chosen, pairs) => {
      const key = JSON.stringify([chosen, pairs]);
      if (select.dataset.key === key) return;
      select.dataset.key = key;
      replace(select, pairs.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
      select.value = chosen;
    };
    const names = [...new Set([...tasks, this.values.task].filter(Boolean))].sort();
    options(this.status, this.values.status, [["", "Any status"], ...ORDER.map((name) => [name, STATUS_TEXT[name]])]);
    options(this.task, this.values.task, [["", "Any task"], ...names.map((name) => [name, name])]);
    // There may be no room for all of a name.
    this.task.title = this.values.task;
    const text = this.isOn ? `${found.toLocaleString("en")} of ${count(total, "job")}` : "";
    if (this.result.textContent !== text) this.result.textContent = text;
    this.clear.hidden = !this.isOn;
  }
}

// As the end of an address; empty if nothing is chosen.
export function filterQuery(values) {
  const chosen = Object.entries(values).filter(([, value]) => value);
  return chosen.length ? `?${new URLSearchParams(chosen)}` : "";
}
