// The timeline of an execution: which stretch of time is in sight, its round ticks, and bars of jobs in it.

import { h, replace, STATUS_TEXT } from "./dom.js";
import { duration, jobSeconds } from "./format.js";

// Steps between ticks in seconds: 1, 2, 5 below a minute, then what clocks have.
const STEPS = [
  ...[-6, -5, -4, -3, -2, -1, 0, 1].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power)).filter((step) => step <= 20), 30,
  60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 432000, 864000,
];
const TICK_ROOM = 80;
const LEAST = 0.05;
const STEP_FACTOR = 1.6;
// More bars in one lane cannot be told apart.
const MAX_PIECES = 120;
// How wide a letter beside a bar is at most, in pixels.
const LETTER = 7.2;

export function chooseStep(seconds, width) {
  const most = Math.max(3, Math.floor(width / TICK_ROOM));
  return STEPS.find((step) => seconds / step <= most) ?? 10 ** Math.ceil(Math.log10(seconds / most));
}

// As long as the step asks for: 250 ms, 1.5 s, 2 min 30 s, 3 h, 1 d 12 h.
export function tickText(seconds, step) {
  if (!seconds) return "0";
  if (seconds < 60) {
    if (step < 0.1 && seconds < 1) return `${Number((seconds * 1000).toPrecision(6))} ms`;
    return `${Number(seconds.toFixed(6))} s`;
  }
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [0, "s"]];
  let rest = Math.round(seconds * 1e6) / 1e6;
  const words = [];
  for (const [size, unit] of parts) {
    const number = size ? Math.floor(rest / size) : Number(rest.toFixed(6));
    rest -= number * size;
    if (number) words.push(`${number} ${unit}`);
  }
  return words.join(" ");
}

export class Timeline {
  constructor(rows, onChange) {
    this.rows = rows;
    this.onChange = onChange;
    this.span = { begin: 0, end: 1 };
    // What is in sight of the span; null for all of it.
    this.window = null;
    // The seconds that an address asks for, until it is known when they were.
    this.asked = null;
    this.stopDrag = null;
    this.ticks = h("div", { class: "ticks", "aria-hidden": "true" });
    this.mark = h("span", { class: "stretch", hidden: true });
    this.shown = h("output", { class: "sr" });
    const button = (text, label, action) => h("button", { class: "button quiet", type: "button", "aria-label": label, title: label, on: { click: action } }, text);
    this.whole = button("All", "Show the whole time (0)", () => this.show(null));
    this.element = h("div", { class: "axis", role: "group", "aria-label": "Time: wheel here or Ctrl and wheel or two fingers zoom, dragging here chooses a stretch, dragging below moves" },
      h("div", { class: "axis-tools" }, button("−", "Zoom out (-)", () => this.zoom(STEP_FACTOR)), button("+", "Zoom in (+)", () => this.zoom(1 / STEP_FACTOR)), this.whole),
      h("div", { class: "axis-line" }, this.ticks, this.mark), this.shown);
    this.line = this.element.querySelector(".axis-line");
    this.line.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    rows.addEventListener("wheel", (event) => { if (this.isShown && (event.ctrlKey || event.metaKey || event.shiftKey || event.deltaX)) this.wheel(event); }, { passive: false });
    this.line.addEventListener("pointerdown", (event) => this.drag(event, false));
    rows.addEventListener("pointerdown", (event) => { if (this.isShown && this.window && event.target.closest(".lane")) this.drag(event, true); });
    for (const place of [this.element, rows]) place.addEventListener("touchstart", (event) => this.pinch(event), { passive: false });
  }

  // Takes what an address says: the seconds from the start between which the time in sight lies.
  read(query) {
    const [from, to] = ["from", "to"].map((name) => Number.parseFloat(query.get(name)));
    this.asked = { from, to: from >= 0 && to > from ? to : null };
  }

  // As an address says it.
  get values() {
    const { window, span } = this;
    if (this.asked) return this.asked.to === null ? {} : { from: String(this.asked.from), to: String(this.asked.to) };
    const [from, to] = window ? [window.begin, window.end].map((time) => Number(((time - span.begin) / 1000).toFixed(5))) : [];
    return window ? { from: String(from), to: String(to) } : {};
  }

  settle() {
    const { from, to } = this.asked;
    const begin = this.span.begin + from * 1000;
    this.asked = null;
    this.window = to === null ? null : this.fit({ begin, end: this.span.begin + to * 1000 });
  }

  get isShown() {
    return !this.element.hidden;
  }

  get view() {
    return this.window ?? this.span;
  }

  show(window) {
    this.window = window && this.fit(window);
    this.onChange();
  }

  fit(window) {
    const { begin, end } = this.span;
    const size = Math.max(window.end - window.begin, LEAST);
    const first = Math.min(Math.max(window.begin, begin), Math.max(begin, end - size));
    return size >= end - begin ? null : { begin: first, end: first + size };
  }

  // `at` is where in sight the time stays that is there, from 0 to 1.
  zoom(factor, at = 0.5) {
    const { begin, end } = this.view;
    const fixed = begin + (end - begin) * at;
    const size = Math.max((end - begin) * factor, LEAST);
    this.show({ begin: fixed - size * at, end: fixed + size * (1 - at) });
  }

  move(part) {
    if (!this.window) return;
    const by = (this.window.end - this.window.begin) * part;
    this.show({ begin: this.window.begin + by, end: this.window.end + by });
  }

  // Where along the axis something is, from 0 to 1: beside it, too, if that is asked for.
  place({ clientX }, isBeside = false) {
    const { left, width } = this.line.getBoundingClientRect();
    const at = (clientX - left) / width;
    return { at: isBeside ? at : Math.min(Math.max(at, 0), 1), width };
  }

  wheel(event) {
    event.preventDefault();
    const { at, width } = this.place(event);
    const along = event.shiftKey && !event.deltaX ? event.deltaY : event.deltaX;
    if (!event.ctrlKey && !event.metaKey && Math.abs(along) > (event.shiftKey ? 0 : Math.abs(event.deltaY))) this.move(along / width);
    else this.zoom(1.0018 ** event.deltaY, at);
  }

  // The times below two fingers stay below them.
  pinch(event) {
    if (!this.isShown || event.touches.length !== 2) return;
    this.stopDrag?.();
    const { begin, end } = this.view;
    const places = ({ touches }) => [...touches].map((touch) => this.place(touch, true).at);
    const times = places(event).map((at) => begin + (end - begin) * at);
    const moved = (next) => {
      // The page is neither scrolled nor made larger.
      next.preventDefault();
      const [one, other] = places(next);
      const size = (times[1] - times[0]) / (other - one);
      if (size > 0 && size < Infinity) this.show({ begin: times[0] - size * one, end: times[0] + size * (1 - one) });
    };
    // What was touched hears of it, even if its row is drawn anew meanwhile.
    const pinch = new AbortController();
    const { signal } = pinch;
    for (const { target } of event.touches) {
      target.addEventListener("touchmove", moved, { passive: false, signal });
      for (const end of ["touchend", "touchcancel"]) target.addEventListener(end, () => pinch.abort(), { signal });
    }
  }

  // On the axis a stretch is chosen, on the bars the time in sight is moved.
  drag(event, isMove) {
    if (event.button || !event.isPrimary) return;
    const from = this.place(event).at;
    const view = { ...this.view };
    const time = (at) => view.begin + (view.end - view.begin) * at;
    let to = from;
    const moved = (next) => {
      to = this.place(next).at;
      if (isMove) { this.show({ begin: time(from - to), end: time(1 + from - to) }); return; }
      this.mark.hidden = false;
      this.mark.style.left = `${Math.min(from, to) * 100}%`;
      this.mark.style.width = `${Math.abs(to - from) * 100}%`;
    };
    const ended = (last) => {
      this.stopDrag = null;
      removeEventListener("pointermove", moved);
      removeEventListener("pointerup", ended);
      removeEventListener("pointercancel", ended);
      this.mark.hidden = true;
      const isFar = Math.abs(to - from) > 0.01 && last?.type === "pointerup";
      if (isFar && !isMove) this.show({ begin: time(Math.min(from, to)), end: time(Math.max(from, to)) });
      // Whoever let go over a bar did not mean to choose its job.
      if (isFar && isMove && event.pointerType === "mouse") addEventListener("click", (click) => click.stopPropagation(), { capture: true, once: true });
    };
    this.stopDrag = ended;
    addEventListener("pointermove", moved);
    addEventListener("pointerup", ended);
    addEventListener("pointercancel", ended);
    event.preventDefault();
  }

  handleKey(event) {
    const actions = {
      "+": () => this.zoom(1 / STEP_FACTOR), "=": () => this.zoom(1 / STEP_FACTOR), "-": () => this.zoom(STEP_FACTOR), 0: () => this.show(null),
      ArrowLeft: event.shiftKey ? () => this.move(-0.2) : null, ArrowRight: event.shiftKey ? () => this.move(0.2) : null,
    };
    if (!this.isShown || event.ctrlKey || event.metaKey || !actions[event.key]) return false;
    actions[event.key]();
    return true;
  }

  draw(span) {
    this.span = span;
    if (this.asked && Number.isFinite(span.begin)) this.settle();
    const { begin, end } = this.view;
    // The bars lie beside the scroll bar, the ticks above them have none.
    this.element.style.setProperty("--scroll", `${this.rows.offsetWidth - this.rows.clientWidth}px`);
    const seconds = (end - begin) / 1000;
    const offset = (begin - span.begin) / 1000;
    const step = chooseStep(seconds, this.line.clientWidth || 600);
    const first = Math.ceil(offset / step - 1e-9);
    const last = Math.floor((offset + seconds) / step + 1e-9);
    const ticks = [];
    for (let number = first; number <= last; number += 1) {
      const left = (number * step - offset) / seconds;
      ticks.push(h("span", { class: left < 0.03 ? "at-start" : left > 0.95 ? "at-end" : null, style: { left: `${left * 100}%` } }, tickText(number * step, step)));
    }
    replace(this.ticks, ticks);
    this.rows.style.setProperty("--tick-first", `${((first * step - offset) / seconds) * 100}%`);
    this.rows.style.setProperty("--tick-step", `${(step / seconds) * 100}%`);
    this.whole.disabled = !this.window;
    const text = this.window ? `From ${duration(offset)} to ${duration(offset + seconds)}` : "";
    if (this.shown.textContent !== text) this.shown.textContent = text;
  }

  // From where to where a job lies in what is in sight, from 0 to 1; null if it does not.
  extent(job) {
    const { begin, end } = this.view;
    const whole = end - begin;
    const from = (Date.parse(job.start_time) - begin) / whole;
    const to = job.end_time ? (Date.parse(job.end_time) - begin) / whole : job.status === "RUNNING" ? (this.span.end - begin) / whole : from;
    return to < 0 || from > 1 ? null : { from, to };
  }

  lane(job) {
    const place = this.extent(job);
    if (!place) return h("span", { class: "lane" });
    const from = Math.max(place.from, 0);
    const to = Math.min(place.to, 1);
    const time = duration(jobSeconds(job));
    const said = job.status === "DONE" ? time : [time, STATUS_TEXT[job.status]].filter(Boolean).join(" · ");
    const label = this.label(said, from, to) ?? this.label(time, from, to);
    if (label?.classList.contains("inside")) label.dataset.status = job.status;
    return h("span", { class: "lane" }, bar(job.status, from, to), label);
  }

  // Beside the bar, in it or before it: where there is room for a text, null if nowhere.
  label(text, from, to) {
    const width = this.line.clientWidth;
    const room = text.length * LETTER + 20;
    const element = h("span", { class: "bar-text" }, text);
    if ((1 - to) * width >= room) element.style.left = `calc(${to * 100}% + 6px)`;
    else if ((to - from) * width >= room) { element.style.left = `calc(${from * 100}% + 6px)`; element.classList.add("inside"); }
    else if (from * width >= room) element.style.right = `calc(${(1 - from) * 100}% + 6px)`;
    else return null;
    return element;
  }

  // Many jobs in one lane: what overlaps is one bar, and failures lie above.
  laneOf(jobs) {
    const pieces = [];
    for (const status of ["DONE", "CACHED", "ABANDONED", "RUNNING", "FAILED"]) {
      const places = jobs.filter((job) => job.status === status).map((job) => this.extent(job)).filter(Boolean).sort((a, b) => a.from - b.from);
      const merged = [];
      for (const { from, to } of places) {
        const before = merged[merged.length - 1];
        if (before && from <= before.to + 1 / MAX_PIECES) before.to = Math.max(before.to, to);
        else merged.push({ from, to });
      }
      pieces.push(...merged.map((piece) => bar(status, Math.max(piece.from, 0), Math.min(piece.to, 1))));
    }
    return h("span", { class: "lane lane-of-many" }, pieces);
  }
}

function bar(status, from, to) {
  return h("span", { class: "bar-span", data: { status }, style: { left: `${from * 100}%`, width: `${Math.max(to - from, 0) * 100}%` } });
}
