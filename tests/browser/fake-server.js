/**
 * A server that speaks the native wire and understands nothing: whatever is loud is speech, what it "hears" is a fixed
 * sentence, and its voice is a hum. It lets the talk page be looked at and tested without the engine.
 *
 * `node fake-server.js [port]` runs it by hand.
 */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { WebSocketServer } from "ws";

const WEB = fileURLToPath(new URL("../../web/", import.meta.url));
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};
/** As strict as a page that loads only its own files can have it. */
export const CONTENT_SECURITY_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const FRAME_MS = 20;
const SILENCE_MS = 600;
const SPEECH_MS = 100;
const BARGE_IN_MS = 240;
/** Characters that the hum "speaks" in a second. */
const PACE = 15;
/** Magnitude from which a frame is loud. */
const LOUD = 0.02;

const SENTENCE = "What will the weather be like in Copenhagen tomorrow afternoon?";
const REPLY =
  "Tomorrow afternoon will be mild in Copenhagen, with a light wind from the west. Take a jacket for the evening, " +
  "when it may rain a little.";

/** One connection. */
class Call {
  #socket;
  #options;
  #turns = 0;
  #responses = 0;
  /** @type {{ turn: string, loudMs: number, quietMs: number, shown: number, revision: number } | null} */
  #turn = null;
  /** @type {any} */
  #response = null;
  #loudMs = 0;
  #clockMs = 0;

  constructor(socket, options) {
    this.#socket = socket;
    this.#options = options;
    socket.on("message", (data, isBinary) => (isBinary ? this.#audio(data) : this.#control(JSON.parse(String(data)))));
    socket.on("close", () => this.#endResponse("cancelled"));
  }

  #send(type, fields) {
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(JSON.stringify({ type, ...fields }));
  }

  #control(control) {
    this.#options.controls.push(control);
    if (control.type === "hello") this.#hello(control);
    else if (control.type === "text") this.#typed(control.text);
    else if (control.type === "cancel") this.#endResponse("cancelled");
    else if (control.type === "bye") this.#socket.close(1000);
  }

  #hello({ version, token, input, output }) {
    if (version !== 1) throw new Error(`version ${version}`);
    if (this.#options.token && token !== this.#options.token) {
      this.#send("error", { code: "unauthorized", origin: "client", retry: false, message: "The access token is wrong.", close_code: 4401 });
      this.#socket.close(4401, "unauthorized");
      return;
    }
    this.#send("ready", {
      version: 1,
      session: "s_fake",
      input: { ...input, channels: 1, frame_ms: FRAME_MS },
      output: { ...output, channels: 1, frame_ms: FRAME_MS },
      settings: { endpointing: { silence_ms: SILENCE_MS } },
      backends: [
        { kind: "vad", state: "ready", name: "silero", model: "silero-vad-6", generation: 1 },
        { kind: "turn", state: "missing", reason: "this version has no turn model" },
        { kind: "stt", state: "ready", name: "pocketsphinx", model: "pocketsphinx-en-us", generation: 1 },
        { kind: "llm", state: "ready", name: "parrot", model: "parrot", generation: 1 },
        { kind: "tts", state: "ready", name: "flite", model: "cmu_us_rms", generation: 1 },
      ],
    });
  }

  #audio(data) {
    let peak = 0;
    for (let at = 0; at + 1 < data.length; at += 2) peak = Math.max(peak, Math.abs(data.readInt16LE(at)) / 32768);
    this.#clockMs += FRAME_MS;
    this.#options.heard.push(peak);
    const loud = peak >= LOUD;
    this.#loudMs = loud ? this.#loudMs + FRAME_MS : 0;
    if (!this.#turn) {
      if (this.#loudMs < SPEECH_MS) return;
      this.#turns += 1;
      this.#turn = { turn: `turn_${this.#turns}`, loudMs: SPEECH_MS, quietMs: 0, shown: 0, revision: 0 };
      this.#send("speech_started", { turn: this.#turn.turn, at_ms: this.#clockMs - SPEECH_MS });
      return;
    }
    const turn = this.#turn;
    turn.quietMs = loud ? 0 : turn.quietMs + FRAME_MS;
    if (loud) turn.loudMs += FRAME_MS;
    if (turn.loudMs >= BARGE_IN_MS) this.#endResponse("interrupted");
    this.#partial(turn);
    if (turn.quietMs < SILENCE_MS) return;
    this.#turn = null;
    this.#send("speech_stopped", { turn: turn.turn, at_ms: this.#clockMs - SILENCE_MS });
    this.#transcript(turn, SENTENCE, SENTENCE.length, true);
    this.#reply(turn.turn, SILENCE_MS);
  }

  #partial(turn) {
    const words = SENTENCE.split(" ");
    const shown = Math.min(words.length, Math.floor(turn.loudMs / 200));
    if (shown <= turn.shown) return;
    turn.shown = shown;
    const text = words.slice(0, shown).join(" ");
    this.#transcript(turn, text, words.slice(0, Math.max(0, shown - 2)).join(" ").length, false);
  }

  #transcript(turn, text, stable, final) {
    turn.revision += 1;
    this.#send("transcript", { turn: turn.turn, revision: turn.revision, text, stable_chars: stable, final });
  }

  #typed(text) {
    this.#endResponse("interrupted");
    this.#turns += 1;
    this.#reply(`turn_${this.#turns}`, 0, `You wrote: ${text}`);
  }

  #reply(turn, endpointing, text = REPLY) {
    this.#responses += 1;
    const response = `resp_${this.#responses}`;
    const frames = Math.ceil((text.length / PACE) * (1000 / FRAME_MS));
    const state = { response, turn, text, sent: 0, frames, startedAt: performance.now() };
    this.#response = state;
    this.#send("response_started", { response, turn });
    const words = text.match(/\S+\s*/gu) ?? [];
    words.forEach((delta, index) => setTimeout(() => this.#delta(state, delta), 30 * index));
    state.timer = setTimeout(() => this.#speak(state, endpointing), 120);
  }

  #delta(state, delta) {
    if (this.#response === state) this.#send("response_text", { response: state.response, delta });
  }

  #speak(state, endpointing) {
    this.#send("audio_started", { response: state.response });
    const stages = [
      { stage: "endpointing", ms: endpointing },
      { stage: "stt_final", ms: endpointing && 84.2 },
      { stage: "llm_first_token", ms: 31 },
      { stage: "first_sentence", ms: 62.5 },
      { stage: "tts_first_audio", ms: 14 },
      { stage: "send", ms: 0.3 },
    ];
    const total = stages.reduce((sum, { ms }) => sum + ms, 0);
    this.#send("turn_report", { turn: state.turn, response: state.response, stages, total_ms: total });
    const begin = performance.now();
    const tick = () => {
      while (state.sent < state.frames && performance.now() - begin >= state.sent * FRAME_MS) this.#frame(state);
      if (state.sent < state.frames) state.timer = setTimeout(tick, 5);
      else this.#endResponse("completed");
    };
    tick();
  }

  /** A hum with syllables, at 24 kHz. */
  #frame(state) {
    const samples = 480;
    const frame = Buffer.alloc(samples * 2);
    for (let index = 0; index < samples; index += 1) {
      const time = (state.sent * samples + index) / 24000;
      const syllable = Math.max(0, Math.sin(2 * Math.PI * 2.2 * time)) ** 0.5;
      const tone = Math.sin(2 * Math.PI * 150 * time) + 0.4 * Math.sin(2 * Math.PI * 450 * time);
      frame.writeInt16LE(Math.round(6000 * syllable * tone), index * 2);
    }
    this.#socket.send(frame);
    state.sent += 1;
  }

  #endResponse(status) {
    const state = this.#response;
    if (!state) return;
    this.#response = null;
    clearTimeout(state.timer);
    const { response, text, sent, frames } = state;
    const words = text.split(" ");
    const heard = status === "completed" ? text : words.slice(0, Math.floor((words.length * sent) / frames)).join(" ");
    this.#send("audio_done", { response, sent_ms: sent * FRAME_MS });
    this.#send("response_done", { response, status, text, heard, heard_ms: sent * FRAME_MS });
  }
}

/**
 * Starts the server on loopback.
 * @param {{ port?: number, token?: string }} [options]
 * @returns {Promise<{ url: string, controls: any[], heard: number[], close: () => Promise<void> }>} `controls` are those
 *   received so far, `heard` holds the largest magnitude of each frame received so far
 */
export async function startFakeServer({ port = 0, token } = {}) {
  /** @type {any[]} */
  const controls = [];
  /** @type {number[]} */
  const heard = [];
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? "/", "http://localhost").pathname;
    const name = normalize(path === "/" ? "/index.html" : path).slice(1);
    try {
      const body = await readFile(join(WEB, name));
      response.writeHead(200, {
        "content-type": TYPES[extname(name)] ?? "application/octet-stream",
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
      });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  const sockets = new WebSocketServer({ server, path: "/v1/session" });
  sockets.on("connection", (socket) => new Call(socket, { controls, heard, token }));
  await new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(undefined)));
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${address.port}/`,
    controls,
    heard,
    async close() {
      for (const socket of sockets.clients) socket.terminate();
      sockets.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const server = await startFakeServer({ port: Number(process.argv[2] ?? 8090), token: process.env.TOKEN });
  console.log(`talk page: ${server.url}`);
}
