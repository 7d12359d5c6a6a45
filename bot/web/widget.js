/**
 * The custom element `<visavis-chat>`: a bubble that opens a conversation, or the conversation itself in the page, in an open
 * shadow root, and the ways a picture can come in from outside it (drop, paste).
 *
 * What it takes and tells is in `docs/embedding.md`; all attributes but `theme` are read when the element enters the page.
 * Everything is made of nodes and adopted style sheets, so that a strict content security policy has nothing to forbid.
 */

import { Connection } from "./connection.js";
import { Conversation } from "./conversation.js";
import { button, h, icon, mark, rename } from "./elements.js";
import { Sessions } from "./sessions.js";
import { loadStrings } from "./strings.js";
// What those need is named here as well, so that a browser asks for all of it at once.
import "./composer.js";
import "./exchange.js";
import "./thread.js";
import "./viewer.js";

/** @import { Token } from "./connection.js" */
/** @import { Strings } from "./strings.js" */

const HOME = new URL(".", import.meta.url);
/** @type {Promise<CSSStyleSheet> | null} */ let sheet = null;

export class VisavisChat extends HTMLElement {
  /** The conversation once it is built. @type {Promise<Conversation> | null} */ #built = null;
  /** @type {Connection | null} */ #connection = null;
  /** @type {Token | undefined} */ #token;
  #panel = h("section", { class: "panel", tabindex: "-1", hidden: true });
  #launcher = button("launcher", "chat", "", () => void (this.#panel.hidden ? this.open() : this.close()));

  get #inline() {
    return this.getAttribute("mode") === "inline";
  }

  /** Who the person is, see `docs/embedding.md`. */
  get token() {
    return this.#token ?? this.getAttribute("token") ?? undefined;
  }

  set token(token) {
    this.#token = token;
    if (!this.#connection) return;
    this.#connection.token = token;
    if (!this.#panel.hidden) this.#connection.open(); // the one before may have been refused
  }

  connectedCallback() {
    document.addEventListener("paste", this.#paste);
    void this.#start();
  }

  disconnectedCallback() {
    document.removeEventListener("paste", this.#paste);
    this.#connection?.close();
  }

  /** Show the conversation, and connect if that has not been done. */
  async open() {
    const conversation = await this.#ready();
    if (!this.isConnected) return;
    this.#connection?.open();
    if (this.#inline || !this.#panel.hidden) return;
    this.#panel.hidden = false;
    this.#launcher.setAttribute("aria-expanded", "true");
    this.#panel.focus();
    conversation.composer.focus();
    this.#report("open", {});
  }

  /** Leave the bubble alone; the connection stays. */
  close() {
    if (this.#inline || this.#panel.hidden) return;
    this.#panel.hidden = true;
    this.#launcher.setAttribute("aria-expanded", "false");
    this.#launcher.focus();
    this.#report("close", {});
  }

  /** Ask, as if it had been typed; the answer comes as `visavis:answer`. @param {string} text @param {Iterable<File>} [files] */
  async send(text, files = []) {
    await this.attach(files);
    const { composer } = await this.#ready();
    composer.input.value = text;
    await composer.send();
  }

  /** Put pictures beside the question. @param {Iterable<File>} files */
  async attach(files) {
    await this.open();
    (await this.#ready()).composer.attach(files);
  }

  /** Begin a new conversation. */
  async startNew() {
    (await this.#ready()).startNew();
  }

  #ready() {
    return (this.#built ??= this.#build());
  }

  async #start() {
    const conversation = await this.#ready();
    if (!this.#panel.hidden) await this.open(); // inline, or moved while it was open
    if (this.hasAttribute("autofocus")) conversation.composer.focus();
  }

  async #build() {
    const tag = this.getAttribute("language") ?? this.closest("[lang]")?.getAttribute("lang") ?? "en";
    const [strings, look] = await Promise.all([loadStrings(tag, this.getAttribute("strings")), (sheet ??= loadSheet())]);
    const endpoint = new URL(this.getAttribute("endpoint") ?? HOME, document.baseURI);
    const title = h(this.#inline ? "h1" : "h2", { class: "title" }, strings.name);
    this.#connection = new Connection({ endpoint, token: this.token });
    const conversation = new Conversation(strings, this.#connection, {
      greeting: this.getAttribute("greeting") ?? "",
      questions: (this.getAttribute("questions") ?? "").split("|").filter((question) => question.trim()),
      explains: this.getAttribute("explain") !== "off",
      standalone: this.hasAttribute("standalone"),
      rename: (name) => (title.textContent = name),
      report: (name, detail) => this.#report(name, detail),
    });
    const curtain = h("div", { class: "curtain", "aria-hidden": "true" }, icon("picture"), strings.dropHere);
    this.#panel.append(this.#header(strings, title, conversation, this.#connection), conversation.element, curtain);
    const frame = h("div", { class: "frame", lang: strings.language, dir: strings.direction }, this.#panel);
    this.#inline ? (this.#panel.hidden = false) : this.#float(strings, frame);
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [look];
    root.append(frame);
    this.#takeDrops(conversation, curtain);
    return conversation;
  }

  /** @param {Strings} strings @param {HTMLElement} frame */
  #float(strings, frame) {
    rename(this.#launcher, strings.openChat);
    this.#launcher.setAttribute("aria-expanded", "false");
    this.#panel.setAttribute("role", "dialog");
    this.#panel.setAttribute("aria-label", strings.name);
    this.#panel.addEventListener("keydown", ({ key }) => key === "Escape" && this.close());
    frame.append(this.#launcher);
  }

  /** @param {Strings} strings @param {HTMLElement} title @param {Conversation} conversation @param {Connection} connection */
  #header(strings, title, conversation, connection) {
    const sessions = new Sessions(strings, connection, () => conversation.startNew());
    const tools = [
      button("quiet begin", "list", strings.conversations, () => sessions.open()),
      button("quiet begin", "compose", strings.newConversation, () => conversation.startNew()),
    ];
    const close = this.#inline ? null : button("round", "close", strings.closeChat, () => this.close());
    return h("header", {}, mark(), title, ...tools, close, sessions.element);
  }

  /** @param {string} name @param {unknown} detail */
  #report(name, detail) {
    this.dispatchEvent(new CustomEvent(`visavis:${name}`, { detail, bubbles: true }));
  }

  /**
   * Files may be dropped anywhere on the element; the curtain shows it while they hover.
   *
   * @param {Conversation} conversation @param {HTMLElement} curtain
   */
  #takeDrops(conversation, curtain) {
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
      conversation.composer.attach(event.dataTransfer?.files ?? []);
    });
  }

  /** A pasted picture is taken when nothing else on the page has the focus. */
  #paste = (/** @type {ClipboardEvent} */ event) => {
    const files = event.clipboardData?.files;
    const ours = event.composedPath().includes(this) || document.activeElement === document.body;
    if (!ours || !files?.length || this.#panel.hidden) return;
    event.preventDefault();
    void this.attach(files);
  };
}

/** @param {DataTransfer | null} transfer */
function carriesFiles(transfer) {
  return transfer?.types.includes("Files") ?? false;
}

/** The look. Its rem become px of the browser's own text size, because in a shadow root they are the host page's. */
async function loadSheet() {
  const css = await (await fetch(new URL("widget.css", HOME))).text();
  const outside = document.documentElement.appendChild(h("span"));
  const probe = outside.attachShadow({ mode: "open" }).appendChild(h("span"));
  probe.style.fontSize = "medium";
  const size = parseFloat(getComputedStyle(probe).fontSize);
  outside.remove();
  const made = new CSSStyleSheet();
  made.replaceSync(css.replace(/(\d*\.?\d+)rem/g, (_, number) => `${number * size}px`));
  return made;
}

customElements.define("visavis-chat", VisavisChat);
