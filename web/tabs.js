// What the tabs of one browser need to work together: unique names, and a lock.

const CLAIM_MS = 90_000; // a hidden tab's timers may be a minute late
const SEEN_MS = 500; // after which all tabs see what one has stored
const RETRY_MS = 100;

/** A unique name. Works over plain http too, where there is no crypto.randomUUID. */
export function uniqueName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * Run the action while no other tab runs one with the same lock. It must end within 10 s. The lock is
 * kept a moment longer, as other tabs see with a delay what this one has stored.
 */
export function withLock(name, action) {
  return new Promise((done, failed) => {
    const locked = async () => {
      await action().then(done, failed);
      await pause(SEEN_MS);
    };
    // navigator.locks exists only over https and on localhost.
    (navigator.locks ? navigator.locks.request(name, locked) : claimed(`${name}.turn`, locked)).catch(failed);
  });
}

// Fischer's algorithm: claim the lock if it is free, wait until all tabs have seen all claims, and
// check that the claim is still one's own. A claim expires, in case its tab is closed.
async function claimed(key, action) {
  const me = uniqueName();
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
    await action();
  } finally {
    release();
    removeEventListener("pagehide", release);
  }
}
