/**
 * Pointing at a part of a picture: a box that is drawn by dragging, set by a tap, or moved with the arrow keys. Knows one
 * picture and one box, as shares 0..1 of the picture; what is asked about it is not its business.
 */

import { h } from "./elements.js";

/** @import { Strings } from "./strings.js" */
/** @typedef {{x: number, y: number, w: number, h: number}} Box */

/** The side of the box that a tap or the first key sets. */
const TAPPED = 0.3;
/** How far an arrow key moves or stretches the box. */
const STEP = 0.05;
const SMALLEST = 0.04;
/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pointing {
  /** @type {Box | null} */ box = null;

  /** @param {Strings} strings @param {string} url of the picture @param {() => void} onchange */
  constructor(strings, url, onchange) {
    this.onchange = onchange;
    this.frame = h("div", { class: "box", hidden: true });
    this.image = h("img", { src: url, alt: strings.pictureSent, draggable: "false" });
    this.image.onload = () => {
      const { naturalWidth: width, naturalHeight: height } = this.image;
      this.element.style.setProperty("--ratio", String(width / height));
    };
    this.element = h("div", { class: "pointing", tabindex: "0", role: "group", "aria-label": strings.pointKeys });
    this.element.append(this.image, this.frame);
    this.element.onpointerdown = (event) => event.button === 0 && this.#drag(event);
    this.element.onkeydown = (event) => this.#key(event);
  }

  /** Of the box. */
  get middle() {
    return this.box && [this.box.x + this.box.w / 2, this.box.y + this.box.h / 2];
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    event.preventDefault();
    this.element.focus({ preventScroll: true });
    this.element.setPointerCapture(event.pointerId);
    const from = this.#place(event);
    this.element.onpointermove = (moved) => this.#set(between(from, this.#place(moved)));
    this.element.onpointerup = (ended) => {
      this.element.onpointermove = this.element.onpointerup = null;
      const box = between(from, this.#place(ended));
      const drawn = box.w >= SMALLEST && box.h >= SMALLEST;
      this.#set(drawn ? box : inside({ x: from.x - TAPPED / 2, y: from.y - TAPPED / 2, w: TAPPED, h: TAPPED }));
    };
    this.element.onpointercancel = () => (this.element.onpointermove = this.element.onpointerup = null);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    event.preventDefault();
    const [right, down] = arrow.map((direction) => direction * STEP);
    const box = this.box;
    if (!box) this.#set({ x: 0.35, y: 0.35, w: TAPPED, h: TAPPED });
    else if (event.shiftKey) this.#set(inside({ ...box, w: box.w + right, h: box.h + down }));
    else this.#set(inside({ ...box, x: box.x + right, y: box.y + down }));
    this.frame.scrollIntoView({ block: "nearest", inline: "nearest" }); // when zoomed in
  }

  /** Where in the picture a pointer is. @param {PointerEvent} event */
  #place({ clientX, clientY }) {
    const { left, top, width, height } = this.image.getBoundingClientRect();
    return { x: clamp((clientX - left) / width, 0, 1), y: clamp((clientY - top) / height, 0, 1) };
  }

  /** @param {Box} box */
  #set(box) {
    this.box = box;
    this.frame.hidden = false;
    const { style } = this.frame;
    [style.left, style.top, style.width, style.height] = [box.x, box.y, box.w, box.h].map((share) => `${100 * share}%`);
    this.onchange();
  }
}

/** A small copy of the part of a picture that a box holds. @param {string} url @param {Box} box @param {string} label */
export function cutOut(url, box, label) {
  const canvas = h("canvas", { class: "cut-out", role: "img", "aria-label": label });
  const image = new Image();
  image.onload = () => {
    const { naturalWidth: width, naturalHeight: height } = image;
    [canvas.width, canvas.height] = [Math.max(1, box.w * width), Math.max(1, box.h * height)];
    const context = canvas.getContext("2d");
    context?.drawImage(image, box.x * width, box.y * height, box.w * width, box.h * height, 0, 0, canvas.width, canvas.height);
  };
  image.src = url;
  return canvas;
}

/** @param {{x: number, y: number}} one @param {{x: number, y: number}} other @returns {Box} */
function between(one, other) {
  const [x, y] = [Math.min(one.x, other.x), Math.min(one.y, other.y)];
  return { x, y, w: Math.abs(one.x - other.x), h: Math.abs(one.y - other.y) };
}

/** Moved back into the picture where it stands out. @param {Box} box @returns {Box} */
function inside({ x, y, w, h }) {
  const [width, height] = [clamp(w, SMALLEST, 1), clamp(h, SMALLEST, 1)];
  return { x: clamp(x, 0, 1 - width), y: clamp(y, 0, 1 - height), w: width, h: height };
}

/** @param {number} value @param {number} low @param {number} high */
function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
