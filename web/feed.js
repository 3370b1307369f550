// The feed: posts with like buttons, updated live by the publications of the room "feed".

import { call, post } from "./account.js";
import { element, show } from "./page.js";

const list = document.getElementById("posts");
const more = document.getElementById("more-posts");
/** @typedef {import("./types/http.js").Post} Post */
/** @type {Map<number, {post: Post, item: HTMLElement, button: HTMLElement}>} */
const shown = new Map();
/** @type {string | null} */
let cursor = null;

/** Do what a click or a publication asks for; say in the feed what goes wrong. */
async function attempt(action) {
  show("feed-error", "");
  try {
    await action();
  } catch (error) {
    show("feed-error", error.message);
  }
}

function drawLikes(entry) {
  const { button, post } = entry;
  button.textContent = `${post.liked ? "♥" : "♡"} ${post.like_count}`;
  button.setAttribute("aria-pressed", String(post.liked));
  button.setAttribute("aria-label", `${post.liked ? "Unlike" : "Like"}, ${post.like_count} likes`);
}

/** @param {Post} post */
function draw(post) {
  const button = element("button", { type: "button" });
  const toggle = async () => {
    Object.assign(post, await call(`/posts/${post.id}/like`, { method: "POST" }));
    drawLikes(entry);
  };
  button.addEventListener("click", () => attempt(toggle));
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
 * Show the post where it belongs: the newest has the highest id, and comes first.
 *
 * @param {Post} post
 */
function place(post) {
  if (shown.has(post.id)) return;
  const items = /** @type {HTMLElement[]} */ ([...list.children]);
  const older = items.find((item) => Number(item.dataset.post) < post.id);
  list.insertBefore(draw(post), older ?? null);
}

async function loadPage() {
  /** @type {import("./types/http.js").PagePost} */
  const page = await call(`/posts?limit=20${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
  page.items.forEach(place);
  cursor = page.next_cursor;
  more.hidden = cursor === null;
}

/** Show the first page, or one more. */
export const load = () => attempt(loadPage);

export async function create(title, body) {
  place(await post("/posts", { title, body }));
}

export function reset() {
  shown.clear();
  list.replaceChildren();
  cursor = null;
  show("feed-error", "");
}

/** A post that was written. The room tells newcomers of its last ones, which may be gone by now. */
async function fetchNew(id) {
  const isOnLaterPage = cursor !== null && id < Math.min(...shown.keys());
  if (isOnLaterPage) return;
  try {
    place(await call(`/posts/${id}`));
  } catch (error) {
    if (error.status !== 404) throw error;
  }
}

/** @param {import("./live.js").Heard} frame */
export async function receive(frame) {
  if (frame.type === "reset") {
    reset();
    await load();
    return;
  }
  if (frame.type !== "publication") return;
  const data = /** @type {import("./types/messages.js").FeedSends | null} */ (frame.data);
  const entry = shown.get(data?.post_id);
  if (data?.event === "post_created" && !entry) {
    await attempt(() => fetchNew(data.post_id));
  } else if (data?.event === "post_deleted") {
    entry?.item.remove();
    shown.delete(data.post_id);
  } else if (entry && "like_count" in data) {
    entry.post.like_count = data.like_count;
    drawLikes(entry);
  }
}
