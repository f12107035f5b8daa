// Times, durations and names as people read them.

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  if (seconds < 0) return "0 s";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60) % 60;
  const hours = Math.floor(whole / 3600) % 24;
  const days = Math.floor(whole / 86400);
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return `${minutes} min ${whole % 60} s`;
}

export function since(time) {
  return (Date.now() - Date.parse(time)) / 1000;
}

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];

export function ago(time) {
  if (!time) return "";
  const seconds = since(time);
  if (seconds < 45) return "just now";
  for (const [unit, size] of UNITS) {
    if (seconds >= size * 0.95) return RELATIVE.format(-Math.round(seconds / size), unit);
  }
  return "just now";
}

const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function fullTime(time) {
  return time ? FULL.format(new Date(time)) : "";
}

export function shortHash(hash) {
  return hash ? hash.slice(0, 8) : "";
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

// A job's duration: while it runs, up to now.
export function jobSeconds(job) {
  if (job.duration !== null) return job.duration;
  return job.status === "RUNNING" && job.start_time ? since(job.start_time) : null;
}

export function shortTask(name) {
  return (name ?? "").split(".").pop();
}

// A file is known by its name; anything else is shown as it is, in one line.
export function shorten(text) {
  return text.replace(/\b[A-Z]\w*\(path=([^,()]*), hash=\w+\)/g, (_, path) => path.split("/").filter(Boolean).pop() ?? path).replace(/\s+/g, " ");
}
