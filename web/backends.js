/** Which backends are in use: one entry for each job, with its state. */

/** What the five jobs are called. */
const JOBS = new Map([
  ["vad", "Speech"],
  ["turn", "Turns"],
  ["stt", "Words"],
  ["llm", "Replies"],
  ["tts", "Voice"],
]);

/**
 * A backend as the server names it.
 * @typedef {object} Backend
 * @property {string} kind `vad`, `turn`, `stt`, `llm` or `tts`
 * @property {"ready" | "lost" | "missing"} state
 * @property {string} [name] of the one that serves
 * @property {string} [model] that it has loaded
 * @property {string} [reason] why there is none
 */

/** The list of backends. */
export class Backends {
  #list;

  /** @param {HTMLElement} list */
  constructor(list) {
    this.#list = list;
  }

  /** @param {Backend[]} backends all of them; what was shown goes */
  showAll(backends) {
    this.#list.replaceChildren();
    for (const backend of backends) this.show(backend);
  }

  /** @param {Backend} backend */
  show({ kind, state, name, model, reason }) {
    // Turns are found without a model of their own, too: that there is none is nothing to worry people with.
    if (kind === "turn" && state === "missing") {
      this.#list.querySelector('[data-kind="turn"]')?.remove();
      return;
    }
    const item = this.#item(kind);
    item.dataset.state = state;
    const value = item.querySelector("dd");
    if (!value) return;
    value.textContent = { ready: name ?? "ready", lost: "starting again …", missing: "none" }[state] ?? state;
    item.title = reason ?? (model && model !== name ? `${name}: ${model}` : "");
  }

  /**
   * @param {string} kind
   * @returns {HTMLElement}
   */
  #item(kind) {
    const known = this.#list.querySelector(`[data-kind="${CSS.escape(kind)}"]`);
    if (known) return /** @type {HTMLElement} */ (known);
    const item = document.createElement("div");
    item.dataset.kind = kind;
    const term = document.createElement("dt");
    term.textContent = JOBS.get(kind) ?? kind;
    item.append(term, document.createElement("dd"));
    this.#list.append(item);
    return item;
  }
}
