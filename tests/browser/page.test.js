/** The talk page against a server that only pretends, so that each of its states can be brought about. */

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { openBrowser, until } from "./browser.js";
import { startFakeServer } from "./fake-server.js";
import { splice, writeWav } from "./wav.js";

const RATE = 48000;
const WAIT = { timeout: 15000 };

/** @type {string} */
let folder;
/** @type {string} a voice that speaks for two seconds, and speaks again while it is answered */
let interrupting;

/**
 * Something that browsers take for a voice: a buzz with syllables.
 * @param {number} seconds
 * @returns {Int16Array}
 */
function voice(seconds) {
  return Int16Array.from({ length: RATE * seconds }, (_, at) => {
    const time = at / RATE;
    const syllable = 0.55 + 0.45 * Math.sin(2 * Math.PI * 4 * time);
    let buzz = 0;
    for (let harmonic = 1; harmonic <= 12; harmonic += 1) buzz += Math.sin(2 * Math.PI * 140 * harmonic * time) / harmonic;
    return Math.round(7000 * syllable * buzz);
  });
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "repartee-voice-"));
  interrupting = join(folder, "interrupting.wav");
  await writeFile(interrupting, writeWav(RATE, splice(RATE, [1, voice(2), 3.5, voice(1.5), 20])));
});

after(() => rm(folder, { recursive: true, force: true }));

/**
 * Runs a test with a server and a browser, and ends both.
 * @param {{ server?: Parameters<typeof startFakeServer>[0], browser?: Parameters<typeof openBrowser>[0] }} options
 * @param {(given: { server: Awaited<ReturnType<typeof startFakeServer>>, browser: Awaited<ReturnType<typeof openBrowser>>,
 *   page: import("playwright-core").Page }) => Promise<void>} body
 */
async function withPage(options, body) {
  const server = await startFakeServer(options.server);
  const browser = await openBrowser(options.browser);
  try {
    await body({ server, browser, page: browser.page });
  } finally {
    await browser.close();
    await server.close();
  }
}


test("a spoken turn is written down, answered aloud, measured, and can be interrupted", async () => {
  await withPage({ browser: { microphone: interrupting } }, async ({ server, browser, page }) => {
    await page.goto(server.url);
    await browser.shot("page-idle");
    await page.click("#mic");
    await page.waitForSelector("#captions .partial", WAIT);
    await browser.shot("page-partial");
    const partial = page.locator("#captions .partial").first();
    assert.notEqual(await partial.evaluate((shown) => getComputedStyle(shown).color), await inkOf(page));

    await page.waitForSelector("#captions .final", WAIT);
    const final = page.locator("#captions .final").first();
    assert.match(await final.innerText(), /Copenhagen tomorrow/u);
    assert.equal(await final.evaluate((shown) => getComputedStyle(shown).color), await inkOf(page));

    await page.waitForSelector(".waterfall", WAIT);
    const stages = await page.locator(".waterfall").first().innerText();
    assert.match(stages, /600 ms/u);
    assert.match(stages, /792 ms/u);

    await until(page, "Number(document.querySelector('#speaker-meter').dataset.peak) > 0.05");
    await until(page, "document.querySelector('#reply .heard').textContent.length > 20");
    assert.ok((await page.locator("#reply .pending").innerText()).length > 20, "the rest is still to be heard");
    await browser.shot("page-reply");

    await page.waitForSelector(".turn .unsaid", WAIT);
    const cut = page.locator(".turn").first();
    assert.equal(await cut.locator(".note").innerText(), "interrupted");
    assert.match(await cut.locator(".heard").innerText(), /^Tomorrow afternoon/u);
    await browser.shot("page-interrupted");
    // The queue of the loudspeaker was thrown away: the listener stands where the audio received ends.
    const stood = await page.locator("#speaker-meter").getAttribute("data-heard-ms");
    await page.waitForTimeout(300);
    assert.equal(await page.locator("#speaker-meter").getAttribute("data-heard-ms"), stood);

    assert.deepEqual(
      await page.locator("#backends dd").allInnerTexts(),
      ["silero", "pocketsphinx", "parrot", "flite"],
    );
    assert.deepEqual(browser.complaints, []);
    const strangers = browser.requests.filter((address) => !address.startsWith(server.url));
    assert.deepEqual(strangers, [], "the page asks nobody but its own server");

    await page.click("#mic");
    assert.equal(await page.locator("body").getAttribute("data-link"), "idle");
    assert.equal(server.controls.at(-1).type, "bye");
  });
});

/**
 * @param {import("playwright-core").Page} page
 * @returns {Promise<string>} the colour of plain text
 */
const inkOf = (page) => page.evaluate(() => getComputedStyle(document.body).color);

test("a typed turn is answered, and its reply can be stopped", async () => {
  await withPage({}, async ({ server, browser, page }) => {
    await page.goto(server.url);
    await page.fill("#text", "Tell me a long story about the sea, the wind and a small boat");
    await page.press("#text", "Enter");
    await until(page, "document.querySelector('#reply .heard')?.textContent.length > 5");
    await page.keyboard.press("Escape");
    await page.waitForSelector(".note", WAIT);
    assert.equal(await page.locator(".note").innerText(), "stopped");
    assert.equal(await page.locator(".turn").count(), 1, "what was typed and its answer are one turn");
    await page.fill("#text", "Short");
    await page.click("#typed button");
    await until(page, "document.querySelector('#reply.done .heard')?.textContent === 'You wrote: Short'");
    assert.deepEqual(
      server.controls.map(({ type }) => type),
      ["hello", "text", "cancel", "text"],
    );
    assert.deepEqual(browser.complaints, []);
  });
});

test("a muted microphone sends silence at the same pace", async () => {
  const talking = join(folder, "talking.wav");
  await writeFile(talking, writeWav(RATE, splice(RATE, [voice(60)])));
  await withPage({ browser: { microphone: talking } }, async ({ server, page }) => {
    await page.goto(server.url);
    await page.click("#mic");
    await page.waitForSelector('body[data-phase="hearing"]', WAIT);
    await page.keyboard.press("m");
    assert.equal(await page.locator("body").getAttribute("data-microphone"), "muted");
    await page.waitForTimeout(300);
    const before = server.heard.length;
    await page.waitForTimeout(1000);
    const frames = server.heard.slice(before);
    assert.ok(Math.abs(frames.length - 50) < 15, `${frames.length} frames in a second`);
    assert.ok(Math.max(...frames) < 0.001, "they are silent");
    await page.click("#mute");
    await page.waitForTimeout(500);
    assert.ok(Math.max(...server.heard.slice(-10)) > 0.02, "and the voice is back afterwards");
  });
});

test("settings are sent, kept, and sent again", async () => {
  await withPage({}, async ({ server, browser, page }) => {
    await page.goto(server.url);
    await page.click("summary");
    await page.fill("[name=voice]", "slt");
    await page.fill("[name=silence_ms]", "450");
    await browser.shot("page-settings");
    await page.reload();
    await page.fill("#text", "Hello");
    await page.press("#text", "Enter");
    await page.waitForSelector("#reply", WAIT);
    const update = server.controls.find(({ type }) => type === "update");
    assert.deepEqual(update, { type: "update", voice: "slt", endpointing: { silence_ms: 450 } });
  });
});

test("a microphone that is refused is explained, and typing goes on", async () => {
  await withPage({ browser: { arguments: ["--use-fake-ui-for-media-stream=deny"] } }, async ({ server, browser, page }) => {
    await page.goto(server.url);
    await page.click("#mic");
    await page.waitForSelector('[data-problem="microphone-denied"]', WAIT);
    await browser.shot("page-denied");
    assert.equal(await page.locator("body").getAttribute("data-link"), "idle");
    await page.fill("#text", "Hello");
    await page.press("#text", "Enter");
    await until(page, "document.querySelector('#reply .heard')?.textContent.length > 5");
  });
});

test("a page that is not secure says why there is no microphone, and still answers in writing", async () => {
  const options = { arguments: ["--host-resolver-rules=MAP repartee.test 127.0.0.1"] };
  await withPage({ browser: options }, async ({ server, page }) => {
    await page.goto(server.url.replace("127.0.0.1", "repartee.test"));
    await page.click("#mic");
    await page.waitForSelector('[data-problem="insecure-page"]', WAIT);
    await page.fill("#text", "Hello");
    await page.press("#text", "Enter");
    await until(page, "document.querySelector('#reply.done .heard')?.textContent === 'You wrote: Hello'");
  });
});

test("the token comes out of the page's own address", async () => {
  await withPage({ server: { token: "open sesame" } }, async ({ server, page }) => {
    await page.goto(server.url);
    await page.click("#mic");
    await page.waitForSelector('[data-problem="token-refused"]', WAIT);
    await page.goto(`${server.url}#token=open%20sesame`);
    await page.reload();
    await page.click("#mic");
    await page.waitForSelector('body[data-link="live"]', WAIT);
  });
});

test("a server that goes away is told, and found again when it is back", async () => {
  const browser = await openBrowser();
  let server = await startFakeServer();
  try {
    const { page } = browser;
    await page.goto(server.url);
    await page.click("#mic");
    await page.waitForSelector('body[data-link="live"]', WAIT);
    const port = Number(new URL(server.url).port);
    await server.close();
    await page.waitForSelector('[data-problem="reconnecting"]', WAIT);
    await browser.shot("page-reconnecting");
    server = await startFakeServer({ port });
    await page.waitForSelector('body[data-link="live"]', WAIT);
    assert.ok(await page.locator("#problem").isHidden());
    await page.click("#mic");
    await server.close();
    await page.click("#mic");
    await page.waitForSelector('[data-problem="server-away"]', WAIT);
    await browser.shot("page-away");
  } finally {
    await browser.close();
    await server.close();
  }
});

test("on a telephone, in the dark, without motion: nothing overflows and every button has a name", async () => {
  const context = {
    viewport: { width: 360, height: 720 },
    colorScheme: /** @type {const} */ ("dark"),
    reducedMotion: /** @type {const} */ ("reduce"),
  };
  await withPage({ browser: { context } }, async ({ server, browser, page }) => {
    await page.goto(server.url);
    await page.fill("#text", "What a wonderfullyoverlongwordthatdoesnotfitontoasmallscreenatall this is");
    await page.press("#text", "Enter");
    await page.waitForSelector(".waterfall", WAIT);
    await browser.shot("page-mobile-dark");
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "no sideways scrolling");
    const nameless = await page.locator("button:visible").evaluateAll((buttons) =>
      buttons.filter((button) => !button.getAttribute("aria-label") && !button.textContent?.trim()).map(({ id }) => id),
    );
    assert.deepEqual(nameless, []);
    await until(page, "document.querySelector('#announcer').textContent.startsWith('Repartee: You wrote')");
  });
});
