// The feed: posts with like buttons, updated live by the publications of the room "feed".

import { call, post } from "./account.js";
import { element } from "./page.js";

const list = document.getElementById("posts");
const more = document.getElementById("more-posts");
/** @typedef {import("./types/http.js").Post} Post */
/** @type {Map<number, {post: Post, item: HTMLElement, button: HTMLElement}>} */
const shown = new Map();
/** @type {string | null} */
let cursor = null;

function drawLikes(entry) {
  const { button, post } = entry;
  button.textContent = `${post.liked ? "♥" : "♡"} ${post.like_count}`;
  button.setAttribute("aria-pressed", String(post.liked));
  button.setAttribute("aria-label", `${post.liked ? "Unlike" : "Like"}, ${post.like_count} likes`);
}

/** @param {Post} post */
function draw(post) {
  const button = element("button", { type: "button" });
  button.addEventListener("click", async () => {
    Object.assign(post, await call(`/posts/${post.id}/like`, { method: "POST" }));
    drawLikes(entry);
  });
  const item = element(
    "li",
    {},
    element("strong", {}, post.title),
    " ",
    element("small", {}, `by ${post.author_name}`),
    element("p", {}, post.body),
    button,
  );
  item.dataset.post = String(post.id);
  const entry = { post, item, button };
  drawLikes(entry);
  shown.set(post.id, entry);
  return item;
}

/**
 * @param {Post} post
 * @param {"append" | "prepend"} where
 */
function place(post, where) {
  if (!shown.has(post.id)) list[where](draw(post));
}

export async function load() {
  /** @type {import("./types/http.js").PagePost} */
  const page = await call(`/posts?limit=20${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
  page.items.forEach((post) => place(post, "append"));
  cursor = page.next_cursor;
  more.hidden = cursor === null;
}

export async function create(title, body) {
  place(await post("/posts", { title, body }), "prepend");
}

export function reset() {
  shown.clear();
  list.replaceChildren();
  cursor = null;
}

/** @param {import("./live.js").Heard} frame */
export async function receive(frame) {
  if (frame.type === "reset") {
    reset();
    await load();
    return;
  }
  if (frame.type !== "publication") return;
  const data = /** @type {import("./types/messages.js").FeedSends} */ (frame.data);
  const entry = shown.get(data.post_id);
  if (data.event === "post_created" && !entry) {
    place(await call(`/posts/${data.post_id}`), "prepend");
  } else if (data.event === "post_deleted") {
    entry?.item.remove();
    shown.delete(data.post_id);
  } else if (entry && "like_count" in data) {
    entry.post.like_count = data.like_count;
    drawLikes(entry);
  }
}
