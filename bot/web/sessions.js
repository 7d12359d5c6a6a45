/**
 * The drawer with a person's conversations: search, open, rename, save as a file, delete. Speaks to the connection; what is
 * on the screen behind it is not its business.
 */

import { button, h, modal, rename } from "./elements.js";
import { exportConversation } from "./export.js";

/** @import { Connection } from "./connection.js" */
/** @import { Strings } from "./strings.js" */
/** @typedef {{id: string, title: string, at: number, turns: number}} Summary */

const TYPING_PAUSE_MS = 250;

export class Sessions {
  #timer = 0;

  /** @param {Strings} strings @param {Connection} connection @param {() => void} ongone the conversation was deleted */
  constructor(strings, connection, ongone) {
    this.strings = strings;
    this.connection = connection;
    const close = button("round", "close", strings.close, () => this.element.close());
    const label = strings.searchConversations;
    this.search = h("input", { type: "search", "aria-label": label, placeholder: label, dir: "auto" });
    this.list = h("ul", {});
    this.empty = h("p", { class: "aside", role: "status" });
    this.bin = button("quiet", "bin", strings.deleteConversation, () => this.#delete());
    const save = button("quiet", "save", strings.saveConversation, () => void this.#save());
    const foot = h("div", { class: "drawer-foot" }, save, this.bin);
    const head = h("div", { class: "drawer-head" }, h("h2", {}, strings.conversations), close);
    this.element = modal("drawer", strings.conversations, head, this.search, this.list, this.empty, foot);
    this.search.oninput = () => {
      clearTimeout(this.#timer);
      this.#timer = window.setTimeout(() => this.#ask(), TYPING_PAUSE_MS);
    };
    this.#listen(ongone);
  }

  open() {
    this.search.value = "";
    this.list.replaceChildren();
    this.empty.textContent = "";
    this.#sure(false);
    this.element.showModal();
    this.#ask();
  }

  /** @param {() => void} ongone */
  #listen(ongone) {
    this.connection.addEventListener("sessions", (event) => this.#show(/** @type {CustomEvent} */ (event).detail.sessions));
    this.connection.addEventListener("title", () => this.#ask());
    this.connection.addEventListener("forgotten", () => (this.element.close(), ongone()));
  }

  #ask() {
    const query = this.search.value.trim();
    this.connection.send({ type: "sessions", query: query || undefined });
  }

  /** @param {Summary[]} summaries */
  #show(summaries) {
    this.list.replaceChildren(...summaries.map((summary) => this.#entry(summary)));
    this.empty.textContent = summaries.length ? "" : this.strings.noConversations;
  }

  /** @param {Summary} summary */
  #entry({ id, title, at }) {
    const current = id === this.connection.session;
    const when = new Date(at * 1000).toLocaleString(this.strings.language, { dateStyle: "medium", timeStyle: "short" });
    const open = h("button", { class: "entry", type: "button", "aria-current": current ? "true" : null });
    open.append(h("span", { dir: "auto" }, title), h("small", {}, when));
    open.onclick = () => {
      this.element.close();
      if (!current) void this.connection.enter(id);
    };
    const entry = h("li", {}, open);
    if (current) entry.append(button("round", "edit", this.strings.renameConversation, () => this.#rename(entry, title)));
    return entry;
  }

  /** @param {HTMLElement} entry @param {string} title */
  #rename(entry, title) {
    const input = h("input", { value: title, maxlength: 120, "aria-label": this.strings.renameConversation, dir: "auto" });
    const form = h("form", {}, input);
    form.onsubmit = (event) => {
      event.preventDefault();
      if (input.value.trim()) this.connection.send({ type: "title", text: input.value.trim() });
    };
    input.addEventListener("keydown", (event) => event.key === "Escape" && (event.preventDefault(), this.#ask()));
    entry.replaceChildren(form);
    input.select();
  }

  async #save() {
    try {
      await exportConversation(this.strings, this.connection);
      this.empty.textContent = "";
    } catch {
      this.empty.textContent = this.strings.saveFailed;
    }
  }

  /** Only the second press deletes. */
  #delete() {
    if (this.bin.classList.contains("sure")) this.connection.send({ type: "forget" });
    else this.#sure(true);
  }

  /** @param {boolean} sure */
  #sure(sure) {
    this.bin.classList.toggle("sure", sure);
    rename(this.bin, sure ? this.strings.deleteSure : this.strings.deleteConversation);
  }
}
