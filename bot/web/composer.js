// @ts-check
/**
 * Where a question is made: the text, the pictures beside it and their uploads. Hands a finished question over; knows
 * nothing of sockets or answers.
 */

import { fill } from "./strings.js";
import { h, icon } from "./elements.js";
import { cutOut } from "./pointing.js";

/** @import { Picture, Region } from "./connection.js" */
/** @import { Strings } from "./strings.js" */
/** @typedef {{picture: Picture, url: string}} Attached a stored picture and the address of its local copy */
/** @typedef {{region: Region, url: string}} Pointed a part of a picture that was shown before, and the address of that picture */
/** @typedef {(blob: Blob, options: {onprogress: (share: number) => void, signal: AbortSignal}) => Promise<Picture>} Upload */
/** @typedef {{onsend: (text: string, attached: Attached[], pointed: Pointed | null) => void, onstop: () => void, upload: Upload}} Handlers */

const READABLE = "image/jpeg,image/png,image/webp,image/gif,image/bmp,image/tiff,image/heic,image/avif";
const HOPELESS = new Set(["bad_image", "image_too_large", "unsupported_image"]);
const MEGABYTE = 1024 * 1024;

export class Composer {
  /** @type {Attachment[]} */ #attachments = [];
  /** @type {Pointed | null} */ #pointed = null;
  #answering = false;
  #sending = false;

  /** Until `ready` brings the server's own. */
  #limits = { images: 8, image_bytes: 20 * MEGABYTE, characters: 4000 };

  /** @param {Strings} strings @param {Handlers} handlers */
  constructor(strings, handlers) {
    this.strings = strings;
    this.handlers = handlers;
    this.notice = h("p", { class: "notice", role: "alert" });
    this.shelf = h("ul", { class: "shelf" });
    this.input = h("textarea", { rows: 1, name: "text", "aria-label": strings.message, dir: "auto" });
    this.submit = h("button", { class: "round primary", type: "submit", "aria-label": strings.send }, icon("send"));
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
    this.submit.setAttribute("aria-label", answering ? this.strings.stop : this.strings.send);
    this.submit.replaceChildren(icon(answering ? "stop" : "send"));
    this.#refresh();
  }

  /** Say something about what was just tried; an empty sentence takes it back. @param {string} sentence */
  tell(sentence) {
    this.notice.replaceChildren(...(sentence ? [icon("alert"), h("span", {}, sentence)] : []));
  }

  /** Take files in, from wherever they came. @param {Iterable<File>} files */
  attach(files) {
    this.tell("");
    for (const file of files) {
      const complaint = this.#complaint(file);
      complaint ? this.tell(complaint) : this.#add(file);
    }
    this.#refresh();
    this.input.focus();
  }

  /** Ask about a part of a picture that was shown before; null: about all of it again. @param {Pointed | null} pointed */
  point(pointed) {
    this.#pointed = pointed;
    this.shelf.querySelector(".part")?.remove();
    if (pointed) {
      const remove = h("button", { class: "remove", type: "button", "aria-label": this.strings.pointAway }, icon("close"));
      remove.onclick = () => (this.point(null), this.input.focus());
      const part = cutOut(pointed.url, pointed.region, this.strings.pointPart);
      this.shelf.prepend(h("li", { class: "attachment part" }, part, remove));
    }
    this.#refresh();
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
      upload: this.handlers.upload,
      onremove: () => (this.#discard(attachment), this.#refresh(), this.input.focus()),
      onfail: (sentence, hopeless) => {
        if (hopeless) this.#discard(attachment);
        this.tell(sentence);
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
    this.tell("");
  }

  /** What is wrong with a file, as far as it can be seen from here; the server looks closer. @param {File} file */
  #complaint({ name, type, size }) {
    const { images, image_bytes: bytes } = this.#limits;
    if (type && !type.startsWith("image/")) return fill(this.strings.notAPicture, { name });
    if (size > bytes) return fill(this.strings.tooLargeFile, { name, limit: Math.floor(bytes / MEGABYTE) });
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
    const pick = h("button", { class: "round pick", type: "button", "aria-label": this.strings.addPicture }, icon("picture"));
    const shoot = h("button", { class: "round shoot", type: "button", "aria-label": this.strings.takePhoto }, icon("camera"));
    pick.onclick = () => files.click();
    shoot.onclick = () => camera.click();
    return [files, camera, pick, shoot];
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

/** @typedef {(sentence: string, hopeless: boolean) => void} OnFail hopeless: trying the same file again would not help */
/** @typedef {{strings: Strings, upload: Upload, onremove: () => void, onfail: OnFail}} AttachmentOptions */

/** One picture beside the question: its local preview, and its upload. */
class Attachment {
  #abort = new AbortController();

  /** The stored picture, or null when the upload failed. @type {Promise<Picture | null>} */
  stored = Promise.resolve(null);

  /** @param {File} file @param {AttachmentOptions} options */
  constructor(file, options) {
    this.file = file;
    this.options = options;
    this.url = URL.createObjectURL(file);
    this.bar = h("progress", { max: 1, value: 0, "aria-label": file.name });
    this.retry = h("button", { class: "retry", type: "button", "aria-label": this.#words("retryUpload") }, icon("retry"));
    this.remove = h("button", { class: "remove", type: "button" }, icon("close"));
    const preview = h("img", { src: this.url, alt: file.name });
    preview.onerror = () => preview.replaceWith(icon("picture"));
    this.retry.onclick = () => this.start();
    this.remove.onclick = () => options.onremove();
    this.element = h("li", { class: "attachment" }, preview, this.bar, this.retry, this.remove);
    this.start();
  }

  /** Begin, or begin again, to upload. */
  start() {
    this.#show("uploading");
    this.bar.value = 0;
    const onprogress = (/** @type {number} */ share) => (this.bar.value = share);
    this.stored = this.options.upload(this.file, { onprogress, signal: this.#abort.signal }).then(
      (picture) => (this.#show("stored"), picture),
      (error) => (this.#fail(error), null),
    );
  }

  /** Stop the upload and let go of the preview. */
  discard() {
    this.#abort.abort();
    this.element.remove();
    URL.revokeObjectURL(this.url);
  }

  /** @param {{code: string, message: string}} error */
  #fail({ code, message }) {
    if (code === "cancelled") return;
    this.#show("failed");
    const sentence = code === "network" ? this.#words("uploadFailed") : (this.options.strings.errors[code] ?? message);
    this.options.onfail(sentence, HOPELESS.has(code));
  }

  /** @param {"uploading" | "stored" | "failed"} state */
  #show(state) {
    this.element.dataset.state = state;
    this.bar.hidden = state !== "uploading";
    this.retry.hidden = state !== "failed";
    this.remove.setAttribute("aria-label", this.#words(state === "uploading" ? "cancelUpload" : "remove"));
  }

  /** @param {"retryUpload" | "remove" | "cancelUpload" | "uploadFailed"} key */
  #words(key) {
    return fill(this.options.strings[key], { name: this.file.name || this.options.strings.pictureSent });
  }
}
