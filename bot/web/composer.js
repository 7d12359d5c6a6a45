/**
 * Where a question is made: the text, the pictures beside it and their uploads. Hands a finished question over; knows
 * nothing of sockets or answers.
 */

import { Attachment } from "./attachment.js";
import { button, h, icon, rename } from "./elements.js";
import { cutOut } from "./pointing.js";
import { fill, quoted } from "./strings.js";

/** @import { Upload } from "./attachment.js" */
/** @import { Region } from "./memory.js" */
/** @import { Picture } from "./pictures.js" */
/** @import { Strings } from "./strings.js" */
/** @typedef {{picture: Picture, url: string}} Attached a stored picture and the address of its local copy */
/** @typedef {{region: Region, url: string}} Pointed a part of a picture that was shown before, and the address of that picture */
/** @typedef {(text: string, attached: Attached[], pointed: Pointed | null) => void} OnSend */
/** @typedef {{onsend: OnSend, onstop: () => void, view: (image: string) => void, upload: Upload}} Handlers */

const READABLE = "image/jpeg,image/png,image/webp,image/gif,image/bmp,image/tiff,image/heic,image/avif";

export class Composer {
  /** @type {Attachment[]} */ #attachments = [];
  /** @type {Pointed | null} */ #pointed = null;
  #answering = false;
  #sending = false;

  /** Until `ready` brings the server's own. */
  #limits = { images: 8, image_bytes: 20 * 2 ** 20, characters: 4000 };

  /** @param {Strings} strings @param {Handlers} handlers */
  constructor(strings, handlers) {
    this.strings = strings;
    this.handlers = handlers;
    this.notice = h("p", { class: "notice", role: "alert" });
    this.shelf = h("ul", { class: "shelf" });
    this.input = h("textarea", { rows: 1, name: "text", "aria-label": strings.message, dir: "auto" });
    this.submit = button("round primary", "send", strings.send);
    this.submit.type = "submit";
    const row = h("div", { class: "row" }, ...this.#pickers(), this.input, this.submit);
    this.element = h("form", { class: "composer", novalidate: true }, this.shelf, row);
    this.element.onsubmit = (event) => (event.preventDefault(), this.#answering ? handlers.onstop() : void this.send());
    this.input.oninput = () => this.#refresh();
    this.input.onkeydown = (event) => this.#key(event);
    this.#refresh();
  }

  /** Hold to what the server allows. @param {{images?: number, image_bytes?: number, characters?: number}} limits */
  limit(limits) {
    this.#limits = { ...this.#limits, ...limits };
  }

  /** While an answer is written the send button stops it. @param {boolean} answering */
  set answering(answering) {
    this.#answering = answering;
    rename(this.submit, answering ? this.strings.stop : this.strings.send);
    this.submit.replaceChildren(icon(answering ? "stop" : "send"));
    this.#refresh();
  }

  /** Unless that would open a keyboard on the screen. */
  focus() {
    if (matchMedia("(hover: hover)").matches) this.input.focus();
  }

  /** Say something about what was just tried; an empty sentence takes it back. @param {string} sentence */
  tell(sentence) {
    this.notice.replaceChildren(...(sentence ? [icon("alert"), h("span", {}, sentence)] : []));
  }

  /** Say something about a file, beside what was said of others. @param {string} sentence */
  #complain(sentence) {
    if (!this.notice.hasChildNodes()) this.tell(sentence);
    else if (!this.notice.textContent?.includes(sentence)) this.notice.lastElementChild?.append(h("br"), sentence);
  }

  /** Take files in, from wherever they came. @param {Iterable<File>} files */
  attach(files) {
    this.tell("");
    for (const file of files) {
      const complaint = this.#complaint(file);
      complaint ? this.#complain(complaint) : this.#add(file);
    }
    this.#refresh();
    this.input.focus();
  }

  /** Ask about a part of a picture that was shown before; null: about all of it again. @param {Pointed | null} pointed */
  point(pointed) {
    this.#pointed = pointed;
    this.shelf.querySelector(".part")?.remove();
    if (pointed) {
      const remove = button("remove", "close", this.strings.pointAway, () => (this.point(null), this.input.focus()));
      const part = cutOut(pointed.url, pointed.region, this.strings.pointPart);
      this.shelf.prepend(h("li", { class: "attachment part" }, part, remove));
    }
    this.#refresh();
  }

  /** Put a question in, unless one has been begun. @param {string} text */
  propose(text) {
    this.input.value ||= text;
    this.#refresh();
    this.input.focus();
  }

  /** Send what is there, after the pictures have arrived; on failure everything stays where it is. */
  async send() {
    const typed = this.input.value.trim();
    const limit = this.#limits.characters;
    if (this.#sending || this.#answering || (!typed && !this.#attachments.length && !this.#pointed)) return;
    if (typed.length > limit) return this.tell(fill(this.strings.tooLongText, { count: typed.length, limit }));
    this.#sending = true;
    this.#refresh();
    const attachments = [...this.#attachments];
    const pictures = await Promise.all(attachments.map(({ stored }) => stored));
    this.#sending = false;
    if (pictures.every((picture) => picture !== null)) {
      const attached = attachments.map(({ url }, index) => ({ picture: pictures[index], url }));
      for (const { element } of attachments) element.remove();
      this.#attachments = this.#attachments.filter((other) => !attachments.includes(other));
      this.input.value = "";
      this.tell("");
      const pointed = this.#pointed;
      this.point(null);
      this.handlers.onsend(typed || this.strings[pointed ? "defaultPointing" : "defaultQuestion"], attached, pointed);
    }
    this.#refresh();
  }

  /** Upload everything again, into another conversation. */
  restart() {
    this.point(null);
    for (const attachment of this.#attachments) attachment.start();
  }

  clear() {
    for (const attachment of [...this.#attachments]) this.#discard(attachment);
    this.input.value = "";
    this.tell("");
    this.point(null);
  }

  /** @param {File} file */
  #add(file) {
    /** @type {Attachment} */
    const attachment = new Attachment(file, {
      strings: this.strings,
      limit: this.#limits.image_bytes,
      upload: this.handlers.upload,
      onview: (picture) => picture && this.handlers.view(picture.image),
      onremove: () => (this.tell(""), this.#discard(attachment), this.#refresh(), this.input.focus()),
      onretry: () => this.tell(""),
      onfail: (sentence, hopeless) => {
        if (hopeless) this.#discard(attachment);
        this.#complain(sentence);
        this.#refresh();
      },
    });
    this.#attachments.push(attachment);
    this.shelf.append(attachment.element);
  }

  /** @param {Attachment} attachment */
  #discard(attachment) {
    attachment.discard();
    this.#attachments = this.#attachments.filter((other) => other !== attachment);
  }

  /** What is wrong with a file, as far as it can be seen from here; the server looks closer. @param {File} file */
  #complaint({ name, type }) {
    const { images } = this.#limits;
    if (type && !type.startsWith("image/")) return fill(this.strings.notAPicture, { name: quoted(name) });
    if (this.#attachments.length >= images) return fill(this.strings.tooManyPictures, { count: images });
    return "";
  }

  /** The button for a picture, and one for the camera where fingers are (CSS hides it elsewhere). */
  #pickers() {
    const files = h("input", { type: "file", accept: READABLE, multiple: true, hidden: true, tabindex: "-1" });
    const camera = h("input", { type: "file", accept: "image/*", capture: "environment", hidden: true, tabindex: "-1" });
    for (const input of [files, camera]) {
      input.onchange = () => (this.attach(input.files ?? []), (input.value = ""));
    }
    const pick = button("round pick", "picture", this.strings.addPicture, () => files.click());
    return [files, camera, pick, button("round shoot", "camera", this.strings.takePhoto, () => camera.click())];
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void this.send();
  }

  #refresh() {
    const empty = !this.input.value.trim() && !this.#attachments.length && !this.#pointed;
    this.submit.disabled = !this.#answering && (empty || this.#sending);
    this.input.readOnly = this.#sending;
    this.shelf.hidden = this.#attachments.length === 0 && !this.#pointed;
    const key = this.#pointed ? "placeholderPointing" : this.shelf.hidden ? "placeholder" : "placeholderPicture";
    this.input.placeholder = this.strings[key];
    if (CSS.supports("field-sizing", "content")) return;
    this.input.style.height = "auto"; // so that it can shrink again
    this.input.style.height = `${this.input.scrollHeight}px`;
  }
}
