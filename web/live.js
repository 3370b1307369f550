// One room over one WebSocket, which reconnects by itself and misses nothing.

import { uniqueName } from "./tabs.js";

const PING_MS = 20_000;
const SILENCE_MS = 45_000;
const RETRY_MS = { first: 300, max: 10_000 };
const RESEND_MS = 2_000;
const MAX_PENDING = 100;
const REFUSALS = ["Invalid token", "Token expired"];

/**
 * @typedef {import("./types/messages.js").ChatSends} Frame
 * @typedef {import("./types/messages.js").PublishMessage} PublishMessage
 * @typedef {{type: "offline", code: number, reason: string} | {type: "signed_out"}} Lost
 * @typedef {Frame | Lost} Heard
 */

export class Live {
  #room; #token; #on; #socket = null; #since = null; #epoch = null;
  #pending = new Map(); #attempts = 0; #timers = []; #retry = null; #closed = false; #heard = 0;
  #refused = null;

  /**
   * @param {string} room
   * @param {(refused?: string) => Promise<string>} token gives an access token, but not the
   *   refused one
   * @param {(heard: Heard) => void} on called with every frame of the server, and with losses
   */
  constructor(room, token, on) {
    this.#room = room;
    this.#token = token;
    this.#on = on;
    this.#open();
  }

  /** Send a message; it is sent again until the server acknowledges it. */
  say(body) {
    if (this.#pending.size >= MAX_PENDING) return null;
    /** @type {PublishMessage} */
    const command = { type: "message", id: uniqueName(), body };
    this.#pending.set(command.id, command);
    this.#send(command);
    return command.id;
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#stopTimers();
    this.#socket?.close();
  }

  /** @param {import("./types/messages.js").ChatReceives | undefined} command */
  #send(command) {
    if (command && this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify(command));
    }
  }

  async #open() {
    let token;
    try {
      token = await this.#token(this.#refused);
    } catch (error) {
      if (this.#closed) return;
      if (error.status === 401) this.#on({ type: "signed_out" });
      else this.#later();
      return;
    }
    if (this.#closed) return;
    const query = new URLSearchParams({ room: this.#room });
    if (this.#since === null) query.set("history", "50");
    else {
      query.set("since", this.#since);
      query.set("epoch", this.#epoch);
    }
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/chat?${query}`, ["bearer", token]);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#lost(code, reason, token);
  }

  /** @param {Frame} frame */
  #receive(frame) {
    this.#heard = Date.now();
    if (frame.type === "welcome") {
      this.#attempts = 0;
      if (frame.epoch !== this.#epoch) this.#since = null;
      this.#epoch = frame.epoch;
      this.#startTimers();
      for (const command of this.#pending.values()) this.#send(command);
    }
    if (frame.type === "error" && frame.code === "unavailable" && this.#pending.has(frame.id)) {
      // It may be stored or not: send it again with the same id.
      setTimeout(() => this.#send(this.#pending.get(frame.id)), RESEND_MS);
      return;
    }
    if (frame.type === "ack" || frame.type === "error") this.#pending.delete(frame.id);
    // An ack has the offset of one's own message; earlier ones may not have come yet. What
    // `history` brings is older than the welcome's offset.
    if ("offset" in frame && frame.type !== "ack") {
      this.#since = Math.max(this.#since ?? 0, frame.offset);
    }
    this.#on(frame);
  }

  #startTimers() {
    this.#stopTimers();
    this.#timers = [
      setInterval(() => {
        if (Date.now() - this.#heard > SILENCE_MS) this.#socket.close();
        else this.#send({ type: "ping" });
      }, PING_MS),
      setInterval(async () => {
        try {
          this.#send({ type: "auth", token: await this.#token() });
        } catch {
          // The server closes the socket when the old token expires; the next connect says why.
        }
      }, 60_000),
    ];
  }

  #stopTimers() {
    this.#timers.forEach(clearInterval);
    this.#timers = [];
  }

  #lost(code, reason, token) {
    this.#stopTimers();
    if (this.#closed) return;
    this.#on({ type: "offline", code, reason });
    if (code === 1008 && reason === "Session ended") {
      this.#on({ type: "signed_out" });
      return;
    }
    if (code === 1008 && REFUSALS.includes(reason)) this.#refused = token;
    this.#later();
  }

  #later() {
    const wait = Math.min(RETRY_MS.max, RETRY_MS.first * 2 ** this.#attempts++);
    this.#retry = setTimeout(() => this.#open(), wait * (0.5 + Math.random() / 2));
  }
}
