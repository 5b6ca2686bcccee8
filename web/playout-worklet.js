/**
 * Playout: frames of 16-bit mono at the session's rate in, sound at the context's own rate out.
 *
 * The server sends its frames at the pace of real time, so the buffer only has to cover the jitter of the way. It starts
 * to play once `target` is buffered; running dry in the middle of speech is counted and raises the target, calm lowers it again.
 *
 * Messages in:
 * - `{ frame: ArrayBuffer }`: little-endian PCM to be played after what is queued.
 * - `{ end: true }`: what is queued is the last of an utterance: play it even where it is less than the target.
 * - `{ flush: true }`: silence at once; what is queued is thrown away.
 * - `{ stop: true }`: this node is no longer needed.
 *
 * Messages out, every 50 ms: `{ queuedMs, positionMs, peak, underruns, droppedMs }`. `positionMs` is how far into all audio
 * ever queued the listener is; a flush moves it to the end. `peak` is the largest magnitude played since the last message.
 */

import { Resampler } from "./resampler.js";

/** The buffer's bounds and its starting point, in seconds. */
const TARGET_START = 0.06;
const TARGET_LOWEST = 0.04;
const TARGET_HIGHEST = 0.2;
/** An underrun raises the target by this, in seconds. */
const TARGET_RISE = 0.02;
/** A second of speech without an underrun lowers it by this, in seconds. */
const TARGET_FALL = 0.002;
/** What the ring holds at most, in seconds; the oldest goes first, and is counted. */
const RING_SECONDS = 2;
/** A flush fades this long, in seconds: at once for the ear, but without a click. */
const FADE_SECONDS = 0.004;
/** Time between two reports, in seconds. */
const REPORT_SECONDS = 0.05;

class PlayoutProcessor extends AudioWorkletProcessor {
  /** @param {{ processorOptions: { rate: number } }} options `rate` of the frames in Hz */
  constructor(options) {
    super();
    const { rate } = options.processorOptions;
    this.resampler = new Resampler(rate, sampleRate);
    this.decoded = new Float32Array(rate);
    this.resampled = new Float32Array(this.resampler.capacity(rate));
    this.ring = new Float32Array(Math.round(RING_SECONDS * sampleRate));
    this.rate = rate;
    /** Samples ever received, at the session's rate. */
    this.received = 0;
    /** Samples ever written to and read from the ring, at the context's rate. */
    this.written = 0;
    this.read = 0;
    this.target = TARGET_START * sampleRate;
    this.playing = false;
    this.ending = false;
    this.fade = 0;
    this.last = 0;
    this.peak = 0;
    this.underruns = 0;
    this.dropped = 0;
    this.sinceReport = 0;
    this.calm = 0;
    this.running = true;
    this.port.onmessage = ({ data }) => this.#handle(data);
  }

  /** @param {{ frame?: ArrayBuffer, end?: boolean, flush?: boolean, stop?: boolean }} message */
  #handle(message) {
    if (message.frame) this.#enqueue(message.frame);
    else if (message.end) this.#end();
    else if (message.flush) this.#flush();
    else if (message.stop) this.running = false;
  }

  /** @param {ArrayBuffer} frame */
  #enqueue(frame) {
    const view = new DataView(frame);
    const count = Math.min(frame.byteLength >> 1, this.decoded.length);
    for (let index = 0; index < count; index += 1) {
      this.decoded[index] = view.getInt16(index * 2, true) / 32768;
    }
    this.ending = false;
    this.received += count;
    this.#write(this.decoded.subarray(0, count));
  }

  /** @param {Float32Array} samples at the session's rate */
  #write(samples) {
    const count = this.resampler.process(samples, this.resampled);
    for (let index = 0; index < count; index += 1) {
      this.ring[this.written % this.ring.length] = this.resampled[index];
      this.written += 1;
    }
    const excess = this.written - this.read - this.ring.length;
    if (excess > 0) {
      this.read += excess;
      this.dropped += excess;
    }
  }

  #end() {
    // The resampler still holds the last samples back; silence pushes them out.
    this.decoded.fill(0, 0, this.resampler.half);
    this.#write(this.decoded.subarray(0, this.resampler.half));
    this.resampler.reset();
    this.ending = true;
  }

  #flush() {
    if (this.playing) this.fade = Math.round(FADE_SECONDS * sampleRate);
    this.read = this.written;
    this.playing = false;
    this.ending = false;
    this.resampler.reset();
  }

  /**
   * @param {Float32Array[][]} _inputs
   * @param {Float32Array[][]} outputs
   * @returns {boolean} whether this node is still needed
   */
  process(_inputs, outputs) {
    const channel = outputs[0][0];
    const queued = this.written - this.read;
    if (!this.playing && queued > 0 && (this.ending || queued >= this.target)) this.playing = true;
    for (let index = 0; index < channel.length; index += 1) channel[index] = this.#next();
    this.#report(channel.length);
    return this.running;
  }

  /** @returns {number} the next sample to be heard */
  #next() {
    if (this.fade > 0) {
      this.fade -= 1;
      this.last *= this.fade / (this.fade + 1);
      return this.last;
    }
    if (!this.playing) return 0;
    if (this.read === this.written) {
      this.#ranDry();
      return 0;
    }
    const sample = this.ring[this.read % this.ring.length];
    this.read += 1;
    this.last = sample;
    this.peak = Math.max(this.peak, Math.abs(sample));
    return sample;
  }

  #ranDry() {
    this.playing = false;
    this.calm = 0;
    if (this.ending) {
      this.ending = false;
      return;
    }
    this.underruns += 1;
    this.target = Math.min(TARGET_HIGHEST * sampleRate, this.target + TARGET_RISE * sampleRate);
  }

  /** @param {number} count samples since the last call */
  #report(count) {
    if (this.playing) this.calm += count;
    if (this.calm >= sampleRate) {
      this.calm = 0;
      this.target = Math.max(TARGET_LOWEST * sampleRate, this.target - TARGET_FALL * sampleRate);
    }
    this.sinceReport += count;
    if (this.sinceReport < REPORT_SECONDS * sampleRate) return;
    this.sinceReport = 0;
    const toMs = 1000 / sampleRate;
    const queuedMs = (this.written - this.read) * toMs;
    this.port.postMessage({
      queuedMs,
      positionMs: (this.received * 1000) / this.rate - queuedMs,
      peak: this.peak,
      underruns: this.underruns,
      droppedMs: this.dropped * toMs,
    });
    this.peak = 0;
  }
}

registerProcessor("repartee-playout", PlayoutProcessor);
