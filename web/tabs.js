// What the tabs of one browser need to get along: names of their own, and turns.

const CLAIM_MS = 90_000; // a hidden tab's timers may take a minute
const SEEN_MS = 500;
const RETRY_MS = 100;

/** A name that nobody else has. Over plain http too, where there is no crypto.randomUUID. */
export function uniqueName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * Run the action while no other tab runs one of the same name. It must end within 10 s. The next
 * one's turn comes when it must have seen what this one stored: storage takes its time between tabs.
 */
export function inTurn(name, action) {
  return new Promise((done, failed) => {
    const turn = async () => {
      await action().then(done, failed);
      await pause(SEEN_MS);
    };
    // Only where the connection is secure are there locks.
    (navigator.locks ? navigator.locks.request(name, turn) : claimed(`${name}.turn`, turn)).catch(failed);
  });
}

// Fischer's algorithm: claim it if nobody has; who still has it once all must have seen each
// other's claims is the one. A claim runs out, for tabs that are closed meanwhile.
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
