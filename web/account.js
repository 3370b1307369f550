// Who is signed in: one session for all tabs that hold it, and HTTP calls made with it.
//
// A tab keeps the name of its session; the token pair lies where all tabs find it, under that
// name. So a duplicated tab, which is born with a copy of what the first one keeps, shares its
// session, and another window may be somebody else's.

import { inTurn, uniqueName } from "./tabs.js";

const NAME = "hubbub.session";
const REFRESH_MS = 10_000;
const UNUSED_MS = 30 * 24 * 3600_000;
const keyOf = (name) => `${NAME}.${name}`;

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? "the server did not answer as expected");
    this.status = status;
    this.code = problem.code ?? "error";
  }
}

async function answer(response) {
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, body);
  return body;
}

const json = (body) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

let name = sessionStorage.getItem(NAME);
let given = null;
let refreshing = null;

const kept = () => name && JSON.parse(localStorage.getItem(keyOf(name)));
const isStale = (tokens) => tokens.expires_at - Date.now() < 60_000;

function keep(pair) {
  const tokens = { ...pair, expires_at: Date.now() + pair.expires_in * 1000, kept_at: Date.now() };
  localStorage.setItem(keyOf(name), JSON.stringify(tokens));
  return tokens;
}

function begin(pair) {
  name = uniqueName();
  sessionStorage.setItem(NAME, name);
  keep(pair);
}

function forget() {
  if (name) localStorage.removeItem(keyOf(name));
  sessionStorage.removeItem(NAME);
  name = null;
}

/** Whose tabs were closed long ago can't be refreshed any more. */
function forgetUnused() {
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(keyOf(""))) continue;
    const { kept_at, until } = JSON.parse(localStorage.getItem(key) ?? "{}");
    if (Date.now() - (kept_at ?? until) > UNUSED_MS) localStorage.removeItem(key);
  }
}

forgetUnused();

/** Call back when another tab has ended the session of this one. */
export function onEnded(callback) {
  addEventListener("storage", ({ key, newValue }) => {
    if (name && key === keyOf(name) && newValue === null) {
      forget();
      callback();
    }
  });
}

async function refreshOnce() {
  const tokens = kept();
  if (!tokens) throw new ApiError(401, { detail: "signed out" });
  // Another tab was first.
  if (tokens.access_token !== given && !isStale(tokens)) return tokens;
  try {
    const options = json({ refresh_token: tokens.refresh_token });
    const signal = AbortSignal.timeout(REFRESH_MS);
    const pair = await answer(await fetch("/auth/token/refresh", { ...options, signal }));
    if (!kept()) throw new ApiError(401, { detail: "signed out meanwhile" });
    return keep(pair);
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) forget();
    throw error;
  }
}

export const isSignedIn = () => Boolean(kept());

/** An access token with at least a minute to live; a new one if the last was refused. */
export async function accessToken(anew = false) {
  let tokens = kept();
  if (!tokens) throw new ApiError(401, { detail: "signed out" });
  if (isStale(tokens) || (anew && tokens.access_token === given)) {
    // One at a time, in all tabs: a refresh token used twice ends the session.
    refreshing ??= inTurn(keyOf(name), refreshOnce).finally(() => (refreshing = null));
    tokens = await refreshing;
  }
  given = tokens.access_token;
  return given;
}

export async function signIn(email, password) {
  const body = new URLSearchParams({ grant_type: "password", username: email, password });
  begin(await answer(await fetch("/auth/token", { method: "POST", body })));
}

export async function register(email, name, password) {
  await answer(await fetch("/auth/register", json({ email, name, password })));
  await signIn(email, password);
}

export async function signOut() {
  try {
    await call("/auth/logout", { method: "POST" });
  } finally {
    forget();
  }
}

export async function call(path, options = {}) {
  const headers = { ...options.headers, Authorization: `Bearer ${await accessToken()}` };
  return answer(await fetch(path, { ...options, headers }));
}

export const post = (path, body) => call(path, json(body));
