// Who is signed in: one session for all tabs of the browser, and HTTP calls made with it.
//
// The session is in localStorage. Each tab remembers the name of the session that it shows: if Grace
// signs in in another tab, nothing is done in her name in a tab that shows Ada.

import { uniqueName, withLock } from "./tabs.js";

const KEY = "hubbub.session";
const REFRESH_MS = 10_000;

/**
 * @typedef {import("./types/http.js").TokenPair} TokenPair
 * @typedef {Partial<import("./types/http.js").ProblemDocument>} Problem
 * @typedef {TokenPair & {name: string, expires_at: number}} Session with a name of this browser's
 */

export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {Problem} problem
   */
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

/** @returns {Session | null} */
const stored = () => JSON.parse(localStorage.getItem(KEY));
/** @param {Session} session */
const store = (session) => localStorage.setItem(KEY, JSON.stringify(session));
/** @type {(name: string, pair: TokenPair) => Session} */
const withTokens = (name, pair) => ({ ...pair, name, expires_at: Date.now() + pair.expires_in * 1000 });

/** @type {string | null} */
let shown = null;
let refreshing = null;

/** @param {Session} session */
const isStale = (session) => session.expires_at - Date.now() < 60_000;

/** The session that this tab shows; an error if the browser's session is another one by now. */
function current() {
  const session = stored();
  if (!session || session.name !== shown) throw new ApiError(401, { detail: "signed out" });
  return session;
}

/** Show the browser's session from now on; return false if nobody is signed in. */
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

/** Remove the session that this tab shows, as it is over, for all tabs. */
export function forget() {
  if (stored()?.name === shown) localStorage.removeItem(KEY);
  shown = null;
}

/** @param {string | null} refused */
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
    // Somebody else may have signed in here since.
    if (error instanceof ApiError && error.status === 401 && session.name === shown) forget();
    throw error;
  }
}

/** An access token that is valid for at least a minute, and not the refused one. */
export async function accessToken(refused = null) {
  const session = current();
  if (!isStale(session) && session.access_token !== refused) return session.access_token;
  // Only one tab at a time: a refresh token used twice ends the session.
  refreshing ??= withLock(KEY, () => refreshOnce(refused)).finally(() => (refreshing = null));
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

/** End the session everywhere; if that fails it is kept, as another try needs the same token. */
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
    // The token is too old; or the session is over, and then there is no other token.
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
