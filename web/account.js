// Who is signed in: the token pair, kept for this tab only, and HTTP calls made with it.

const KEY = "hubbub.tokens";

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

let tokens = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
let refreshing = null;

function keep(pair) {
  tokens = pair && { ...pair, expires_at: Date.now() + pair.expires_in * 1000 };
  if (tokens) sessionStorage.setItem(KEY, JSON.stringify(tokens));
  else sessionStorage.removeItem(KEY);
}

async function refresh() {
  // One at a time: a refresh token used twice ends the session.
  refreshing ??= fetch("/auth/token/refresh", json({ refresh_token: tokens.refresh_token }))
    .then(answer)
    .then(keep)
    .catch((error) => {
      if (error instanceof ApiError && error.status === 401) keep(null);
      throw error;
    })
    .finally(() => (refreshing = null));
  await refreshing;
}

export const isSignedIn = () => tokens !== null;

/** An access token with at least a minute to live; a new one if the last was refused. */
export async function accessToken(anew = false) {
  if (tokens === null) throw new ApiError(401, { detail: "signed out" });
  if (anew || tokens.expires_at - Date.now() < 60_000) await refresh();
  return tokens.access_token;
}

export async function signIn(email, password) {
  const body = new URLSearchParams({ grant_type: "password", username: email, password });
  keep(await answer(await fetch("/auth/token", { method: "POST", body })));
}

export async function register(email, name, password) {
  await answer(await fetch("/auth/register", json({ email, name, password })));
  await signIn(email, password);
}

export async function signOut() {
  try {
    await call("/auth/logout", { method: "POST" });
  } finally {
    keep(null);
  }
}

export async function call(path, options = {}) {
  const headers = { ...options.headers, Authorization: `Bearer ${await accessToken()}` };
  return answer(await fetch(path, { ...options, headers }));
}

export const post = (path, body) => call(path, json(body));
