/**
 * One conversation on the screen: what the connection reports goes into the thread, what the composer makes goes to
 * the connection. Holds the suggestions and the offline banner.
 */

import { Composer } from "./composer.js";
import { FINAL } from "./connection.js";
import { h } from "./elements.js";
import { Models } from "./models.js";
import { Thread, asWaiting } from "./thread.js";
import { viewer } from "./viewer.js";
import { Welcome, chip } from "./welcome.js";

/** @import { Attached, Pointed } from "./composer.js" */
/** @import { Connection } from "./connection.js" */
/** @import { Frame } from "./line.js" */
/** @import { PendingTurn } from "./memory.js" */
/** @import { Actions, Exchange, Turn } from "./exchange.js" */
/** @import { ShownPicture } from "./question.js" */
/** @import { Strings } from "./strings.js" */
/**
 * What the host page wants; `rename` is told the assistant's name, `report` what happens.
 * @typedef {{greeting: string, questions: string[], explains: boolean, standalone: boolean,
 *   rename: (name: string) => void, report: (name: string, detail: unknown) => void}} Wishes
 */

export class Conversation {
  /** The one that is being answered. @type {Exchange | null} */ #current = null;
  #session = "";

  /** @param {Strings} strings @param {Connection} connection @param {Wishes} wishes */
  constructor(strings, connection, wishes) {
    this.strings = strings;
    this.connection = connection;
    this.wishes = wishes;
    this.thread = new Thread(strings, connection, this.#actions(), {
      onchange: () => this.element.classList.toggle("empty", this.thread.size === 0),
      onended: (exchange) => this.#missed(exchange),
    });
    this.composer = new Composer(strings, {
      onsend: (text, attached, pointed) => this.#ask(text, attached, pointed),
      onstop: () => connection.cancel(),
      view: (image) => this.#view({ image, url: connection.pictures.url(image) }, false),
      upload: (blob, options) => connection.pictures.upload(blob, options),
    });
    this.banner = h("div", { class: "banner", role: "status" });
    this.models = new Models(strings, connection, wishes.standalone);
    this.welcome = new Welcome(strings, wishes, this.composer);
    this.suggestions = h("div", { class: "suggestions", role: "group", "aria-label": strings.suggestions });
    const { notice, element: form } = this.composer;
    const foot = h("div", { class: "foot" }, this.suggestions, this.banner, notice, form, ...this.models.elements);
    this.element = h("section", { class: "conversation empty", "aria-label": strings.conversation });
    this.element.append(this.welcome.element, this.thread.transcript.element, foot);
    this.#listen();
  }

  /** What people may want of an exchange. @returns {Actions} */
  #actions() {
    const { connection } = this;
    return {
      again: (which) => this.#again(which),
      edit: (which, text) => this.#replace(which, text),
      select: (id) => void this.#select(id),
      rate: (which, feedback) => connection.send({ type: "feedback", turn: which.turn.id, ...feedback }),
      explain: this.wishes.explains ? (which) => connection.explain(which.turn.id) : null,
      view: (picture) => this.#view(picture),
      tell: (words) => this.thread.transcript.tell(words),
    };
  }

  /** Leave this conversation for an empty one. */
  startNew() {
    this.composer.clear();
    this.connection.startNew();
    this.composer.focus();
  }

  #listen() {
    /** @type {[string, (detail: any) => void][]} */
    const listeners = [
      ["status", ({ state }) => this.#status(state)],
      ["ready", (frame) => this.#ready(frame)],
      ["turn", (frame) => this.#receive(frame)],
      ["explanation", (frame) => this.thread.get(frame.turn)?.explain(frame)],
      ["feedback", (frame) => this.thread.get(frame.turn)?.rated(frame)],
      ["elsewhere", ({ pending }) => this.#join(pending)],
      ["problem", ({ code, message }) => this.composer.tell(this.strings.errors[code] ?? message)],
    ];
    for (const [type, listener] of listeners) {
      this.connection.addEventListener(type, (event) => listener(/** @type {CustomEvent} */ (event).detail));
    }
  }

  /** @param {string} state */
  #status(state) {
    this.element.dataset.state = state;
    const told = this.banner.hasChildNodes();
    if (state === "connecting" || (state === "offline" && told)) return; // the banner stays until an attempt has succeeded
    const retry = h("button", { class: "quiet", type: "button", onclick: () => this.connection.retry() }, this.strings.tryNow);
    this.banner.replaceChildren(...(state === "offline" ? [h("span", {}, this.strings.offline), retry] : []));
  }

  /** @param {Frame} frame */
  #ready({ session, model, models, limits, turns, more, lost, persona }) {
    if (session !== this.#session) this.#enter(session);
    if (lost) this.composer.tell(this.strings.lostSession);
    this.composer.limit(limits);
    this.welcome.greet(persona.greeting);
    if (persona.name) this.wishes.rename((this.strings.name = persona.name));
    this.models.offer(models ?? [], model);
    this.#sync(turns, more);
    const last = turns.at(-1);
    if (last?.status === "waiting" && !this.connection.pending) this.connection.follow(asWaiting(last));
    const { pending } = this.connection;
    if (pending && this.#current?.turn.id !== pending.id) this.#await(pending);
    this.wishes.report("ready", { session });
  }

  /** Begin to show a session. @param {string} session */
  #enter(session) {
    if (this.#session) this.composer.restart(); // pictures not yet sent were stored for the session before
    this.#session = session;
    this.#end();
    this.thread.clear();
  }

  /** @param {Turn[]} turns @param {boolean} more */
  #sync(turns, more) {
    this.thread.sync(turns, more);
    this.#suggest(this.connection.pending ? [] : (turns.at(-1)?.suggestions ?? []));
  }

  /** What was being answered was finished while nobody was listening. @param {Exchange} exchange */
  #missed(exchange) {
    if (exchange !== this.#current) return;
    this.connection.settle();
    this.#end();
  }

  /** @param {Frame} frame */
  #receive(frame) {
    const exchange = this.#current;
    if (exchange && frame.type === "turn.completed") this.thread.looked(exchange, frame.image);
    exchange?.receive(frame);
    if (!exchange || !FINAL.has(frame.type)) return;
    this.#end();
    if (exchange.turn.replaces) void this.#reload();
    if (frame.type === "turn.failed") return this.wishes.report("error", { code: frame.code, message: frame.message });
    if (frame.type !== "turn.completed") return;
    this.thread.describe(exchange);
    this.thread.tellPicture(exchange);
    this.thread.transcript.announce(frame.text);
    this.#suggest(frame.suggestions ?? []);
    const { turn, text, html, image, confidence } = frame;
    this.wishes.report("answer", { turn, text, html, image, confidence });
  }

  #end() {
    this.#current = null;
    this.#answering = false;
    this.#suggest([]);
  }

  /** Suggestions keep their room meanwhile, so that nothing moves when others take it. @param {boolean} answering */
  set #answering(answering) {
    this.composer.answering = answering;
    this.element.classList.toggle("answering", answering);
  }

  /** @param {string} text @param {Attached[]} attached @param {Pointed | null} pointed */
  #ask(text, attached, pointed) {
    const turn = this.connection.ask(text, attached.map(({ picture }) => picture), pointed?.region);
    this.thread.make(turn, attached, pointed);
    this.#await(turn);
  }

  /** Make room for the answer to a turn. @param {PendingTurn} turn */
  #await(turn) {
    this.#current = this.thread.place(turn);
    this.#answering = true;
    this.wishes.report("question", { turn: turn.id, text: turn.text });
  }

  /** Ask the same again, with nothing retyped: in its place where the server has it. @param {Exchange} exchange */
  #again(exchange) {
    if (exchange.kept) return this.#replace(exchange);
    if (this.#current) return;
    const { text, pictures, region } = exchange.turn;
    this.thread.drop(exchange.turn.id);
    this.#await(this.connection.ask(text, pictures, region));
    this.composer.focus();
  }

  /**
   * Ask again in the place of an exchange, with other words if there are any.
   *
   * @param {Exchange} exchange @param {string} [text]
   */
  #replace(exchange, text) {
    if (this.#current) return this.composer.tell(this.strings.errors.busy);
    this.#await(this.connection.askAgain(exchange.turn, text));
    this.composer.focus();
  }

  /** @param {string} turn */
  async #select(turn) {
    const { turns, more } = await this.connection.select(turn).catch(() => ({}));
    if (!turns) return; // the problem has been told
    this.#sync(turns, more);
    /** @type {HTMLElement | null | undefined} */ (this.thread.get(turn)?.pager.querySelector("button:enabled"))?.focus();
  }

  /** Take over what has changed in the conversation without this page. */
  async #reload() {
    const { turns, more } = await this.connection.history().catch(() => ({}));
    if (turns) this.#sync(turns, more);
  }

  /** Another tab asks: listen too. @param {PendingTurn | undefined} pending */
  #join(pending) {
    if (!pending) return void this.#reload();
    if (this.connection.pending || this.thread.get(pending.id)) return;
    this.connection.join(pending);
    this.#await(pending);
  }

  /** @param {ShownPicture} picture @param {boolean} [asked] there is a question to ask again */
  #view({ image, url }, asked = true) {
    const onpoint = (/** @type {import("./pointing.js").Box} */ box) => {
      this.composer.point({ region: { image, ...box }, url });
      this.composer.input.focus();
    };
    const oncover = (/** @type {Blob | null} */ covered) => {
      if (!covered) return this.composer.tell(this.strings.pictureGone);
      this.composer.attach([new File([covered], this.strings.coveredName, { type: covered.type })]);
      this.composer.propose(this.thread.about(image)?.turn.text ?? "");
      void this.composer.send();
    };
    const dialog = viewer(this.strings, url, { onpoint, oncover: asked ? oncover : null });
    this.element.append(dialog);
    dialog.showModal();
  }

  /** @param {string[]} questions */
  #suggest(questions) {
    const ask = (/** @type {string} */ question) => (this.#ask(question, [], null), this.composer.focus());
    this.suggestions.replaceChildren(...questions.map((question) => chip(question, ask)));
  }
}
