// @ts-check
/**
 * The custom element `<visavis-chat>`: the frame around a conversation, in an open shadow root, and the ways a picture can
 * come in from outside it (drop, paste).
 *
 * Attributes: `endpoint` (address of the server; by default where this file came from), `autofocus`. The language is the document's.
 * Everything is made of nodes and adopted style sheets, so that a strict content security policy has nothing to forbid.
 */

import { Connection } from "./connection.js";
import { Conversation } from "./conversation.js";
import { h, icon, mark } from "./elements.js";
import { loadStrings } from "./strings.js";

const HOME = new URL(".", import.meta.url);

const sheet = new CSSStyleSheet();
const [strings, css] = await Promise.all([
  loadStrings(document.documentElement.lang),
  fetch(new URL("widget.css", HOME)).then((response) => response.text()),
]);
sheet.replaceSync(css);

export class VisavisChat extends HTMLElement {
  /** @type {Connection | null} */ #connection = null;
  /** @type {Conversation | null} */ #conversation = null;

  connectedCallback() {
    if (!this.#conversation) this.#build();
    this.#connection?.open();
    document.addEventListener("paste", this.#paste);
    const finePointer = matchMedia("(hover: hover)").matches; // on a phone, focus would open the keyboard
    if (this.hasAttribute("autofocus") && finePointer) this.#conversation?.composer.input.focus();
  }

  disconnectedCallback() {
    document.removeEventListener("paste", this.#paste);
    this.#connection?.close();
  }

  #build() {
    this.#connection = new Connection({ endpoint: new URL(this.getAttribute("endpoint") ?? HOME, document.baseURI) });
    const conversation = new Conversation(strings, this.#connection);
    this.#conversation = conversation;
    const begin = h("button", { class: "quiet begin", type: "button" }, icon("compose"), h("span", {}, strings.newConversation));
    begin.onclick = () => conversation.startNew();
    const header = h("header", {}, mark(), h("h1", {}, strings.name), begin);
    const curtain = h("div", { class: "curtain", "aria-hidden": "true" }, icon("picture"), strings.dropHere);
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    root.append(header, conversation.element, curtain);
    this.#takeDrops(curtain);
  }

  /** Files may be dropped anywhere on the element; the curtain shows it while they hover. @param {HTMLElement} curtain */
  #takeDrops(curtain) {
    let depth = 0; // enter and leave are also reported for every child on the way
    const show = (/** @type {number} */ change) => {
      depth = change ? depth + change : 0;
      curtain.classList.toggle("shown", depth > 0);
    };
    this.addEventListener("dragenter", (event) => carriesFiles(event.dataTransfer) && show(1));
    this.addEventListener("dragleave", (event) => carriesFiles(event.dataTransfer) && show(-1));
    this.addEventListener("dragover", (event) => carriesFiles(event.dataTransfer) && event.preventDefault());
    this.addEventListener("drop", (event) => {
      if (!carriesFiles(event.dataTransfer)) return;
      event.preventDefault();
      show(0);
      this.#conversation?.composer.attach(event.dataTransfer?.files ?? []);
    });
  }

  /** A pasted picture is taken when nothing else on the page has the focus. */
  #paste = (/** @type {ClipboardEvent} */ event) => {
    const files = event.clipboardData?.files;
    const ours = event.composedPath().includes(this) || document.activeElement === document.body;
    if (!ours || !files?.length) return;
    event.preventDefault();
    this.#conversation?.composer.attach(files);
  };
}

/** @param {DataTransfer | null} transfer */
function carriesFiles(transfer) {
  return transfer?.types.includes("Files") ?? false;
}

customElements.define("visavis-chat", VisavisChat);
