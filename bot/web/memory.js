/**
 * What a reload must not lose: which conversation this is, the question on its way, and who the person is; for each tab, in a
 * new tab the last one's. Storage may be forbidden (private windows, sandboxed frames): all then lasts as long as the page.
 */

/** @import { Frame } from "./line.js" */
/** @import { Token } from "./connection.js" */
/** @import { Picture } from "./pictures.js" */
/** @typedef {{image: string, x: number, y: number, w: number, h: number}} Region a part of a picture, in shares 0..1 of it */
/**
 * A question on its way; `replaces` is the turn in whose place it is asked: with its own words again, or `edited`.
 * @typedef {{id: string, text: string, pictures: Picture[], region: Region | null, replaces?: string | null, edited?: boolean,
 *   model?: string, acknowledged: boolean, cancelled: boolean}} PendingTurn
 */
/** @typedef {Omit<PendingTurn, "id" | "acknowledged" | "cancelled">} Question */

export class Memory {
  /** The conversation; empty: a new one. */ session = "";
  /** Who shall answer, of those in `ready`; empty: the default one. */ model = "";
  /** The question that waits for its answer. @type {PendingTurn | null} */ turn = null;
  #seen = { attempt: 0, seq: 0 };

  /** @param {string} key */
  constructor(key) {
    this.key = key;
    try {
      const stored = sessionStorage.getItem(key) ?? localStorage.getItem(key) ?? "{}";
      ({ session: this.session = "", pending: this.turn = null, model: this.model = "" } = JSON.parse(stored));
    } catch {
      // As above.
    }
  }

  save() {
    const stored = JSON.stringify({ session: this.session, pending: this.turn, model: this.model });
    try {
      for (const storage of [sessionStorage, localStorage]) storage.setItem(this.key, stored);
    } catch {
      // As above.
    }
  }

  /** Who the person is: by the host page's token, else by a secret that this browser makes up. @param {Token} [token] */
  async person(token) {
    if (token) return typeof token === "function" ? token() : token;
    const key = `${this.key}:person`;
    try {
      const secret = localStorage.getItem(key) ?? newId();
      localStorage.setItem(key, secret);
      return secret;
    } catch {
      return undefined;
    }
  }

  /** @param {string} session */
  enter(session) {
    this.session = session;
    this.save();
  }

  /** Wait for the answer to a turn, or for none. @param {PendingTurn | null} turn */
  follow(turn) {
    this.turn = turn;
    this.#seen = { attempt: 0, seq: 0 };
    this.save();
  }

  /** The server has the turn. @returns {boolean} whether that is news */
  acknowledge() {
    const news = this.turn !== null && !this.turn.acknowledged;
    if (this.turn) this.turn.acknowledged = true;
    if (news) this.save();
    return news;
  }

  /** Where `hello` shall go on. */
  get resume() {
    const { attempt, seq } = this.#seen;
    return this.turn?.acknowledged ? { turn: this.turn.id, attempt: attempt || 1, seq } : undefined;
  }

  /** Whether a frame belongs to the turn and was not heard before, as after a resume. @param {Frame} frame */
  isNew(frame) {
    const { attempt, seq } = this.#seen;
    if (frame.turn !== this.turn?.id || frame.attempt < attempt) return false;
    if (frame.attempt === attempt && frame.seq <= seq) return false;
    this.#seen = { attempt: frame.attempt, seq: frame.seq };
    return true;
  }

  /** What has still to be said of the turn, in order. @returns {Record<string, unknown>[]} */
  commands() {
    if (!this.turn) return [];
    const { id, text, pictures, region, replaces, edited, model, acknowledged, cancelled } = this.turn;
    const images = pictures.map(({ image }) => image);
    const first = { type: "turn", id, text, images, region: region ?? undefined, model };
    const again = edited ? { type: "edit", turn: replaces, id, text, model } : { type: "regenerate", turn: replaces, id, model };
    return [...(acknowledged ? [] : [replaces ? again : first]), ...(cancelled ? [{ type: "cancel", turn: id }] : [])];
  }
}

/** A turn for a question. @param {Question} question @param {string} model who shall answer it @returns {PendingTurn} */
export function newTurn(question, model) {
  return { ...question, id: newId(), model: model || undefined, acknowledged: false, cancelled: false };
}

/** A random UUID, also on plain http where `crypto.randomUUID` does not exist. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
