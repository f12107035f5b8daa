// In what calls differ: why a job ran again, and two executions side by side.

import { get } from "./api.js";
import { errorBox, h, replace, statusBadge, STATUS_TEXT } from "./dom.js";
import { ago, count, duration, fullTime, jobSeconds, shortHash } from "./format.js";
import { ORDER } from "./job_filter.js";

const CAUSES = {
  first: "It ran for the first time: no execution before has called its task.",
  no_call: "It has led to no call yet: ask again when it has ended.",
  changed: "",
  cached: "It did not run: the same call was recorded before, and its result was taken from the cache.",
  no_cache: "Nothing changed: the execution was run with --no-cache.",
  earlier_failed: "Nothing changed: the earlier call failed, and failures are not taken from the cache.",
  result_gone: "Nothing changed but the file that was its result: it was no longer what the earlier call had left.",
  below: "Nothing of its own changed: calls that it made ran again.",
  unknown: "Nothing recorded tells the calls apart: the task may not be cached, a file in its result may have been gone, or the earlier call had not ended yet.",
};
const ELEMENTS = { same: "span", removed: "del", added: "ins" };
const SIGNS = { same: " ", removed: "−", added: "+" };

// The text before and after, one below the other; what they do not share is marked in each.
function pieces(list) {
  const line = (kind) => h("span", { class: `diff-line ${kind}` }, `${SIGNS[kind]} `, list.filter((piece) => piece.kind === "same" || piece.kind === kind).map((piece) => h(ELEMENTS[piece.kind], {}, piece.text)), "\n");
  return h("p", { class: "diff mono" }, line("removed"), line("added"));
}

function sourceDiff(list) {
  return h("pre", { class: "diff", tabindex: 0, "aria-label": "What changed in the source" }, list.map((piece) => h(ELEMENTS[piece.kind], { class: `diff-line ${piece.kind}` }, `${SIGNS[piece.kind]} ${piece.text}\n`)));
}

function fileChanges(files, whose = "File") {
  return files.map((file) => h("p", {}, `${whose} `, h("span", { class: "mono" }, file.path), " has other contents: ",
    h("a", { class: "mono", href: `#/value/${file.before}` }, shortHash(file.before)), " → ", h("a", { class: "mono", href: `#/value/${file.after}` }, shortHash(file.after))));
}

function argumentChange(argument, link, verb) {
  const what = argument.before === null ? "is new" : argument.after === null ? "is gone"
    : argument.before === argument.after ? "is given by position in one call, by keyword in the other" : verb;
  return h("li", {}, h("p", {}, "Argument ", h("b", { class: "mono" }, argument.name), ` ${what}`),
    argument.before === argument.after ? null : pieces(argument.pieces), fileChanges(argument.files),
    argument.origin ? h("p", { class: "sub" }, "It is the result of ", h("a", { href: link(argument.origin.job_id) }, argument.origin.task), ".") : null);
}

function taskChange(task) {
  const { before_version: before, after_version: after } = task;
  const isOther = before !== after;
  return h("li", {},
    isOther ? h("p", {}, "The version of the task changed: ", h("b", { class: "mono" }, before ?? "none"), " → ", h("b", { class: "mono" }, after ?? "none")) : null,
    task.source.length ? [h("p", {}, "The source of the task changed"), sourceDiff(task.source)]
      : isOther ? null : h("p", {}, "The task has another hash with the same source: its name or its options changed."));
}

export function changeList(change, link, verb = "changed") {
  return h("ul", { class: "changes" }, change.task ? taskChange(change.task) : null,
    change.arguments.map((argument) => argumentChange(argument, link, verb)),
    change.result_files.length ? h("li", {}, fileChanges(change.result_files, "File of the result")) : null);
}

// Stands in a job's details and is filled once the server has looked.
export function whyPart(job, link) {
  const part = h("section", { class: "part why", "aria-label": "Why did it run?" });
  get(`jobs/${encodeURIComponent(job.id)}/why`).then(({ cause, change, below }) => {
    if (cause === "no_call") { part.remove(); return; }
    replace(part, h("h3", {}, job.cached ? "Why did it not run?" : "Why did it run?"),
      CAUSES[cause] ? h("p", {}, CAUSES[cause]) : null,
      cause === "changed" && job.cached ? h("p", {}, "Its result was taken from the cache: this very call was recorded before.") : null,
      change && cause === "first" ? [h("p", { class: "sub" }, "Of this execution, ", h("a", { href: link(change.before.job_id) }, "the call before it that is most like it"), ":"), changeList(change, link, "differs")] : null,
      change && !["cached", "first"].includes(cause) ? [h("p", { class: "sub" }, "Compared with ", h("a", { href: `#/job/${change.before.job_id}` }, "the earlier call that is most like it"), `, ${ago(change.before.start_time)}:`), changeList(change, link)] : null,
      below.length ? h("ul", { class: "changes" }, below.map((call) => h("li", {}, h("a", { href: link(call.job_id) }, call.task)))) : null);
  }).catch(() => part.remove());
  return part;
}

function sideCard(title, execution, sides) {
  const counts = {};
  for (const side of sides) for (const [status, number] of Object.entries(side.counts)) counts[status] = (counts[status] ?? 0) + number;
  return h("section", { class: "side", "aria-label": title }, h("h2", {}, title),
    h("p", { class: "title-line" }, h("a", { href: `#/execution/${execution.id}` }, execution.task ?? "Execution"), statusBadge(execution.status)),
    h("p", { class: "sub mono" }, execution.args),
    h("p", { class: "facts", title: fullTime(execution.start_time) }, [duration(jobSeconds(execution)), ago(execution.start_time)].filter(Boolean).join(" · ")),
    h("p", { class: "progress-text" }, ORDER.filter((status) => counts[status]).map((status) => h("span", { data: { status } }, h("b", {}, counts[status].toLocaleString("en")), ` ${STATUS_TEXT[status].toLowerCase()}`))));
}

function ran(side) {
  return Object.entries(side.counts).reduce((sum, [status, number]) => sum + (status === "CACHED" ? 0 : number), 0);
}

function taskTable(tasks) {
  const numbers = (side) => [ran(side), side.counts.CACHED ?? 0].map((number) => h("td", {}, number ? number.toLocaleString("en") : h("span", { class: "none" }, "0")));
  const seconds = (side) => h("td", {}, side.seconds ? duration(side.seconds) : h("span", { class: "none" }, "–"));
  return h("div", { class: "counts both-counts", tabindex: 0, role: "region", "aria-label": "Both executions by task" }, h("table", {},
    h("caption", { class: "sr" }, "What ran, what was cached and how long it took, in both executions"),
    h("thead", {},
      h("tr", {}, h("th", { scope: "col", rowspan: 2 }, "Task"), h("th", { scope: "colgroup", colspan: 3 }, "Before"), h("th", { scope: "colgroup", colspan: 3 }, "After")),
      h("tr", {}, [0, 1].map(() => ["Ran", "Cached", "Time"].map((text) => h("th", { scope: "col" }, text))))),
    h("tbody", {}, tasks.map((task) => h("tr", {}, h("th", { scope: "row" }, task.task), numbers(task.before), seconds(task.before), numbers(task.after), seconds(task.after))))));
}

function taskChanges(task, link) {
  const only = (title, calls) => calls.map((call) => h("li", {}, `${title}: `, h("a", { href: link(call.job_id) }, `job ${shortHash(call.job_id)}`)));
  const changed = task.changed.length + task.more_changed;
  const parts = [[task.same, "the same"], [changed, "changed"]].filter(([number]) => number).map(([number, text]) => `${number.toLocaleString("en")} ${text}`);
  if (!changed && !task.only_before.length && !task.only_after.length) return null;
  return h("section", { class: "part" }, h("h3", {}, [task.task, ...parts].join(" · ")),
    task.changed.map((change) => h("article", { class: "pair" },
      h("p", { class: "sub" }, h("a", { href: link(change.before.job_id) }, `job ${shortHash(change.before.job_id)}`), " → ", h("a", { href: link(change.after.job_id) }, `job ${shortHash(change.after.job_id)}`)),
      change.arguments.length || change.task || change.result_files.length ? changeList(change, link) : h("p", {}, "The same arguments and source; another result, or other calls below."))),
    task.more_changed ? h("p", { class: "sub" }, `${task.more_changed.toLocaleString("en")} more changed: 'aredun diff' has all.`) : null,
    h("ul", {}, only("Only before", task.only_before), only("Only after", task.only_after)),
    task.more_only ? h("p", { class: "sub" }, `${count(task.more_only, "more call")} in one execution only.`) : null);
}

export function showComparison(main, target) {
  const page = h("div", { class: "page" }, h("p", { class: "sub" }, "Loading…"));
  const abort = new AbortController();
  const [before, after] = target.parts;
  main.append(page);
  document.title = "Two executions · aredun";
  get(`executions/${encodeURIComponent(before)}/compare/${encodeURIComponent(after ?? "-")}`, {}, abort.signal).then((found) => {
    // `-` and the beginning of an id may stand for another execution tomorrow.
    history.replaceState(null, "", `#/compare/${found.before.id}/${found.after.id}`);
    const link = (id) => `#/job/${id}`;
    const changes = found.tasks.map((task) => taskChanges(task, link)).filter(Boolean);
    replace(page,
      h("div", { class: "head" }, h("div", {}, h("p", { class: "crumbs" }, h("a", { href: "#/executions" }, "Executions"), "›"), h("h1", {}, "Two executions side by side")),
        h("a", { class: "button", href: `#/compare/${found.after.id}/${found.before.id}` }, "Swap")),
      h("div", { class: "sides" }, sideCard("Before", found.before, found.tasks.map((task) => task.before)), sideCard("After", found.after, found.tasks.map((task) => task.after))),
      taskTable(found.tasks),
      h("section", { class: "part" }, h("h2", {}, "What changed"), changes.length ? changes : h("p", { class: "sub" }, "All calls are the same in both.")));
  }).catch((error) => { if (error.name !== "AbortError") replace(page, errorBox(error)); });
  return { close: () => abort.abort() };
}
