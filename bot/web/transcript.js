/**
 * The list of what has been said, which follows its end while the reader is there, and the hidden log that announces
 * finished answers. Knows exchanges by their elements alone.
 */

import { button, h } from "./elements.js";

/** @import { Exchange } from "./exchange.js" */
/** @import { Strings } from "./strings.js" */

/** The list follows its end while the reader is within this many pixels of it. */
const NEAR_END_PX = 90;

export class Transcript {
  #following = true;

  /** @param {Strings} strings @param {() => void} onearlier somebody wants to see what was said before */
  constructor(strings, onearlier) {
    this.strings = strings;
    this.list = h("ol", { class: "turns" });
    this.log = h("div", { class: "visually-hidden", role: "log", "aria-label": strings.conversation });
    this.status = h("div", { class: "visually-hidden", role: "status" });
    this.latest = button("round latest", "down", strings.latest, () => this.toEnd(true));
    this.earlier = h("button", { class: "quiet earlier", type: "button", onclick: onearlier }, strings.earlier);
    this.latest.hidden = this.earlier.hidden = true;
    this.scroller = h("div", { class: "scroller", tabindex: "-1" }, this.earlier, this.list);
    this.element = h("div", { class: "transcript" }, this.scroller, this.log, this.status, this.latest);
    this.scroller.onscroll = () => (this.latest.hidden = this.#following = this.#nearEnd());
    const grown = new ResizeObserver(() => this.#following && this.toEnd());
    for (const box of [this.list, this.scroller]) grown.observe(box);
  }

  /**
   * Show these exchanges, and no others, in this order; those that are in their place are not touched.
   *
   * @param {Iterable<Exchange>} exchanges
   */
  arrange(exchanges) {
    /** @type {Element[]} */ const elements = [...exchanges].flatMap((exchange) => exchange.elements);
    for (const element of [...this.list.children]) if (!elements.includes(element)) element.remove();
    elements.forEach((element, place) => {
      if (this.list.children[place] !== element) this.list.insertBefore(element, this.list.children[place] ?? null);
    });
  }

  /** What comes at the beginning of the list, without moving what is being read. @param {() => void} change */
  keepPlace(change) {
    const fromEnd = this.scroller.scrollHeight - this.scroller.scrollTop;
    change();
    this.scroller.scrollTop = this.scroller.scrollHeight - fromEnd;
  }

  /** Let assistive technology read a finished answer, once. @param {string} text */
  announce(text) {
    this.log.replaceChildren(h("p", {}, `${this.strings.name}: ${text}`));
  }

  /** Let assistive technology read what has just been done. @param {string} words */
  tell(words) {
    this.status.textContent = words;
  }

  /** @param {boolean} [smoothly] */
  toEnd(smoothly = false) {
    this.#following = true;
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior: smoothly && !matchMedia("(prefers-reduced-motion: reduce)").matches ? "smooth" : "instant" });
  }

  #nearEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }
}
