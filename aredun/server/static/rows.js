// A long list of rows of one height: only those in sight are in the page.

import { h } from "./dom.js";

// Above and below all rows, as in views.css.
const PADDING = 16;

export class RowList {
  constructor({ height, label, role = "list", makeRow, onKey }) {
    this.height = height;
    this.makeRow = makeRow;
    this.items = [];
    this.active = 0;
    this.inner = h("div", { class: "rows-inner", role, "aria-label": label });
    this.element = h("div", { class: "rows" }, this.inner);
    this.element.addEventListener("scroll", () => this.schedule(), { passive: true });
    this.element.addEventListener("keydown", (event) => this.handleKey(event, onKey));
    this.element.addEventListener("focusin", (event) => {
      const row = event.target.closest("[data-index]");
      if (row) this.active = Number(row.dataset.index);
    });
    // Where a row was scrolled to: it stays in sight when the list shrinks, unless somebody has scrolled away.
    this.placed = null;
    this.observer = new ResizeObserver(() => {
      if (this.element.scrollTop === this.placed) this.showRow(this.active);
      this.schedule();
    });
    this.observer.observe(this.element);
  }

  setItems(items) {
    this.items = items;
    this.active = Math.min(this.active, Math.max(items.length - 1, 0));
    this.inner.style.height = `${items.length * this.height}px`;
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const top = this.element.scrollTop;
    const first = Math.max(0, Math.floor(top / this.height) - 6);
    const last = Math.min(this.items.length, Math.ceil((top + this.element.clientHeight) / this.height) + 6);
    const hadFocus = this.inner.contains(document.activeElement);
    const rows = [];
    for (let index = first; index < last; index += 1) {
      const row = this.makeRow(this.items[index], index);
      row.style.top = `${index * this.height}px`;
      row.style.height = `${this.height}px`;
      row.tabIndex = index === this.active ? 0 : -1;
      row.dataset.index = index;
      rows.push(row);
    }
    this.inner.replaceChildren(...rows);
    if (hadFocus) this.inner.querySelector(`[data-index="${this.active}"]`)?.focus({ preventScroll: true });
  }

  focusRow(index) {
    this.showRow(index);
    this.draw();
    const row = this.inner.querySelector(`[data-index="${this.active}"]`);
    row?.focus({ preventScroll: true });
    // On a phone the list itself may be out of sight.
    row?.scrollIntoView({ block: "nearest" });
  }

  // Makes a row the active one, and scrolls as far as it takes to see it, or until it stands in the middle.
  showRow(index, isMiddle = false) {
    this.active = Math.max(0, Math.min(index, this.items.length - 1));
    const top = this.active * this.height;
    const view = this.element;
    const isBelow = top + this.height + PADDING > view.scrollTop + view.clientHeight;
    if (isMiddle && (isBelow || top < view.scrollTop)) view.scrollTop = top - (view.clientHeight - this.height) / 2;
    else if (top < view.scrollTop) view.scrollTop = top;
    else if (isBelow) view.scrollTop = top + this.height - view.clientHeight + PADDING;
    this.placed = view.scrollTop;
  }

  handleKey(event, onKey) {
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12 };
    if (event.key in moves) this.focusRow(this.active + moves[event.key]);
    else if (event.key === "Home") this.focusRow(0);
    else if (event.key === "End") this.focusRow(this.items.length - 1);
    else if (!onKey?.(event, this.items[this.active], this.active)) return;
    event.preventDefault();
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
  }
}
