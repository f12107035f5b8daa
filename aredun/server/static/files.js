// Files by path: when each was written and by what, and all versions of one.

import { breakable, copyButton, h, replace } from "./dom.js";
import { shortHash } from "./format.js";
import { bounded, dash, head, showFiltered, showOne, when } from "./histories.js";

const NOT_MADE = "Unknown: no recorded call returned it";

export function fileLink(path) {
  return `#/file?${new URLSearchParams({ path })}`;
}

// The job that wrote it; where that is not recorded, its call.
function makerLink({ job, task, call_hash }) {
  if (!call_hash) return ["by ", dash(NOT_MADE)];
  return ["by ", h("a", { href: job ? `#/job/${job.id}` : `#/call/${call_hash}`, title: job?.arguments ? `${task}(${job.arguments})` : task }, task)];
}

// The folder matters less than the name.
function pathText(path) {
  const at = path.replace(/\/+$/, "").lastIndexOf("/") + 1;
  return [at ? h("span", { class: "folder" }, breakable(path.slice(0, at))) : null, path.slice(at)];
}

function fileRow(file) {
  return h("li", { class: "history file-row" },
    h("a", { class: "record-name", href: fileLink(file.path) }, pathText(file.path)),
    h("span", { class: "cell" }, bounded(file.versions, "version")),
    h("span", { class: "cell" }, when(file.written, NOT_MADE, "written ")),
    h("span", { class: "cell maker" }, makerLink(file)));
}

export function showFiles(main, target) {
  return showFiltered(main, target, {
    route: "files", title: "Files", label: "Part of a path", path: "files", makeItem: fileRow, none: "No path has",
    empty: ["No file is recorded", "Files that tasks take or return as aredun.File stand here, each with the calls that made it and used it.", { links: [["Look at the tasks", "#/tasks"]] }],
  });
}

function versionRow(version) {
  const size = version.stored_size === null ? dash("Unknown: the record is in the value store") : `record of ${version.stored_size.toLocaleString("en")} B`;
  const taken = version.readers.count
    ? h("a", { href: `#/dataflow/${version.value_hash}?direction=downstream`, title: "What followed from it" }, `read by ${bounded(version.readers, "job")}`)
    : h("span", {}, "read by no job");
  return h("li", { class: "history version-row" },
    h("a", { class: "hash", href: `#/value/${version.value_hash}`, title: version.value_hash }, shortHash(version.value_hash)),
    h("span", { class: "cell" }, when(version.written, NOT_MADE, "written ")),
    h("span", { class: "cell maker" }, makerLink(version)),
    h("span", { class: "cell" }, taken),
    h("span", { class: "cell", title: "What redun records of a file; it does not record the file's own size" }, size));
}

export function showFile(main, target) {
  const path = target.query.get("path") ?? "";
  return showOne(main, "file-versions", { path }, (page, file) => {
    document.title = `${file.path} · aredun`;
    const shown = file.versions.length;
    replace(page,
      head([h("a", { href: "#/files" }, "Files"), "›", "file"], breakable(file.path),
        h("p", { class: "facts" }, bounded(file.total, "version"), copyButton(file.path, "the path"))),
      h("h2", { class: "history-title" }, file.total.is_more || shown < file.total.count ? `The ${shown} versions written last` : "Versions"),
      h("ul", { class: "histories", "aria-label": "Versions, that written last first" }, file.versions.map(versionRow)));
  });
}
