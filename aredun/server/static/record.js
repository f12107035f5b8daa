// One record with what belongs to it, as a page of its own and in the panels of other views.

import { get, idPath } from "./api.js";
import { codeLines } from "./code.js";
import { breakable, copyButton, errorBox, h, notice, replace, statusBadge, tagList } from "./dom.js";
import { whyPart } from "./differences.js";
import { failureParts, markedLines } from "./failures.js";
import { recordId, recordLink, recordTitle } from "./search.js";
import { ago, duration, fullTime, jobSeconds, shorten, shortHash } from "./format.js";

function section(title, ...content) {
  const shown = content.flat(Infinity).filter((item) => item !== null && item !== undefined && item !== false);
  return shown.length ? h("section", { class: "part" }, h("h3", {}, title), shown) : null;
}

function facts(pairs) {
  return h("dl", { class: "facts-list" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function valueLink(value) {
  return h("a", { class: "value", href: `#/value/${value.value_hash}` },
    h("span", { class: "preview mono" }, value.preview ?? "not readable"),
    h("span", { class: "value-type" }, value.value_type));
}

function identifier(text, what) {
  return [h("span", { class: "mono" }, text), copyButton(text, what)];
}

export function source(text, spans = [], marked = new Set()) {
  if (!text) return null;
  const whole = text.replace(/\n$/, "");
  const raw = whole.split("\n");
  const lines = codeLines(whole, spans).map((line, index) => (marked.has(raw[index].trim())
    ? h("mark", { title: "The traceback goes through here" }, line, "\n") : [line, "\n"]));
  return h("details", { class: "source", open: text.length < 6000 }, h("summary", {}, "Source of the task"),
    copyButton(text, "the source"), h("pre", { class: "code", tabindex: 0 }, lines));
}

function flows(id) {
  return h("p", { class: "flows" },
    h("a", { class: "button", href: `#/dataflow/${id}` }, "Where it comes from"),
    h("a", { class: "button", href: `#/dataflow/${id}?direction=downstream` }, "What followed from it"));
}

function callParts(call) {
  return [
    section("Arguments", call.arguments.map((argument) => h("div", { class: "argument" }, h("span", { class: "argument-name mono" }, argument.name), valueLink(argument.value)))),
    section("Result", call.result && call.result.value_type !== "redun.ErrorValue" ? valueLink(call.result) : null),
  ];
}

function neighbours(title, calls) {
  return section(title, calls.length ? h("ul", { class: "links" }, calls.map((call) => h("li", {}, h("a", { href: `#/call/${call.call_hash}` }, call.task), h("span", { class: "hash" }, shortHash(call.call_hash))))) : null);
}

const SHOWN_BELOW = 20;

// Is filled once the page stands.
function below(job, link) {
  const part = h("section", { class: "part", "aria-label": "Jobs below it" });
  get(`jobs/${encodeURIComponent(job.id)}/children`, { limit: SHOWN_BELOW }).then(({ items, cursor }) => {
    replace(part, h("h3", {}, cursor ? `Jobs below it, the newest ${SHOWN_BELOW}` : "Jobs below it"),
      items.length ? h("ul", { class: "links" }, [...items].reverse().map((child) => h("li", {}, h("a", { href: link(child.id) }, `${child.task ?? "job"}${child.arguments === null ? "" : `(${shorten(child.arguments)})`}`), statusBadge(child.status))))
        : job.status === "RUNNING" ? notice("It has called no other task yet", "Jobs appear in the tree as they start.", { links: [["Watch the job tree", `#/execution/${job.execution_id}/tree/${job.id}`]] })
          : notice("It called no other task", job.cached ? "Its result was taken from the cache." : "What it did, it did in its own code.", { links: job.call_hash ? [["What followed from it", `#/dataflow/${job.call_hash}?direction=downstream`]] : [] }),
      cursor ? h("p", {}, h("a", { class: "button", href: `#/execution/${job.execution_id}/tree/${job.id}` }, "All in the job tree")) : null);
  }).catch(() => part.remove());
  return part;
}

function jobDetails(job, link) {
  return [
    h("p", { class: "crumbs" }, [...job.ancestors].reverse().map((ancestor) => [h("a", { href: link(ancestor.id) }, ancestor.task), h("span", {}, "›")]), h("span", {}, "job")),
    h("h2", {}, job.task ?? "Job"),
    h("p", { class: "facts" }, statusBadge(job.status), h("span", {}, duration(jobSeconds(job)))),
    failureParts(job, link),
    job.call_hash ? whyPart(job, link) : null,
    job.call ? h("p", { class: "flows" }, h("a", { class: "button", href: `#/dataflow/${job.call.call_hash}` }, "Dataflow")) : null,
    job.status === "RUNNING" ? h("p", { class: "flows" }, h("a", { class: "button", href: `#/dataflow/${job.id}?direction=inside` }, "Watch its graph grow")) : null,
    job.call ? callParts(job.call) : h("p", { class: "sub" }, job.status === "RUNNING" ? "It has not ended yet: arguments and result are recorded then." : "It led to no call."),
    below(job, link),
    section("Tags", tagList([...job.tags, ...(job.call?.tags ?? [])])),
    section("Context", Object.keys(job.context ?? {}).length ? h("pre", {}, JSON.stringify(job.context, null, 2)) : null),
    facts([
      ["Started", fullTime(job.start_time)], ["Ended", fullTime(job.end_time)],
      ["Execution", h("a", { class: "mono", href: `#/execution/${job.execution_id}/tree/${job.id}` }, shortHash(job.execution_id))],
      ["Task", h("a", { class: "mono", href: `#/task/${job.task_hash}` }, shortHash(job.task_hash))],
      ["Call", job.call_hash ? h("a", { class: "mono", href: `#/call/${job.call_hash}` }, shortHash(job.call_hash)) : null],
      ["Job", identifier(job.id, "the id")],
    ]),
    source(job.source, job.source_spans, markedLines(job)),
  ];
}

function callDetails(call) {
  return [
    h("p", { class: "crumbs" }, "call"), h("h2", {}, call.task), flows(call.call_hash), callParts(call),
    section("Tags", tagList(call.tags)),
    facts([["Recorded", fullTime(call.timestamp)], ["Task", h("a", { class: "mono", href: `#/task/${call.task_hash}` }, shortHash(call.task_hash))], ["Call", identifier(call.call_hash, "the hash")]]),
    source(call.source, call.source_spans), neighbours("Called by", call.parents), neighbours("Calls", call.children),
  ];
}

function valueDetails(value) {
  return [
    h("p", { class: "crumbs" }, value.path ? "file" : "value"), h("h2", {}, value.path ? breakable(value.path) : value.value_type), flows(value.value_hash), value.path ? h("p", {}, h("a", { href: `#/file?${new URLSearchParams({ path: value.path })}` }, "All versions of this file")) : null,
    section("What it looks like", h("pre", { class: "wrap", tabindex: 0 }, value.preview ?? "not readable")),
    section("Tags", tagList(value.tags)),
    section(value.used_as === "arg" ? "Given to" : "Made by", value.job ? h("p", { class: "facts" }, statusBadge(value.job.status), h("a", { href: `#/job/${value.job.id}` }, value.job.task), ago(value.job.start_time)) : null),
    facts([["Type", value.value_type], ["Format", value.format], ["Value", identifier(value.value_hash, "the hash")]]),
  ];
}

function taskDetails(task) {
  return [
    h("p", { class: "crumbs" }, "task"), h("h2", {}, task.fullname),
    h("p", { class: "flows" }, h("a", { class: "button", href: `#/dataflow/${task.hash}?direction=downstream` }, "What followed from it"), h("a", { class: "button", href: `#/tasks/${encodeURIComponent(task.fullname)}` }, "All versions and jobs")),
    section("Tags", tagList(task.tags)), facts([["Version", identifier(task.hash, "the hash")]]), source(task.source, task.source_spans),
  ];
}

const DETAILS = { Job: jobDetails, CallNode: callDetails, Value: valueDetails, Task: taskDetails };

// `link` says where other jobs are shown: on their own pages, or in the view that the details stand in.
export function makeDetails(record, link = (jobId) => `#/job/${jobId}`) {
  return h("article", { class: "details" }, DETAILS[record.type](record, link));
}

const PATHS = { job: "jobs", call: "call-nodes", value: "values", task: "tasks" };

export async function loadDetails(kind, id, signal) {
  return get(`${PATHS[kind]}/${idPath(id)}`, {}, signal);
}

export function showRecord(main, target) {
  const page = h("div", { class: "page record" }, h("p", { class: "sub" }, "Loading…"));
  const abort = new AbortController();
  main.append(page);
  loadDetails(target.name, target.parts.join("/"), abort.signal).then((record) => {
    replace(page, makeDetails(record));
    document.title = `${record.task ?? record.fullname ?? record.path ?? record.value_type} · aredun`;
  }).catch((error) => { if (error.name !== "AbortError") replace(page, errorBox(error)); });
  return { close: () => abort.abort() };
}

function showList(main, { title, path, parameters, makeItem, empty }) {
  const list = h("ul", { class: "records", "aria-label": title });
  const more = h("div", { class: "more" });
  const abort = new AbortController();
  let cursor = null;
  async function load() {
    try {
      const page = await get(path, { ...parameters, cursor, limit: 100 }, abort.signal);
      list.append(...page.items.map(makeItem));
      cursor = page.cursor;
      replace(more, cursor ? h("button", { class: "button", on: { click: load } }, "Show more") : list.children.length ? null : notice(...empty));
    } catch (error) {
      if (error.name !== "AbortError") replace(more, errorBox(error));
    }
  }
  main.append(h("div", { class: "page" }, h("div", { class: "head" }, h("div", {}, h("h1", {}, title))), list, more));
  document.title = `${title} · aredun`;
  load();
  return { close: () => abort.abort() };
}

export function showTagged(main, target) {
  const tag = target.query.get("tag") ?? "";
  return showList(main, {
    title: `Tagged ${tag}`, path: "query", parameters: { tag }, empty: ["Nothing carries this tag", "Executions, jobs, calls, tasks and values carry tags. Give one of them this tag by its id:", { command: `aredun tag add ID '${tag.replaceAll("'", "'\\''")}'`, links: [["All executions", "#/executions"]] }],
    makeItem: (record) => h("li", {}, h("a", { href: recordLink(record) },
      h("span", { class: "record-name" }, recordTitle(record)), h("span", { class: "hash" }, `${record.type} ${shortHash(recordId(record))}`))),
  });
}
