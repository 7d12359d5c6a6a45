// @ts-check
/**
 * One conversation on the screen: what the connection reports goes into the transcript, what the composer makes goes to
 * the connection. Holds the welcome, the offline banner and the line about the model.
 */

import { Composer } from "./composer.js";
import { FINAL } from "./connection.js";
import { h, mark } from "./elements.js";
import { fill } from "./strings.js";
import { Transcript } from "./transcript.js";

/** @import { Attached, Pointed } from "./composer.js" */
/** @import { Connection, Frame, PendingTurn, Picture, Region } from "./connection.js" */
/** @import { Strings } from "./strings.js" */
/** @import { Answer } from "./transcript.js" */
/** @typedef {{id: string, role: string, text: string, html: string | null, images: string[], region: Region | null, status: string, error: {code: string, message: string} | null}} Turn */

const EMBEDDED = "visavis-embedded";
const EXAMPLES = /** @type {const} */ ({ exampleCat: "example-cat.jpg", exampleCoffee: "example-coffee.jpg" });

export class Conversation {
  /** The answer that is being written. @type {Answer | null} */ #answer = null;
  /** Answers that wait for their explanation, by turn, with the picture. @type {Map<string, {answer: Answer, image: string}>} */ #explained = new Map();
  /** Role and id of every turn on the screen. @type {Set<string>} */ #shown = new Set();
  /** The newest question of the history. @type {PendingTurn | null} */ #question = null;
  #session = "";

  /** @param {Strings} strings @param {Connection} connection */
  constructor(strings, connection) {
    this.strings = strings;
    this.connection = connection;
    this.transcript = new Transcript(strings, (region, url) => (this.composer.point({ region, url }), this.composer.input.focus()));
    this.composer = new Composer(strings, {
      onsend: (text, attached, pointed) => this.#ask(text, attached, pointed),
      onstop: () => connection.cancel(),
      upload: (blob, options) => connection.upload(blob, options),
    });
    this.banner = h("div", { class: "banner", role: "status" });
    this.note = h("p", { class: "note" });
    const foot = h("div", { class: "foot" }, this.banner, this.composer.notice, this.composer.element, this.note);
    this.element = h("section", { class: "conversation", "aria-label": strings.conversation });
    this.element.append(this.#welcome(), this.transcript.element, foot);
    this.#listen();
    this.#refresh();
  }

  /** Leave this conversation for an empty one. */
  startNew() {
    this.composer.clear();
    this.connection.startNew();
    this.composer.input.focus();
  }

  #listen() {
    /** @type {[string, (detail: any) => void][]} */
    const listeners = [
      ["status", ({ state }) => this.#status(state)],
      ["ready", (frame) => this.#ready(frame)],
      ["turn", (frame) => this.#receive(frame)],
      ["explanation", (frame) => this.#explain(frame)],
      ["problem", ({ code, message }) => this.composer.tell(this.strings.errors[code] ?? message)],
    ];
    for (const [type, listener] of listeners) {
      this.connection.addEventListener(type, (event) => listener(/** @type {CustomEvent} */ (event).detail));
    }
  }

  /** @param {string} state */
  #status(state) {
    this.element.dataset.state = state;
    if (state === "connecting") return; // the banner stays until an attempt has succeeded
    const retry = h("button", { class: "quiet", type: "button" }, this.strings.tryNow);
    retry.onclick = () => this.connection.retry();
    this.banner.replaceChildren(...(state === "offline" ? [h("span", {}, this.strings.offline), retry] : []));
  }

  /** @param {Frame} frame */
  #ready({ session, model, limits, turns, lost }) {
    if (session !== this.#session) this.#enter(session);
    if (lost) this.composer.tell(this.strings.lostSession);
    this.composer.limit(limits);
    this.#describe(model);
    for (const turn of turns) if (!this.#shown.has(key(turn))) this.#show(turn);
    const last = turns.at(-1);
    if (last?.status === "waiting" && !this.connection.pending) this.connection.follow(asked(last));
    if (this.connection.pending && !this.#answer) this.#await(this.connection.pending);
    this.#refresh();
  }

  /** Begin to show a session. @param {string} session */
  #enter(session) {
    if (this.#session) this.composer.restart(); // pictures not yet sent were stored for the session before
    this.#session = session;
    this.#shown.clear();
    this.#end();
    this.transcript.clear();
  }

  /** Show a turn of the history. @param {Turn} turn */
  #show(turn) {
    this.#shown.add(key(turn));
    if (turn.role === "user") {
      this.#question = asked(turn);
      return this.#add(this.#question);
    }
    const missed = turn.id === this.connection.pending?.id; // it was finished while nobody was listening
    const question = this.#question;
    const answer = (missed && this.#answer) || this.transcript.addAnswer(() => question && this.#again(question, answer));
    this.#offerWhy(answer, turn.id, turn.images[0]);
    answer.show(turn);
    if (!missed) return;
    this.connection.settle();
    this.#end();
  }

  /** Show a question with its pictures as the server keeps them. @param {PendingTurn} turn */
  #add({ text, pictures, region }) {
    const pointed = region && { region, url: this.connection.imageUrl(region.image) };
    this.transcript.addQuestion(text, pictures.map((picture) => this.#kept(picture)), pointed);
  }

  /** @param {Picture} picture */
  #kept({ image, width, height }) {
    return { image, url: this.connection.imageUrl(image), width, height };
  }

  /** Let people ask where in the picture an answer came from. @param {Answer} answer @param {string} turn @param {string | null | undefined} image */
  #offerWhy(answer, turn, image) {
    if (!image) return;
    answer.onexplain = () => {
      this.#explained.set(turn, { answer, image });
      this.connection.explain(turn);
    };
  }

  /** @param {Frame} frame */
  #explain(frame) {
    const asked = this.#explained.get(frame.turn);
    asked?.answer.explain(this.connection.imageUrl(asked.image), frame);
    this.#explained.delete(frame.turn);
  }

  /** @param {Frame} frame */
  #receive(frame) {
    if (frame.type === "turn.completed" && this.#answer) this.#offerWhy(this.#answer, frame.turn, frame.image);
    this.#answer?.receive(frame);
    if (!FINAL.has(frame.type)) return;
    if (frame.type === "turn.completed") this.transcript.announce(frame.text);
    this.#shown.add(`assistant:${frame.turn}`);
    this.#end();
  }

  #end() {
    this.#answer = null;
    this.composer.answering = false;
  }

  /** @param {string} text @param {Attached[]} attached @param {Pointed | null} pointed */
  #ask(text, attached, pointed) {
    const shown = attached.map(({ picture, url }) => ({ ...picture, url }));
    const turn = this.connection.ask(text, attached.map(({ picture }) => picture), pointed?.region);
    this.#shown.add(`user:${turn.id}`);
    this.transcript.addQuestion(text, shown, pointed);
    this.#await(turn);
  }

  /** Make room for the answer to a turn. @param {PendingTurn} turn */
  #await(turn) {
    if (!this.#shown.has(`user:${turn.id}`)) {
      this.#add(turn);
      this.#shown.add(`user:${turn.id}`);
    }
    const answer = this.transcript.addAnswer(() => this.#again(turn, answer));
    this.#answer = answer;
    this.composer.answering = true;
    this.#refresh();
    this.transcript.toEnd();
  }

  /** Ask the same again, with nothing retyped. @param {PendingTurn} turn @param {Answer} failed */
  #again({ text, pictures, region }, failed) {
    if (this.#answer) return;
    failed.element.remove();
    const turn = this.connection.ask(text, pictures, region);
    this.#shown.add(`user:${turn.id}`);
    this.#await(turn);
    this.composer.input.focus();
  }

  /** @param {string} file @param {string} name */
  async #example(file, name) {
    const response = await fetch(new URL(file, import.meta.url));
    this.composer.attach([new File([await response.blob()], name, { type: "image/jpeg" })]);
  }

  #welcome() {
    const cards = Object.entries(EXAMPLES).map(([label, file]) => {
      const name = this.strings[/** @type {keyof typeof EXAMPLES} */ (label)];
      const photo = h("img", { src: new URL(file, import.meta.url).href, alt: "" });
      const card = h("button", { class: "example", type: "button" }, photo, h("span", {}, name));
      card.onclick = () => this.#example(file, name);
      return card;
    });
    const examples = h("div", { class: "examples", role: "group", "aria-label": this.strings.examples }, ...cards);
    const words = [h("h2", {}, this.strings.emptyTitle), h("p", {}, this.strings.emptyText)];
    return h("div", { class: "welcome" }, mark(), ...words, h("p", { class: "aside" }, this.strings.examples), examples);
  }

  /** One line on what the model can do, and how to bring another. @param {string} model */
  #describe(model) {
    const opening = model === EMBEDDED ? this.strings.noteEmbedded : fill(this.strings.noteOther, { model });
    this.note.replaceChildren(opening, h("code", {}, this.strings.noteFlag));
  }

  #refresh() {
    this.element.classList.toggle("empty", this.transcript.isEmpty);
  }
}

/** A question of the history as it was sent. @param {Turn} turn @returns {PendingTurn} */
function asked({ id, text, images, region }) {
  const pictures = images.map((image) => ({ image }));
  return { id, text, pictures, region: region ?? null, acknowledged: false, cancelled: false };
}

/** @param {Turn} turn */
function key({ role, id }) {
  return `${role}:${id}`;
}
