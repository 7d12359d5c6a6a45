// @ts-check
/**
 * A picture's way to the server, with its progress: by XMLHttpRequest, because `fetch` tells of none.
 */

/** @import { Picture } from "./connection.js" */
/** @typedef {{onprogress?: (share: number) => void, signal?: AbortSignal}} UploadOptions share: 0..1 */

/** @param {string} code a code of the wire, "network" or "cancelled" @param {string} [message] */
export const uploadError = (code, message = code) => Object.assign(new Error(message), { code });

/**
 * Rejects with an `uploadError`.
 *
 * @param {URL} address @param {string} session @param {Blob} blob @param {UploadOptions} options @returns {Promise<Picture>}
 */
export function upload(address, session, blob, { onprogress, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    request.setRequestHeader("Content-Type", blob.type || "application/octet-stream");
    request.setRequestHeader("X-Visavis-Session", session);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onprogress?.(event.loaded / event.total);
    request.onerror = () => reject(uploadError("network"));
    request.onabort = () => reject(uploadError("cancelled"));
    request.onload = () => {
      const answer = request.response?.error ?? request.response ?? {}; // null when it was not JSON
      if (answer.image) resolve(answer);
      else reject(uploadError(answer.code ?? "network", answer.message));
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(blob);
  });
}
