// What the tabs of one browser need to get along: names of their own, and turns.

const CLAIM_MS = 90_000; // a hidden tab's timers may take a minute
const SEEN_MS = 500;
const RETRY_MS = 100;

/** A name that nobody else has. Over plain http too, where there is no crypto.randomUUID. */
export function uniqueName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Run the action while no other tab runs one of the same name. It must end within 10 s. */
export function inTurn(name, action) {
  // Only where the connection is secure are there locks.
  return navigator.locks ? navigator.locks.request(name, action) : claimed(`${name}.turn`, action);
}

// Fischer's algorithm: claim it if nobody has; who still has it once all must have seen each
// other's claims is the one. A claim runs out, for tabs that are closed meanwhile.
async function claimed(key, action) {
  const me = uniqueName();
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const owner = () => {
    const { by, until } = JSON.parse(localStorage.getItem(key) ?? "{}");
    return until > Date.now() && until <= Date.now() + CLAIM_MS ? by : null;
  };
  while (owner() !== me) {
    while (owner() !== null) await pause(RETRY_MS * (1 + Math.random()));
    localStorage.setItem(key, JSON.stringify({ by: me, until: Date.now() + CLAIM_MS }));
    await pause(SEEN_MS);
  }
  const release = () => owner() === me && localStorage.removeItem(key);
  addEventListener("pagehide", release);
  try {
    return await action();
  } finally {
    release();
    removeEventListener("pagehide", release);
  }
}
