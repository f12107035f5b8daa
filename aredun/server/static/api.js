// The server's HTTP API and websockets. A server that wants a token gets it once; a cookie keeps the key.

import { h, replace } from "./dom.js";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    for (const item of [value].flat()) if (item !== null && item !== undefined) query.append(key, item);
  }
  const text = query.toString();
  for (;;) {
    const answer = await fetch(`api/${path}${text ? `?${text}` : ""}`, { signal, credentials: "same-origin" });
    if (answer.status === 401) {
      await askForToken();
      continue;
    }
    return readAnswer(answer);
  }
}

async function readAnswer(answer) {
  const body = await answer.json().catch(() => ({ message: answer.statusText }));
  if (!answer.ok) throw new ApiError(answer.status, body.message);
  return body;
}

// Only what needs more room than an address has is posted: the server writes nothing.
export async function post(path, content) {
  return readAnswer(await fetch(`api/${path}`, { method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) }));
}

// Ids may be file paths: each part is escaped, the slashes stay.
export function idPath(id) {
  return id.split("/").map(encodeURIComponent).join("/");
}

let asking = null;

function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("token-dialog");
    const input = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
    const problem = h("p", { class: "error", role: "alert", hidden: true }, "That is not the token of this server.");
    const form = h("form", {}, h("label", { for: "token" }, "Token"), input, problem, h("button", { class: "button primary" }, "Open"));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const answer = await fetch("api/session", { method: "POST", headers: { Authorization: `Bearer ${input.value}` } });
      problem.hidden = answer.ok;
      if (!answer.ok) return;
      dialog.close();
      asking = null;
      resolve();
    });
    replace(dialog, h("h2", { id: "token-title" }, "This server wants a token"),
      h("p", { class: "sub" }, "Whoever started it has one: the value given to --token."), form);
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.showModal();
  });
  return asking;
}

// Websockets cannot ask: whoever opens one must be let in before.
export async function ensureSession() {
  const answer = await fetch("api/session", { method: "POST" });
  if (answer.status === 401) await askForToken();
}

export function openSocket(path) {
  const base = new URL(".", location.href.split("#")[0]);
  base.protocol = base.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(new URL(path, base));
}

// A browser complains of a socket that is closed before it is open: so it is closed then.
export function closeSocket(socket) {
  socket.onmessage = socket.onclose = null;
  if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
  else socket.close();
}

export function showLive(state, text) {
  const element = document.getElementById("live");
  element.dataset.state = state;
  element.textContent = text;
}

// Changes of executions: reconnects by itself, going on after the last change that it has seen.
export class Changes {
  constructor(path, onMessage) {
    this.path = path;
    this.onMessage = onMessage;
    this.cursor = null;
    this.closed = false;
    this.pause = 500;
    this.open();
  }

  open() {
    const after = this.cursor ? `?after=${encodeURIComponent(this.cursor)}` : "";
    this.socket = openSocket(`${this.path}${after}`);
    this.socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.cursor) this.cursor = message.cursor;
      // What is wrong with the address stays wrong: coming back would not help.
      if (message.type === "error" && ["not_found", "ambiguous", "bad_request"].includes(message.error)) this.closed = true;
      this.pause = 500;
      showLive(...(this.closed ? ["off", ""] : ["on", "Live"]));
      this.onMessage(message);
    };
    this.socket.onclose = () => {
      if (this.closed) return;
      showLive("wait", "Reconnecting");
      this.timer = setTimeout(() => this.open(), this.pause);
      this.pause = Math.min(this.pause * 2, 15000);
    };
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    closeSocket(this.socket);
    showLive("off", "");
  }
}
