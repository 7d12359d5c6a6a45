/**
 * Where an answer came from: the picture in grey, coloured by how much the model looked, and the answer's words to step through.
 * Knows one explanation; who asked for it is not its business.
 */

import { h } from "./elements.js";
import { fill } from "./strings.js";

/** @import { Strings } from "./strings.js" */
/** @typedef {{start: number, end: number, map: string}} WordMap */
/** @typedef {{grid: [number, number], answer: string, words: WordMap[]}} Explanation */

/**
 * From where nobody looked to where it looked most, over the picture in grey: one that is dark, or bright, or of such a colour,
 * shows it as well as others. Red, green, blue and how much they cover, 0..255.
 */
const COLOURS = [[30, 12, 70, 155], [150, 40, 100, 140], [240, 110, 40, 145], [255, 225, 110, 165]];
/** Heat is lifted by this power: a few hot cells would otherwise leave the rest of the picture in the dark. */
const LIFT = 0.75;

export class HeatView {
  /** The map that is drawn. */ drawn = "";

  /**
   * @param {Strings} strings @param {string} url of the picture @param {string} text of the answer
   * @param {Explanation} explanation
   */
  constructor(strings, url, text, explanation) {
    const [rows, columns] = explanation.grid;
    this.veil = h("canvas", { width: columns, height: rows, "aria-hidden": "true" });
    this.caption = h("figcaption", { "aria-live": "polite" });
    this.strings = strings;
    const letters = [...text]; // places are counted in characters, not in UTF-16 units
    const whole = this.#word(strings.heatWhole, explanation.answer, strings.heatAlt);
    const words = explanation.words.map(({ start, end, map }) => {
      const word = letters.slice(start, end).join("");
      return this.#word(word, map, fill(strings.heatWord, { word }));
    });
    // The picture comes last: where there is no room for both it is the one to be seen.
    const onload = () => [this.element, this.row, picture].forEach((part) => part.scrollIntoView({ block: "nearest" }));
    const picture = h("div", { class: "heat-picture" }, h("img", { src: url, alt: strings.heatPicture, onload }), this.veil);
    const legend = h("p", { class: "legend" }, strings.heatLess, h("i", { "aria-hidden": "true" }), strings.heatMore);
    whole.dir = "auto"; // and so leaves the direction of the row to the answer's own words
    this.row = h("div", { class: "words", role: "toolbar", dir: "auto", "aria-label": strings.heatWords }, whole, ...words);
    this.row.addEventListener("keydown", (event) => this.#key(event));
    this.element = h("figure", { class: "heat" }, picture, this.row, legend, this.caption);
    this.#show(whole, explanation.answer, strings.heatAlt);
  }

  /**
   * A word that shows its map when it is pointed at, reached by keyboard or pressed.
   *
   * @param {string} label @param {string} map @param {string} told
   */
  #word(label, map, told) {
    const button = h("button", { class: "word", type: "button", tabindex: "-1", "aria-pressed": "false" }, label);
    const show = () => this.#show(button, map, told);
    for (const event of ["click", "focus"]) button.addEventListener(event, show);
    // Not pointerenter: it also comes when the page scrolls under a pointer that rests.
    button.onpointermove = (event) => (event.movementX || event.movementY) && show();
    return button;
  }

  /** The words are one stop of the Tab key; arrow keys step through them. @param {KeyboardEvent} event */
  #key(event) {
    const words = [...this.row.querySelectorAll("button")];
    const at = words.findIndex((word) => word === event.target);
    const onwards = getComputedStyle(this.row).direction === "rtl" ? -1 : 1;
    const places = { ArrowRight: at + onwards, ArrowLeft: at - onwards, Home: 0, End: words.length - 1 };
    const next = words[places[/** @type {keyof typeof places} */ (event.key)]];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }

  /** @param {HTMLElement} button @param {string} map @param {string} told */
  #show(button, map, told) {
    for (const [one, is] of /** @type {const} */ ([[this.shown, false], [button, true]])) {
      one?.setAttribute("aria-pressed", String(is));
      if (one) one.tabIndex = is ? 0 : -1;
    }
    this.shown = button;
    this.caption.textContent = told;
    if (map === this.drawn) return;
    this.drawn = map;
    const cells = Uint8Array.from(atob(map), (char) => char.charCodeAt(0));
    const { width, height } = this.veil;
    const pixels = new ImageData(width, height);
    const coldest = Math.min(...cells);
    cells.forEach((heat, place) => pixels.data.set(colour(((heat - coldest) / (255 - coldest || 1)) ** LIFT), 4 * place));
    this.veil.getContext("2d")?.putImageData(pixels, 0, 0);
  }
}

/** @param {number} heat 0..1 */
function colour(heat) {
  const place = heat * (COLOURS.length - 1);
  const low = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[low].map((from, channel) => from + (COLOURS[low + 1][channel] - from) * (place - low));
}
