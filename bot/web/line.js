/**
 * One websocket that keeps itself alive: connects, notices silence, comes back after growing pauses. Knows nothing of what
 * its frames mean; whoever holds it says when the greeting has succeeded. And those who wait for replies on it.
 */

/** @typedef {any} Frame a decoded text frame */
/** @typedef {"closed" | "connecting" | "ready" | "offline"} State */
/** @typedef {{onopen: () => void, onframe: (frame: Frame) => void, onlost: () => void, onstate: (state: State) => void}} Listeners */

import { uploadError } from "./pictures.js";

const READY_TIMEOUT_MS = 20_000;
const DELAYS_MS = { first: 400, longest: 15_000 };
const NETWORK_CHANGES = ["online", "offline"];

export class Line {
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {State} */ #state = "closed";
  /** @type {(() => void)[]} */ #waiting = [];
  #failures = 0;
  #timer = 0;

  /** @param {URL} endpoint @param {Listeners} listeners */
  constructor(endpoint, listeners) {
    this.url = new URL("chat", endpoint);
    this.url.protocol = this.url.protocol.replace("http", "ws");
    this.listeners = listeners;
  }

  get state() {
    return this.#state;
  }

  /** The socket itself, to tell whether it is still the same one. */
  get socket() {
    return this.#socket;
  }

  open() {
    for (const change of NETWORK_CHANGES) window.addEventListener(change, this.reconnect);
    this.#connect();
  }

  close() {
    for (const change of NETWORK_CHANGES) window.removeEventListener(change, this.reconnect);
    this.#drop();
    this.#state = "closed";
  }

  /** The greeting has succeeded. */
  ready() {
    window.clearTimeout(this.#timer);
    this.#failures = 0;
    this.#setState("ready");
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Connect anew, at once. */
  reconnect = () => {
    this.#drop();
    if (!navigator.onLine) return this.#setState("offline");
    this.#failures = 0;
    this.#connect();
  };

  /** This attempt has failed; the next one comes after a pause. */
  retryLater() {
    this.#drop();
    this.#setState("offline");
    const delay = Math.min(DELAYS_MS.longest, DELAYS_MS.first * 2 ** this.#failures++);
    const jitter = 0.5 + Math.random() / 2; // so that a thousand pages do not return in the same instant
    this.#timer = window.setTimeout(() => this.#connect(), delay * jitter);
  }

  /** Resolves once there is a conversation; rejects when `signal` says so. @param {AbortSignal} [signal] @returns {Promise<void>} */
  whenReady(signal) {
    if (this.#state === "ready") return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiting.push(resolve);
      signal?.addEventListener("abort", () => reject(uploadError("cancelled")));
    });
  }

  /** Send a command; without a connection it is dropped. @param {Record<string, unknown>} frame */
  send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #connect() {
    this.#setState("connecting");
    const socket = new WebSocket(this.url);
    this.#socket = socket;
    socket.onopen = () => this.listeners.onopen();
    socket.onmessage = ({ data }) => socket === this.#socket && this.listeners.onframe(JSON.parse(data));
    socket.onclose = () => socket === this.#socket && this.retryLater();
    this.#timer = window.setTimeout(() => this.retryLater(), READY_TIMEOUT_MS);
  }

  #drop() {
    window.clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.listeners.onlost();
  }

  /** @param {State} state */
  #setState(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.listeners.onstate(state);
  }
}

/**
 * Who waits for what the server answers beside turns: parts of the history, in order, and explanations, by turn. Nobody waits
 * for ever: when the line breaks all are told.
 */
export class Replies {
  /** @type {{resolve: (frame: Frame) => void, reject: (error: Error) => void}[]} */ #history = [];
  /** @type {Set<string>} */ #explained = new Set();

  /** @param {(frame: Frame) => void} onexplanation is told each explanation once, or {turn, error: {code, message}} */
  constructor(onexplanation) {
    this.onexplanation = onexplanation;
  }

  /** Ask for a part of the history. @param {Line} line @param {Frame} frame @returns {Promise<Frame>} the `history` frame */
  request(line, frame) {
    if (line.state !== "ready") return Promise.reject(new Error("offline"));
    line.send(frame);
    return new Promise((resolve, reject) => this.#history.push({ resolve, reject }));
  }

  /** @param {Line} line @param {string} turn */
  explain(line, turn) {
    this.#explained.add(turn);
    if (line.state === "ready") line.send({ type: "explain", turn });
    else this.lose();
  }

  /** @param {Frame} frame @returns {boolean} whether somebody has waited for it */
  take(frame) {
    if (frame.type === "history") this.#history.shift()?.resolve(frame);
    else if (frame.type === "explanation") this.#explained.delete(frame.turn) && this.onexplanation(frame);
    else if (frame.type === "error" && this.#explained.delete(frame.id)) this.onexplanation({ turn: frame.id, error: frame });
    else return false;
    return true;
  }

  /** An error that names nobody is the answer to what was asked first. @param {string} code */
  refuse(code) {
    this.#history.shift()?.reject(new Error(code));
  }

  /** Another conversation begins: its history is another one. */
  forget() {
    for (const { reject } of this.#history.splice(0)) reject(new Error("another conversation"));
  }

  /** The line is broken. */
  lose() {
    this.forget();
    const error = { code: "network", message: "offline" };
    for (const turn of this.#explained) this.onexplanation({ turn, error });
    this.#explained.clear();
  }
}
