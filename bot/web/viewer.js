/**
 * A picture at full size: to look at closely, to point into, and to cover a part of. Knows one picture; what is asked about
 * it is not its business.
 */

import { button, h, modal } from "./elements.js";
import { Pointing } from "./pointing.js";

/** @import { Box } from "./pointing.js" */
/** @import { Strings } from "./strings.js" */
/** @typedef {{onpoint: (box: Box) => void, oncover: ((covered: Blob | null) => void) | null}} ViewerHandlers */

const ZOOMS = [1, 1.5, 2.25, 3.5, 5];
/** What a covered part becomes: the grey that models see as nothing. */
const COVER = "rgb(124 116 104)";

/**
 * The open dialog, to be appended; it removes itself.
 *
 * @param {Strings} strings
 * @param {string} url of the picture
 * @param {ViewerHandlers} handlers
 */
export function viewer(strings, url, { onpoint, oncover }) {
  const pointing = new Pointing(strings, url, () => (ask.disabled = cover.disabled = false));
  const stage = h("div", { class: "stage", dir: "ltr" }, pointing.element);
  const choose = () => pointing.box && (dialog.close(), onpoint(pointing.box));
  const ask = h("button", { class: "ask", type: "button", disabled: true, onclick: choose }, strings.pointAsk);
  const cover = h("button", { class: "ask", type: "button", disabled: true }, strings.coverAsk);
  cover.onclick = async () => {
    const { box } = pointing;
    dialog.close();
    if (box) oncover?.(await covered(url, box).catch(() => null));
  };
  const zoom = h("span", { class: "zoom" }, ...zoomButtons(strings, pointing, stage));
  const foot = h("div", { class: "point-foot" }, h("p", {}, strings.pointHint), zoom, ask, oncover && cover);
  const dialog = modal("viewer", strings.viewer, stage, foot);
  dialog.append(button("round", "close", strings.closePicture, () => dialog.close()));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Delete" && oncover && !cover.disabled) cover.click();
    if (event.key !== "Enter" || event.target !== pointing.element) return;
    event.preventDefault(); // the text field has the focus by now, and would take it as a new line
    choose();
  });
  dialog.onclose = () => dialog.remove();
  return dialog;
}

/** Around the box, or what is in the middle. @param {Strings} strings @param {Pointing} pointing @param {HTMLElement} stage */
function zoomButtons(strings, pointing, stage) {
  let step = 0;
  const zoom = (/** @type {number} */ change) => {
    const { scrollLeft, scrollTop, clientWidth, clientHeight, scrollWidth, scrollHeight } = stage;
    const [x, y] = pointing.middle ?? [(scrollLeft + clientWidth / 2) / scrollWidth, (scrollTop + clientHeight / 2) / scrollHeight];
    step = Math.min(ZOOMS.length - 1, Math.max(0, step + change));
    pointing.element.style.setProperty("--zoom", String(ZOOMS[step]));
    stage.scrollTo(x * stage.scrollWidth - stage.clientWidth / 2, y * stage.scrollHeight - stage.clientHeight / 2);
  };
  pointing.element.addEventListener("keydown", ({ key }) => "+=-".includes(key) && zoom(key === "-" ? -1 : 1));
  return [button("round", "minus", strings.zoomOut, () => zoom(-1)), button("round", "plus", strings.zoomIn, () => zoom(1))];
}

/** A copy of a picture with a part of it covered. @param {string} url @param {Box} box @returns {Promise<Blob>} */
async function covered(url, box) {
  const image = Object.assign(new Image(), { crossOrigin: "anonymous", src: url });
  await image.decode();
  const { naturalWidth: width, naturalHeight: height } = image;
  const canvas = h("canvas", { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.drawImage(image, 0, 0);
  context.fillStyle = COVER;
  context.fillRect(box.x * width, box.y * height, box.w * width, box.h * height);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the picture cannot be copied"))), "image/jpeg", 0.92);
  });
}
