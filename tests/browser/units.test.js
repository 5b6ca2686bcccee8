/** The parts of the talk page that need no browser. */

import assert from "node:assert/strict";
import test from "node:test";

import { heardLength, wordEnd } from "../../web/captions.js";
import { Resampler } from "../../web/resampler.js";
import { formatMs } from "../../web/waterfall.js";
import { readWav, splice, writeWav } from "./wav.js";

const SECOND = 1;

/**
 * A sine through a resampler, in blocks as an audio worklet gives them.
 * @param {number} from Hz
 * @param {number} to Hz
 * @param {number} frequency Hz
 * @param {number} [block] samples
 * @returns {Float32Array}
 */
function resampledSine(from, to, frequency, block = 128) {
  const resampler = new Resampler(from, to);
  const input = Float32Array.from({ length: from * SECOND }, (_, at) => Math.sin((2 * Math.PI * frequency * at) / from));
  const output = new Float32Array(to * SECOND + resampler.capacity(block));
  let written = 0;
  for (let at = 0; at < input.length; at += block) {
    written += resampler.process(input.subarray(at, at + block), output.subarray(written));
  }
  return output.subarray(0, written);
}

/**
 * @param {Float32Array} samples
 * @returns {number} level in dB of a full-scale sine, the edges left out
 */
function level(samples) {
  const middle = samples.subarray(samples.length >> 3, samples.length - (samples.length >> 3));
  const power = middle.reduce((sum, sample) => sum + sample * sample, 0) / middle.length;
  return 10 * Math.log10(2 * power + 1e-20);
}

for (const [from, to] of [
  [48000, 16000],
  [44100, 16000],
  [16000, 16000],
  [24000, 48000],
  [24000, 44100],
]) {
  test(`${from} Hz to ${to} Hz: speech passes unchanged`, () => {
    for (const frequency of [100, 1000, 3400, 6000]) {
      const decibels = level(resampledSine(from, to, frequency));
      assert.ok(Math.abs(decibels) < 0.1, `${frequency} Hz came out at ${decibels.toFixed(2)} dB`);
    }
  });
}

test("what the lower rate cannot hold does not come back as something else", () => {
  for (const from of [48000, 44100]) {
    for (const frequency of [8400, 10000, 15000, 20000]) {
      const decibels = level(resampledSine(from, 16000, frequency));
      assert.ok(decibels < -70, `${frequency} Hz at ${from} Hz left ${decibels.toFixed(1)} dB`);
    }
  }
});

test("the resampled stream is as long as it should be and does not depend on the blocks", () => {
  const whole = resampledSine(44100, 16000, 440, 1024);
  const pieces = resampledSine(44100, 16000, 440, 128);
  const odd = resampledSine(44100, 16000, 440, 5000);
  const delay = Math.ceil(new Resampler(44100, 16000).half / (44100 / 16000));
  assert.ok(Math.abs(16000 - delay - whole.length) <= 1, `${whole.length} samples`);
  for (const other of [pieces, odd]) {
    assert.equal(other.length, whole.length);
    assert.ok(whole.every((sample, at) => Math.abs(sample - other[at]) < 1e-5));
  }
});

test("the resampled sine lies where the original does", () => {
  const output = resampledSine(48000, 16000, 1000);
  for (let at = 200; at < 400; at += 1) {
    assert.ok(Math.abs(output[at] - Math.sin((2 * Math.PI * 1000 * at) / 16000)) < 0.002, `sample ${at}`);
  }
});

test("the part of a reply that was heard ends with its last word", () => {
  const text = "It will be mild,  with some wind.\nTake a jacket.";
  assert.equal(text.slice(0, heardLength(text, "It will be mild, with")), "It will be mild,  with");
  assert.equal(heardLength(text, ""), 0);
  assert.equal(heardLength(text, text), text.length);
  assert.equal(heardLength("two words", "more words than there are"), 9);
});

test("the word being spoken counts as a whole", () => {
  assert.equal(wordEnd("one two", 0), 0);
  assert.equal(wordEnd("one two", 1), 3);
  assert.equal(wordEnd("one two", 5), 7);
  assert.equal(wordEnd("one two", 50), 7);
});

test("milliseconds are shown whole", () => {
  assert.deepEqual([0, 0.3, 62.5, 600].map(formatMs), ["0 ms", "<1 ms", "63 ms", "600 ms"]);
});

test("a WAV file that was written is read back", () => {
  const samples = splice(16000, [0.001, Int16Array.of(1, -2, 32767, -32768), 0.001]);
  const back = readWav(writeWav(16000, samples));
  assert.equal(back.rate, 16000);
  assert.deepEqual(back.samples, samples);
  assert.throws(() => readWav(Buffer.from("not a sound at all, only text that is long enough")), /not a WAV file/u);
});
