/**
 * The wire, version 1, from the browser's side: one websocket that keeps itself alive, one turn at a time that is neither
 * lost nor asked twice, and picture uploads. Knows nothing of the page: whoever shows a conversation listens to its events (`docs/embedding.md`).
 */

/** A token, or what fetches a fresh one before each connection. @typedef {string | (() => string | Promise<string>)} Token */
/** @import { Frame } from "./line.js" */
/** @import { PendingTurn, Region } from "./memory.js" */
/** @import { Picture } from "./pictures.js" */

import { Line, Replies } from "./line.js";
import { Memory, newTurn } from "./memory.js";
import { Pictures } from "./pictures.js";

const VERSION = 1;
export const FINAL = new Set(["turn.completed", "turn.failed", "turn.cancelled"]);
const HOPELESS = new Set(["unsupported_version", "unauthorized", "bad_request"]);
const LOST = new Set(["replay_expired", "unknown_turn"]);
const PASSED_ON = new Set(["sessions", "title", "feedback", "forgotten"]);

export class Connection extends EventTarget {
  #memory;
  #line;
  #replies = new Replies((frame) => this.#emit("explanation", frame));
  #lost = false;
  /** @type {BroadcastChannel | null} */ #tabs = null;

  /**
   * @param {{endpoint: string | URL, token?: Token}} options `endpoint`: the address under which `chat` and `v1/images` are
   *   found; `token`: who the person is, by default a secret that this browser makes up
   */
  constructor({ endpoint, token }) {
    super();
    this.endpoint = new URL(endpoint);
    this.token = token;
    this.#memory = new Memory(`visavis:${this.endpoint.href}`);
    this.#line = new Line(this.endpoint, {
      onopen: () => void this.#hello(),
      onframe: (frame) => this.#receive(frame),
      onlost: () => this.#replies.lose(),
      onstate: (state) => this.#emit("status", { state }),
    });
    this.pictures = new Pictures(this.endpoint, () => this.session, (signal) => this.#line.whenReady(signal));
  }

  get session() {
    return this.#memory.session;
  }

  get model() {
    return this.#memory.model;
  }

  set model(name) {
    this.#memory.model = name;
    this.#memory.save();
  }

  /** The turn that waits for its answer; it outlives a reload. */
  get pending() {
    return this.#memory.turn;
  }

  /** Connect and stay connected until `close`. */
  open() {
    if (this.#line.state !== "closed") return;
    this.#tabs = new BroadcastChannel(this.#memory.key);
    this.#tabs.onmessage = ({ data }) => data.session === this.session && this.#emit("elsewhere", data);
    this.#line.open();
  }

  close() {
    this.#tabs?.close();
    this.#line.close();
  }

  /** Try at once instead of waiting for the next attempt. */
  retry() {
    if (this.#line.state === "offline") this.#line.reconnect();
  }

  /**
   * Ask, now or as soon as there is a connection, and again until acknowledged.
   *
   * @param {string} text @param {Picture[]} pictures @param {Region | null} region
   */
  ask(text, pictures, region = null) {
    return this.join(newTurn({ text, pictures, region }, this.model));
  }

  /**
   * Ask a question of this conversation again in its own place, or `text` instead.
   *
   * @param {PendingTurn} turn @param {string} [text]
   */
  askAgain({ id, text: asked, pictures, region }, text) {
    const question = { text: text ?? asked, pictures, region, replaces: id, edited: text !== undefined };
    return this.join(newTurn(question, this.model));
  }

  /** Say a turn, or say it again to hear its answer as well. @param {PendingTurn} turn */
  join(turn) {
    this.follow(turn);
    this.#sendPending();
    return turn;
  }

  /** Older turns than `before`, or the latest ones. @param {string} [before] @returns {Promise<Frame>} the `history` frame */
  history(before) {
    return this.#replies.request(this.#line, { type: "history", before });
  }

  /** Go back to the branch with a turn. @param {string} turn @returns {Promise<Frame>} the `history` frame */
  async select(turn) {
    const frame = await this.#replies.request(this.#line, { type: "select", turn });
    this.#tell();
    return frame;
  }

  /** Leave this conversation for another one of the same person; `ready` follows, or `problem`. @param {string} session */
  async enter(session) {
    this.settle();
    this.send({ type: "hello", version: VERSION, session, token: await this.#memory.person(this.token) });
  }

  /** Stop the pending turn; a turn that never reached the server is dropped here. */
  cancel() {
    const { turn } = this.#memory;
    if (!turn) return;
    turn.cancelled = true;
    this.#memory.save();
    if (this.#line.state === "ready") this.send({ type: "cancel", turn: turn.id });
    else if (!turn.acknowledged) this.#finish({ type: "turn.cancelled", turn: turn.id, text: "" });
  }

  /** Ask where in the picture an answer came from; `explanation` follows. @param {string} turn */
  explain(turn) {
    this.#replies.explain(this.#line, turn);
  }

  /**
   * Wait for the answer to a turn, to be said at the next `ready`: under an id that is known this only listens.
   *
   * @param {PendingTurn} turn
   */
  follow(turn) {
    this.#memory.follow(turn);
  }

  /** Forget what was pending: its answer is in the history, or will never come. */
  settle() {
    this.#memory.follow(null);
  }

  /** Leave this conversation for an empty one; `ready` follows. */
  startNew() {
    this.settle();
    if (this.#line.state === "ready") return this.send({ type: "new" });
    this.#memory.enter("");
    this.#line.reconnect();
  }

  /** Send a command; without a connection it is dropped. @param {Record<string, unknown>} frame */
  send(frame) {
    this.#line.send(frame);
  }

  async #hello() {
    const { socket } = this.#line;
    const token = await this.#memory.person(this.token).catch(() => socket?.close());
    if (socket !== this.#line.socket) return;
    const { resume } = this.#memory;
    this.send({ type: "hello", version: VERSION, session: this.session || undefined, token, resume });
  }

  #sendPending() {
    if (this.#line.state === "ready") for (const command of this.#memory.commands()) this.send(command);
  }

  /** @param {Frame} frame */
  #receive(frame) {
    if (frame.type === "ready") this.#welcome(frame);
    else if (this.#replies.take(frame)) return;
    else if (PASSED_ON.has(frame.type)) this.#emit(frame.type, frame);
    else if (frame.type === "error") this.#complain(frame);
    else if (frame.type.startsWith("turn.") && this.#memory.isNew(frame)) this.#finish(frame);
  }

  /** @param {Frame} frame */
  #welcome(frame) {
    this.#memory.enter(frame.session);
    this.#replies.forget();
    this.#line.ready();
    this.#emit("ready", { ...frame, lost: this.#lost });
    this.#lost = false;
    this.#sendPending();
  }

  /** Pass a frame of the pending turn on, and let go of the turn after its last one. @param {Frame} frame */
  #finish(frame) {
    if (FINAL.has(frame.type)) this.settle();
    else if (this.#memory.acknowledge()) this.#tell({ ...this.#memory.turn, acknowledged: false });
    this.#emit("turn", frame);
  }

  /** @param {Frame} frame */
  #complain(frame) {
    const { code } = frame, { turn } = this.#memory;
    if (code === "unknown_session" && this.#line.state !== "ready") return this.#beginAgain();
    if (HOPELESS.has(code) && this.#line.state !== "ready") this.close();
    else if (this.#line.state !== "ready") return this.#line.retryLater(); // no hello has succeeded: for example, the store is away
    if (turn && (frame.id === turn.id || LOST.has(code))) this.#finish({ ...frame, type: "turn.failed", turn: turn.id });
    else {
      this.#replies.refuse(code);
      this.#emit("problem", frame);
    }
  }

  /** Let the other tabs know. @param {unknown} [pending] */
  #tell(pending) {
    this.#tabs?.postMessage({ session: this.session, pending });
  }

  /** The server does not know the stored conversation: say so, and begin a new one. */
  #beginAgain() {
    this.#lost = true;
    this.#memory.enter("");
    this.settle();
    this.#hello();
  }

  /** @param {string} type @param {unknown} detail */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
