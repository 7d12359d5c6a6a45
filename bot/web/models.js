/**
 * Who answers: a choice where the server offers several models, and a line on what the one can do that was chosen.
 */

import { h } from "./elements.js";
import { fill } from "./strings.js";

/** @import { Connection } from "./connection.js" */
/** @import { Strings } from "./strings.js" */
/** What is told of a model. @typedef {{name: string, pictures: boolean, remote: boolean}} ModelCard */

const EMBEDDED = "visavis-embedded";

export class Models {
  /** @param {Strings} strings @param {Connection} connection @param {boolean} standalone say how to bring another model */
  constructor(strings, connection, standalone) {
    this.strings = strings;
    this.connection = connection;
    this.standalone = standalone;
    this.choice = h("select", { class: "models", "aria-label": strings.model, hidden: true });
    this.note = h("p", { class: "note" });
    this.elements = [this.choice, this.note];
  }

  /** @param {ModelCard[]} cards @param {string} model the one that answers when nobody chooses */
  offer(cards, model) {
    const { choice, connection } = this;
    const chosen = cards.find(({ name }) => name === connection.model);
    if (!chosen) connection.model = "";
    choice.replaceChildren(...cards.map(({ name }) => h("option", { selected: name === (chosen?.name ?? model) }, name)));
    choice.hidden = cards.length < 2;
    choice.onchange = () => this.#introduce((connection.model = choice.value), cards[choice.selectedIndex]);
    this.#introduce(chosen?.name ?? model, chosen ?? cards[0]);
  }

  /** The part of the line that goes after the first question is longer. @param {string} model @param {ModelCard} [card] */
  #introduce(model, card) {
    const { strings } = this;
    const embedded = model === EMBEDDED;
    const more = h("span", { class: "more" }, embedded ? strings.noteAbilities : "");
    if (this.standalone) more.append(strings.noteLarger, h("code", {}, strings.noteFlag));
    const limits = [card?.remote ? strings.noteRemote : "", card?.pictures === false ? strings.noteBlind : ""];
    this.note.replaceChildren(embedded ? strings.noteEmbedded : fill(strings.noteOther, { model }), ...limits, more);
  }
}
