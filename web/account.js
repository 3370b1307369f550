// Who is signed in: one session for all tabs of the browser, and HTTP calls made with it.
//
// It lies where all tabs find it. Each knows the name of the one it shows, so that nothing is
// done in a tab of Ada's as Grace, who has just signed in in another.

import { inTurn, uniqueName } from "./tabs.js";

const KEY = "hubbub.session";
const REFRESH_MS = 10_000;

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

const stored = () => JSON.parse(localStorage.getItem(KEY));
const store = (session) => localStorage.setItem(KEY, JSON.stringify(session));
const withTokens = (name, pair) => ({ ...pair, name, expires_at: Date.now() + pair.expires_in * 1000 });

let shown = null;
let refreshing = null;

const isStale = (session) => session.expires_at - Date.now() < 60_000;

/** The session that this tab shows, if it is still the browser's. */
function current() {
  const session = stored();
  if (!session || session.name !== shown) throw new ApiError(401, { detail: "signed out" });
  return session;
}

/** Show the browser's session from now on; false if nobody is signed in. */
export function follow() {
  shown = stored()?.name ?? null;
  return shown !== null;
}

/** Call back when another tab has signed out or in. */
export function onChange(callback) {
  for (const event of ["storage", "pageshow"]) {
    addEventListener(event, () => (stored()?.name ?? null) !== shown && callback());
  }
}

/** Sign all tabs out of a session that is over. */
export function forget() {
  if (stored()?.name === shown) localStorage.removeItem(KEY);
  shown = null;
}

async function refreshOnce(refused) {
  const session = current();
  // Another tab was first.
  if (session.access_token !== refused && !isStale(session)) return session;
  try {
    const options = json({ refresh_token: session.refresh_token });
    const signal = AbortSignal.timeout(REFRESH_MS);
    const pair = await answer(await fetch("/auth/token/refresh", { ...options, signal }));
    current();
    store(withTokens(session.name, pair));
    return current();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) forget();
    throw error;
  }
}

/** An access token with at least a minute to live, and another one than was refused. */
export async function accessToken(refused = null) {
  const session = current();
  if (!isStale(session) && session.access_token !== refused) return session.access_token;
  // One at a time, in all tabs: a refresh token used twice ends the session.
  refreshing ??= inTurn(KEY, () => refreshOnce(refused)).finally(() => (refreshing = null));
  return (await refreshing).access_token;
}

export async function signIn(email, password) {
  const body = new URLSearchParams({ grant_type: "password", username: email, password });
  const pair = await answer(await fetch("/auth/token", { method: "POST", body }));
  store(withTokens(uniqueName(), pair));
  follow();
}

export async function register(email, name, password) {
  await answer(await fetch("/auth/register", json({ email, name, password })));
  await signIn(email, password);
}

/** End the session for everybody; if that fails it is kept, for it takes the same token to ask again. */
export async function signOut() {
  const held = current().access_token;
  const ask = (token) => callWith(token, "/auth/logout", { method: "POST" });
  const unlessRefused = (error) => {
    if (error.status !== 401) throw error;
  };
  try {
    await ask(held);
  } catch (error) {
    unlessRefused(error);
    // Too old; or the session is over, and then there is no other token.
    await accessToken(held).then(ask).catch(unlessRefused);
  }
  forget();
}

async function callWith(token, path, options) {
  const headers = { ...options.headers, Authorization: `Bearer ${token}` };
  return answer(await fetch(path, { ...options, headers }));
}

export const call = async (path, options = {}) => callWith(await accessToken(), path, options);
export const post = (path, body) => call(path, json(body));
