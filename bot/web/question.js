/**
 * A question on the screen: its words, which can be edited, its pictures, and the part that it points at. What an edited
 * question or an opened picture means is decided by whoever made it.
 */

import { button, h, icon, speaker } from "./elements.js";
import { cutOut } from "./pointing.js";
import { fill } from "./strings.js";

/** @import { Pointed } from "./composer.js" */
/** @import { PendingTurn } from "./memory.js" */
/** @import { Strings } from "./strings.js" */
/** @typedef {{image: string, url: string, width?: number, height?: number}} ShownPicture */
/** @typedef {{edit: (text: string) => void, view: (picture: ShownPicture) => void}} QuestionActions */

export class Question {
  /**
   * @param {Strings} strings @param {PendingTurn} turn @param {ShownPicture[]} pictures @param {Pointed | null} pointed
   * @param {QuestionActions} actions
   */
  constructor(strings, turn, pictures, pointed, actions) {
    this.strings = strings;
    this.text = turn.text;
    this.actions = actions;
    this.said = this.#bubble();
    const row = pictures.length ? h("div", { class: "pictures" }, ...pictures.map((picture) => this.#picture(picture))) : null;
    const part = pointed ? cutOut(pointed.url, pointed.region, strings.pointPart) : null;
    this.element = h("li", { class: "turn question" }, speaker(strings.you), row, part, this.said);
  }

  /** Say what a picture shows, to those who cannot see it. @param {string} image @param {string} text */
  describe(image, text) {
    const shown = this.element.querySelector(`[data-image="${image}"] img`);
    shown?.setAttribute("alt", fill(this.strings.pictureShows, { text }));
  }

  #bubble() {
    if (!this.text) return null;
    const edit = button("round small edit", "edit", this.strings.edit, () => this.#rewrite());
    return h("div", { class: "asked" }, edit, h("p", { class: "bubble", dir: "auto" }, this.text));
  }

  /** The question as a form. */
  #rewrite() {
    const input = h("textarea", { rows: 2, "aria-label": this.strings.editMessage, dir: "auto" });
    const cancel = h("button", { class: "quiet", type: "button" }, this.strings.cancel);
    const form = h("form", { class: "rewrite" }, input, cancel, h("button", { class: "filled" }, this.strings.editSend));
    const leave = () => {
      form.replaceWith(/** @type {HTMLElement} */ (this.said));
      this.said?.querySelector("button")?.focus();
    };
    cancel.onclick = leave;
    form.onsubmit = (event) => {
      event.preventDefault();
      const text = input.value.trim();
      leave();
      if (text) this.actions.edit(text);
    };
    form.onkeydown = (event) => {
      const send = event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === input;
      if (!send && event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      send ? form.requestSubmit() : leave();
    };
    input.value = this.text;
    this.said?.replaceWith(form);
    input.focus();
  }

  /** @param {ShownPicture} picture */
  #picture(picture) {
    const { url: src, width, height } = picture;
    const image = h("img", { src, width, height, alt: this.strings.pictureSent, decoding: "async" });
    const open = h("button", { class: "picture", type: "button", "data-image": picture.image }, image);
    open.append(h("span", { class: "visually-hidden" }, this.strings.openPicture));
    open.onclick = () => this.actions.view(picture);
    image.onerror = () => open.replaceWith(h("p", { class: "picture gone" }, icon("picture"), this.strings.pictureGone));
    return open;
  }
}
