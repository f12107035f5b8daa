// The list of executions: newest first, live.

import { Changes, get } from "./api.js";
import { errorBox, h, notice, replace, statusBadge, STATUS_TEXT, tagList } from "./dom.js";
import { ago, duration, fullTime, jobSeconds } from "./format.js";

const RUN = "aredun run workflow.py main";
const STATUSES = ["RUNNING", "DONE", "FAILED", "ABANDONED"];

function makeRow(execution, choose) {
  const seconds = jobSeconds(execution);
  return h("li", { class: "run", data: { id: execution.id, status: execution.status } },
    h("a", { class: "run-link", href: `#/execution/${execution.id}` },
      h("span", { class: "run-status" }, statusBadge(execution.status)),
      h("span", { class: "run-what" },
        h("span", { class: "run-task" }, execution.task ?? "No task recorded"),
        h("span", { class: "run-args mono", title: execution.args }, execution.args)),
      h("span", { class: "run-time" },
        h("span", { class: "run-duration", data: execution.status === "RUNNING" ? { since: execution.start_time } : {} }, duration(seconds)),
        h("time", { datetime: execution.start_time ?? "", title: fullTime(execution.start_time) }, ago(execution.start_time)))),
    tagList(execution.tags.filter((tag) => !tag.key.startsWith("redun.") && tag.key !== "user")),
    h("label", { class: "run-pick", title: "Compare this execution with another one" }, h("input", { type: "checkbox", "aria-label": `Compare ${execution.task ?? "execution"} ${execution.id.slice(0, 8)}`, checked: choose.picked.includes(execution.id), on: { change: (event) => choose(execution.id, event.target.checked) } })));
}

export function showExecutions(main, target) {
  const status = STATUSES.includes(target.query.get("status")) ? target.query.get("status") : null;
  const list = h("ul", { class: "runs", "aria-label": "Executions, newest first" });
  const more = h("div", { class: "more" });
  const empty = h("div");
  const rows = new Map();
  let cursor = null;
  const compare = h("div", { class: "compare-bar", role: "status" });
  // Of three the first gives way: two are compared.
  function choose(id, isOn) {
    choose.picked = [...choose.picked.filter((other) => other !== id), ...(isOn ? [id] : [])].slice(-2);
    for (const box of list.querySelectorAll(".run-pick input")) box.checked = choose.picked.includes(box.closest(".run").dataset.id);
    const started = (one) => rows.get(one)?.execution.start_time ?? "";
    const [before, after] = [...choose.picked].sort((a, b) => (started(a) < started(b) ? -1 : 1));
    replace(compare, after ? h("a", { class: "button primary", href: `#/compare/${before}/${after}` }, "Compare these two") : before ? "Choose another execution to compare with." : null);
  }
  choose.picked = [];
  const filters = h("nav", { class: "segments", "aria-label": "Filter by status" },
    [null, ...STATUSES].map((name) => h("a", {
      href: name ? `#/executions?status=${name}` : "#/executions", "aria-current": name === status ? "true" : null,
    }, name ? STATUS_TEXT[name] : "All")));
  replace(main, h("div", { class: "page" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Executions")), filters), compare, empty, list, more));
  document.title = "Executions · aredun";

  function put(execution, atTop) {
    const old = rows.get(execution.id);
    const fits = !status || execution.status === status;
    if (old) {
      // Changes tell no tags: those that were loaded stay.
      if (!execution.tags.length) execution.tags = old.execution.tags;
      if (!fits) { old.row.remove(); rows.delete(execution.id); } else {
        const row = makeRow(execution, choose);
        if (old.row.contains(document.activeElement)) requestAnimationFrame(() => row.firstChild.focus());
        old.row.replaceWith(row);
        rows.set(execution.id, { execution, row });
      }
    } else if (fits) {
      const row = makeRow(execution, choose);
      if (atTop) { row.classList.add("new"); list.prepend(row); } else list.append(row);
      rows.set(execution.id, { execution, row });
    }
    showEmpty();
  }

  function showEmpty() {
    replace(empty, rows.size ? null : status
      ? notice(status === "FAILED" ? "No execution has failed" : `No execution is ${STATUS_TEXT[status].toLowerCase()}`, "This list is live: one that is appears here.", { links: [["Show all executions", "#/executions"]] })
      : notice("Nothing has run yet", "As soon as a workflow starts, it appears here. Run one where this repository is:", { command: RUN }));
  }

  // Changes tell no tags, and those of a run may be written after its start.
  async function addTags(id) {
    const known = rows.get(id)?.execution;
    if (!known || known.tags.length) return;
    const { items } = await get("tags", { entity_type: "Execution", entity_id: id });
    if (items.length && rows.has(id)) put({ ...rows.get(id).execution, tags: items }, true);
  }

  async function loadMore() {
    try {
      const page = await get("executions", { cursor, status: status ?? [], limit: 50 });
      page.items.forEach((execution) => put(execution, false));
      setCursor(page.cursor);
      showEmpty();
    } catch (error) {
      replace(more, errorBox(error));
    }
  }

  function setCursor(next) {
    cursor = next;
    replace(more, cursor ? h("button", { class: "button", on: { click: loadMore } }, "Show older executions") : null);
  }

  const changes = new Changes("ws/executions", (message) => {
    if (message.type === "snapshot") {
      rows.clear();
      replace(list);
      if (status) loadMore();
      else { message.executions.forEach((execution) => put(execution, false)); setCursor(message.next); showEmpty(); }
    } else if (message.type === "execution") {
      put(message.execution, true);
      addTags(message.execution.id);
    }
  });
  const timer = setInterval(() => {
    for (const element of list.querySelectorAll("[data-since]")) {
      element.textContent = duration((Date.now() - Date.parse(element.dataset.since)) / 1000);
    }
  }, 1000);
  return { close() { changes.close(); clearInterval(timer); } };
}
