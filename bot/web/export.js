/**
 * A conversation as one HTML file that needs nothing else: texts, answers as they were shown, pictures inside it.
 */

import { h, safeHtml } from "./elements.js";

/** @import { Connection } from "./connection.js" */
/** @import { Turn } from "./exchange.js" */
/** @import { Strings } from "./strings.js" */

const POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
const STYLE = `:root { color-scheme: light dark; font: 1rem/1.6 system-ui, sans-serif }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
img { display: block; max-width: 100%; max-height: 24rem; border-radius: 0.75rem; margin-block: 0.5rem }
h2 { margin: 2rem 0 0; font-size: 1rem } h2 time { font-weight: normal; opacity: 0.7 }
p { white-space: pre-wrap; overflow-wrap: anywhere; margin-block: 0.5rem }`;

/**
 * Hand the whole conversation to the browser as a download; rejects when a part of it cannot be had.
 *
 * @param {Strings} strings @param {Connection} connection
 */
export async function exportConversation(strings, connection) {
  const sections = [];
  for (const turn of await allTurns(connection)) sections.push(await section(strings, connection, turn));
  const policy = h("meta", { "http-equiv": "Content-Security-Policy", content: POLICY });
  const head = h("head", {}, h("meta", { charset: "utf-8" }), policy);
  head.append(h("title", {}, strings.conversation), h("style", {}, STYLE));
  const page = h("html", { lang: strings.language, dir: strings.direction }, head, h("body", {}, ...sections));
  const html = page.outerHTML.replaceAll("<img data-src=", "<img src="); // in this page, its policy would forbid them
  const url = URL.createObjectURL(new Blob([`<!doctype html>\n${html}\n`], { type: "text/html" }));
  h("a", { href: url, download: `visavis-${new Date().toISOString().slice(0, 10)}.html` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // some browsers read it only when the person has chosen a place
}

/** @param {Connection} connection */
async function allTurns(connection) {
  /** @type {Turn[]} */ const turns = [];
  for (let more = true; more; ) {
    const page = await connection.history(turns[0]?.id);
    turns.unshift(...page.turns);
    more = page.more && page.turns.length > 0;
  }
  return turns;
}

/** @param {Strings} strings @param {Connection} connection @param {Turn} turn */
async function section(strings, connection, { role, text, html, images, at, error }) {
  const asked = role === "user";
  const when = h("time", {}, ` ${new Date(at * 1000).toLocaleString(strings.language)}`);
  const pictures = asked ? await Promise.all(images.map((image) => embedded(connection.pictures.url(image), strings))) : [];
  const words = html ? safeHtml(html) : h("p", {}, error?.message ?? text);
  return h("section", { dir: "auto" }, h("h2", {}, asked ? strings.you : strings.name, when), ...pictures, words);
}

/** @param {string} url @param {Strings} strings */
async function embedded(url, strings) {
  const response = await fetch(url);
  if (!response.ok) return h("p", {}, strings.pictureGone);
  const reader = new FileReader();
  reader.readAsDataURL(await response.blob());
  await new Promise((resolve) => (reader.onload = resolve));
  return h("img", { "data-src": String(reader.result), alt: strings.pictureSent });
}
