/**
 * A spoken conversation from end to end: Chromium plays a recording as its microphone to the engine with its embedded
 * backends, the page shows what was understood and plays the reply, and the trace of the call replays exactly.
 *
 * `REPARTEE_BIN` is the engine's binary, `REPARTEE_SPEECH` the folder with recordings and their `manifest.tsv`.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import test, { after, before } from "node:test";

import { openBrowser, until } from "./browser.js";
import { readWav, splice, writeWav } from "./wav.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
const BINARY =
  process.env.REPARTEE_BIN ?? ["release", "debug"].map((kind) => join(TARGET, kind, "repartee")).find(existsSync);
const SPEECH = process.env.REPARTEE_SPEECH ?? join(ROOT, "../shared/speech");
/** Clearly read sentences, the likeliest to be understood first. */
const RECORDINGS = ["cmu-arctic/cmu_arctic_us_aew_a0003.wav", "cmu-arctic/", "speechbrain/", "misc/jfk.wav"];
/** How much of the reference must be understood. The embedded recogniser is no dictation engine. */
const ENOUGH_WORDS = 0.4;
/** How long the engine may take to load its backends, and to answer (ms): these machines are busy. */
const READY_MS = 90_000;
const ANSWER_MS = 60_000;
/** How long it may take to end (ms); its own patience with open turns is shorter. */
const STOP_MS = 40_000;

/** @typedef {{ process: import("node:child_process").ChildProcess, url: string, log: () => string }} Engine */

/** @type {string} */
let folder;
/** @type {Engine[]} */
const engines = [];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "repartee-talk-"));
});

after(async () => {
  for (const engine of engines) engine.process.kill("SIGKILL");
  await rm(folder, { recursive: true, force: true });
});

/**
 * Starts the engine on a port of its own choice and waits until its backends are loaded.
 * @param {string[]} more arguments
 * @returns {Promise<Engine>}
 */
async function startEngine(more = []) {
  assert.ok(BINARY && existsSync(BINARY), "no engine: `make build` makes it, or name it in REPARTEE_BIN");
  const child = spawn(BINARY, ["serve", "--listen", "127.0.0.1:0", ...more], {
    // Whatever configuration lies about in the project is not this test's.
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (log += text));
  const engine = { process: child, url: "", log: () => log };
  engines.push(engine);
  const deadline = Date.now() + READY_MS;
  while (!engine.url || !(await isReady(engine.url))) {
    assert.equal(child.exitCode ?? child.signalCode, null, `the engine ended:\n${log}`);
    assert.ok(Date.now() < deadline, `the engine did not become ready:\n${log}`);
    engine.url = /http:\/\/127\.0\.0\.1:\d+\//u.exec(log)?.[0] ?? "";
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return engine;
}

/** @param {string} url */
async function isReady(url) {
  try {
    return (await fetch(new URL("ready", url))).ok;
  } catch {
    return false;
  }
}

/**
 * Ends the engine as an operator would, and waits for it.
 * @param {Engine} engine
 */
async function stopEngine({ process: child }) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  const impatient = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
  await ended;
  clearTimeout(impatient);
}

/**
 * A recording that speaks for a few seconds, with its reference.
 * @returns {Promise<{ path: string, reference: string } | null>}
 */
async function findRecording() {
  const manifest = join(SPEECH, "manifest.tsv");
  if (!existsSync(manifest)) return null;
  const rows = (await readFile(manifest, "utf8")).trim().split("\n").map((line) => line.split("\t"));
  for (const wanted of RECORDINGS) {
    for (const [file, , , seconds, reference] of rows) {
      const path = join(SPEECH, file);
      const fits = file.startsWith(wanted) && file.endsWith(".wav") && Number(seconds) < 12 && reference;
      if (fits && existsSync(path)) return { path, reference };
    }
  }
  return null;
}

/**
 * @param {string} text
 * @returns {string[]}
 */
const words = (text) => text.toLowerCase().match(/[\p{L}\p{N}']+/gu) ?? [];

/**
 * @param {string} reference
 * @param {string} understood
 * @returns {number} the share of the reference's words that were understood, order aside
 */
function overlap(reference, understood) {
  const left = words(understood);
  const found = words(reference).filter((word) => {
    const at = left.indexOf(word);
    if (at >= 0) left.splice(at, 1);
    return at >= 0;
  });
  return found.length / words(reference).length;
}

/**
 * Runs the engine's binary to its end.
 * @param {string[]} given arguments
 * @returns {Promise<{ status: number | null, output: string }>}
 */
async function runEngine(given) {
  const child = spawn(/** @type {string} */ (BINARY), given, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += text));
  const [status] = await once(child, "close");
  return { status, output };
}

test("a recording is heard, written down and answered aloud, and its trace replays exactly", async (context) => {
  const recording = await findRecording();
  if (!recording) {
    context.skip(`skipped: no recordings in ${SPEECH}; name their folder in REPARTEE_SPEECH`);
    return;
  }
  const { rate, samples } = readWav(await readFile(recording.path));
  const microphone = join(folder, "microphone.wav");
  await writeFile(microphone, writeWav(rate, splice(rate, [1, samples, 120])));
  const traces = join(folder, "traces");
  const engine = await startEngine(["--trace", traces]);
  const browser = await openBrowser({ microphone });
  const { page } = browser;
  try {
    await page.goto(engine.url);
    await page.click("#mic");
    await page.waitForSelector('body[data-link="live"]', { timeout: ANSWER_MS });
    await page.waitForSelector("#captions .partial", { timeout: ANSWER_MS });
    await browser.shot("talk-partial");
    await page.waitForSelector("#captions .final:not(.nothing)", { timeout: ANSWER_MS });
    await page.waitForSelector(".waterfall", { timeout: ANSWER_MS });
    await until(page, "document.querySelector('#reply .heard')?.textContent.length > 0", ANSWER_MS);
    await until(page, "Number(document.querySelector('#speaker-meter').dataset.peak) > 0.02", ANSWER_MS);
    await browser.shot("talk-reply");
    // The recording may hold a pause that ends a turn: what was understood is what stands on the page when it is silent.
    await until(page, "document.querySelector('#reply.done') && document.body.dataset.phase === 'listening'", ANSWER_MS);
    await page.waitForTimeout(1500);
    await until(page, "document.querySelector('#reply.done') && document.body.dataset.phase === 'listening'", ANSWER_MS);
    await browser.shot("talk-done");
    const understood = (await page.locator("#captions .final:not(.nothing)").allInnerTexts()).join(" ");
    const share = overlap(recording.reference, understood);
    context.diagnostic(`${(100 * share).toFixed(0)} % of the reference's words were understood`);
    context.diagnostic(`meter of the reply: ${JSON.stringify(await page.locator("#speaker-meter").evaluate((meter) => ({ .../** @type {HTMLElement} */ (meter).dataset })))}`);
    assert.ok(share >= ENOUGH_WORDS, `understood “${understood}” of “${recording.reference}”`);
    const kinds = await page.locator("#backends [data-state=ready]").evaluateAll((shown) =>
      shown.map((item) => /** @type {HTMLElement} */ (item).dataset.kind),
    );
    for (const kind of ["stt", "llm", "tts"]) assert.ok(kinds.includes(kind), `the page shows no ${kind} in use`);
    assert.deepEqual(browser.complaints, []);
    assert.deepEqual(browser.requests.filter((address) => !address.startsWith(engine.url)), []);
    await page.click("#mic");
    await page.waitForTimeout(500);
  } finally {
    await browser.close();
    await stopEngine(engine);
  }
  const written = (await readdir(traces)).map((name) => join(traces, name));
  assert.ok(written.length > 0, "no trace was written");
  for (const trace of written) {
    const { status, output } = await runEngine(["replay", trace]);
    assert.equal(status, 0, `the trace does not replay:\n${output}`);
  }
});

test("a typed turn is answered, and the page says so when the engine is killed", async () => {
  const engine = await startEngine();
  const browser = await openBrowser();
  const { page } = browser;
  try {
    await page.goto(engine.url);
    await page.fill("#text", "Hello there, how are you today?");
    await page.press("#text", "Enter");
    await until(page, "document.querySelector('#reply')?.textContent.length > 5", ANSWER_MS);
    await until(page, "Number(document.querySelector('#speaker-meter').dataset.peak) > 0.02", ANSWER_MS);
    await until(page, "document.querySelector('#reply.done .heard')?.textContent.length > 5", ANSWER_MS);
    assert.equal(await page.locator(".turn").count(), 1, "what was typed and its answer are one turn");
    await browser.shot("talk-typed");
    assert.deepEqual(browser.complaints, []);
    engine.process.kill("SIGKILL");
    await page.waitForSelector('[data-problem="reconnecting"]', { timeout: ANSWER_MS });
    assert.match(await page.locator("#problem").innerText(), /connection is lost/u);
    await browser.shot("talk-killed");
  } finally {
    await browser.close();
    await stopEngine(engine);
  }
});
