/**
 * One picture beside a question: its local preview, made smaller where it is large, and its upload.
 */

import { button, h, icon, rename } from "./elements.js";
import { fill, quoted } from "./strings.js";

/** @import { Picture } from "./pictures.js" */
/** @import { Strings } from "./strings.js" */
/** @typedef {(blob: Blob, options: {onprogress: (share: number) => void, signal: AbortSignal}) => Promise<Picture>} Upload */
/** @typedef {(sentence: string, hopeless: boolean) => void} OnFail hopeless: trying the same file again would not help */
/** @typedef {{strings: Strings, limit: number, upload: Upload, onview: (picture: Picture | null) => void, onremove: () => void, onretry: () => void, onfail: OnFail}} AttachmentOptions */

const MEGABYTE = 2 ** 20;
const HOPELESS = new Set(["bad_image", "image_too_large", "unsupported_image", "too_large_file"]);
/** The longest side that is sent, in pixels; the server keeps fewer, and shrinks better than a canvas. */
const LONGEST_SIDE = 1600;
const JPEG_QUALITY = 0.92;

export class Attachment {
  #abort = new AbortController();

  /** The stored picture, or null when the upload failed. @type {Promise<Picture | null>} */
  stored = Promise.resolve(null);

  /** @param {File} file @param {AttachmentOptions} options */
  constructor(file, options) {
    this.file = file;
    this.options = options;
    this.url = URL.createObjectURL(file);
    this.bar = h("progress", { max: 1, value: 0, "aria-label": file.name });
    this.retry = button("retry", "retry", this.#words("retryUpload"), () => (options.onretry(), this.start()));
    this.remove = button("remove", "close", "", () => options.onremove());
    const preview = h("img", { src: this.url, alt: file.name });
    preview.onerror = () => preview.replaceWith(icon("picture"));
    const hint = h("span", { class: "visually-hidden" }, options.strings.openPicture);
    this.open = h("button", { class: "preview", type: "button" }, preview, hint);
    this.open.onclick = async () => options.onview(await this.stored);
    this.element = h("li", { class: "attachment" }, this.open, this.bar, this.retry, this.remove);
    this.start();
  }

  /** Begin, or begin again, to upload. */
  start() {
    this.#show("uploading");
    this.bar.value = 0;
    this.stored = this.#upload().then(
      (picture) => (this.#show("stored"), picture),
      (error) => (this.#fail(error), null),
    );
  }

  async #upload() {
    const onprogress = (/** @type {number} */ share) => (this.bar.value = share);
    const blob = await shrunk(this.file);
    if (blob.size > this.options.limit) throw { code: "too_large_file" };
    return this.options.upload(blob, { onprogress, signal: this.#abort.signal });
  }

  /** Stop the upload and let go of the preview. */
  discard() {
    this.#abort.abort();
    this.element.remove();
    URL.revokeObjectURL(this.url);
  }

  /** @param {{code: string, message?: string}} error */
  #fail({ code, message }) {
    if (code === "cancelled") return;
    this.#show("failed");
    const problem = this.options.strings.errors[code] ?? message ?? "";
    const sentence = code === "network" ? "uploadFailed" : code === "too_large_file" ? "tooLargeFile" : "fileProblem";
    this.options.onfail(this.#words(sentence, problem), HOPELESS.has(code));
  }

  /** @param {"uploading" | "stored" | "failed"} state */
  #show(state) {
    this.element.dataset.state = state;
    this.open.disabled = state !== "stored";
    this.bar.hidden = state !== "uploading";
    this.retry.hidden = state !== "failed";
    rename(this.remove, this.#words(state === "uploading" ? "cancelUpload" : "remove"));
  }

  /** @param {"retryUpload" | "remove" | "cancelUpload" | "uploadFailed" | "tooLargeFile" | "fileProblem"} key @param {string} [problem] */
  #words(key, problem) {
    const { strings, limit } = this.options;
    const name = this.file.name || strings.pictureSent;
    const values = { limit: Math.floor(limit / MEGABYTE), problem: problem ?? "" };
    return fill(strings[key], { ...values, name: problem === undefined ? name : quoted(name) });
  }
}

/**
 * A picture as it is sent: upright and on white when it has to be made smaller, else untouched.
 *
 * @param {File} file @returns {Promise<Blob>}
 */
async function shrunk(file) {
  const bitmap = await createImageBitmap(file).catch(() => null); // null: the browser cannot read it, perhaps the server can
  const scale = bitmap ? LONGEST_SIDE / Math.max(bitmap.width, bitmap.height) : 1;
  if (!bitmap || scale >= 1) return file;
  const canvas = h("canvas", { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(blob ?? file), "image/jpeg", JPEG_QUALITY));
}
