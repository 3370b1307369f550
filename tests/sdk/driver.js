// Drives the SDK as tests say: one local socket a test, a JSON object a line in both directions.
//
//   {"id": 1, "name": "ann", "method": "open", "args": [{version, transport, url, ...options}]}
//   {"id": 2, "name": "ann", "method": "publish", "args": ["news", {"text": "hi"}]}
//   {"id": 3, "name": "ann", "channel": "news", "method": "history", "args": [{"limit": 10}]}
//
// is answered {"id", "result"} or {"id", "error"}; what the SDK emits comes as
// {"name", "channel", "event", ...}. A socket's clients end with it, the process with its input.
"use strict";
const net = require("node:net");
const readline = require("node:readline");
const { WebSocket } = require("ws");

const VERSIONS = {
  "5.8.0": { sdk: require("centrifuge"), eventsource: require("eventsource").EventSource },
  "5.7.1": { sdk: require("centrifuge-5.7.1"), eventsource: require("eventsource-2") },
};
const CLIENT_EVENTS = [
  "connecting", "connected", "disconnected", "error", "message",
  "subscribing", "subscribed", "unsubscribed", "publication", "join", "leave",
];
const SUBSCRIPTION_EVENTS = [
  "subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error",
];
const QUICK = { minReconnectDelay: 20, maxReconnectDelay: 200 };
const QUICK_AGAIN = { minResubscribeDelay: 20, maxResubscribeDelay: 200 };

class ThrownByHandler extends Error {}
process.on("uncaughtException", (error) => {
  if (error instanceof ThrownByHandler) return;
  console.error(error);
  process.exit(1);
});
// 5.7.1 waits for none of its own posts, which may fail.
process.on("unhandledRejection", (error) => console.error(String(error)));

class Client {
  constructor(tell, { version, transport, url, cookie, throws = 0, ...options }) {
    const { sdk, eventsource } = VERSIONS[version];
    this.sdk = sdk;
    this.tell = tell;
    this.throws = throws; // so often the handler of publications throws
    this.own = new sdk.Centrifuge(endpoint(transport, url), {
      ...QUICK,
      emulationEndpoint: `${url}/emulation`,
      readableStream: ReadableStream,
      ...asBrowser(eventsource, cookie),
      ...this.withFunctions(options),
    });
    this.listen(this.own, CLIENT_EVENTS, (context) => context.channel);
  }

  listen(emitter, events, channelOf) {
    for (const event of events) {
      emitter.on(event, (context) => {
        const ofSubscription = emitter !== this.own;
        this.tell({ event, ...context, channel: channelOf(context), ofSubscription });
        if (event === "publication" && this.throws-- > 0) throw new ThrownByHandler();
      });
    }
  }

  // `tokens` and `positions` stand for `getToken` and `getState`: they are given out one after
  // another, the last one again and again. A token that is null is for who may no longer.
  withFunctions({ tokens, positions, ...options }, channel) {
    const given = (event, values) => {
      const left = [...values];
      return async () => {
        this.tell({ event, channel });
        const value = left.length > 1 ? left.shift() : left[0];
        if (value === null) throw new this.sdk.UnauthorizedError("no longer");
        return value;
      };
    };
    if (tokens !== undefined) options.getToken = given("token", tokens);
    if (positions !== undefined) options.getState = given("position", positions);
    return options;
  }

  newSubscription(channel, options = {}) {
    const ready = { ...QUICK_AGAIN, ...this.withFunctions(options, channel) };
    this.listen(this.own.newSubscription(channel, ready), SUBSCRIPTION_EVENTS, () => channel);
  }

  async call(channel, method, args) {
    if (method === "newSubscription") return this.newSubscription(channel, ...args);
    const target = channel === undefined ? this.own : this.own.getSubscription(channel);
    return target[method](...args);
  }
}

// What a browser does by itself: it sends the cookie of the site with every request.
function asBrowser(eventsource, cookie) {
  if (cookie === undefined) return { eventsource, fetch, websocket: WebSocket };
  const headers = { Cookie: cookie };
  const fetchAs = (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...headers } });
  return {
    eventsource: class extends eventsource {
      constructor(url, init) {
        super(url, { ...init, headers, fetch: fetchAs }); // older ones know the one, newer the other
      }
    },
    fetch: fetchAs,
    websocket: class extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols, { headers });
      }
    },
  };
}

function endpoint(transport, url) {
  if (transport === "websocket") return `${url.replace("http", "ws")}/connection/websocket`;
  return [{ transport, endpoint: `${url}/connection/${transport}` }];
}

const server = net.createServer((socket) => {
  const clients = new Map();
  const write = (message) => socket.writable && socket.write(`${JSON.stringify(message)}\n`);
  const carryOut = async ({ name, channel, method, args }) => {
    if (method !== "open") return clients.get(name).call(channel, method, args);
    clients.set(name, new Client((event) => write({ name, ...event }), args[0]));
  };
  const lines = readline.createInterface({ input: socket });
  lines.on("line", async (line) => {
    const command = JSON.parse(line);
    try {
      write({ id: command.id, result: await carryOut(command) });
    } catch ({ code, message, stack }) {
      write({ id: command.id, error: { code, message: code === undefined ? stack : message } });
    }
  });
  for (const each of [socket, lines]) each.on("error", () => {}); // a test may end at any time
  socket.on("close", () => clients.forEach((client) => client.own.disconnect()));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
