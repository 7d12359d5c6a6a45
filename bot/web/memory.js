// @ts-check
/**
 * What a browser remembers of a server: the conversation and the question on its way, for each tab, and who the person is.
 * Storage may be forbidden (private windows, sandboxed frames): everything then lasts as long as the page.
 */

/** @import { PendingTurn } from "./connection.js" */
/** @typedef {{session: string, pending: PendingTurn | null, model: string}} State */

export class Memory {
  /** @param {string} key */
  constructor(key) {
    this.key = key;
  }

  /** This tab's state, in a new tab the last one. @returns {State} */
  load() {
    const nothing = { session: "", pending: null, model: "" };
    try {
      const stored = sessionStorage.getItem(this.key) ?? localStorage.getItem(this.key) ?? "{}";
      return { ...nothing, ...JSON.parse(stored) };
    } catch {
      return nothing;
    }
  }

  /** @param {State} state */
  save(state) {
    try {
      for (const storage of [sessionStorage, localStorage]) storage.setItem(this.key, JSON.stringify(state));
    } catch {
      // As above.
    }
  }

  /** The secret by which this browser is known again. */
  person() {
    const key = `${this.key}:person`;
    try {
      const secret = localStorage.getItem(key) ?? newId();
      localStorage.setItem(key, secret);
      return secret;
    } catch {
      return undefined;
    }
  }
}

/** A random UUID, also on plain http where `crypto.randomUUID` does not exist. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
