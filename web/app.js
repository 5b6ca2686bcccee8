/**
 * The talk page: wires the microphone, the session, the loudspeaker and what is seen.
 *
 * Two things are stored, and everything seen follows from them in `render`: the link to the server (`Link`) and what the
 * conversation is doing (`Phase`).
 */

import { Backends } from "./backends.js";
import { Captions } from "./captions.js";
import { Microphone } from "./microphone.js";
import { isProblem, problem } from "./problems.js";
import { NativeSession } from "./session.js";
import { Settings } from "./settings.js";
import { Speaker } from "./speaker.js";

/**
 * @typedef {"idle" | "connecting" | "live" | "reconnecting"} Link
 * @typedef {"listening" | "hearing" | "thinking" | "speaking"} Phase
 */

/** Waits between attempts to connect again, in ms; after the last one the person is asked. */
const RECONNECT_MS = [500, 1000, 2000, 4000, 8000, 8000];
/** How long the audio device may take to start, in ms. */
const AUDIO_START_MS = 4000;
/** Level meters fall by this factor with every new measurement, so that they can be read. */
const METER_DECAY = 0.82;

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function find(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no #${id}`);
  return found;
}

const page = {
  mic: find("mic", HTMLButtonElement),
  mute: find("mute", HTMLButtonElement),
  cancel: find("cancel", HTMLButtonElement),
  status: find("status", HTMLElement),
  micMeter: find("mic-meter", HTMLElement),
  speakerMeter: find("speaker-meter", HTMLElement),
  typed: find("typed", HTMLFormElement),
  text: find("text", HTMLInputElement),
  notice: find("notice", HTMLElement),
  problem: find("problem", HTMLElement),
  problemTitle: find("problem-title", HTMLElement),
  problemRemedy: find("problem-remedy", HTMLElement),
  problemAction: find("problem-action", HTMLButtonElement),
};

const captions = new Captions(
  find("captions", HTMLElement),
  find("announcer", HTMLElement),
  find("empty", HTMLElement),
);
const backends = new Backends(find("backends", HTMLElement));
const settings = new Settings(find("settings", HTMLFormElement), () => {
  if (settings.update) session?.send(settings.update);
});

/** @type {Link} */
let link = "idle";
/** @type {Phase} */
let phase = "listening";
/** @type {Link} */
let announcedLink = link;
let muted = false;
/** @type {NativeSession | null} */
let session = null;
/** @type {Microphone | null} */
let microphone = null;
/** @type {Speaker | null} */
let speaker = null;
/** @type {AudioContext | null} */
let context = null;
/** @type {string | null} the response whose audio is being played */
let spoken = null;
/** @type {Set<string>} responses that are not over */
const openResponses = new Set();
/** @type {string[]} typed while there was no session yet */
const unsent = [];
/** Counts starts and stops: who waited for the person's consent sees whether it is still wanted. */
let starts = 0;
let attempt = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let reconnectTimer;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let noticeTimer;
let wantsMicrophone = false;
/** @type {() => void} what the button beside a problem does */
let remedy = () => {};

/** @returns {string | undefined} the access token in the page's own address, after the `#`: it never reaches a server's log */
function accessToken() {
  const fragment = location.hash.replace(/^#\??/u, "");
  return new URLSearchParams(fragment).get("token") ?? undefined;
}

// What is seen.

/** @type {Record<Phase, string>} */
const PHASES = {
  listening: "Listening",
  hearing: "Hearing you",
  thinking: "Thinking",
  speaking: "Speaking",
};

/** @returns {string} */
function statusText() {
  if (link === "connecting") return "Connecting …";
  if (link === "reconnecting") return "Connecting again …";
  if (link === "idle") return "Press the microphone and speak";
  if (phase === "listening" && !microphone) return "Type, or press the microphone and speak";
  if (phase === "listening" && muted) return "Your microphone is muted";
  if (phase === "speaking" && microphone && !muted) return "Speaking. Talk over it to interrupt.";
  return PHASES[phase];
}

function render() {
  const talking = microphone !== null && link !== "idle";
  document.body.dataset.link = link;
  document.body.dataset.phase = link === "live" ? phase : "none";
  document.body.dataset.microphone = talking ? (muted ? "muted" : "open") : "closed";
  const label = talking || link === "connecting" ? "End the conversation" : "Start talking";
  page.mic.setAttribute("aria-label", label);
  page.mic.title = label;
  page.mic.setAttribute("aria-pressed", String(talking));
  page.mute.disabled = !talking;
  page.mute.setAttribute("aria-pressed", String(muted));
  page.mute.querySelector("span")?.replaceChildren(muted ? "Unmute" : "Mute");
  page.cancel.disabled = openResponses.size === 0;
  const text = statusText();
  if (page.status.textContent !== text) page.status.textContent = text;
  // Screen readers are told about the connection, but not of every breath: they would talk into the conversation.
  if (link !== announcedLink) captions.announce(text);
  announcedLink = link;
}

/** @param {Phase} next */
function setPhase(next) {
  phase = next;
  render();
}

/**
 * @param {import("./problems.js").Problem} found
 * @param {() => void} [tryAgain]
 */
function showProblem(found, tryAgain) {
  page.problem.dataset.problem = found.name;
  page.problemTitle.textContent = found.title;
  page.problemRemedy.textContent = found.remedy;
  page.problemAction.textContent = found.action ?? "";
  page.problemAction.hidden = !found.action || !tryAgain;
  page.problem.hidden = false;
  remedy = tryAgain ?? (() => {});
}

function hideProblem() {
  page.problem.hidden = true;
  delete page.problem.dataset.problem;
}

/** @param {string} text something to know, which needs no answer */
function showNotice(text) {
  clearTimeout(noticeTimer);
  page.notice.textContent = text;
  page.notice.hidden = false;
  noticeTimer = setTimeout(() => {
    page.notice.hidden = true;
  }, 8000);
}

/**
 * @param {HTMLElement} meter
 * @param {number} peak 0 to 1
 */
function showLevel(meter, peak) {
  // The ear hears ratios: −48 dB is the left end of the meter, full scale the right one.
  const level = peak > 0 ? Math.max(0, Math.min(1, 1 + (20 * Math.log10(peak)) / 48)) : 0;
  const shown = Math.max(level, Number(meter.dataset.level ?? 0) * METER_DECAY);
  meter.dataset.level = shown.toFixed(3);
  meter.style.setProperty("--level", shown.toFixed(3));
}

// Starting and ending.

/**
 * Starts the loudspeaker. What `start` needs a click for happens here: browsers play nothing before one.
 * @returns {Promise<AudioContext>}
 * @throws {import("./problems.js").Problem} when this browser, or a page like this, has no audio
 */
async function openAudio() {
  if (!window.isSecureContext) throw problem("insecure-page");
  if (!("AudioWorkletNode" in window)) throw problem("audio-unsupported");
  context ??= new AudioContext({ latencyHint: "interactive" });
  // Where there is no audio device, some browsers never answer.
  await Promise.race([context.resume(), new Promise((resolve) => setTimeout(resolve, AUDIO_START_MS))]);
  if (context.state !== "running") throw problem("audio-silent");
  speaker ??= await Speaker.open(context, NativeSession.outputRate, showPlayout);
  return context;
}

/** @param {{ withMicrophone: boolean }} how */
async function start({ withMicrophone }) {
  hideProblem();
  starts += 1;
  const mine = starts;
  wantsMicrophone ||= withMicrophone;
  if (link === "idle") {
    link = "connecting";
    attempt = 0;
  }
  render();
  try {
    const audio = await openAudio();
    if (withMicrophone && !microphone) {
      const opened = await Microphone.open(audio, NativeSession.inputRate, sendFrame, loseMicrophone);
      // The person may have ended the conversation while the browser asked for the microphone.
      if (mine !== starts) return opened.close();
      microphone = opened;
      muted = false;
    }
  } catch (cause) {
    if (mine !== starts) return;
    wantsMicrophone = microphone !== null;
    const found = isProblem(cause) ? cause : problem("audio-unsupported", cause instanceof Error ? cause.message : "");
    showProblem(found, () => start({ withMicrophone }));
    // Without sound a typed turn is still answered in writing.
    if (withMicrophone && !session) link = "idle";
  }
  if (!session && link === "connecting") connect();
  render();
}

/** Ends the conversation. */
function stop() {
  starts += 1;
  clearTimeout(reconnectTimer);
  wantsMicrophone = false;
  session?.close();
  session = null;
  closeMicrophone();
  link = "idle";
  endReplies();
  hideProblem();
  render();
}

function closeMicrophone() {
  microphone?.close();
  microphone = null;
  muted = false;
  page.micMeter.dataset.level = "0";
  showLevel(page.micMeter, 0);
}

function loseMicrophone() {
  stop();
  showProblem(problem("microphone-lost"), () => start({ withMicrophone: true }));
}

/**
 * @param {ArrayBuffer} frame
 * @param {number} peak
 */
function sendFrame(frame, peak) {
  showLevel(page.micMeter, peak);
  session?.sendAudio(frame);
}

function endReplies() {
  speaker?.flush();
  spoken = null;
  openResponses.clear();
  captions.beginSession();
  phase = "listening";
}

// The session.

function connect() {
  clearTimeout(reconnectTimer);
  /** @type {NativeSession} */
  const opened = new NativeSession(
    {
      onReady: (ready) => begin(ready),
      onEvent: (event) => handle(event),
      onAudio: (frame) => speaker?.play(frame),
      onEnd: (ending) => {
        if (session === opened) end(ending);
      },
    },
    accessToken(),
  );
  session = opened;
}

/** @param {any} ready */
function begin(ready) {
  captions.beginSession();
  backends.showAll(ready.backends);
  settings.showDefaults(ready.settings ?? {});
  if (settings.update) session?.send(settings.update);
  link = "live";
  attempt = 0;
  phase = "listening";
  if (page.problem.dataset.problem === "reconnecting") hideProblem();
  for (const text of unsent.splice(0)) sendText(text);
  render();
}

/** @param {import("./session.js").Ending} ending */
function end({ wasReady, code, message }) {
  session = null;
  endReplies();
  if (code === "unauthorized") return giveUp(problem("token-refused"));
  if (code === "idle") return giveUp(problem("idle"));
  if (code && code !== "draining" && !wasReady) return giveUp(problem("server-refused", message));
  const wait = RECONNECT_MS[attempt];
  const neverThere = link === "connecting" && !wasReady && code !== "draining";
  if (wait === undefined || neverThere) return giveUp(problem("server-away", message));
  link = "reconnecting";
  attempt += 1;
  reconnectTimer = setTimeout(connect, wait);
  showProblem(problem("reconnecting"), connect);
  render();
}

/** @param {import("./problems.js").Problem} found */
function giveUp(found) {
  const withMicrophone = wantsMicrophone;
  stop();
  showProblem(found, () => start({ withMicrophone }));
}

/** @param {import("./speaker.js").PlayoutReport} report */
function showPlayout(report) {
  showLevel(page.speakerMeter, report.peak);
  page.speakerMeter.dataset.heardMs = report.positionMs.toFixed(0);
  page.speakerMeter.dataset.underruns = String(report.underruns);
  page.speakerMeter.dataset.peak = Math.max(report.peak, Number(page.speakerMeter.dataset.peak ?? 0)).toFixed(4);
  captions.advance(report.positionMs);
}

/** @type {Record<string, (event: any) => void>} what to do with each event; those not listed change nothing here */
const handlers = {
  speech_started: () => setPhase("hearing"),
  speech_stopped: () => setPhase("thinking"),
  transcript: (event) => {
    captions.showTranscript(event);
    // A turn in which nothing was understood gets no reply.
    if (event.final && !event.text && phase === "thinking") setPhase("listening");
  },
  response_started: (event) => {
    openResponses.add(event.response);
    captions.startReply(event);
    if (phase !== "hearing") setPhase("thinking");
    render();
  },
  response_text: (event) => captions.appendReply(event),
  audio_started: ({ response }) => {
    spoken = response;
    captions.startAudio(response, speaker?.queuedMs ?? 0);
    if (phase !== "hearing") setPhase("speaking");
  },
  audio_done: ({ response }) => {
    captions.finishAudio(response, speaker?.queuedMs ?? 0);
    if (spoken === response) speaker?.finish();
  },
  response_done: (event) => {
    openResponses.delete(event.response);
    const cutShort = event.status === "interrupted" || event.status === "cancelled";
    if (cutShort && spoken === event.response) speaker?.flush();
    if (spoken === event.response) spoken = null;
    captions.finishReply(event);
    if (phase === "speaking" || phase === "thinking") setPhase("listening");
    render();
  },
  turn_report: (event) => captions.showReport(event),
  backend: (event) => backends.show(event),
  status: (event) => backends.showAll(event.backends),
  error: (event) => {
    showNotice(event.message);
    // The recogniser or the language model failed: there is nothing more to wait for.
    if (phase === "thinking" && openResponses.size === 0) setPhase("listening");
  },
  going_away: () => showNotice("The server is going away after this turn."),
};

/** @param {any} event */
function handle(event) {
  handlers[event.type]?.(event);
}

/** @param {string} text */
function sendText(text) {
  captions.showTyped(text);
  session?.send({ type: "text", text });
}

// What the person does.

page.mic.addEventListener("click", () => {
  if (microphone || link === "connecting") stop();
  else start({ withMicrophone: true });
});

page.mute.addEventListener("click", () => {
  muted = !muted;
  microphone?.setMuted(muted);
  render();
});

page.cancel.addEventListener("click", () => session?.send({ type: "cancel" }));

page.problemAction.addEventListener("click", () => remedy());

page.typed.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = page.text.value.trim();
  if (!text) return;
  page.text.value = "";
  if (session?.isReady && link === "live") return sendText(text);
  unsent.push(text);
  start({ withMicrophone: false });
});

document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === "Escape" && openResponses.size > 0) page.cancel.click();
  else if (event.key.toLowerCase() === "m" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    page.mute.click();
  }
});

window.addEventListener("pagehide", stop);

render();
