// The feed: posts with like buttons, updated live by the publications of the room "feed".

import { call, post } from "./account.js";
import { element } from "./page.js";

const list = document.getElementById("posts");
const more = document.getElementById("more-posts");
const shown = new Map();
let cursor = null;

function drawLikes(entry) {
  const { button, post } = entry;
  button.textContent = `${post.liked ? "♥" : "♡"} ${post.like_count}`;
  button.setAttribute("aria-pressed", post.liked);
  button.setAttribute("aria-label", `${post.liked ? "Unlike" : "Like"}, ${post.like_count} likes`);
}

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
  item.dataset.post = post.id;
  const entry = { post, item, button };
  drawLikes(entry);
  shown.set(post.id, entry);
  return item;
}

function place(post, where) {
  if (!shown.has(post.id)) list[where](draw(post));
}

export async function load() {
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

export async function receive(frame) {
  if (frame.type === "reset") {
    reset();
    await load();
    return;
  }
  if (frame.type !== "publication") return;
  const { event, post_id: id, like_count: likes } = frame.data;
  const entry = shown.get(id);
  if (event === "post_created" && !entry) place(await call(`/posts/${id}`), "prepend");
  else if (event === "post_deleted") {
    entry?.item.remove();
    shown.delete(id);
  } else if (entry && likes !== undefined) {
    entry.post.like_count = likes;
    drawLikes(entry);
  }
}
