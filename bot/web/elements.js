/**
 * Small builders of DOM nodes: elements, icons, and the one door through which an answer's HTML enters the page.
 * Knows nothing of conversations, connections or words.
 */

/**
 * An element with attributes, listeners and children.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number | boolean | null | undefined | EventListener>} [attributes]
 *   `true` sets an empty attribute; `false`, `null` and `undefined` set none; a function listens to the event after "on".
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * A button with an icon. Its name is shown beside the icon when it is "quiet", and else told and shown as a hint.
 *
 * @param {string} kind its classes
 * @param {string} symbol
 * @param {string} name
 * @param {(event: Event) => void} [onclick]
 */
export function button(kind, symbol, name, onclick) {
  const shown = kind.split(" ").includes("quiet");
  const named = shown ? {} : { "aria-label": name, title: name };
  const children = [icon(symbol), shown ? h("span", {}, name) : null];
  return h("button", { class: kind, type: "button", ...named, onclick }, ...children);
}

/** Give a button of `button` another name. @param {HTMLElement} control @param {string} name */
export function rename(control, name) {
  const words = control.querySelector("span");
  if (words) words.textContent = name;
  else for (const attribute of ["aria-label", "title"]) control.setAttribute(attribute, name);
}

/**
 * A modal dialog, yet to be shown: a press beside it closes it, and Escape closes it alone.
 *
 * @param {string} kind its class
 * @param {string} name
 * @param {...Node} children
 */
export function modal(kind, name, ...children) {
  const dialog = h("dialog", { class: kind, "aria-label": name }, ...children);
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => event.key === "Escape" && event.stopPropagation());
  return dialog;
}

/** Stroked 24 x 24 paths. @type {Record<string, string>} */
const ICONS = {
  picture: "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1zM4.4 17.2 9 12.6l3.6 3.6 2.4-2.4 4.6 4.2M15.6 8.6h.01",
  camera: "M8.5 6 10 4h4l1.5 2H19a1 1 0 0 1 1 1v11a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V7a1 1 0 0 1 1-1zM12 9a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7z",
  send: "M12 19V5.5M6 11l6-6 6 6",
  stop: "M7.5 7.5h9v9h-9z",
  close: "M7 7l10 10M17 7 7 17",
  compose: "M12.5 5H6a1.5 1.5 0 0 0-1.5 1.5V18A1.5 1.5 0 0 0 6 19.5h11.5A1.5 1.5 0 0 0 19 18v-6.5M17.6 4.4a1.4 1.4 0 0 1 2 2L12 14l-2.8.8.8-2.8z",
  down: "M12 5v13.5M6 13l6 6 6-6",
  chat: "M5 5.5h14a1 1 0 0 1 1 1V16a1 1 0 0 1-1 1h-7l-4.5 3.5V17H5a1 1 0 0 1-1-1V6.5a1 1 0 0 1 1-1z",
  list: "M4 7h16M4 12h16M4 17h10",
  copy: "M9 9h10v11H9zM15 9V4.5H5V15h4",
  check: "M5 12.5l4.5 4.5L19 7.5",
  edit: "M5 19l.9-3.9L16.3 4.7a1.7 1.7 0 0 1 2.4 0l.6.6a1.7 1.7 0 0 1 0 2.4L8.9 18.1z",
  good: "M7 11v9H4v-9zM7 11l4-7.5c1.5 0 2.4 1.1 2 2.6l-.7 3.4H18a2 2 0 0 1 2 2.4l-1.2 6.4a2 2 0 0 1-2 1.7H7",
  bad: "M7 13V4H4v9zM7 13l4 7.5c1.5 0 2.4-1.1 2-2.6l-.7-3.4H18a2 2 0 0 0 2-2.4l-1.2-6.4a2 2 0 0 0-2-1.7H7",
  back: "M14.5 6l-6 6 6 6",
  next: "M9.5 6l6 6-6 6",
  plus: "M12 5.5v13M5.5 12h13",
  minus: "M5.5 12h13",
  save: "M12 4v10.5M7 10l5 5 5-5M5 19.5h14",
  bin: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7",
  retry: "M19 12a7 7 0 1 1-2.1-5M17.5 3.5V7.5h-4",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 9.2a2.8 2.8 0 1 1 0 5.6 2.8 2.8 0 0 1 0-5.6z",
  alert: "M12 8v5M12 16.3v.01M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17z",
  info: "M12 11v5M12 7.7v.01M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17z",
};

/** A decorative icon; the control around it carries the name. @param {string} name */
export function icon(name) {
  return drawing(`icon icon-${name}`, "0 0 24 24", [ICONS[name]]);
}

/** The mark: two half discs, face to face. */
export function mark() {
  return drawing("mark", "0 0 32 32", ["M5 6a10 10 0 0 1 0 20z", "M27 6a10 10 0 0 0 0 20z"]);
}

/** @param {string} name @param {string} box @param {string[]} outlines */
function drawing(name, box, outlines) {
  const create = (/** @type {"svg" | "path"} */ tag) => document.createElementNS("http://www.w3.org/2000/svg", tag);
  const svg = create("svg");
  for (const [key, value] of Object.entries({ class: name, viewBox: box, "aria-hidden": "true" })) svg.setAttribute(key, value);
  for (const outline of outlines) svg.appendChild(create("path")).setAttribute("d", outline);
  return svg;
}

/** Who says what follows, for those who cannot see it. @param {string} name */
export function speaker(name) {
  return h("span", { class: "visually-hidden" }, `${name}: `);
}

const ALLOWED = new Set(
  "A B BLOCKQUOTE BR CODE DEL EM H1 H2 H3 H4 H5 H6 HR I LI OL P PRE S STRONG TABLE TBODY TD TH THEAD TR UL".split(" "),
);

/**
 * Rebuild the server's sanitised HTML from an allow-list: parsed in an inert document, then only known elements are made
 * anew, without attributes but for the addresses of links. The server has cleaned it already; this is the second lock.
 *
 * @param {string} html
 */
export function safeHtml(html) {
  const fragment = document.createDocumentFragment();
  copyAllowed(new DOMParser().parseFromString(html, "text/html").body, fragment);
  return fragment;
}

/** @param {Node} source @param {Node} target */
function copyAllowed(source, target) {
  for (const node of source.childNodes) {
    if (node instanceof Text) target.appendChild(document.createTextNode(node.data));
    if (!(node instanceof Element) || ["SCRIPT", "STYLE", "TEMPLATE"].includes(node.tagName)) continue;
    copyAllowed(node, ALLOWED.has(node.tagName) ? target.appendChild(copyElement(node)) : target);
  }
}

/** @param {Element} source */
function copyElement(source) {
  const copy = document.createElement(source.tagName);
  if (source.tagName === "OL" && /^\d{1,9}$/.test(source.getAttribute("start") ?? "")) copy.setAttribute("start", String(source.getAttribute("start")));
  const href = source.tagName === "A" ? (source.getAttribute("href") ?? "") : "";
  if (/^(https?:|mailto:)/i.test(href)) {
    copy.setAttribute("href", href);
    copy.setAttribute("rel", "noopener noreferrer nofollow");
    copy.setAttribute("target", "_blank");
  }
  return copy;
}
