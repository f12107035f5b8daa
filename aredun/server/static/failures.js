// What failed: the error, the lines that it was raised in, the jobs that it came through, and the other failures.

import { get } from "./api.js";
import { codeLines } from "./code.js";
import { copyButton, h, replace } from "./dom.js";
import { shortTask } from "./format.js";

export function errorTitle(failure) {
  return h("p", { class: "failure-title" }, failure.error_type ? h("strong", {}, failure.error_type) : null, h("span", { class: "failure-text" }, failure.message));
}

// The jobs from one that failed down to the one that raised the error.
export function failurePath(path, link) {
  return h("ol", { class: "failure-path" }, path.map((job, index) => h("li", {},
    index ? h("span", { "aria-hidden": "true" }, "›") : null,
    h("a", { href: link(job.id), title: job.task, class: index === path.length - 1 ? "at-fault" : null }, shortTask(job.task) || "job"))));
}

function frameLine(frame, link) {
  const where = `${frame.filename}${frame.lineno === null ? "" : `:${frame.lineno}`}`;
  return h("li", {},
    h("p", { class: "frame-where" }, frame.job_id ? h("a", { href: link(frame.job_id) }, frame.name) : h("span", { class: "mono" }, frame.name),
      h("span", { class: "hash" }, where)),
    frame.line ? h("code", { class: "frame-line code" }, codeLines(frame.line, frame.line_spans)) : null,
    frame.variables.length ? h("dl", { class: "frame-variables mono" }, frame.variables.map((item) => [h("dt", {}, item.name), h("dd", {}, item.text)])) : null);
}

// As Python writes it.
function tracebackText(failure) {
  const frames = failure.frames.map((frame) => `  File "${frame.filename}", line ${frame.lineno ?? "?"}, in ${frame.name}\n${frame.line ? `    ${frame.line}\n` : ""}`);
  if (failure.frames_left_out) frames.splice(failure.frames.length / 2, 0, `  … ${failure.frames_left_out} more lines\n`);
  return `Traceback (most recent call last):\n${frames.join("")}${[failure.error_type, failure.message].filter(Boolean).join(": ")}\n`;
}

function traceback(failure, link) {
  if (!failure.frames.length) return null;
  const half = failure.frames.length / 2;
  const lines = failure.frames.map((frame) => frameLine(frame, link));
  if (failure.frames_left_out) lines.splice(half, 0, h("li", { class: "sub" }, `… ${failure.frames_left_out.toLocaleString("en")} more lines`));
  return h("section", { class: "part" }, h("h3", {}, "Traceback, raised in the last line", copyButton(tracebackText(failure), "the traceback")), h("ol", { class: "frames" }, lines));
}

// The error of a job, above what else there is to say of it.
export function failureParts(job, link) {
  const { failure } = job;
  if (!failure) return null;
  return h("section", { class: "failure", "aria-label": "Failure" },
    errorTitle(failure),
    failure.path.length > 1 ? h("div", { class: "failure-by" }, h("span", {}, "Raised below:"), failurePath(failure.path, link)) : null,
    traceback(failure, link),
    failure.logs.length ? h("section", { class: "part" }, h("h3", {}, "Its last lines of output"), h("pre", { tabindex: 0 }, failure.logs.join("\n"))) : null,
    nextFailed(job, link));
}

// Looks for the others once the page stands: in a large execution that takes a while.
function nextFailed(job, link) {
  const nav = h("nav", { class: "next-failed", "aria-label": "Failures of this execution" });
  get(`jobs/${encodeURIComponent(job.id)}/next-failed`).then((found) => {
    const step = (id, text) => (id && id !== job.id ? h("a", { class: "button", href: link(id) }, text) : null);
    replace(nav,
      found.number ? h("span", { class: "sub" }, `Failure ${found.number.toLocaleString("en")} of ${found.total.toLocaleString("en")}`) : null,
      step(found.previous_id, "Previous failed"), step(found.next_id, "Next failed"));
  }).catch(() => nav.remove());
  return nav;
}

// Lines of the task's source that the traceback goes through.
export function markedLines(job) {
  const frames = job.failure?.path.length === 1 ? job.failure.frames : [];
  return new Set(frames.filter((frame) => frame.line && frame.name === shortTask(job.task)).map((frame) => frame.line));
}

export function failureBanner(failure, link) {
  const cause = failure.path[failure.path.length - 1];
  return h("section", { class: "failure banner", "aria-label": "Why it failed" },
    errorTitle(failure),
    h("div", { class: "failure-by" }, failurePath(failure.path, link), cause ? h("a", { class: "button", href: link(cause.id) }, "Show the job at fault") : null));
}
