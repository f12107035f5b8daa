// The search box: ids by their beginning; names of tasks, paths, tags and arguments by any part.

import { get } from "./api.js";
import { h, replace } from "./dom.js";
import { shorten, shortHash } from "./format.js";

const KINDS = { Execution: "Execution", Job: "Job", CallNode: "Call", Task: "Task", Value: "Value" };

export function recordLink(record) {
  switch (record.type) {
    case "Execution": return `#/execution/${record.id}`;
    case "Job": return `#/job/${record.id}`;
    case "CallNode": return `#/call/${record.call_hash}`;
    case "Task": return `#/task/${record.hash}`;
    default: return `#/value/${record.value_hash}`;
  }
}

export function recordTitle(record) {
  switch (record.type) {
    case "Execution": return record.task ?? record.args;
    case "Job": return record.task ?? "Job";
    case "CallNode": return record.task;
    case "Task": return record.fullname;
    default: return record.path ?? record.preview ?? record.value_type;
  }
}

export function recordId(record) {
  return record.id ?? record.call_hash ?? record.hash ?? record.value_hash;
}

const NARROW = matchMedia("(max-width: 720px)");

// A text with the part marked that fits; what is cut off before that is told by three dots.
function markPart(text, sought) {
  const found = new RegExp(sought.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "iu").exec(text);
  if (!found) return text;
  const end = found.index + found[0].length;
  // So many letters are in sight at least.
  const begin = Math.min(found.index, Math.max(0, end - (NARROW.matches ? 17 : 26)));
  // Half of a letter is none.
  const before = text.slice(begin, found.index).replace(/^[\uDC00-\uDFFF]/, "");
  return [begin ? "…" : null, before, h("mark", {}, text.slice(found.index, end)), text.slice(end)];
}

// Of a file among arguments the name is shown, unless its folder is what fits.
function markReason(text, sought) {
  const parts = [shorten(text), text.replace(/\s+/g, " ")].map((shown) => markPart(shown, sought));
  return parts.find(Array.isArray) ?? parts[0];
}

// Ids are found by their beginning.
function markId(id, sought) {
  const length = id.startsWith(sought) ? Math.min(sought.length, shortHash(id).length) : 0;
  return length ? [h("mark", {}, id.slice(0, length)), shortHash(id).slice(length)] : shortHash(id);
}

export function setUpSearch() {
  const form = document.querySelector(".search");
  const input = document.getElementById("search");
  const list = document.getElementById("found");
  let chosen = -1;
  let abort = null;
  let timer = 0;

  function hide() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    chosen = -1;
  }

  function open(link) {
    hide();
    input.value = "";
    input.blur();
    location.hash = link;
  }

  function choose(number) {
    const items = [...list.querySelectorAll("[data-link]")];
    chosen = items.length ? (number + items.length) % items.length : -1;
    items.forEach((item, index) => item.setAttribute("aria-selected", String(index === chosen)));
    if (chosen >= 0) {
      input.setAttribute("aria-activedescendant", items[chosen].id);
      items[chosen].scrollIntoView({ block: "nearest" });
    }
  }

  // What to do instead; it leads on as hits do.
  function nothing(text) {
    const steps = [["Browse the tasks", "#/tasks"], ["Browse the files", "#/files"], ["Browse the executions", "#/executions"]];
    return [
      h("li", { role: "presentation" }, h("span", { class: "kind" }, "Nothing"), h("span", { class: "what" }, `fits “${text}”`),
        h("span", { class: "hint" }, "Ids are found by their beginning; tasks, paths, tags, users and arguments by any part.")),
      steps.map(([name, link], index) => option(index, link, h("span", { class: "kind" }, index ? "" : "Instead"), h("span", { class: "what" }, name))),
    ];
  }

  function option(index, link, ...content) {
    return h("li", { id: `found-${index}`, role: "option", "aria-selected": "false", data: { link }, on: { mousedown: (event) => { event.preventDefault(); open(link); } } }, content);
  }

  function show({ hits, bound }, text) {
    const items = hits.map(({ record, because }, index) => option(index, recordLink(record),
      h("span", { class: "kind" }, record.path ? "File" : KINDS[record.type]),
      h("span", { class: "what", title: recordTitle(record) }, markPart(recordTitle(record), text)),
      h("span", { class: "which hash" }, markId(recordId(record), text)),
      because ? h("span", { class: "because", title: because }, markReason(because, text)) : null));
    const note = bound ? [h("li", { class: "bound", role: "presentation" }, bound)] : [];
    replace(list, items.length ? items : nothing(text), note);
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    // What to do instead is only done by whoever chooses it.
    chosen = -1;
    input.removeAttribute("aria-activedescendant");
    if (items.length) choose(0);
  }

  async function look() {
    abort?.abort();
    const text = input.value.trim();
    if (!text) { hide(); return; }
    abort = new AbortController();
    try {
      show(await get("search", { text, limit: 8 }, abort.signal), text);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }

  const invite = () => { input.placeholder = NARROW.matches ? "Find anything" : "Find an id, task, path, tag, user"; };
  NARROW.addEventListener("change", invite);
  invite();
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, 150);
  });
  input.addEventListener("blur", hide);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { event.preventDefault(); choose(chosen + 1); }
    else if (event.key === "ArrowUp") { event.preventDefault(); choose(chosen - 1); }
    else if (event.key === "Escape") { hide(); input.blur(); }
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clearTimeout(timer);
    if (list.hidden) await look();
    const link = list.querySelectorAll("[data-link]")[chosen]?.dataset.link;
    if (link) open(link);
  });
  addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
    if ((event.key === "/" && !typing) || (event.key === "k" && (event.ctrlKey || event.metaKey))) {
      event.preventDefault();
      input.focus();
    }
  });
}
