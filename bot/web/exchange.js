/**
 * A question and its answer on the screen, from waiting over streaming to finished, and what can be done with them. Knows
 * nothing of the wire but the shape of a turn; what an action means is decided by whoever made the exchange.
 */

import { button, h, icon, mark, rename, safeHtml, speaker } from "./elements.js";
import { HeatView } from "./heat.js";
import { Question } from "./question.js";
import { fill } from "./strings.js";

/** @import { Pointed } from "./composer.js" */
/** @import { Frame } from "./line.js" */
/** @import { PendingTurn, Region } from "./memory.js" */
/** @import { ShownPicture } from "./question.js" */
/** @import { Strings } from "./strings.js" */
/** @typedef {{score: number, consent: boolean}} Feedback */
/**
 * A turn in the server's lists.
 * @typedef {{id: string, role: string, text: string, html: string | null, images: string[], at: number, status: string,
 *   region: Region | null, replaces: string | null, alternatives: {id: string, at: number}[], feedback: Feedback | null,
 *   error: {code: string, message: string} | null, confidence: number | null, suggestions: string[]}} Turn
 */
/** @typedef {Pick<Turn, "text" | "status"> & Partial<Turn>} Finished */
/**
 * What people may want of an exchange: to ask the same once more, after an answer or a failure, and so on; `explain` is null
 * where it is not offered.
 * @typedef {(exchange: Exchange) => void} Act
 * @typedef {{again: Act, explain: Act | null, edit: (exchange: Exchange, text: string) => void, select: (turn: string) => void,
 *   rate: (exchange: Exchange, feedback: Feedback) => void, view: (picture: ShownPicture) => void,
 *   tell: (words: string) => void}} Actions
 */

/** Below this confidence (of our model the chance that the answer is right) an answer is marked. */
const UNSURE = 0.3;
const COPIED_MS = 1500;

export class Exchange {
  #attempt = 0;
  #streamed = new Text();
  #formatted = false;
  /** @type {string | null} */ #finished = null;
  /** @type {Feedback} */ #feedback = { score: 0, consent: false };

  /** The answer. */ text = "";
  /** The picture that the answer is about. @type {ShownPicture | null} */ looked = null;
  /** Whether the server keeps it, so that it can be asked again in its place. */ kept = false;

  /**
   * @param {Strings} strings @param {PendingTurn} turn @param {ShownPicture[]} pictures @param {Pointed | null} pointed
   * @param {Actions} actions
   */
  constructor(strings, turn, pictures, pointed, actions) {
    this.strings = strings;
    this.turn = turn;
    this.actions = actions;
    const edit = (/** @type {string} */ text) => actions.edit(this, text);
    this.question = new Question(strings, turn, pictures, pointed, { edit, view: actions.view });
    this.body = h("div", { class: "said", dir: "auto" });
    this.foot = h("div", { class: "answer-foot" });
    const column = h("div", { class: "column" }, speaker(strings.name), this.body, this.foot);
    this.answer = h("li", { class: "turn answer" }, mark(), column);
    this.pager = h("span", { class: "pager", role: "group", "aria-label": strings.versions });
    this.wait(strings.waitingSend);
  }

  get elements() {
    return [this.question.element, this.answer];
  }

  /** Show that something is under way. @param {string} words */
  wait(words) {
    const dots = h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
    this.body.replaceChildren(h("p", { class: "waiting" }, dots, words));
  }

  /** Take a turn.* frame in. @param {Frame} frame */
  receive(frame) {
    if (frame.attempt) this.kept = true;
    if (frame.attempt > this.#attempt) {
      this.#attempt = frame.attempt;
      this.#streamed = new Text(); // what an earlier attempt said is void
      this.#formatted = false;
    }
    if (frame.type === "turn.accepted") this.wait(this.strings.waitingLook);
    if (frame.type === "turn.restarted") this.wait(this.strings.waitingAgain);
    if (frame.type === "turn.queued") this.wait(fill(this.strings.waitingQueue, { position: frame.position }));
    if (frame.type === "turn.delta") this.#append(frame);
    if (frame.type === "turn.completed") this.show({ ...frame, status: "completed" });
    if (frame.type === "turn.cancelled") this.show({ ...frame, status: "cancelled" });
    if (frame.type === "turn.failed") this.show({ ...frame, text: "", status: "failed", error: frame });
  }

  /** Show the finished answer, or what is new about it. @param {Finished} turn */
  show({ text, html, status, error, confidence, feedback, alternatives, at }) {
    const finished = `${status} ${text}`;
    if (this.#finished !== finished) {
      this.#finished = finished;
      this.text = text;
      if (error) return this.#fail(error);
      this.body.replaceChildren(html ? safeHtml(html) : plain(text));
      if (status === "cancelled") this.body.append(h("p", { class: "aside" }, this.strings.stopped));
      // what no model had a part in has no confidence, and looked nowhere
      this.#offer(status === "completed", typeof confidence === "number");
      const unsure = typeof confidence === "number" && confidence < UNSURE;
      if (unsure) this.foot.prepend(h("p", { class: "aside" }, icon("info"), this.strings.unsure));
    }
    if (feedback) this.rated(feedback);
    if (alternatives) this.#page([...alternatives, { id: this.turn.id, at: at ?? 0 }]);
  }

  /** The server has kept what was thought of the answer. @param {Feedback} feedback */
  rated(feedback) {
    this.#feedback = feedback;
    for (const [score, name] of /** @type {const} */ ([[1, "good"], [-1, "bad"]])) {
      this.foot.querySelector(`.${name}`)?.setAttribute("aria-pressed", String(feedback.score === score));
    }
    this.foot.querySelector(".consent")?.remove();
    if (feedback.score) this.foot.append(this.#consent());
  }

  /** The answer to `actions.explain`. @param {any} explanation or {error} */
  explain(explanation) {
    const why = this.foot.querySelector(".why");
    if (why instanceof HTMLElement) rename(why, this.strings.explain);
    const failed = h("p", { class: "aside", role: "status" }, this.strings.heatFailed);
    const view = explanation.error ? failed : new HeatView(this.strings, this.looked?.url ?? "", this.text, explanation).element;
    why?.setAttribute("aria-expanded", String(!explanation.error));
    this.foot.querySelector(".explanation")?.replaceChildren(view);
  }

  /** @param {boolean} completed @param {boolean} seen by a model */
  #offer(completed, seen) {
    const copy = button("round small copy", "copy", this.strings.copy, () => void this.#copy(copy));
    const again = button("round small again", "retry", this.strings.regenerate, () => this.actions.again(this));
    const rate = (/** @type {string} */ name, /** @type {string} */ words, /** @type {number} */ score) => {
      const act = () => this.actions.rate(this, { score: this.#feedback.score === score ? 0 : score, consent: false });
      const thumb = button(`round small ${name}`, name, words, act);
      thumb.setAttribute("aria-pressed", "false");
      return thumb;
    };
    const thumbs = [rate("good", this.strings.good, 1), rate("bad", this.strings.bad, -1)];
    const why = completed && seen && this.looked && this.actions.explain ? this.#why() : null;
    const row = h("div", { class: "actions" }, this.pager, ...(completed ? [copy, again, ...thumbs] : [again]), why);
    this.foot.replaceChildren(row, h("div", { class: "explanation" }));
  }

  /** Say which picture was looked at, where it could have been another one. */
  showLooked() {
    if (!this.looked || this.foot.querySelector(".looked")) return;
    const picture = this.looked;
    const open = h("button", { class: "looked", type: "button" }, h("img", { src: picture.url, alt: "" }), this.strings.looked);
    open.onclick = () => this.actions.view(picture);
    this.foot.prepend(open);
  }

  #why() {
    const why = button("quiet why", "eye", this.strings.explain, () => {
      if (why.getAttribute("aria-expanded") === "true") {
        this.foot.querySelector(".explanation")?.replaceChildren();
        return why.setAttribute("aria-expanded", "false");
      }
      rename(why, this.strings.explaining);
      this.actions.explain?.(this);
    });
    why.setAttribute("aria-expanded", "false");
    return why;
  }

  #consent() {
    const tick = h("input", { type: "checkbox" });
    tick.checked = this.#feedback.consent;
    tick.onchange = () => this.actions.rate(this, { score: this.#feedback.score, consent: tick.checked });
    return h("label", { class: "consent" }, tick, this.strings.consent);
  }

  /** Step through the versions of this exchange. @param {{id: string, at: number}[]} versions */
  #page(versions) {
    versions.sort((one, other) => one.at - other.at);
    const place = versions.findIndex(({ id }) => id === this.turn.id);
    const step = (/** @type {string} */ symbol, /** @type {string} */ words, /** @type {number} */ to) => {
      const go = button("round small", symbol, words, () => this.actions.select(versions[to].id));
      go.disabled = !versions[to];
      return go;
    };
    const count = h("span", {}, fill(this.strings.versionOf, { place: place + 1, count: versions.length }));
    const { versionBefore, versionAfter } = this.strings;
    const steps = [step("back", versionBefore, place - 1), count, step("next", versionAfter, place + 1)];
    this.pager.replaceChildren(...(versions.length > 1 ? steps : []));
  }

  /** @param {HTMLElement} control */
  async #copy(control) {
    try {
      await navigator.clipboard.writeText(this.text);
    } catch {
      getSelection()?.selectAllChildren(this.body); // plain http has no clipboard
      document.execCommand("copy");
    }
    this.actions.tell(this.strings.copied);
    control.replaceChildren(icon("check"));
    setTimeout(() => control.replaceChildren(icon("copy")), COPIED_MS);
  }

  /** @param {{code: string, message: string}} problem */
  #fail({ code, message }) {
    const sentence = this.strings.errors[code] ?? message;
    const retry = button("quiet", "retry", this.strings.retry, () => this.actions.again(this));
    this.body.replaceChildren(h("div", { class: "failure" }, icon("alert"), h("p", { role: "alert" }, sentence), retry));
    this.foot.replaceChildren(h("div", { class: "actions" }, this.pager));
  }

  /** Once the server sends the answer as HTML, text waits for it: nobody shall read markers. @param {Frame} delta */
  #append({ text, html, after }) {
    if (html !== undefined) {
      this.#formatted = true;
      const shown = this.#streamed.isConnected ? [] : [...this.body.children].slice(0, after);
      this.body.replaceChildren(...shown, safeHtml(html));
    } else if (!this.#formatted) {
      if (!this.#streamed.isConnected) this.body.replaceChildren(h("p", { class: "plain" }, this.#streamed));
      this.#streamed.appendData(text);
    }
  }
}

/** @param {string} text */
function plain(text) {
  return h("p", { class: "plain" }, text);
}
