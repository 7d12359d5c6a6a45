/**
 * The pictures of a conversation at the server: their addresses, what they show, and their way there.
 */

/** @typedef {{image: string, width?: number, height?: number}} Picture `image`: its sha256 */
/** @typedef {{onprogress?: (share: number) => void, signal?: AbortSignal}} UploadOptions share: 0..1 */

export class Pictures {
  /**
   * @param {URL} endpoint @param {() => string} session whose pictures they are
   * @param {(signal?: AbortSignal) => Promise<void>} whenReady there is a session
   */
  constructor(endpoint, session, whenReady) {
    this.address = new URL("v1/images", endpoint);
    this.session = session;
    this.whenReady = whenReady;
  }

  /** The address of a picture of this conversation. @param {string} image sha256 */
  url(image) {
    return `${this.address}/${encodeURIComponent(image)}?session=${encodeURIComponent(this.session())}`;
  }

  /**
   * What a picture shows, in the model's words; empty when that cannot be had.
   *
   * @param {string} image @returns {Promise<string>}
   */
  async describe(image) {
    const response = await fetch(this.url(image).replace("?", "/alt?")).catch(() => null);
    return response?.ok ? (await response.json()).alt : "";
  }

  /**
   * Store a picture, once there is a session to store it for; rejects with an `uploadError`.
   *
   * @param {Blob} blob @param {UploadOptions} [options] @returns {Promise<Picture>}
   */
  async upload(blob, options = {}) {
    await this.whenReady(options.signal);
    return send(this.address, this.session(), blob, options);
  }
}

/** @param {string} code a code of the wire, "network" or "cancelled" @param {string} [message] */
export const uploadError = (code, message = code) => Object.assign(new Error(message), { code });

/**
 * By XMLHttpRequest, because `fetch` tells of no progress.
 *
 * @param {URL} address @param {string} session @param {Blob} blob @param {UploadOptions} options @returns {Promise<Picture>}
 */
function send(address, session, blob, { onprogress, signal }) {
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
