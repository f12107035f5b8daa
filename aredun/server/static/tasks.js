// Tasks by name, and one of them: how long its jobs took, its versions with their sources, its latest jobs.

import { get, idPath } from "./api.js";
import { copyButton, errorBox, h, notice, replace, statusBadge } from "./dom.js";
import { count, duration, jobSeconds, shorten, shortHash } from "./format.js";
import { bounded, dash, head, showFiltered, showOne, when } from "./histories.js";
import { durationPlot } from "./plot.js";
import { source } from "./record.js";

const SHOWN = 20;

export function taskLink(fullname) {
  return `#/tasks/${encodeURIComponent(fullname)}`;
}

function failedText({ count: number, is_more }) {
  if (!number) return is_more ? dash("Unknown: more jobs failed than were looked at") : h("span", { class: "none" }, "none failed");
  return h("span", { class: "failed-count" }, `${number.toLocaleString("en")}${is_more ? "+" : ""} failed`);
}

function taskRow(task) {
  const why = task.jobs.count ? "Unknown: not among the newest jobs" : "No job of it is recorded";
  return h("li", { class: "history task-row" },
    h("a", { class: "record-name", href: taskLink(task.fullname) }, task.namespace ? h("span", { class: "folder" }, `${task.namespace}.`) : null, task.name),
    h("span", { class: "cell" }, count(task.versions, "version")),
    h("span", { class: "cell" }, bounded(task.jobs, "job")),
    h("span", { class: "cell" }, failedText(task.failed)),
    h("span", { class: "cell" }, when(task.last_run, why, "ran ")));
}

function versionRow(version, isCut, isOpen) {
  const place = h("div");
  const jobs = isCut ? (version.jobs ? `${version.jobs.toLocaleString("en")}+ jobs` : dash("Its jobs were not looked at")) : count(version.jobs, "job");
  const why = isCut ? "Unknown: not all jobs were looked at" : "No job of it is recorded";
  const element = h("details", { class: "task-version" },
    h("summary", {}, h("span", { class: "hash", title: version.hash }, shortHash(version.hash)), h("span", { class: "cell" }, jobs),
      h("span", { class: "cell" }, when(version.first_run, why, "first ran ")), h("span", { class: "cell" }, when(version.last_run, why, "last ran "))),
    place);
  async function load() {
    if (!element.open || place.firstChild) return;
    replace(place, h("p", { class: "sub" }, "Loading…"));
    try {
      const task = await get(`tasks/${version.hash}`);
      replace(place, h("p", { class: "flows" }, h("a", { href: `#/task/${version.hash}` }, "This version"), h("a", { href: `#/dataflow/${version.hash}?direction=downstream` }, "What followed from it")),
        task.source ? source(task.source, task.source_spans) : h("p", { class: "sub" }, "No source is recorded."));
    } catch (error) {
      replace(place, errorBox(error));
    }
  }
  element.addEventListener("toggle", load);
  element.open = isOpen;
  return h("li", {}, element);
}

function jobRow(job) {
  const name = shorten(job.arguments ?? "");
  return h("li", { class: "history latest-row" },
    h("span", { class: "cell" }, statusBadge(job.status)),
    h("a", { class: "record-name mono", href: `#/job/${job.id}`, title: job.arguments }, name || shortHash(job.id)),
    h("span", { class: "cell number" }, duration(jobSeconds(job)) || dash("It has not ended")),
    h("span", { class: "cell" }, when(job.start_time, "", "")));
}

function latestJobs(jobs) {
  if (!jobs.length) return notice("No job of it is recorded", "One appears once a workflow calls it.");
  const list = h("ul", { class: "histories", "aria-label": "Latest jobs, newest first" }, jobs.slice(0, SHOWN).map(jobRow));
  const more = h("div", { class: "more" });
  const showAll = () => { list.append(...jobs.slice(SHOWN).map(jobRow)); more.remove(); };
  if (jobs.length > SHOWN) replace(more, h("button", { class: "button", type: "button", on: { click: showAll } }, `Show all ${jobs.length}`));
  return [list, jobs.length > SHOWN ? more : null];
}

function makeTask(page, task) {
  document.title = `${task.fullname} · aredun`;
  const plot = durationPlot(task.jobs);
  const title = (text) => h("h2", { class: "history-title" }, text);
  replace(page,
    head([h("a", { href: "#/tasks" }, "Tasks"), "›", "task"], task.fullname,
      h("p", { class: "facts" }, count(task.versions.length, "version"), copyButton(task.fullname, "the name"))),
    plot ? [title("How long it took"), plot.element] : null,
    title("Versions"),
    task.is_cut ? h("p", { class: "sub" }, "There are more versions or jobs than were looked at: the numbers are of those that were.") : null,
    h("ul", { class: "histories", "aria-label": "Versions, that which ran last first" }, task.versions.map((version, index) => versionRow(version, task.is_cut, !index))),
    title("Latest jobs"), latestJobs(task.jobs));
  return plot?.close;
}

export function showTasks(main, target) {
  if (target.parts.length) return showOne(main, `task-names/${idPath(target.parts.join("/"))}`, {}, makeTask);
  return showFiltered(main, target, {
    route: "tasks", title: "Tasks", label: "Part of a name", path: "task-names", makeItem: taskRow, none: "No task is called",
    empty: ["No task is recorded", "A task is recorded when it is called for the first time. Run a workflow:", { command: "aredun run workflow.py main" }],
  });
}
