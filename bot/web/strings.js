// @ts-check
/**
 * The words of the page. Each language is one file `strings.<language>.json`; a key missing there falls back to English.
 */

/** @typedef {typeof import("./strings.en.json")} Known */
/** Sentences for the codes of the wire; for a code without one the server's own message is shown. @typedef {Record<string, string>} Errors */
/** @typedef {Omit<Known, "errors"> & {errors: Errors}} Strings */

const LANGUAGES = ["en"];

/** The words for a language tag such as "en-GB". @param {string} tag @returns {Promise<Strings>} */
export async function loadStrings(tag) {
  const english = await read("en");
  const language = LANGUAGES.find((known) => known === tag || known === tag.split("-")[0]) ?? "en";
  const chosen = language === "en" ? english : await read(language);
  return { ...english, ...chosen, errors: { ...english.errors, ...chosen.errors } };
}

/** Put values into a sentence's {places}. @param {string} sentence @param {Record<string, string | number>} values */
export function fill(sentence, values) {
  return sentence.replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));
}

/** @param {string} language @returns {Promise<Strings>} */
async function read(language) {
  return (await fetch(new URL(`strings.${language}.json`, import.meta.url))).json();
}
