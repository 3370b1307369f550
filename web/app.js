// The page: signed out or signed in, and how it handles the frames of its two rooms.

import * as account from "./account.js";
import * as chat from "./chat.js";
import * as feed from "./feed.js";
import { Live } from "./live.js";
import * as notifications from "./notifications.js";
import { onSubmit, show } from "./page.js";

const DEMO_PASSWORD = "hubbub-demo";

/**
 * @typedef {import("./types/http.js").User} User
 * @typedef {import("./live.js").Heard} Heard
 */

/** @type {User | null} */
let me = null;
/** @type {Live[]} */
let rooms = [];

function draw() {
  const signedIn = me !== null;
  document.getElementById("signed-in").hidden = !signedIn;
  document.getElementById("signed-out").hidden = signedIn;
  document.getElementById("account").hidden = !signedIn;
  show("me", me?.name ?? "");
}

function leave(why = "") {
  rooms.forEach((room) => room.close());
  rooms = [];
  me = null;
  [chat, feed, notifications].forEach((part) => part.reset());
  show("status", why);
  show("sign-out-error", "");
  draw();
}

/** Show the session of this browser. */
async function enter() {
  const mine = (rooms = []);
  try {
    /** @type {User} */
    const user = await account.call("/auth/me");
    if (rooms !== mine) return; // signed out meanwhile
    me = user;
    mine.push(new Live("lobby", account.accessToken, inLobby)); // before its form is shown
    draw();
  } catch (error) {
    if (rooms !== mine) return;
    if (error.status === 401) account.forget();
    return leave(error.status === 401 ? "Please sign in again." : error.message);
  }
  await feed.load(); // without posts the lobby is still of use
  if (rooms === mine) mine.push(new Live("feed", account.accessToken, inFeed));
}

/** @param {Heard} frame */
function inLobby(frame) {
  if (frame.type === "welcome") show("status", "");
  if (frame.type === "offline") show("status", "Reconnecting…");
  if (frame.type === "signed_out") {
    account.forget();
    return leave("Your session has ended.");
  }
  chat.receive(frame, me);
  notifications.receive(frame);
}

/** @param {Heard} frame */
function inFeed(frame) {
  if (frame.type !== "signed_out") feed.receive(frame);
}

onSubmit("sign-in", async ({ email, password }) => {
  await account.signIn(email, password);
  await enter();
});
onSubmit("register", async ({ email, name, password }) => {
  await account.register(email, name, password);
  await enter();
});
onSubmit("new-post", ({ title, body }) => feed.create(title, body));
onSubmit("say", ({ body }) => {
  const id = rooms[0].say(body);
  if (id === null) throw new Error("Too many messages are waiting to be sent.");
  chat.showPending(id, me.name, body);
});

/** @type {NodeListOf<HTMLButtonElement>} */
const demoButtons = document.querySelectorAll("[data-demo]");
for (const button of demoButtons) {
  button.addEventListener("click", () => {
    /** @type {HTMLFormElement} */
    const form = document.querySelector("#sign-in");
    form.email.value = `${button.dataset.demo}@example.com`;
    form.password.value = DEMO_PASSWORD;
    form.requestSubmit();
  });
}
document.getElementById("more-posts").addEventListener("click", () => feed.load());
/** @type {HTMLButtonElement} */
const signOutButton = document.querySelector("#sign-out");
signOutButton.addEventListener("click", async () => {
  signOutButton.disabled = true;
  show("sign-out-error", "");
  try {
    await account.signOut();
    leave();
  } catch (error) {
    if (me) show("sign-out-error", `Signing out is not complete, please try again: ${error.message}`);
  } finally {
    signOutButton.disabled = false;
  }
});

account.onChange(() => {
  const signedIn = account.follow();
  leave(signedIn ? "" : "Your session has ended.");
  if (signedIn) enter();
});

if (account.follow()) await enter();
else draw();
