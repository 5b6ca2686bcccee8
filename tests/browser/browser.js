/** A headless Chromium whose microphone is a file. */

import { existsSync, mkdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

/** Where screenshots go. */
export const SHOTS = fileURLToPath(new URL("../../target/browser/", import.meta.url));

const CANDIDATES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/**
 * Starts the browser and opens nothing yet. Everything that the page complains about is collected.
 * @param {{ microphone?: string, arguments?: string[], context?: import("playwright-core").BrowserContextOptions }} [options]
 *   `microphone` is the path of a WAV file, played once from the moment the microphone is opened
 */
export async function openBrowser({ microphone, arguments: extra = [], context = {} } = {}) {
  const executablePath = CANDIDATES.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error("no Chromium: scripts/setup-browser.sh installs it");
  const profile = await mkdtemp(join(tmpdir(), "repartee-browser-"));
  mkdirSync(SHOTS, { recursive: true });
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    viewport: { width: 1200, height: 860 },
    ...context,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--autoplay-policy=no-user-gesture-required",
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
      ...(microphone ? [`--use-file-for-fake-audio-capture=${microphone}%noloop`] : []),
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--disable-quic",
      "--no-first-run",
      ...extra,
    ],
  });
  const page = browser.pages()[0] ?? (await browser.newPage());
  /** @type {string[]} */
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  /** @type {string[]} */
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  return {
    page,
    complaints,
    /** Addresses that the page asked for. */
    requests,
    /** @param {string} name */
    shot: (name) => page.screenshot({ path: join(SHOTS, `${name}.png`) }),
    async close() {
      await browser.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/**
 * Waits for something to become true in the page. The page's security policy forbids the browser's own way of waiting,
 * which evaluates text inside the page.
 * @param {import("playwright-core").Page} page
 * @param {string} expression
 * @param {number} [timeoutMs]
 */
export async function until(page, expression, timeoutMs = 15000) {
  const deadline = Date.now() + timeoutMs;
  while (!(await page.evaluate(expression))) {
    if (Date.now() > deadline) throw new Error(`never became true: ${expression}`);
    await page.waitForTimeout(40);
  }
}
