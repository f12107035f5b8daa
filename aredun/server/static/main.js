// Routes: every view has an address of its own after the #.

import { ensureSession } from "./api.js";
import { errorBox, h, replace } from "./dom.js";
import { showExecutions } from "./executions.js";
import { showComparison } from "./differences.js";
import { showExecution } from "./execution.js";
import { showDataflow } from "./dataflow.js";
import { showFile, showFiles } from "./files.js";
import { showRecord, showTagged } from "./record.js";
import { setUpSearch } from "./search.js";
import { showTasks } from "./tasks.js";
import { setUpTheme } from "./theme.js";

const main = document.getElementById("main");
let leave = null;
let shown = "";

const VIEWS = {
  executions: { show: showExecutions, nav: "executions" },
  execution: { show: showExecution, nav: "executions" },
  compare: { show: showComparison, nav: "executions" },
  dataflow: { show: showDataflow, nav: "" },
  tasks: { show: showTasks, nav: "tasks" },
  files: { show: showFiles, nav: "files" },
  file: { show: showFile, nav: "files" },
  tagged: { show: showTagged, nav: "" },
  task: { show: showRecord, nav: "tasks" },
  job: { show: showRecord, nav: "executions" },
  call: { show: showRecord, nav: "" },
  value: { show: showRecord, nav: "files" },
};

function parseRoute() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...parts] = path.split("/").map((part) => {
    try { return decodeURIComponent(part); } catch { return part; }
  });
  return { name: VIEWS[name] ? name : "executions", parts, query: new URLSearchParams(query) };
}

function route() {
  const target = parseRoute();
  // A view may take over changes within it, such as another tab or another selected record.
  const inner = target.name === "dataflow" ? target.parts.join("/") + (target.query.get("direction") ?? "") : target.name === "compare" ? target.parts.join("/") : target.parts[0] ?? target.query.toString();
  const key = `${target.name}/${inner}`;
  if (key === shown && leave?.update) {
    leave.update(target);
    return;
  }
  leave?.close?.();
  shown = key;
  const view = VIEWS[target.name];
  for (const link of document.querySelectorAll("[data-nav]")) {
    if (link.dataset.nav === view.nav) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  replace(main);
  document.body.dataset.view = target.name;
  document.title = "aredun";
  leave = view.show(main, target) ?? null;
}

function fail(error) {
  if (error?.name === "AbortError") return;
  main.prepend(h("div", { class: "page" }, errorBox(error)));
}

addEventListener("unhandledrejection", (event) => fail(event.reason));
addEventListener("hashchange", () => { if (shown) route(); });
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
setUpSearch();
setUpTheme();
ensureSession().then(route);
