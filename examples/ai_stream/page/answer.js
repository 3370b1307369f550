// Shows one answer while it is written. The address names it, so a page that is loaded again shows
// the same: first all that there is of it, and then what comes.
const PAGE = 100; // publications read at a time
const ENDS = { finished: "Finished.", stopped: "Stopped.", failed: "The model failed." };

const part = (id) => document.getElementById(id);
const post = async (path, body) => {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
};

const { user, token, gateway } = await post("/session", {});
const centrifuge = new Centrifuge(gateway, {
  token,
  getToken: async () => (await post("/session", {})).token,
});
centrifuge.connect();

let following = null;

function follow(answer) {
  if (following) centrifuge.removeSubscription(following);
  const channel = `answers:${answer}#${user}`;
  // The SDK asks for the state at the beginning, and whenever it missed more than it can be sent.
  following = centrifuge.newSubscription(channel, { getState: () => readSoFar(channel) });
  following.on("publication", ({ data }) => show(data));
  following.on("unsubscribed", ({ code, reason }) => {
    if (code) end(`Not to be had: ${reason}`); // else it was for the next one
  });
  following.subscribe();
}

// Shows all that was published so far, and returns the position from which to go on.
async function readSoFar(channel) {
  clear();
  let since;
  for (;;) {
    const page = await centrifuge.history(channel, { limit: PAGE, since });
    if (!since && !page.publications.length) end("There is no such answer.");
    for (const { data } of page.publications) show(data);
    if (page.publications.length < PAGE) return { offset: page.offset, epoch: page.epoch };
    since = { offset: page.publications.at(-1).offset, epoch: page.epoch };
  }
}

function clear() {
  part("question").textContent = part("answer").textContent = "";
  part("status").textContent = "Writing…";
  part("stop").hidden = false;
}

function show({ question, text, end: how }) {
  if (question) part("question").textContent = question;
  if (text) part("answer").append(text);
  if (how) end(ENDS[how]);
}

function end(status) {
  part("status").textContent = status;
  part("stop").hidden = true;
}

part("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = new FormData(event.target).get("question");
  location.hash = (await post("/questions", { question })).answer;
});
part("send").disabled = false; // before, the browser would send the form itself
part("stop").addEventListener("click", () =>
  centrifuge.rpc(`stop_answer.${location.hash.slice(1)}`, {}).catch(({ message }) => {
    part("status").textContent = `Not stopped: ${message}`;
  }),
);

const followTheAddress = () => location.hash && follow(location.hash.slice(1));
addEventListener("hashchange", followTheAddress);
followTheAddress();
