// @ts-check
/**
 * One conversation on the screen: what the connection reports goes into the transcript, what the composer makes goes to
 * the connection. Holds the suggestions and the offline banner.
 */

import { Composer } from "./composer.js";
import { FINAL } from "./connection.js";
import { h } from "./elements.js";
import { Exchange } from "./exchange.js";
import { Models } from "./models.js";
import { Transcript } from "./transcript.js";
import { viewer } from "./viewer.js";
import { Welcome, chip } from "./welcome.js";

/** @import { Attached, Pointed } from "./composer.js" */
/** @import { Connection, Frame, PendingTurn } from "./connection.js" */
/** @import { ShownPicture, Turn } from "./exchange.js" */
/** @import { Strings } from "./strings.js" */
/**
 * What the host page wants: its own greeting and questions to begin with; no heat maps; whether this is visavis' own page,
 * with example photos and how to bring another model; `rename`, which is told the assistant's name, and `report`, which is
 * told what happens.
 * @typedef {{greeting: string, questions: string[], explains: boolean, standalone: boolean,
 *   rename: (name: string) => void, report: (name: string, detail: unknown) => void}} Wishes
 */

export class Conversation {
  /** What is on the screen, oldest first. @type {Map<string, Exchange>} */ #exchanges = new Map();
  /** The one that is being answered. @type {Exchange | null} */ #current = null;
  /** The pictures so far have been told in words. */ #described = Promise.resolve();
  #session = "";

  /** @param {Strings} strings @param {Connection} connection @param {Wishes} wishes */
  constructor(strings, connection, wishes) {
    this.strings = strings;
    this.connection = connection;
    this.wishes = wishes;
    this.transcript = new Transcript(strings, () => void this.#earlier());
    this.composer = new Composer(strings, {
      onsend: (text, attached, pointed) => this.#ask(text, attached, pointed),
      onstop: () => connection.cancel(),
      upload: (blob, options) => connection.upload(blob, options),
    });
    this.banner = h("div", { class: "banner", role: "status" });
    this.models = new Models(strings, connection, wishes.standalone);
    this.welcome = new Welcome(strings, wishes, this.composer);
    this.suggestions = h("div", { class: "suggestions", role: "group", "aria-label": strings.suggestions });
    const { notice, element: form } = this.composer;
    const foot = h("div", { class: "foot" }, this.suggestions, this.banner, notice, form, ...this.models.elements);
    this.element = h("section", { class: "conversation", "aria-label": strings.conversation });
    this.element.append(this.welcome.element, this.transcript.element, foot);
    this.#listen();
    this.#refresh();
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
      ["explanation", (frame) => this.#exchanges.get(frame.turn)?.explain(frame)],
      ["feedback", (frame) => this.#exchanges.get(frame.turn)?.rated(frame)],
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
    if (last?.status === "waiting" && !this.connection.pending) this.connection.follow(asked(last));
    const { pending } = this.connection;
    if (pending && this.#current?.turn.id !== pending.id) this.#await(pending);
    this.wishes.report("ready", { session });
  }

  /** Begin to show a session. @param {string} session */
  #enter(session) {
    if (this.#session) this.composer.restart(); // pictures not yet sent were stored for the session before
    this.#session = session;
    this.#end();
    this.#arrange([]);
    this.transcript.log.replaceChildren();
  }

  /**
   * Show the latest turns as the server has them: a turn that was replaced goes, with what came after it; older ones that
   * have been fetched stay as long as the list still joins on to them.
   *
   * @param {Turn[]} turns @param {boolean} more
   */
  #sync(turns, more) {
    const shown = [...this.#exchanges.keys()];
    const listed = this.#show(current(turns));
    const older = shown.slice(0, Math.max(0, shown.indexOf(listed[0])));
    const { pending } = this.connection;
    const unsent = pending && !listed.includes(pending.id) && this.#exchanges.has(pending.id) ? [pending.id] : [];
    this.#arrange([...older, ...listed, ...unsent]);
    this.#suggest(pending ? [] : (turns.at(-1)?.suggestions ?? []));
    if (!older.length) this.transcript.earlier.hidden = !more;
  }

  /** Bring exchanges up to date, or make them. @param {Turn[]} turns @returns {string[]} their ids, in order */
  #show(turns) {
    for (const turn of turns) {
      if (turn.role === "user") this.#exchanges.get(turn.id) ?? this.#make(asked(turn));
      const exchange = this.#exchanges.get(turn.id);
      if (!exchange || turn.role === "user") continue;
      if (!exchange.kept) this.#describe(exchange);
      exchange.kept = true;
      this.#answered(exchange, turn.images[0]);
      exchange.show(turn);
      this.#tellPicture(exchange);
      if (exchange !== this.#current) continue; // else it was finished while nobody was listening
      this.connection.settle();
      this.#end();
    }
    return [...new Set(turns.map(({ id }) => id))];
  }

  /**
   * Have pictures told in words once their question is answered: one at a time, so that uploads need not wait.
   *
   * @param {Exchange} exchange
   */
  #describe(exchange) {
    for (const { image } of exchange.turn.pictures) {
      this.#described = this.#described.then(async () => {
        const text = this.#exchanges.has(exchange.turn.id) && (await this.connection.describe(image));
        if (text) exchange.describe(image, text);
      });
    }
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
    this.#refresh();
  }

  async #earlier() {
    const [oldest] = this.#exchanges.keys();
    const { turns, more } = await this.connection.history(oldest).catch(() => ({ turns: [], more: true }));
    const shown = [...this.#exchanges.keys()];
    this.transcript.keepPlace(() => this.#arrange([...this.#show(turns), ...shown]));
    this.transcript.earlier.hidden = !more;
  }

  /**
   * @param {PendingTurn} turn
   * @param {Attached[]} attached pictures of the turn that have a local copy
   * @param {Pointed | null} [pointed]
   */
  #make(turn, attached = [], pointed = turn.region && { region: turn.region, url: this.connection.imageUrl(turn.region.image) }) {
    const local = new Map(attached.map(({ picture, url }) => [picture.image, url]));
    const address = (/** @type {string} */ image) => local.get(image) ?? this.connection.imageUrl(image);
    const pictures = turn.pictures.map((picture) => ({ ...picture, url: address(picture.image) }));
    const exchange = new Exchange(this.strings, turn, pictures, pointed, {
      again: (which) => this.#again(which),
      edit: (which, text) => this.#replace(which, text),
      select: (id) => void this.#select(id),
      rate: (which, feedback) => this.connection.send({ type: "feedback", turn: which.turn.id, ...feedback }),
      explain: this.wishes.explains ? (which) => this.connection.explain(which.turn.id) : null,
      view: (picture) => this.#view(picture),
      tell: (words) => this.transcript.tell(words),
    });
    this.#exchanges.set(turn.id, exchange);
    return exchange;
  }

  /** What is known about an answer beside its words. @param {Exchange} exchange @param {string | null | undefined} image */
  #answered(exchange, image) {
    exchange.looked = image ? { image, url: this.connection.imageUrl(image) } : null;
  }

  /** @param {Frame} frame */
  #receive(frame) {
    const exchange = this.#current;
    if (exchange && frame.type === "turn.completed") this.#answered(exchange, frame.image);
    exchange?.receive(frame);
    if (!exchange || !FINAL.has(frame.type)) return;
    this.#end();
    if (exchange.turn.replaces) void this.#reload();
    if (frame.type === "turn.failed") return this.wishes.report("error", { code: frame.code, message: frame.message });
    if (frame.type !== "turn.completed") return;
    this.#describe(exchange);
    this.#tellPicture(exchange);
    this.transcript.announce(frame.text);
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

  /** Say which picture an answer is about, where it could have been another one. @param {Exchange} exchange */
  #tellPicture(exchange) {
    const shown = [...this.#exchanges.values()];
    const before = shown.slice(0, shown.indexOf(exchange) + 1);
    const pictures = new Set(before.flatMap(({ turn }) => turn.pictures.map(({ image }) => image)));
    if (pictures.size > 1) exchange.showLooked();
  }

  /** @param {string} text @param {Attached[]} attached @param {Pointed | null} pointed */
  #ask(text, attached, pointed) {
    const turn = this.connection.ask(text, attached.map(({ picture }) => picture), pointed?.region);
    this.#make(turn, attached, pointed);
    this.#await(turn);
  }

  /** Make room for the answer to a turn. @param {PendingTurn} turn */
  #await(turn) {
    this.#current = this.#exchanges.get(turn.id) ?? this.#make(turn);
    const shown = [...this.#exchanges.keys()].filter((id) => id !== turn.id);
    const replaced = turn.replaces ? shown.indexOf(turn.replaces) : -1;
    this.#arrange([...(replaced < 0 ? shown : shown.slice(0, replaced)), turn.id]);
    this.#answering = true;
    this.transcript.toEnd();
    this.wishes.report("question", { turn: turn.id, text: turn.text });
  }

  /** Ask the same again, with nothing retyped: in its place where the server has it. @param {Exchange} exchange */
  #again(exchange) {
    if (exchange.kept) return this.#replace(exchange);
    if (this.#current) return;
    const { text, pictures, region } = exchange.turn;
    this.#exchanges.delete(exchange.turn.id);
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
    /** @type {HTMLElement | null | undefined} */ (this.#exchanges.get(turn)?.pager.querySelector("button:enabled"))?.focus();
  }

  /** Take over what has changed in the conversation without this page. */
  async #reload() {
    const { turns, more } = await this.connection.history().catch(() => ({}));
    if (turns) this.#sync(turns, more);
  }

  /** Another tab asks: listen too. @param {PendingTurn | undefined} pending */
  #join(pending) {
    if (!pending) return void this.#reload();
    if (this.connection.pending || this.#exchanges.has(pending.id)) return;
    this.connection.join(pending);
    this.#await(pending);
  }

  /** @param {ShownPicture} picture */
  #view({ image, url }) {
    const onpoint = (/** @type {import("./pointing.js").Box} */ box) => {
      this.composer.point({ region: { image, ...box }, url });
      this.composer.input.focus();
    };
    const oncover = (/** @type {Blob} */ covered) => {
      const newest = [...this.#exchanges.values()].reverse();
      const about = newest.find(({ looked, turn }) => (looked?.image ?? turn.pictures[0]?.image) === image);
      this.composer.attach([new File([covered], this.strings.coveredName, { type: covered.type })]);
      this.composer.propose(about?.turn.text ?? "");
      void this.composer.send();
    };
    const dialog = viewer(this.strings, url, { onpoint, oncover });
    this.element.append(dialog);
    dialog.showModal();
  }

  /** @param {string[]} questions */
  #suggest(questions) {
    const ask = (/** @type {string} */ question) => (this.#ask(question, [], null), this.composer.focus());
    this.suggestions.replaceChildren(...questions.map((question) => chip(question, ask)));
  }

  #refresh() {
    this.element.classList.toggle("empty", this.#exchanges.size === 0);
  }
}

/** A question of the history as it was sent. @param {Turn} turn @returns {PendingTurn} */
function asked({ id, text, images, region, replaces }) {
  const pictures = images.map((image) => ({ image }));
  return { id, text, pictures, region: region ?? null, replaces, acknowledged: false, cancelled: false };
}

/** Without the turns in whose place another one waits. @param {Turn[]} turns */
function current(turns) {
  const waiting = turns.find(({ status, replaces }) => status === "waiting" && replaces);
  const place = waiting ? turns.findIndex(({ id }) => id === waiting.replaces) : -1;
  return place < 0 ? turns : [...turns.slice(0, place), ...turns.filter(({ status }) => status === "waiting")];
}
