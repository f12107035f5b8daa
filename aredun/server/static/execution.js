// One execution: its jobs as a tree, as a timeline and counted, all growing while it runs; why it failed.

import { Changes, get } from "./api.js";
import { errorBox, h, notice, refill, replace, statusBadge, tagList } from "./dom.js";
import { ago, count, duration, fullTime, jobSeconds, shortHash } from "./format.js";
import { failureBanner } from "./failures.js";
import { filterQuery, JobFilter } from "./job_filter.js";
import { foldRow, laneCells, treeCells } from "./job_rows.js";
import { JobModel } from "./jobs.js";
import { makeDetails } from "./record.js";
import { RowList } from "./rows.js";
import { Timeline } from "./timeline.js";
import { countTable, progressBar, sumCounts } from "./task_counts.js";

const ROW = 34;
const TABS = { tree: "Job tree", timeline: "Timeline", tasks: "Tasks" };
// More jobs of an execution that has too many to be shown at once are not fetched for a filter.
const MAX_FOUND = 2000;
// How soon the counts of such an execution are asked for again, in milliseconds.
const RECOUNT = 5000;

class ExecutionView {
  constructor(main, target) {
    this.main = main;
    this.id = target.parts[0];
    this.model = new JobModel();
    this.execution = null;
    this.isCut = false;
    // Of an execution that is too large to be shown whole: what the server counts, and what was fetched.
    this.counts = null;
    this.fetched = "";
    this.filter = new JobFilter((values, isStep) => this.chooseFilter(values, isStep));
    this.head = h("div", { class: "head" });
    this.progress = h("div", { class: "progress" });
    this.tabs = h("div", { class: "tabs" });
    this.banner = h("div", { class: "banner-place" });
    this.table = h("div", { class: "counts-place", hidden: true });
    this.panel = h("aside", { class: "panel", "aria-label": "Details", tabindex: -1, hidden: true, on: { keydown: (event) => { if (event.key === "Escape") this.closePanel(); } } });
    this.rows = new RowList({
      height: ROW, label: "Jobs", role: "tree",
      makeRow: (row, index) => this.makeRow(row, index),
      onKey: (event, row) => this.handleKey(event, row),
    });
    this.timeline = new Timeline(this.rows.element, () => { this.schedule(); this.keepWindow(); });
    this.timeline.read(target.query);
    this.read(target);
    this.told = h("span", {});
    this.more = h("button", { class: "button", type: "button", on: { click: () => this.loadMore() } });
    this.notice = h("p", { class: "cut", hidden: true }, this.told, this.more);
    this.empty = h("div", { class: "no-jobs", hidden: true });
    this.body = h("div", { class: "split" }, h("section", { class: "jobs" }, this.filter.element, this.timeline.element, this.rows.element, this.empty, this.table, this.notice), this.panel);
    replace(main, h("div", { class: "execution" }, h("div", { class: "execution-head" }, this.head, this.banner, h("div", { class: "head-foot" }, this.progress, this.tabs)), this.body));
    this.changes = new Changes(`ws/executions/${encodeURIComponent(this.id)}`, (message) => this.receive(message));
    this.timer = setInterval(() => { if (this.model.span().open) this.schedule(); }, 1000);
    this.drawTabs();
    if (this.selected) this.showPanel();
  }

  // `-` and the beginning of an id may stand for another execution tomorrow: the whole id does not.
  settleAddress() {
    if (this.id === this.execution.id) return;
    this.id = this.execution.id;
    history.replaceState(null, "", this.address());
  }

  // With the stretch of time that is in sight.
  address() {
    return `${this.path(this.tab, this.selected)}${filterQuery({ ...this.filter.values, ...(this.tab === "timeline" ? this.timeline.values : {}) })}`;
  }

  // A browser takes only so many new addresses a second.
  keepWindow() {
    clearTimeout(this.keeping);
    this.keeping = setTimeout(() => history.replaceState(null, "", this.address()), 200);
  }

  read(target) {
    this.tab = target.parts[1] in TABS ? target.parts[1] : "tree";
    this.selected = target.parts[2] || null;
    this.filter.read(target.query);
    if (this.tab === "tree" && this.selected) this.model.reveal(this.selected);
  }

  chooseFilter(values, isStep) {
    if (isStep) { location.hash = `${this.path(this.tab, this.selected)}${filterQuery(values)}`; return; }
    this.filter.read(new URLSearchParams(filterQuery(values)));
    history.replaceState(null, "", this.address());
    this.applyFilter();
  }

  applyFilter() {
    this.drawTabs();
    this.schedule();
    clearTimeout(this.fetching);
    if (this.isCut && this.filter.isOn) this.fetching = setTimeout(() => this.fetchFound(), 250);
  }

  // What a filter lets through may not be among the jobs that are here.
  async fetchFound() {
    const key = filterQuery(this.filter.values);
    if (this.fetched === key) return;
    this.fetched = key;
    this.isLooking = true;
    await this.fetchJobs(key).finally(() => { if (this.fetched === key) this.isLooking = false; });
    this.schedule();
  }

  async fetchJobs(key) {
    const { status, task, text } = this.filter.values;
    let cursor = null;
    for (let found = 0; found < MAX_FOUND && this.fetched === key; found += 500) {
      const page = await get(`executions/${encodeURIComponent(this.id)}/jobs`, { status: status || [], task: task || [], text: text || null, limit: 500, cursor });
      page.items.forEach((job) => this.model.put(job));
      this.schedule();
      cursor = page.cursor;
      if (!cursor) return;
    }
  }

  // The reason of a failure, and what only the server can count.
  async explain() {
    const isFailed = this.execution.status === "FAILED";
    if ((!isFailed || this.banner.firstChild) && !this.isCut) return;
    if (this.isExplaining) return;
    this.isExplaining = true;
    try {
      const details = await get(`executions/${encodeURIComponent(this.execution.id)}`);
      if (this.isCut) this.counts = details.counts;
      replace(this.banner, details.failure ? failureBanner(details.failure, (id) => this.link("tree", id)) : null);
      this.schedule();
    } finally {
      this.explained = setTimeout(() => { this.isExplaining = false; }, RECOUNT);
    }
  }

  receive(message) {
    if (message.type === "snapshot") {
      this.execution = message.execution;
      this.isCut = message.is_cut;
      this.settleAddress();
      this.model.reset(message.jobs);
      if (this.selected) this.model.reveal(this.selected);
      this.isRevealed = false;
      this.explain();
      this.applyFilter();
    } else if (message.type === "execution") {
      const tags = this.execution?.tags ?? [];
      this.execution = { ...message.execution, tags };
      this.explain();
    } else if (message.type === "job") {
      this.model.put(message.job);
    } else if (message.type === "error") {
      // Without an execution there is neither a tree nor a timeline to show.
      if (!this.execution) showProblem(this.main, message);
      return;
    }
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    if (!this.execution) return;
    this.drawHead();
    this.drawProgress();
    const { found, shown } = this.model.choose(this.filter);
    this.found = shown && found;
    const counts = this.counts ?? this.model.counts();
    this.filter.draw(counts.map((item) => item.task), found.size, this.total());
    const isTimeline = this.tab === "timeline";
    const rows = this.model.rows(shown, isTimeline ? this.found : null);
    this.body.dataset.tab = this.tab;
    this.timeline.element.hidden = !isTimeline;
    if (isTimeline) this.timeline.draw(this.model.span());
    const isTable = this.tab === "tasks";
    this.filter.element.hidden = this.rows.element.hidden = isTable;
    this.table.hidden = !isTable;
    if (isTable) this.drawTable(counts);
    this.rows.setItems(rows);
    this.drawEmpty(isTable ? this.total() : rows.length);
    this.showSelected();
    this.drawCut();
  }

  // How much of a very large execution is here, and how to see the rest.
  drawCut() {
    const shown = this.model.jobs.size;
    const total = this.total();
    this.notice.hidden = !this.isCut || shown >= total;
    this.told.textContent = `${shown.toLocaleString("en")} of ${count(total, "job")} are here. The filter and the counts above look among all of them.`;
    this.more.textContent = this.isLoading ? "Loading…" : `Load ${Math.min(MAX_FOUND, total - shown).toLocaleString("en")} more`;
    this.more.disabled = Boolean(this.isLoading);
  }

  // The newest first; what is here is taken once more.
  async loadMore() {
    this.isLoading = true;
    this.schedule();
    try {
      const enough = this.model.jobs.size + MAX_FOUND;
      do {
        const page = await get(`executions/${encodeURIComponent(this.id)}/jobs`, { limit: 500, cursor: this.rest });
        page.items.forEach((job) => this.model.put(job));
        this.rest = page.cursor;
        this.schedule();
      } while (this.rest && this.model.jobs.size < enough);
      if (!this.rest) this.isCut = false;
    } finally {
      this.isLoading = false;
      if (!this.isCut) this.counts = null;
      this.schedule();
    }
  }

  // What to do where there are no jobs to show, or only that at the root.
  drawEmpty(number) {
    const isOn = this.filter.isOn && this.tab !== "tasks";
    const isAlone = number === 1 && !isOn && this.tab !== "tasks" && this.execution.status === "RUNNING";
    this.empty.hidden = number > 0 && !isAlone;
    if (this.empty.hidden) return;
    if (!isAlone) this.rows.element.hidden = this.timeline.element.hidden = this.table.hidden = true;
    const key = JSON.stringify([this.isLooking, isOn && this.filter.values, this.execution.status, this.tab, isAlone]);
    if (this.empty.dataset.key === key) return;
    this.empty.dataset.key = key;
    replace(this.empty, isOn && this.isLooking ? h("p", { class: "notice" }, "Looking…")
      : isOn ? explainNoFound(this.filter.values, this.execution, this.path(this.tab, this.selected))
        : isAlone ? notice("Its first job runs, no other has started", "This page is live: jobs appear as they start.", { links: [["Show the first job", this.path(this.tab, this.execution.job_id)]] })
          : notice("No job is recorded", "The execution ended before its first job started, or its jobs were recorded elsewhere.", { links: [["All executions", "#/executions"]] }));
  }

  total() {
    return Object.values(sumCounts(this.counts ?? this.model.counts())).reduce((sum, number) => sum + number, 0);
  }

  drawTable(counts) {
    const key = JSON.stringify(counts);
    if (this.table.dataset.key === key) return;
    this.table.dataset.key = key;
    replace(this.table, countTable(counts, (values) => `${this.path("tree", null)}${filterQuery(values)}`));
  }

  // Once: whoever scrolls away while jobs arrive is left alone.
  showSelected() {
    if (!this.selected || this.isRevealed) return;
    const index = this.rows.items.findIndex((row) => row.job?.id === this.selected);
    if (index < 0) return;
    this.isRevealed = true;
    this.rows.showRow(index, true);
    // On a phone the rows may begin below the window.
    this.rows.element.scrollIntoView({ block: "nearest" });
  }

  drawHead() {
    const run = this.execution;
    document.title = `${run.task ?? "Execution"} · aredun`;
    const facts = [
      duration(jobSeconds(run)), run.start_time ? `started ${ago(run.start_time)}` : null, count(this.total(), "job"),
    ].filter(Boolean).join(" · ");
    refill(this.head,
      h("div", {},
        h("p", { class: "crumbs" }, h("a", { href: "#/executions" }, "Executions"), "›", h("span", { class: "hash" }, shortHash(run.id))),
        h("div", { class: "title-line" }, h("h1", {}, run.task ?? "Execution"), statusBadge(run.status), h("span", { class: "facts", title: fullTime(run.start_time) }, facts)),
        h("p", { class: "sub mono", title: run.args }, run.args),
        tagList(run.tags)),
      h("p", { class: "flows" },
        run.status === "DONE" || run.status === "FAILED" ? h("a", { class: "button", href: `#/dataflow/${run.id}` }, "Dataflow of the result") : null,
        h("a", { class: "button", href: `#/dataflow/${run.id}?direction=inside` }, "Graph of the run")));
  }

  drawProgress() {
    const counts = sumCounts(this.counts ?? this.model.counts());
    const key = JSON.stringify(counts);
    // A link that somebody is on its way to click stays the same one.
    if (this.progress.dataset.key === key) return;
    this.progress.dataset.key = key;
    replace(this.progress, progressBar(counts, (status) => `${this.path("tree", null)}${filterQuery({ status })}`));
  }

  drawTabs() {
    const tab = (name, text) => h("a", {
      href: this.link(name, this.selected), "aria-current": this.tab === name ? "page" : null,
    }, text);
    refill(this.tabs, h("nav", { class: "segments", "aria-label": "Views of the jobs" }, Object.entries(TABS).map(([name, text]) => tab(name, text))));
  }

  path(tab, jobId) {
    return `#/execution/${this.id}/${tab}${jobId ? `/${encodeURIComponent(jobId)}` : ""}`;
  }

  // Stays with the filter.
  link(tab, jobId) {
    return `${this.path(tab, jobId)}${filterQuery(this.filter.values)}`;
  }

  makeRow(row, index) {
    const timeline = this.tab === "timeline" ? this.timeline : null;
    if (row.fold) return foldRow(row, () => this.unfold(row), timeline);
    const { job, depth } = row;
    const isSelected = job.id === this.selected;
    const element = h("div", {
      class: `row job-row${this.found && !this.found.has(job.id) ? " on-the-way" : ""}`, role: "treeitem", "aria-level": depth + 1, "aria-selected": String(isSelected),
      "aria-expanded": row.hasChildren ? String(row.isOpen) : null,
      data: { id: job.id, status: job.status },
      on: { click: () => { this.rows.active = index; this.select(job.id); } },
    });
    element.append(...(timeline ? laneCells(row, timeline, () => this.toggle(job.id)) : treeCells(row, () => this.toggle(job.id))));
    return element;
  }

  toggle(id) {
    this.model.toggle(id);
    this.draw();
  }

  unfold(row) {
    if (!this.model.unfolded.delete(row.fold)) this.model.unfolded.add(row.fold);
    this.draw();
  }

  select(id) {
    location.hash = this.link(this.tab, id);
  }

  handleKey(event, row) {
    if (this.timeline.handleKey(event)) return true;
    if (!row) return false;
    if (event.key === "Enter" || event.key === " ") {
      if (row.fold) this.unfold(row);
      else this.select(row.job.id);
      return true;
    }
    if (row.job && event.key === "ArrowRight" && row.hasChildren && !row.isOpen) { this.toggle(row.job.id); return true; }
    if (row.job && event.key === "ArrowLeft") {
      if (row.isOpen) this.toggle(row.job.id);
      else {
        const parent = this.rows.items.findIndex((item) => item.job?.id === row.job.parent_id);
        if (parent >= 0) this.rows.focusRow(parent);
      }
      return true;
    }
    if (event.key === "Escape" && this.selected) { this.select(null); return true; }
    return false;
  }

  async showPanel() {
    const id = this.selected;
    this.panel.hidden = !id;
    if (!id) return;
    const close = h("a", { class: "button quiet close", href: this.link(this.tab, null), "aria-label": "Close the details", on: { click: () => this.closePanel() } }, "Close");
    const isStaying = this.panel.contains(document.activeElement);
    replace(this.panel, close, h("p", { class: "sub" }, "Loading…"));
    // Whoever goes from one job to another within the panel stays in it.
    if (isStaying) this.panel.focus();
    try {
      const job = await get(`jobs/${encodeURIComponent(id)}`);
      if (this.selected === id) refill(this.panel, close, makeDetails(job, (jobId) => this.link(this.tab, jobId)));
    } catch (error) {
      if (this.selected === id) replace(this.panel, close, errorBox(error));
    }
  }

  // Back to the row of the job.
  closePanel() {
    this.select(null);
    if (this.rows.element.hidden) this.main.focus();
    else this.rows.focusRow(this.rows.active);
  }

  update(target) {
    const before = this.selected;
    this.read(target);
    // A link that asks for no stretch of time leaves that in sight.
    if (target.query.has("from")) this.timeline.read(target.query);
    else if (this.timeline.window) this.keepWindow();
    const isOther = this.selected !== before;
    if (isOther) this.isRevealed = false;
    this.applyFilter();
    this.draw();
    if (isOther) this.showPanel();
  }

  close() {
    this.changes.close();
    this.rows.close();
    clearInterval(this.timer);
    clearTimeout(this.fetching);
    clearTimeout(this.keeping);
    clearTimeout(this.explained);
    cancelAnimationFrame(this.frame);
  }
}

function explainNoFound({ status, task, text }, execution, address) {
  const all = { links: [["Show all jobs", address]] };
  if (status !== "FAILED" || task || text) return notice("No job fits", "Choose another status or task, or fewer letters.", all);
  return notice("No job has failed", execution.status === "RUNNING" ? "One that does appears here at once." : "All jobs of this execution went well.", all);
}

function showProblem(main, message) {
  replace(main, h("div", { class: "page" }, h("div", { class: "head" }, h("h1", {}, "No such execution")),
    errorBox(message), h("p", { class: "more" }, h("a", { class: "button", href: "#/executions" }, "All executions"))));
}

export function showExecution(main, target) {
  return new ExecutionView(main, target);
}
