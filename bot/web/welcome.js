/**
 * What an empty conversation shows: a greeting, questions to begin with, and on visavis' own page photos to try. All of them
 * only fill the composer; nothing is sent.
 */

import { h, mark } from "./elements.js";

/** @import { Composer } from "./composer.js" */
/** @import { Wishes } from "./conversation.js" */
/** @import { Strings } from "./strings.js" */

const EXAMPLES = /** @type {const} */ ({ exampleCat: "example-cat.jpg", exampleCoffee: "example-coffee.jpg" });

export class Welcome {
  /** @param {Strings} strings @param {Wishes} wishes @param {Composer} composer */
  constructor(strings, wishes, composer) {
    this.strings = strings;
    this.wishes = wishes;
    this.composer = composer;
    this.greeting = h("div", {});
    this.greet("");
    this.element = h("div", { class: "welcome" }, mark(), this.greeting);
    if (wishes.questions.length) this.element.append(this.#questions());
    if (wishes.standalone) this.element.append(h("p", { class: "aside" }, strings.examples), this.#examples());
  }

  /** @param {string} operators greeting, where the host page has none */
  greet(operators) {
    const words = this.wishes.greeting || operators;
    const own = [h("h2", {}, this.strings.emptyTitle), h("p", {}, this.strings.emptyText)];
    this.greeting.replaceChildren(...(words ? [h("h2", { dir: "auto" }, words)] : own));
  }

  #questions() {
    const chips = this.wishes.questions.map((question) => chip(question, (text) => this.composer.propose(text)));
    return h("div", { class: "suggestions", role: "group", "aria-label": this.strings.suggestions }, ...chips);
  }

  #examples() {
    const cards = Object.entries(EXAMPLES).map(([label, file]) => {
      const name = this.strings[/** @type {keyof typeof EXAMPLES} */ (label)];
      const url = new URL(file, import.meta.url).href;
      const pick = () => this.#attach(url, name);
      return h("button", { class: "example", type: "button", onclick: pick }, h("img", { src: url, alt: "" }), h("span", {}, name));
    });
    return h("div", { class: "examples", role: "group", "aria-label": this.strings.examples }, ...cards);
  }

  /** @param {string} url @param {string} name */
  async #attach(url, name) {
    const response = await fetch(url).catch(() => null); // offline, which is told already
    if (response?.ok) this.composer.attach([new File([await response.blob()], name, { type: "image/jpeg" })]);
  }
}

/** @param {string} question @param {(question: string) => void} onpick */
export function chip(question, onpick) {
  return h("button", { class: "chip", type: "button", dir: "auto", onclick: () => onpick(question) }, question);
}
