// What changes in a graph while something runs: calls that end take their colours and join it; of a run that goes on,
// jobs have boxes of their own until their calls are part of it.

import { Changes } from "./api.js";
import { count } from "./format.js";
import { JobModel } from "./jobs.js";

// How long, in milliseconds, calls that end are gathered before the walk is made again.
const AGAIN = 600;

const keyOf = (id) => `J${id}`;

export class Live {
  constructor(view) {
    this.view = view;
    this.jobs = new JobModel();
    // The job whose inside is shown, while it has led to no call.
    this.root = null;
    this.execution = null;
    // Jobs that have a box of their own, and those of them that had ended before the walk under way began.
    this.shown = new Set();
    this.ended = [];
  }

  watchRun({ execution_id: execution, job_id: job }) {
    this.root = job;
    this.watch(`ws/executions/${encodeURIComponent(execution)}`);
  }

  watch(path = "ws/executions") {
    this.changes ??= new Changes(path, (message) => this.hear(message));
  }

  hear(message) {
    if (this.root !== null) this.hearRun(message);
    if (message.type === "job" && message.change === "ended") this.hearEnd(message.job);
  }

  hearEnd({ id, call_hash: call, status }) {
    const { view } = this;
    if (call) view.labels.setStatus(call, status);
    if (call && view.flow.steps.has(`C${call}`)) view.canvas.flash(call);
    else if (this.root !== null || (call && view.direction === "downstream")) this.walkSoon();
    if (id === this.root) this.walkSoon();
  }

  hearRun({ type, execution, jobs, job }) {
    const { view } = this;
    if (type === "snapshot") {
      this.execution = execution;
      this.jobs.reset(jobs);
      jobs.forEach((each) => this.label(each));
      view.nameRun(this.jobs.jobs.get(this.root)?.task ?? execution.task);
      if (this.jobs.jobs.get(this.root)?.end_time) this.walkSoon();
      if (view.isDone) view.grow(0);
    } else if (type === "job") {
      this.jobs.put(job);
      this.label(this.jobs.jobs.get(job.id));
      if (view.isDone) view.grow();
    }
  }

  label({ id, call_hash: call, status, arguments: text }) {
    this.view.labels.tell(call ?? id, status, call ? text : "");
  }

  // Later if a walk is under way, which may have passed what has ended: it is made again after that.
  walkSoon() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      if (this.view.isDone) this.view.walkAgain();
      else this.walkSoon();
    }, Math.max(AGAIN, 4 * (this.view.spent ?? 0)));
  }

  beginWalk() {
    this.ended = [...this.shown].filter((id) => this.jobs.jobs.get(id)?.end_time);
  }

  // What had ended and has no box now is shown by the calls that it made.
  endWalk() {
    for (const id of this.ended) if (this.jobs.jobs.get(id)?.call_hash) this.shown.delete(id);
  }

  // What is to be said of the jobs that have not ended.
  get state() {
    const open = [...this.jobs.jobs.values()].filter((job) => !job.end_time && this.isWithin(job) && this.isLeaf(job));
    const running = open.filter((job) => job.status === "RUNNING").length;
    return running || !open.length ? `${count(running, "job")} running` : `${count(open.length, "job")} abandoned`;
  }

  isLeaf(job) {
    return !this.jobs.children.has(job.id);
  }

  isWithin(job) {
    let top = job;
    while (top.id !== this.root && this.jobs.jobs.has(top.parent_id)) top = this.jobs.jobs.get(top.parent_id);
    // Of a very large execution not all parents are known.
    return top.id === this.root || (this.root === this.execution?.job_id && top.parent_id !== null);
  }

  // Adds the jobs that are no part of a graph yet; who had a box of its own leaves its place to its call.
  addTo(graph) {
    if (this.root === null) return graph;
    const calls = new Map();
    for (const job of this.jobs.jobs.values()) {
      const call = job.call_hash ? graph.nodes.get(`C${job.call_hash}`) : null;
      if (call) call.was ??= keyOf(job.id);
      else if (this.view.flow.isOpen && this.isShown(job)) calls.set(keyOf(job.id), job);
    }
    for (const [key, job] of calls) {
      graph.nodes.set(key, { key, kind: "call", hash: job.call_hash ?? job.id, task: job.task ?? "", name: "", job: job.id, isOver: Boolean(job.end_time), was: keyOf(job.parent_id), through: new Set(), inputs: [], outputs: [] });
    }
    return graph;
  }

  isShown(job) {
    if (!this.isLeaf(job) || !this.isWithin(job)) return false;
    if (!job.end_time) this.shown.add(job.id);
    return this.shown.has(job.id);
  }

  close() {
    clearTimeout(this.timer);
    this.changes?.close();
  }
}
