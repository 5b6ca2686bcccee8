/**
 * A client of the native WebSocket, `/v1/session`: text messages are JSON controls and events, binary messages are audio.
 */

/** Version of the protocol that this client speaks. */
const VERSION = 1;
/** What the microphone sends, and what is asked for the reply. */
const INPUT = { codec: "pcm16", rate: 16000, framing: "raw" };
const OUTPUT = { codec: "pcm16", rate: 24000, framing: "raw" };
/** How long to wait for `ready`, in ms. */
const READY_TIMEOUT_MS = 8000;
/** Audio that may wait in the browser for the network, in ms; what comes beyond it is dropped and counted. */
const BACKLOG_MS = 1000;

/**
 * Why there is no session (any more).
 * @typedef {object} Ending
 * @property {boolean} wasReady whether a session had been there
 * @property {boolean} asked whether this side ended it
 * @property {string} [code] the server's stable code of the error that ended it, or its reason to close
 * @property {string} [message] the server's words
 */

/**
 * What a session tells its owner.
 * @typedef {object} Listener
 * @property {(ready: any) => void} onReady the server's answer to `hello`
 * @property {(event: any) => void} onEvent every other event
 * @property {(frame: ArrayBuffer) => void} onAudio a frame of the reply
 * @property {(ending: Ending) => void} onEnd called once, last
 */

/** One connection to the server. It is not used again once it has ended. */
export class NativeSession {
  /** The rate at which `sendAudio` wants its frames, in Hz. */
  static inputRate = INPUT.rate;
  /** The rate of the frames that `onAudio` is given, in Hz: the server gives what was asked, or refuses. */
  static outputRate = OUTPUT.rate;

  #socket;
  #listener;
  #ready = false;
  #asked = false;
  #ended = false;
  #timer;
  /** @type {{ code?: string, message?: string }} */
  #lastError = {};
  /** Frames that were dropped because the network did not take them. */
  droppedFrames = 0;

  /**
   * @param {Listener} listener
   * @param {string} [token] access token
   */
  constructor(listener, token) {
    this.#listener = listener;
    const address = new URL("/v1/session", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    address.hash = "";
    this.#socket = new WebSocket(address);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => {
      const hello = { type: "hello", version: VERSION, input: INPUT, output: OUTPUT, client: "talk-page" };
      this.#socket.send(JSON.stringify(token ? { ...hello, token } : hello));
    };
    this.#socket.onmessage = ({ data }) => this.#handle(data);
    this.#socket.onclose = () => this.#end();
    this.#timer = setTimeout(() => {
      this.#lastError = { message: "The server did not answer in time." };
      this.#end();
    }, READY_TIMEOUT_MS);
  }

  /** @returns {boolean} whether controls and audio can be sent */
  get isReady() {
    return this.#ready && !this.#ended;
  }

  /**
   * Sends a control; without a session it does nothing.
   * @param {{ type: string, [field: string]: unknown }} control
   */
  send(control) {
    if (this.isReady) this.#socket.send(JSON.stringify(control));
  }

  /**
   * Sends a frame of the microphone; without a session it is dropped.
   * @param {ArrayBuffer} frame 16-bit little-endian mono at `inputRate`
   */
  sendAudio(frame) {
    if (!this.isReady) return;
    const backlog = (INPUT.rate * 2 * BACKLOG_MS) / 1000;
    if (this.#socket.bufferedAmount > backlog) this.droppedFrames += 1;
    else this.#socket.send(frame);
  }

  /** Ends the session in order. */
  close() {
    this.#asked = true;
    this.send({ type: "bye" });
    this.#end();
  }

  /** @param {string | ArrayBuffer} data */
  #handle(data) {
    if (this.#ended) return;
    if (typeof data !== "string") {
      this.#listener.onAudio(data);
      return;
    }
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      // A server that speaks something else than JSON is none of ours; the time limit of `ready` says so.
      return;
    }
    if (event.type === "ready" && !this.#ready) {
      clearTimeout(this.#timer);
      this.#ready = true;
      this.#listener.onReady(event);
      return;
    }
    if (event.type === "error" && event.close_code) this.#lastError = { code: event.code, message: event.message };
    if (event.type === "closed") this.#lastError = { code: event.reason };
    this.#listener.onEvent(event);
  }

  #end() {
    if (this.#ended) return;
    const wasReady = this.#ready;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#socket.onclose = null;
    this.#socket.onmessage = null;
    this.#socket.onopen = null;
    this.#socket.close();
    this.#listener.onEnd({ wasReady, asked: this.#asked, ...this.#lastError });
  }
}
