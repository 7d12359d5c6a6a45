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
 */

/** @typedef {{image: string, width?: number, height?: number}} Picture */
/** @typedef {{image: string, x: number, y: number, w: number, h: number}} Region a part of a picture, in shares 0..1 of it */
/** @typedef {{id: string, text: string, pictures: Picture[], region: Region | null, acknowledged: boolean, cancelled: boolean}} PendingTurn */
/** @typedef {any} Frame a decoded text frame */

const VERSION = 1;
const READY_TIMEOUT_MS = 20_000;
const DELAYS_MS = { first: 400, longest: 15_000 };
const NETWORK_CHANGES = ["online", "offline"];
export const FINAL = new Set(["turn.completed", "turn.failed", "turn.cancelled"]);
const HOPELESS = new Set(["unsupported_version", "unauthorized"]);
const LOST = new Set(["replay_expired", "unknown_turn"]);

/** @param {string} code a code of the wire, "network" or "cancelled" @param {string} [message] */
const uploadError = (code, message = code) => Object.assign(new Error(message), { code });

export class Connection extends EventTarget {
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {"closed" | "connecting" | "ready" | "offline"} */ #state = "closed";
  /** @type {PendingTurn | null} */ #pending = null;
  #session = "";
  #seen = { attempt: 0, seq: 0 };
  #lost = false;
  /** Turns whose explanation is waited for. @type {Set<string>} */ #explained = new Set();
  #failures = 0;
  #timer = 0;

  /** @param {{endpoint: string | URL}} options the address under which `chat` and `v1/images` are found */
  constructor({ endpoint }) {
    super();
    this.endpoint = new URL(endpoint);
    this.storageKey = `visavis:${this.endpoint.href}`;
    this.#load();
  }

  /** The turn that waits for its answer; it outlives a reload. */
  get pending() {
    return this.#pending;
  }

  /** Connect and stay connected until `close`. */
  open() {
    if (this.#state !== "closed") return;
    for (const change of NETWORK_CHANGES) window.addEventListener(change, this.#reconnect);
    this.#connect();
  }

  close() {
    for (const change of NETWORK_CHANGES) window.removeEventListener(change, this.#reconnect);
    this.#drop();
    this.#state = "closed";
  }

  /** Try at once instead of waiting for the next attempt. */
  retry() {
    if (this.#state === "offline") this.#reconnect();
  }

  /** Ask, now or as soon as there is a connection, and again until acknowledged. @param {string} text @param {Picture[]} pictures @param {Region | null} region */
  ask(text, pictures, region = null) {
    const turn = { id: newId(), text, pictures, region, acknowledged: false, cancelled: false };
    this.follow(turn);
    this.#sendPending();
    return turn;
  }

  /** Stop the pending turn; a turn that never reached the server is dropped here. */
  cancel() {
    const turn = this.#pending;
    if (!turn) return;
    turn.cancelled = true;
    this.#save();
    if (this.#state === "ready") this.#send({ type: "cancel", turn: turn.id });
    else if (!turn.acknowledged) this.#finish({ type: "turn.cancelled", turn: turn.id, text: "" });
  }

  /** Ask where in the picture an answer came from; `explanation` follows. @param {string} turn */
  explain(turn) {
    this.#explained.add(turn);
    if (this.#state === "ready") this.#send({ type: "explain", turn });
    else this.#explain({ turn, error: { code: "network", message: "offline" } });
  }

  /** Wait for the answer to a turn that was asked elsewhere: saying it again under its id only listens. @param {PendingTurn} turn */
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
    if (this.#state === "ready") return this.#send({ type: "new" });
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
   * Store a picture, once there is a session to store it for; rejects with an error that has a `code`.
   *
   * @param {Blob} blob
   * @param {{onprogress?: (share: number) => void, signal?: AbortSignal}} [options] share: 0..1
   * @returns {Promise<Picture>}
   */
  async upload(blob, { onprogress, signal } = {}) {
    await this.#whenReady(signal);
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", new URL("v1/images", this.endpoint));
      request.setRequestHeader("Content-Type", blob.type || "application/octet-stream");
      request.setRequestHeader("X-Visavis-Session", this.#session);
      request.responseType = "json";
      request.upload.onprogress = (event) => event.lengthComputable && onprogress?.(event.loaded / event.total);
      request.onerror = () => reject(uploadError("network"));
      request.onabort = () => reject(uploadError("cancelled"));
      request.onload = () => {
        const answer = request.response?.error ?? request.response ?? {}; // null when it was not JSON
        if (answer.image) resolve(answer);
        else reject(uploadError(answer.code ?? "network", answer.message));
      };
      signal?.addEventListener("abort", () => request.abort());
      request.send(blob);
    });
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

  /** @param {Record<string, unknown>} frame */
  #send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #hello() {
    const turn = this.#pending;
    const resume = turn?.acknowledged ? { turn: turn.id, attempt: this.#seen.attempt || 1, seq: this.#seen.seq } : undefined;
    this.#send({ type: "hello", version: VERSION, session: this.#session || undefined, resume });
  }

  #sendPending() {
    const turn = this.#pending;
    if (!turn || this.#state !== "ready") return;
    const images = turn.pictures.map(({ image }) => image);
    const region = turn.region ?? undefined;
    if (!turn.acknowledged) this.#send({ type: "turn", id: turn.id, text: turn.text, images, region });
    if (turn.cancelled) this.#send({ type: "cancel", turn: turn.id });
  }

  /** @param {Frame} frame */
  #receive(frame) {
    if (frame.type === "ready") this.#welcome(frame);
    else if (frame.type === "explanation") this.#explain(frame);
    else if (frame.type === "error" && this.#explained.has(frame.id)) this.#explain({ turn: frame.id, error: frame });
    else if (frame.type === "error") this.#complain(frame);
    else if (frame.type.startsWith("turn.") && this.#isNew(frame)) this.#finish(frame);
  }

  /** @param {Frame} frame */
  #welcome(frame) {
    window.clearTimeout(this.#timer);
    this.#failures = 0;
    this.#session = frame.session;
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
    }
    this.#emit("turn", frame);
  }

  /** @param {Frame} frame */
  #complain(frame) {
    const { code } = frame;
    const turn = this.#pending;
    if (code === "unknown_session" && this.#state !== "ready") return this.#beginAgain();
    if (HOPELESS.has(code)) this.close();
    else if (this.#state !== "ready") return this.#retryLater(); // no hello has succeeded: for example, the store is away
    if (turn && (frame.id === turn.id || LOST.has(code))) this.#finish({ ...frame, type: "turn.failed", turn: turn.id });
    else this.#emit("problem", frame);
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

  #load() {
    try {
      const stored = JSON.parse(localStorage.getItem(this.storageKey) ?? "{}");
      this.#session = stored.session ?? "";
      this.#pending = stored.pending ?? null;
    } catch {
      // Storage may be forbidden (private windows, sandboxed frames): the conversation then lasts as long as the page.
    }
  }

  #save() {
    try {
      localStorage.setItem(this.storageKey, JSON.stringify({ session: this.#session, pending: this.#pending }));
    } catch {
      // As above.
    }
  }
}

/** A random UUID, also on plain http where `crypto.randomUUID` does not exist. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
