// The room: its users, its messages, and the message being sent.

import { element, show } from "./page.js";

const MAX_MESSAGES = 500;
const list = document.getElementById("messages");
const users = document.getElementById("users");

/** @type {Map<number | string, string>} */
let here = new Map();
/** @type {Map<string, HTMLElement>} */
let pending = new Map();

function append(item) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(item);
  while (list.children.length > MAX_MESSAGES) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

const notice = (text) => append(element("li", { className: "notice" }, text));

function showUsers(count) {
  users.replaceChildren(...[...here.values()].map((name) => element("li", {}, name)));
  show("count", `${count} here`);
}

export function reset() {
  here = new Map();
  pending = new Map();
  list.replaceChildren();
  users.replaceChildren();
}

/** Show one's own message at once, faded until the server has stored it. */
export function showPending(id, name, body) {
  const item = element("li", { className: "mine pending" }, element("b", {}, name), " ", body);
  pending.set(id, item);
  append(item);
}

/**
 * @param {import("./live.js").Heard} frame
 * @param {import("./types/http.js").User} me
 */
export function receive(frame, me) {
  switch (frame.type) {
    case "welcome":
      here = new Map(frame.users.map((user) => [user.user_id, user.name]));
      return showUsers(frame.count);
    case "users":
      here = new Map(frame.users.map((user) => [user.user_id, user.name]));
      return showUsers(frame.count);
    case "user_joined":
      here.set(frame.user_id, frame.name);
      notice(`${frame.name} joined`);
      return showUsers(frame.count);
    case "user_left":
      here.delete(frame.user_id);
      notice(`${frame.name} left`);
      return showUsers(frame.count);
    case "user_count":
      return show("count", `${frame.count} here`);
    case "message":
      return append(
        element(
          "li",
          { className: frame.user_id === me.id ? "mine" : "" },
          element("b", {}, frame.name),
          " ",
          frame.body,
        ),
      );
    case "publication": {
      const { data } = frame; // any JSON, from a service
      const text = /** @type {{text?: unknown} | null} */ (data)?.text;
      const shown = typeof text === "string" ? text : JSON.stringify(data);
      return append(element("li", { className: "service" }, shown));
    }
    case "ack":
      pending.get(frame.id)?.remove(); // the message itself comes as well
      return pending.delete(frame.id);
    case "error":
      pending.get(frame.id)?.remove();
      pending.delete(frame.id);
      return notice(frame.message);
    case "reset":
      return notice("Some messages may be missing: we were away for too long.");
  }
}
