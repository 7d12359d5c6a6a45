/**
 * The words of the page. Each language is one file `strings.<language>.json`; a key missing there falls back to English.
 */

/** @typedef {typeof import("./strings.en.json")} Known */
/**
 * Sentences for the codes of the wire; for a code without one the server's own message is shown.
 * @typedef {Record<string, string>} Errors
 */
/** @typedef {Omit<Known, "errors"> & {errors: Errors}} Strings */

const LANGUAGES = ["en", "zh"];

/**
 * The words for a language tag such as "en-GB", or for the browser's languages ("auto"), or from a file of the host page.
 *
 * @param {string} tag
 * @param {string | null} file
 * @returns {Promise<Strings>}
 */
export async function loadStrings(tag, file) {
  const wanted = (tag === "auto" ? navigator.languages : [tag]).map((one) => one.toLowerCase().split("-")[0]);
  const language = wanted.find((one) => LANGUAGES.includes(one)) ?? "en";
  const english = await read(ours("en"));
  const chosen = file ? await read(new URL(file, document.baseURI)) : language === "en" ? english : await read(ours(language));
  return { ...english, ...chosen, errors: { ...english.errors, ...chosen.errors } };
}

/** Put values into a sentence's {places}. @param {string} sentence @param {Record<string, string | number>} values */
export function fill(sentence, values) {
  return sentence.replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));
}

/** A file's name inside a sentence: short, and whatever its direction the sentence keeps its own. @param {string} name */
export function quoted(name) {
  return `\u2068${name.length > 48 ? `${name.slice(0, 32)}…${name.slice(-12)}` : name}\u2069`;
}

/** @param {string} language */
function ours(language) {
  return new URL(`strings.${language}.json`, import.meta.url);
}

/** @param {URL} address @returns {Promise<Strings>} */
async function read(address) {
  return (await fetch(address)).json();
}
