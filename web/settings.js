/** The few settings of the page. They are kept in this browser, and sent as `update`; the server checks them. */

/** Under this name they are kept. */
const KEY = "repartee.settings";

/** The form with the settings. */
export class Settings {
  #form;

  /**
   * @param {HTMLFormElement} form with the fields `voice` and `silence_ms`, where an empty field is the server's own setting
   * @param {() => void} onChange
   */
  constructor(form, onChange) {
    this.#form = form;
    this.#restore();
    form.addEventListener("input", () => this.#keep());
    form.addEventListener("change", onChange);
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** @returns {{ type: "update", voice?: string, endpointing?: { silence_ms: number } } | null} none where all is the server's own */
  get update() {
    const voice = this.#value("voice").trim();
    const silence = Number.parseInt(this.#value("silence_ms"), 10);
    if (!voice && Number.isNaN(silence)) return null;
    return {
      type: "update",
      ...(voice && { voice }),
      ...(!Number.isNaN(silence) && { endpointing: { silence_ms: silence } }),
    };
  }

  /**
   * Shows the server's own settings in the empty fields.
   * @param {{ voice?: string | null, endpointing?: { silence_ms?: number } }} settings
   */
  showDefaults({ voice, endpointing }) {
    this.#field("voice").placeholder = voice ?? "the backend's own";
    if (endpointing?.silence_ms) this.#field("silence_ms").placeholder = String(endpointing.silence_ms);
  }

  /**
   * @param {string} name
   * @returns {HTMLInputElement}
   */
  #field(name) {
    return /** @type {HTMLInputElement} */ (this.#form.elements.namedItem(name));
  }

  /**
   * @param {string} name
   * @returns {string}
   */
  #value(name) {
    return this.#field(name).validity.valid ? this.#field(name).value : "";
  }

  #keep() {
    const kept = JSON.stringify({ voice: this.#field("voice").value, silence_ms: this.#field("silence_ms").value });
    try {
      localStorage.setItem(KEY, kept);
    } catch {
      // A browser that keeps nothing: the settings hold until the page is closed.
    }
  }

  #restore() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
      this.#field("voice").value = kept.voice ?? "";
      this.#field("silence_ms").value = kept.silence_ms ?? "";
    } catch {
      // Nothing kept, or nothing that can be read: the server's own settings.
    }
  }
}
