/** What can go wrong on this page, in words that say what to do about it. */

/**
 * A problem that the person can do something about.
 * @typedef {object} Problem
 * @property {string} name
 * @property {string} title what is wrong
 * @property {string} remedy what to do
 * @property {string} [action] label of the button that tries again; without one there is no button
 */

/** @type {Record<string, { title: string, remedy: string, action?: string }>} */
const PROBLEMS = {
  "insecure-page": {
    title: "Speaking needs a secure page",
    remedy:
      "Browsers give microphone and sound only to pages from https or from this very machine. Open the page as " +
      "http://localhost, or put a certificate in front of the server. You can type meanwhile, and read the answers.",
  },
  "microphone-denied": {
    title: "The microphone is blocked",
    remedy: "Allow it for this page (the icon beside the address), then try again. You can type meanwhile.",
    action: "Try again",
  },
  "microphone-missing": {
    title: "No microphone found",
    remedy: "Plug one in or choose one in the system's settings, then try again. You can type meanwhile.",
    action: "Try again",
  },
  "microphone-busy": {
    title: "The microphone does not start",
    remedy: "Another program may hold it. Close that program, then try again. You can type meanwhile.",
    action: "Try again",
  },
  "microphone-lost": {
    title: "The microphone is gone",
    remedy: "Plug it in again, then start again.",
    action: "Start again",
  },
  "microphone-unsupported": {
    title: "This browser gives no microphone",
    remedy: "A current Chromium, Edge, Safari or Firefox does. You can type meanwhile.",
  },
  "audio-silent": {
    title: "The sound does not start",
    remedy:
      "Is there a loudspeaker or a headset, and may this page play sound? See to it, then try again. You can type " +
      "meanwhile, and read the answers.",
    action: "Try again",
  },
  "audio-unsupported": {
    title: "This browser cannot play the reply",
    remedy: "The page needs AudioWorklet: a current Chromium, Edge, Safari or Firefox has it.",
  },
  "server-away": {
    title: "The server is away",
    remedy: "It does not answer. See that “repartee serve” runs, then connect again.",
    action: "Connect again",
  },
  "server-refused": {
    title: "The server takes no conversation now",
    remedy: "Try again in a moment.",
    action: "Try again",
  },
  idle: {
    title: "The conversation has ended",
    remedy: "Nothing was said for a long time.",
    action: "Start again",
  },
  "token-refused": {
    title: "The server wants an access token",
    remedy: "Open this page with the token at the end of its address: …/#token=YOUR-TOKEN",
  },
  reconnecting: {
    title: "The connection is lost",
    remedy: "Trying to connect again. What was said stays on this page, but a new conversation begins.",
    action: "Connect now",
  },
};

/**
 * @param {string} name a key of the table above
 * @param {string} [detail] somebody else's words, put before the remedy
 * @returns {Problem}
 */
export function problem(name, detail) {
  const entry = PROBLEMS[name];
  return { name, ...entry, remedy: detail ? `${detail.replace(/[.\s]*$/, ".")} ${entry.remedy}` : entry.remedy };
}

/**
 * @param {unknown} value
 * @returns {value is Problem}
 */
export function isProblem(value) {
  return typeof value === "object" && value !== null && "remedy" in value && "title" in value;
}
