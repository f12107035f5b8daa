// What lists of files and of tasks have in common: a text to filter by, pages, numbers with bounds, dashes.

import { get } from "./api.js";
import { errorBox, h, notice, replace } from "./dom.js";
import { ago, count, fullTime } from "./format.js";

// Stands for what nobody knows; why is in the title.
export function dash(why) {
  return h("span", { class: "none", title: why }, h("span", { "aria-hidden": "true" }, "—"), h("span", { class: "sr" }, why));
}

export function when(time, why, before = "") {
  return time ? h("time", { datetime: time, title: fullTime(time) }, `${before}${ago(time)}`) : [before, dash(why)];
}

// As {count, is_more} of the API.
export function bounded(number, one, many = `${one}s`) {
  return number.is_more ? `${number.count.toLocaleString("en")}+ ${many}` : count(number.count, one, many);
}

export function head(crumbs, title, ...below) {
  return h("div", { class: "head" }, h("div", {}, h("p", { class: "crumbs" }, crumbs.map((part) => h("span", {}, part))), h("h1", {}, title), below));
}

// A list that grows page by page, of what has a text in it; the text stands in the address.
export function showFiltered(main, target, { route, title, label, path, makeItem, empty, none, limit = 50 }) {
  const list = h("ul", { class: "histories", "aria-label": title });
  const more = h("div", { class: "more" });
  const input = h("input", { id: "history-filter", type: "search", autocomplete: "off", spellcheck: "false", placeholder: label, value: target.query.get("text") ?? "" });
  const form = h("form", { class: "history-filter", role: "search", "aria-label": label, on: { submit: (event) => event.preventDefault() } }, h("label", { class: "sr", for: input.id }, label), input);
  let abort = new AbortController();
  let timer = 0;

  function tellEnd(cursor, text) {
    if (cursor) {
      const isNone = !list.children.length;
      return [isNone ? notice(`${none} so far`, "There are more than one page looks at.") : null,
        h("button", { class: "button", type: "button", on: { click: () => load(text, cursor) } }, isNone ? "Look further" : "Show more")];
    }
    if (list.children.length) return null;
    return text ? notice(`${none} “${text}”`, "A part of the name is enough, in capitals or not.") : notice(...empty);
  }

  async function load(text, cursor) {
    abort.abort();
    abort = new AbortController();
    const { signal } = abort;
    try {
      const page = await get(path, { text: text || null, cursor, limit }, signal);
      if (!cursor) replace(list);
      list.append(...page.items.map(makeItem));
      replace(more, tellEnd(page.cursor, text));
    } catch (error) {
      if (error.name !== "AbortError") replace(more, errorBox(error));
    }
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const text = input.value.trim();
      // Letters make no steps to go back through.
      history.replaceState(null, "", `#/${route}${text ? `?${new URLSearchParams({ text })}` : ""}`);
      load(text, null);
    }, 150);
  });
  main.append(h("div", { class: "page" }, h("div", { class: "head" }, h("div", {}, h("h1", {}, title)), form), list, more));
  document.title = `${title} · aredun`;
  load(input.value.trim(), null);
  return { close: () => { clearTimeout(timer); abort.abort(); } };
}

// A page of what one address answers.
export function showOne(main, path, parameters, makePage) {
  const page = h("div", { class: "page" }, h("p", { class: "sub" }, "Loading…"));
  const abort = new AbortController();
  let close = null;
  main.append(page);
  get(path, parameters, abort.signal).then((found) => { close = makePage(page, found) ?? null; })
    .catch((error) => { if (error.name !== "AbortError") replace(page, errorBox(error)); });
  return { close: () => { abort.abort(); close?.(); } };
}
