// The jobs of one execution as they are known so far, and the rows of their tree.

export const FOLD = 12;

export class JobModel {
  constructor() {
    this.jobs = new Map();
    this.children = new Map();
    this.roots = [];
    this.closed = new Set();
    this.unfolded = new Set();
    this.version = 0;
  }

  reset(jobs) {
    this.jobs.clear();
    this.children.clear();
    this.roots = [];
    jobs.forEach((job) => this.put(job));
  }

  put(job) {
    const known = this.jobs.get(job.id);
    this.version += 1;
    if (known) {
      // The end of a job may be told before its start when both are old news.
      if (!(known.end_time && !job.end_time)) Object.assign(known, job);
      return;
    }
    this.jobs.set(job.id, job);
    const siblings = job.parent_id ? this.children.get(job.parent_id) ?? [] : this.roots;
    // Mostly the newest comes last.
    let place = siblings.length;
    while (place && siblings[place - 1].start_time > job.start_time) place -= 1;
    siblings.splice(place, 0, job);
    if (job.parent_id) this.children.set(job.parent_id, siblings);
  }

  // As the API counts them: [{task, counts: {STATUS: number}}], sorted by task.
  counts() {
    const byTask = new Map();
    for (const job of this.jobs.values()) {
      const task = job.task ?? "";
      if (!byTask.has(task)) byTask.set(task, {});
      const counts = byTask.get(task);
      counts[job.status] = (counts[job.status] ?? 0) + 1;
    }
    return [...byTask].sort(([a], [b]) => (a < b ? -1 : 1)).map(([task, counts]) => ({ task, counts }));
  }

  // The jobs that a filter lets through; with them those that lead there, or null without a filter.
  choose(filter) {
    const found = new Set();
    const shown = new Set();
    for (const job of this.jobs.values()) {
      if (!filter.matches(job)) continue;
      found.add(job.id);
      for (let one = job; one && !shown.has(one.id); one = this.jobs.get(one.parent_id)) shown.add(one.id);
    }
    return { found, shown: filter.isOn ? shown : null };
  }

  // Opens whatever a job is hidden in.
  reveal(id) {
    for (let job = this.jobs.get(id); job; job = this.jobs.get(job.parent_id)) {
      if (job.parent_id) this.closed.delete(job.parent_id);
    }
  }

  span() {
    let begin = Infinity;
    let end = -Infinity;
    let open = false;
    for (const job of this.jobs.values()) {
      begin = Math.min(begin, Date.parse(job.start_time));
      if (job.end_time) end = Math.max(end, Date.parse(job.end_time));
      else if (job.status === "RUNNING") open = true;
    }
    if (open) end = Math.max(end, Date.now());
    return { begin, end: Math.max(end, begin + 1), open };
  }

  toggle(id) {
    if (!this.closed.delete(id)) this.closed.add(id);
    this.version += 1;
  }

  // Rows of the tree as they are shown: jobs, and many jobs of one task under one parent as one row. `shown` are the
  // jobs that are visited, `found` those that get a row: the others are passed over, as the timeline does.
  rows(shown = null, found = null) {
    const rows = [];
    const isShown = (job) => !shown || shown.has(job.id);
    const known = (job) => !job.parent_id || !this.jobs.has(job.parent_id);
    const orphans = [...this.children.keys()].filter((id) => !this.jobs.has(id)).flatMap((id) => this.children.get(id));
    const stack = [...this.roots, ...orphans.filter(known)].filter(isShown).reverse().map((job) => ({ job, depth: 0 }));
    while (stack.length) {
      const row = stack.pop();
      const hasRow = !row.job || !found || found.has(row.job.id);
      if (hasRow) rows.push(row);
      if (!row.job) continue;
      const children = (this.children.get(row.job.id) ?? []).filter(isShown);
      row.hasChildren = children.length > 0;
      row.isOpen = row.hasChildren && !this.closed.has(row.job.id);
      if (!hasRow) stack.push(...children.map((job) => ({ job, depth: row.depth })).reverse());
      else if (row.isOpen) stack.push(...this.fold(row.job, children, row.depth + 1).reverse());
    }
    return rows;
  }

  fold(parent, children, depth) {
    const groups = new Map();
    for (const job of children) {
      const group = groups.get(job.task) ?? [];
      group.push(job);
      groups.set(job.task, group);
    }
    const hidden = new Set();
    const folds = [];
    for (const [task, group] of groups) {
      const key = `${parent.id}/${task}`;
      if (group.length <= FOLD + 1) continue;
      if (this.unfolded.has(key)) { folds.push({ fold: key, task, jobs: [], isOpen: true, depth }); continue; }
      const ordered = [...group].sort((a, b) => rank(a) - rank(b));
      ordered.slice(FOLD).forEach((job) => hidden.add(job.id));
      folds.push({ fold: key, task, jobs: ordered.slice(FOLD), depth });
    }
    return [...children.filter((job) => !hidden.has(job.id)).map((job) => ({ job, depth })), ...folds];
  }
}

// What people look for is folded last.
function rank(job) {
  return job.status === "FAILED" ? 0 : job.status === "RUNNING" || job.status === "ABANDONED" ? 1 : 2;
}
