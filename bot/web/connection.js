// @ts-check
/**
 * The wire, version 1, from the browser's side: one websocket that keeps itself alive, one turn at a time that is neither
 * lost nor asked twice, and picture uploads. Knows nothing of the page: whoever shows a conversation listens to its events.
 *
 * Events, each a `CustomEvent`:
 * - `status`  {state: "connecting" | "ready" | "offline"}
 * - `ready`   the server's ready frame; `lost: true` when the stored conversation was gone and a new one was begun
 * - `turn`    every turn.* frame of the pending turn, each once (duplicates after a resume are dropped)
 * - `problem` an error frame that belongs to no turn
 * - `explanation` the answer to `explain`, or {turn, error: {code, message}}
 * - `sessions`, `title`, `feedback`, `forgotten`: the server's frames of these names
 * - `elsewhere` {pending?}: another tab has asked something in this conversation, or changed its branch
 */

/** @typedef {{image: string, width?: number, height?: number}} Picture */
/** @typedef {{image: string, x: number, y: number, w: number, h: number}} Region a part of a picture, in shares 0..1 of it */
/**
 * A question on its way; `replaces` is the turn in whose place it is asked: with its own words again, or `edited`.
 * @typedef {{id: string, text: string, pictures: Picture[], region: Region | null, replaces?: string | null, edited?: boolean,
 *   model?: string, acknowledged: boolean, cancelled: boolean}} PendingTurn
 */
/** A token, or what fetches a fresh one before each connection. @typedef {string | (() => string | Promise<string>)} Token */
/** @typedef {any} Frame a decoded text frame */

import { Memory, newId } from "./memory.js";
import { upload, uploadError } from "./upload.js";

const VERSION = 1;
const READY_TIMEOUT_MS = 20_000;
const DELAYS_MS = { first: 400, longest: 15_000 };
const NETWORK_CHANGES = ["online", "offline"];
export const FINAL = new Set(["turn.completed", "turn.failed", "turn.cancelled"]);
const HOPELESS = new Set(["unsupported_version", "unauthorized", "bad_request"]);
const LOST = new Set(["replay_expired", "unknown_turn"]);
const PASSED_ON = new Set(["sessions", "title", "feedback", "forgotten"]);

export class Connection extends EventTarget {
  /** Of this server, for what tabs share. */ #name;
  #memory;
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {"closed" | "connecting" | "ready" | "offline"} */ #state = "closed";
  /** @type {PendingTurn | null} */ #pending = null;
  /** Who shall answer, of those in `ready`; empty: the default one. */ #model = "";
  #session = "";
  #seen = { attempt: 0, seq: 0 };
  #lost = false;
  /** Turns whose explanation is waited for. @type {Set<string>} */ #explained = new Set();
  /**
   * Requests for parts of the history, answered in order.
   * @type {{resolve: (frame: Frame) => void, reject: (error: Error) => void}[]}
   */
  #asked = [];
  /** @type {BroadcastChannel | null} */ #tabs = null;
  #failures = 0;
  #timer = 0;

  /**
   * @param {{endpoint: string | URL, token?: Token}} options `endpoint`: the address under which `chat` and `v1/images` are
   *   found; `token`: who the person is, by default a secret that this browser makes up
   */
  constructor({ endpoint, token }) {
    super();
    this.endpoint = new URL(endpoint);
    this.token = token;
    this.#name = `visavis:${this.endpoint.href}`;
    this.#memory = new Memory(this.#name);
    ({ session: this.#session, pending: this.#pending, model: this.#model } = this.#memory.load());
  }

  get session() {
    return this.#session;
  }

  get model() {
    return this.#model;
  }

  set model(name) {
    this.#model = name;
    this.#save();
  }

  /** The turn that waits for its answer; it outlives a reload. */
  get pending() {
    return this.#pending;
  }

  /** Connect and stay connected until `close`. */
  open() {
    if (this.#state !== "closed") return;
    this.#tabs = new BroadcastChannel(this.#name);
    this.#tabs.onmessage = ({ data }) => data.session === this.#session && this.#emit("elsewhere", data);
    for (const change of NETWORK_CHANGES) window.addEventListener(change, this.#reconnect);
    this.#connect();
  }

  close() {
    for (const change of NETWORK_CHANGES) window.removeEventListener(change, this.#reconnect);
    this.#tabs?.close();
    this.#drop();
    this.#state = "closed";
  }

  /** Try at once instead of waiting for the next attempt. */
  retry() {
    if (this.#state === "offline") this.#reconnect();
  }

  /**
   * Ask, now or as soon as there is a connection, and again until acknowledged.
   *
   * @param {string} text @param {Picture[]} pictures @param {Region | null} region
   */
  ask(text, pictures, region = null) {
    return this.#begin({ text, pictures, region });
  }

  /**
   * Ask a question of this conversation again in its own place, or `text` instead.
   *
   * @param {PendingTurn} turn @param {string} [text]
   */
  askAgain({ id, text: asked, pictures, region }, text) {
    return this.#begin({ text: text ?? asked, pictures, region, replaces: id, edited: text !== undefined });
  }

  /** @param {Omit<PendingTurn, "id" | "acknowledged" | "cancelled">} question */
  #begin(question) {
    const turn = { ...question, id: newId(), model: this.#model || undefined, acknowledged: false, cancelled: false };
    this.join(turn);
    return turn;
  }

  /** Say a turn, or say it again to hear its answer as well. @param {PendingTurn} turn */
  join(turn) {
    this.follow(turn);
    this.#sendPending();
  }

  /** Older turns than `before`, or the latest ones. @param {string} [before] @returns {Promise<Frame>} the `history` frame */
  history(before) {
    return this.#request({ type: "history", before });
  }

  /** Go back to the branch with a turn. @param {string} turn @returns {Promise<Frame>} the `history` frame */
  async select(turn) {
    const frame = await this.#request({ type: "select", turn });
    this.#tabs?.postMessage({ session: this.#session });
    return frame;
  }

  /** Leave this conversation for another one of the same person; `ready` follows, or `problem`. @param {string} session */
  async enter(session) {
    this.settle();
    this.send({ type: "hello", version: VERSION, session, token: await this.#person() });
  }

  /** Stop the pending turn; a turn that never reached the server is dropped here. */
  cancel() {
    const turn = this.#pending;
    if (!turn) return;
    turn.cancelled = true;
    this.#save();
    if (this.#state === "ready") this.send({ type: "cancel", turn: turn.id });
    else if (!turn.acknowledged) this.#finish({ type: "turn.cancelled", turn: turn.id, text: "" });
  }

  /** Ask where in the picture an answer came from; `explanation` follows. @param {string} turn */
  explain(turn) {
    this.#explained.add(turn);
    if (this.#state === "ready") this.send({ type: "explain", turn });
    else this.#explain({ turn, error: { code: "network", message: "offline" } });
  }

  /**
   * Wait for the answer to a turn, to be said at the next `ready`: under an id that is known this only listens.
   *
   * @param {PendingTurn} turn
   */
  follow(turn) {
    this.#pending = turn;
    this.#seen = { attempt: 0, seq: 0 };
    this.#save();
  }

  /** Forget what was pending: its answer is in the history, or will never come. */
  settle() {
    this.#pending = null;
    this.#save();
  }

  /** Leave this conversation for an empty one; `ready` follows. */
  startNew() {
    this.settle();
    if (this.#state === "ready") return this.send({ type: "new" });
    this.#session = "";
    this.#save();
    this.#reconnect();
  }

  /** The address of a picture of this conversation. @param {string} image sha256 */
  imageUrl(image) {
    const url = new URL(`v1/images/${encodeURIComponent(image)}`, this.endpoint);
    url.searchParams.set("session", this.#session);
    return url.href;
  }

  /**
   * What a picture shows, in the model's words; empty when that cannot be had.
   *
   * @param {string} image @returns {Promise<string>}
   */
  async describe(image) {
    const response = await fetch(this.imageUrl(image).replace("?", "/alt?")).catch(() => null);
    return response?.ok ? (await response.json()).alt : "";
  }

  /**
   * Store a picture, once there is a session to store it for; rejects with an error that has a `code`.
   *
   * @param {Blob} blob
   * @param {{onprogress?: (share: number) => void, signal?: AbortSignal}} [options] share: 0..1
   * @returns {Promise<Picture>}
   */
  async upload(blob, { onprogress, signal } = {}) {
    await this.#whenReady(signal);
    return upload(new URL("v1/images", this.endpoint), this.#session, blob, { onprogress, signal });
  }

  #connect() {
    this.#setState("connecting");
    const url = new URL("chat", this.endpoint);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.onopen = () => this.#hello();
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = () => socket === this.#socket && this.#retryLater();
    this.#timer = window.setTimeout(() => this.#retryLater(), READY_TIMEOUT_MS);
  }

  #drop() {
    window.clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #retryLater() {
    this.#drop();
    this.#fail(new Error("offline"));
    for (const turn of this.#explained) this.#explain({ turn, error: { code: "network", message: "offline" } });
    this.#setState("offline");
    const delay = Math.min(DELAYS_MS.longest, DELAYS_MS.first * 2 ** this.#failures++);
    const jitter = 0.5 + Math.random() / 2; // so that a thousand pages do not return in the same instant
    this.#timer = window.setTimeout(() => this.#connect(), delay * jitter);
  }

  #reconnect = () => {
    this.#drop();
    if (!navigator.onLine) return this.#setState("offline");
    this.#failures = 0;
    this.#connect();
  };

  /** Send a command; without a connection it is dropped. @param {Record<string, unknown>} frame */
  send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  /** @param {Record<string, unknown>} frame @returns {Promise<Frame>} */
  #request(frame) {
    return new Promise((resolve, reject) => {
      if (this.#state !== "ready") return reject(new Error("offline"));
      this.#asked.push({ resolve, reject });
      this.send(frame);
    });
  }

  /** Who the person is. */
  async #person() {
    if (!this.token) return this.#memory.person();
    return typeof this.token === "function" ? await this.token() : this.token;
  }

  async #hello() {
    const socket = this.#socket;
    const token = await this.#person().catch(() => socket?.close());
    if (socket !== this.#socket) return;
    const turn = this.#pending;
    const resume = turn?.acknowledged ? { turn: turn.id, attempt: this.#seen.attempt || 1, seq: this.#seen.seq } : undefined;
    this.send({ type: "hello", version: VERSION, session: this.#session || undefined, token, resume });
  }

  #sendPending() {
    const turn = this.#pending;
    if (!turn || this.#state !== "ready") return;
    const images = turn.pictures.map(({ image }) => image);
    const region = turn.region ?? undefined;
    const { id, text, replaces, model } = turn;
    if (!turn.acknowledged) {
      if (!replaces) this.send({ type: "turn", id, text, images, region, model });
      else if (turn.edited) this.send({ type: "edit", turn: replaces, id, text, model });
      else this.send({ type: "regenerate", turn: replaces, id, model });
    }
    if (turn.cancelled) this.send({ type: "cancel", turn: turn.id });
  }

  /** @param {Frame} frame */
  #receive(frame) {
    if (frame.type === "ready") this.#welcome(frame);
    else if (frame.type === "explanation") this.#explain(frame);
    else if (frame.type === "history") this.#asked.shift()?.resolve(frame);
    else if (PASSED_ON.has(frame.type)) this.#emit(frame.type, frame);
    else if (frame.type === "error" && this.#explained.has(frame.id)) this.#explain({ turn: frame.id, error: frame });
    else if (frame.type === "error") this.#complain(frame);
    else if (frame.type.startsWith("turn.") && this.#isNew(frame)) this.#finish(frame);
  }

  /** @param {Frame} frame */
  #welcome(frame) {
    window.clearTimeout(this.#timer);
    this.#failures = 0;
    this.#session = frame.session;
    this.#fail(new Error("another conversation"));
    this.#save();
    this.#setState("ready");
    this.#emit("ready", { ...frame, lost: this.#lost });
    this.#lost = false;
    this.#sendPending();
  }

  /** @param {Frame} frame */
  #isNew(frame) {
    const { attempt, seq } = this.#seen;
    if (frame.turn !== this.#pending?.id || frame.attempt < attempt) return false;
    if (frame.attempt === attempt && frame.seq <= seq) return false;
    this.#seen = { attempt: frame.attempt, seq: frame.seq };
    return true;
  }

  /** @param {Frame} frame */
  #explain(frame) {
    if (this.#explained.delete(frame.turn)) this.#emit("explanation", frame);
  }

  /** Pass a frame of the pending turn on, and let go of the turn after its last one. @param {Frame} frame */
  #finish(frame) {
    if (FINAL.has(frame.type)) this.settle();
    else if (this.#pending && !this.#pending.acknowledged) {
      this.#pending.acknowledged = true;
      this.#save();
      this.#tabs?.postMessage({ session: this.#session, pending: { ...this.#pending, acknowledged: false } });
    }
    this.#emit("turn", frame);
  }

  /** @param {Frame} frame */
  #complain(frame) {
    const { code } = frame;
    const turn = this.#pending;
    if (code === "unknown_session" && this.#state !== "ready") return this.#beginAgain();
    if (HOPELESS.has(code) && this.#state !== "ready") this.close();
    else if (this.#state !== "ready") return this.#retryLater(); // no hello has succeeded: for example, the store is away
    if (turn && (frame.id === turn.id || LOST.has(code))) this.#finish({ ...frame, type: "turn.failed", turn: turn.id });
    else {
      this.#asked.shift()?.reject(new Error(code));
      this.#emit("problem", frame);
    }
  }

  /** Nobody will answer what was asked of the history. @param {Error} error */
  #fail(error) {
    for (const { reject } of this.#asked.splice(0)) reject(error);
  }

  /** The server does not know the stored conversation: say so, and begin a new one. */
  #beginAgain() {
    this.#lost = true;
    this.#session = "";
    this.settle();
    this.#hello();
  }

  /** @param {"connecting" | "ready" | "offline"} state */
  #setState(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#emit("status", { state });
  }

  /** @param {string} type @param {unknown} detail */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** @param {AbortSignal} [signal] @returns {Promise<void>} */
  #whenReady(signal) {
    if (this.#state === "ready") return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.addEventListener("ready", () => resolve(), { once: true, signal });
      signal?.addEventListener("abort", () => reject(uploadError("cancelled")));
    });
  }

  #save() {
    this.#memory.save({ session: this.#session, pending: this.#pending, model: this.#model });
  }
}
