/**
 * The exchanges of a conversation, in their order on the screen, brought up to date from the server's lists, which are the
 * truth. Knows nothing of how a question is made, or of what runs.
 */

import { Exchange } from "./exchange.js";
import { Transcript } from "./transcript.js";

/** @import { Attached, Pointed } from "./composer.js" */
/** @import { Connection } from "./connection.js" */
/** @import { Actions, Turn } from "./exchange.js" */
/** @import { PendingTurn } from "./memory.js" */
/** @import { Strings } from "./strings.js" */
/** What follows when exchanges came or went, and when one turns out to have ended. @typedef {{onchange: () => void, onended: (exchange: Exchange) => void}} Listeners */

export class Thread {
  /** What is on the screen, oldest first. @type {Map<string, Exchange>} */ #exchanges = new Map();
  /** The pictures so far have been told in words. */ #described = Promise.resolve();

  /** @param {Strings} strings @param {Connection} connection @param {Actions} actions @param {Listeners} listeners */
  constructor(strings, connection, actions, listeners) {
    this.strings = strings;
    this.connection = connection;
    this.actions = actions;
    this.listeners = listeners;
    this.transcript = new Transcript(strings, () => void this.#earlier());
  }

  get size() {
    return this.#exchanges.size;
  }

  /** @param {string} id of a turn */
  get(id) {
    return this.#exchanges.get(id);
  }

  /** The newest exchange that is about a picture. @param {string} image */
  about(image) {
    const newest = [...this.#exchanges.values()].reverse();
    return newest.find(({ looked, turn }) => (looked?.image ?? turn.pictures[0]?.image) === image);
  }

  clear() {
    this.#arrange([]);
    this.transcript.log.replaceChildren();
  }

  /** It will be asked again under another id. @param {string} id */
  drop(id) {
    this.#exchanges.delete(id);
  }

  /**
   * An exchange for a turn, yet to be placed.
   *
   * @param {PendingTurn} turn
   * @param {Attached[]} attached pictures of the turn that have a local copy
   * @param {Pointed | null} [pointed]
   */
  make(turn, attached = [], pointed = turn.region && { region: turn.region, url: this.connection.pictures.url(turn.region.image) }) {
    const local = new Map(attached.map(({ picture, url }) => [picture.image, url]));
    const address = (/** @type {string} */ image) => local.get(image) ?? this.connection.pictures.url(image);
    const pictures = turn.pictures.map((picture) => ({ ...picture, url: address(picture.image) }));
    const exchange = new Exchange(this.strings, turn, pictures, pointed, this.actions);
    this.#exchanges.set(turn.id, exchange);
    return exchange;
  }

  /** Put a turn that was just asked at the end, or in the place of the one that it replaces. @param {PendingTurn} turn */
  place(turn) {
    const exchange = this.get(turn.id) ?? this.make(turn);
    const shown = [...this.#exchanges.keys()].filter((id) => id !== turn.id);
    const replaced = turn.replaces ? shown.indexOf(turn.replaces) : -1;
    this.#arrange([...(replaced < 0 ? shown : shown.slice(0, replaced)), turn.id]);
    this.transcript.toEnd();
    return exchange;
  }

  /**
   * Show the latest turns as the server has them: a turn that was replaced goes, with what came after it; older ones that
   * have been fetched stay as long as the list still joins on to them.
   *
   * @param {Turn[]} turns @param {boolean} more
   */
  sync(turns, more) {
    const shown = [...this.#exchanges.keys()];
    const listed = this.#show(current(turns));
    const older = shown.slice(0, Math.max(0, shown.indexOf(listed[0])));
    const { pending } = this.connection;
    const unsent = pending && !listed.includes(pending.id) && this.get(pending.id) ? [pending.id] : [];
    this.#arrange([...older, ...listed, ...unsent]);
    if (!older.length) this.transcript.earlier.hidden = !more;
  }

  /** Which picture an answer is about. @param {Exchange} exchange @param {string | null | undefined} image */
  looked(exchange, image) {
    exchange.looked = image ? { image, url: this.connection.pictures.url(image) } : null;
  }

  /** Say of a finished answer which picture it is about, where it could have been another one. @param {Exchange} exchange */
  tellPicture(exchange) {
    const shown = [...this.#exchanges.values()];
    const before = shown.slice(0, shown.indexOf(exchange) + 1);
    const pictures = new Set(before.flatMap(({ turn }) => turn.pictures.map(({ image }) => image)));
    if (pictures.size > 1) exchange.showLooked();
  }

  /**
   * Have pictures told in words once their question is answered: one at a time, so that uploads need not wait.
   *
   * @param {Exchange} exchange
   */
  describe(exchange) {
    for (const { image } of exchange.turn.pictures) {
      this.#described = this.#described.then(async () => {
        const text = this.get(exchange.turn.id) && (await this.connection.pictures.describe(image));
        if (text) exchange.question.describe(image, text);
      });
    }
  }

  /** Bring exchanges up to date, or make them. @param {Turn[]} turns @returns {string[]} their ids, in order */
  #show(turns) {
    for (const turn of turns) {
      if (turn.role === "user") this.get(turn.id) ?? this.make(asWaiting(turn));
      const exchange = this.get(turn.id);
      if (!exchange || turn.role === "user") continue;
      if (!exchange.kept) this.describe(exchange);
      exchange.kept = true;
      this.looked(exchange, turn.images[0]);
      exchange.show(turn);
      this.tellPicture(exchange);
      this.listeners.onended(exchange);
    }
    return [...new Set(turns.map(({ id }) => id))];
  }

  /** @param {string[]} ids */
  #arrange(ids) {
    const before = this.#exchanges;
    this.#exchanges = new Map();
    for (const id of ids) {
      const exchange = before.get(id);
      if (exchange) this.#exchanges.set(id, exchange);
    }
    this.transcript.arrange(this.#exchanges.values());
    this.listeners.onchange();
  }

  async #earlier() {
    const [oldest] = this.#exchanges.keys();
    const { turns, more } = await this.connection.history(oldest).catch(() => ({ turns: [], more: true }));
    const shown = [...this.#exchanges.keys()];
    this.transcript.keepPlace(() => this.#arrange([...this.#show(turns), ...shown]));
    this.transcript.earlier.hidden = !more;
  }
}

/** A question of the history as it was sent. @param {Turn} turn @returns {PendingTurn} */
export function asWaiting({ id, text, images, region, replaces }) {
  const pictures = images.map((image) => ({ image }));
  return { id, text, pictures, region: region ?? null, replaces, acknowledged: false, cancelled: false };
}

/** Without the turns in whose place another one waits. @param {Turn[]} turns */
function current(turns) {
  const waiting = turns.find(({ status, replaces }) => status === "waiting" && replaces);
  const place = waiting ? turns.findIndex(({ id }) => id === waiting.replaces) : -1;
  return place < 0 ? turns : [...turns.slice(0, place), ...turns.filter(({ status }) => status === "waiting")];
}
