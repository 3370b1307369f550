// The bell: notifications about one's own posts while this page is open.

import { element } from "./page.js";

const MAX_KEPT = 50;
const bell = document.getElementById("bell");
const badge = document.getElementById("unread");
const list = document.getElementById("notifications");
const seen = new Set();
let unread = 0;

/**
 * @typedef {import("./types/messages.js").Notification} Notification
 * @typedef {import("./types/messages.js").PostLiked} PostLiked
 * @typedef {import("./types/messages.js").PostCommented} PostCommented
 */

const SENTENCES = {
  /** @param {PostLiked} n */
  post_liked: (n) => `${n.liked_by} liked “${n.post_title}”`,
  /** @param {PostCommented} n */
  post_commented: (n) => `${n.commented_by} commented on “${n.post_title}”`,
};

function drawBadge() {
  badge.textContent = String(unread);
  badge.hidden = unread === 0;
}

bell.addEventListener("click", () => {
  list.hidden = !list.hidden;
  bell.setAttribute("aria-expanded", String(!list.hidden));
  if (list.children.length === 0) list.append(element("li", { className: "hint" }, "Nothing yet."));
  unread = 0;
  drawBadge();
});

/** @param {import("./live.js").Heard} frame */
export function receive(frame) {
  if (frame.type !== "notification" || seen.has(frame.id)) return;
  seen.add(frame.id);
  list.querySelector(".hint")?.remove();
  list.prepend(element("li", {}, (SENTENCES[frame.event] ?? ((n) => n.event))(frame)));
  while (list.children.length > MAX_KEPT) list.lastChild.remove();
  unread += 1;
  drawBadge();
}

export function reset() {
  seen.clear();
  list.replaceChildren();
  list.hidden = true;
  unread = 0;
  drawBadge();
}
