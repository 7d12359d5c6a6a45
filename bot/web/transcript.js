// @ts-check
/**
 * What has been said: the list of turns, the answer that is being written, and the hidden log that announces finished
 * answers. Knows nothing of the wire but the shape of a turn.
 */

import { fill } from "./strings.js";
import { h, icon, mark, safeHtml } from "./elements.js";
import { HeatView } from "./heat.js";
import { cutOut, Pointing } from "./pointing.js";

/** @import { Frame, Region } from "./connection.js" */
/** @import { Pointed } from "./composer.js" */
/** @import { Strings } from "./strings.js" */
/** @typedef {{code: string, message: string}} Problem */
/** @typedef {{image: string, url: string, width?: number, height?: number}} ShownPicture */

/** The list follows its end while the reader is within this many pixels of it. */
const NEAR_END_PX = 90;

export class Transcript {
  #following = true;

  /** @param {Strings} strings @param {(region: Region, url: string) => void} onpoint somebody wants to ask about a part */
  constructor(strings, onpoint) {
    this.strings = strings;
    this.onpoint = onpoint;
    this.list = h("ol", { class: "turns" });
    this.log = h("div", { class: "visually-hidden", role: "log", "aria-label": strings.conversation });
    this.latest = h("button", { class: "round latest", type: "button", hidden: true, "aria-label": strings.latest }, icon("down"));
    this.scroller = h("div", { class: "scroller", tabindex: "-1" }, this.list);
    this.element = h("div", { class: "transcript" }, this.scroller, this.log, this.latest);
    this.latest.onclick = () => this.toEnd(true);
    this.scroller.onscroll = () => (this.latest.hidden = this.#following = this.#nearEnd());
    const grown = new ResizeObserver(() => this.#following && this.toEnd());
    for (const box of [this.list, this.scroller]) grown.observe(box);
  }

  get isEmpty() {
    return this.list.childElementCount === 0;
  }

  clear() {
    this.list.replaceChildren();
    this.log.replaceChildren();
    this.latest.hidden = true;
    this.#following = true;
  }

  /** What the person said. @param {string} text @param {ShownPicture[]} pictures @param {Pointed | null} [pointed] */
  addQuestion(text, pictures, pointed) {
    const row = h("div", { class: "pictures" }, ...pictures.map((picture) => this.#picture(picture)));
    const bubble = text ? h("p", { class: "bubble", dir: "auto" }, text) : null;
    const speaker = h("span", { class: "visually-hidden" }, `${this.strings.you}: `);
    const part = pointed ? cutOut(pointed.url, pointed.region, this.strings.pointPart) : null;
    this.list.append(h("li", { class: "turn question" }, speaker, pictures.length ? row : null, part, bubble));
  }

  /** A place for an answer. @param {(() => void)} onretry */
  addAnswer(onretry) {
    const answer = new Answer(this.strings, onretry);
    this.list.append(answer.element);
    return answer;
  }

  /** Let assistive technology read a finished answer, once. @param {string} text */
  announce(text) {
    this.log.replaceChildren(h("p", {}, `${this.strings.name}: ${text}`));
  }

  /** @param {boolean} [smoothly] */
  toEnd(smoothly = false) {
    this.#following = true;
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior: smoothly ? "smooth" : "instant" });
  }

  #nearEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }

  /** @param {ShownPicture} picture */
  #picture({ image: id, url, width, height }) {
    const image = h("img", { src: url, width, height, alt: this.strings.pictureSent, decoding: "async" });
    const button = h("button", { class: "picture", type: "button", "aria-label": this.strings.openPicture }, image);
    button.onclick = () => this.#view(id, url);
    image.onerror = () => button.replaceWith(h("p", { class: "picture gone" }, icon("picture"), this.strings.pictureGone));
    return button;
  }

  /** The picture at full size, to look at and to point into. @param {string} image @param {string} url */
  #view(image, url) {
    const close = h("button", { class: "round", type: "button", "aria-label": this.strings.closePicture }, icon("close"));
    const ask = h("button", { class: "ask", type: "button", disabled: true }, this.strings.pointAsk);
    const pointing = new Pointing(this.strings, url, () => (ask.disabled = false));
    const foot = h("div", { class: "point-foot" }, h("p", {}, this.strings.pointHint), ask);
    const viewer = h("dialog", { class: "viewer" }, pointing.element, foot, close);
    const choose = () => {
      if (!pointing.box) return;
      viewer.close();
      this.onpoint({ image, ...pointing.box }, url);
    };
    ask.onclick = choose;
    close.onclick = () => viewer.close();
    viewer.onclick = (event) => event.target === viewer && viewer.close();
    viewer.onkeydown = (event) => event.key === "Enter" && event.target === pointing.element && choose();
    viewer.onclose = () => viewer.remove();
    this.element.append(viewer);
    viewer.showModal();
  }
}

/** One answer, from waiting over streaming to finished, stopped or failed. */
export class Answer {
  #attempt = 0;
  #text = new Text();

  text = "";
  /** Called when somebody wants to know where the model looked; null: nobody is asked. @type {(() => void) | null} */
  onexplain = null;

  /** @param {Strings} strings @param {() => void} onretry */
  constructor(strings, onretry) {
    this.strings = strings;
    this.onretry = onretry;
    this.body = h("div", { class: "said", dir: "auto" });
    this.more = h("div", {}); // what can be done with the answer
    const column = h("div", { class: "column" }, this.#speaker(), this.body, this.more);
    this.element = h("li", { class: "turn answer" }, mark(), column);
    this.wait(strings.waitingSend);
  }

  /** Show that something is under way. @param {string} words */
  wait(words) {
    const dots = h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
    this.body.replaceChildren(h("p", { class: "waiting" }, dots, words));
  }

  /** Take a turn.* frame in. @param {Frame} frame */
  receive(frame) {
    if (frame.attempt > this.#attempt) this.#restart(frame.attempt);
    if (frame.type === "turn.accepted") this.wait(this.strings.waitingLook);
    if (frame.type === "turn.restarted") this.wait(this.strings.waitingAgain);
    if (frame.type === "turn.queued") this.wait(fill(this.strings.waitingQueue, { position: frame.position }));
    if (frame.type === "turn.delta") this.#append(frame.text);
    if (frame.type === "turn.completed") this.show({ ...frame, status: "completed" });
    if (frame.type === "turn.cancelled") this.show({ ...frame, status: "cancelled" });
    if (frame.type === "turn.failed") this.#fail(frame);
  }

  /** Show a finished answer. @param {{text: string, html?: string | null, status: string, error?: Problem | null}} turn */
  show({ text, html, status, error }) {
    if (error) return this.#fail(error);
    this.body.replaceChildren(html ? safeHtml(html) : plain(text));
    if (status === "cancelled") this.body.append(h("p", { class: "aside" }, this.strings.stopped));
    this.text = text;
    this.more.replaceChildren(...(status === "completed" && this.onexplain ? [this.#why()] : []));
  }

  /** The answer to `onexplain`. @param {string} url of the picture @param {any} explanation or {error} */
  explain(url, explanation) {
    const failed = h("p", { class: "aside", role: "status" }, this.strings.heatFailed);
    const view = explanation.error ? failed : new HeatView(this.strings, url, this.text, explanation).element;
    const asked = /** @type {ShadowRoot} */ (this.element.getRootNode()).activeElement;
    const focused = asked !== null && this.more.contains(asked);
    this.more.replaceChildren(view);
    if (focused) view.querySelector("button")?.focus({ preventScroll: true });
  }

  #why() {
    const button = h("button", { class: "quiet why", type: "button" }, icon("eye"), this.strings.explain);
    button.onclick = () => {
      button.onclick = null; // disabling it would take the focus away
      button.lastChild?.replaceWith(this.strings.explaining);
      this.onexplain?.();
    };
    return button;
  }

  /** @param {Problem} problem */
  #fail({ code, message }) {
    const sentence = this.strings.errors[code] ?? message;
    const retry = h("button", { class: "quiet", type: "button" }, icon("retry"), this.strings.retry);
    retry.onclick = this.onretry;
    this.body.replaceChildren(h("div", { class: "failure" }, icon("alert"), h("p", { role: "alert" }, sentence), retry));
  }

  #speaker() {
    return h("span", { class: "visually-hidden" }, `${this.strings.name}: `);
  }

  /** Another attempt begins: what the earlier one said is void. @param {number} attempt */
  #restart(attempt) {
    this.#attempt = attempt;
    this.#text = new Text();
  }

  /** @param {string} text */
  #append(text) {
    if (!this.#text.isConnected) this.body.replaceChildren(h("p", { class: "plain" }, this.#text));
    this.#text.appendData(text);
  }
}

/** @param {string} text */
function plain(text) {
  return h("p", { class: "plain" }, text);
}
