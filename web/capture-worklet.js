/**
 * Capture: the microphone at the context's own rate in, frames of 20 ms of 16-bit mono at the session's rate out.
 *
 * Posts `{ frame: ArrayBuffer, peak: number }` for each frame; `frame` holds little-endian PCM and is transferred, `peak` is
 * the largest magnitude in it, from 0 to 1.
 */

import { Resampler } from "./resampler.js";

/** Length of a frame in seconds. */
const FRAME_SECONDS = 0.02;

class CaptureProcessor extends AudioWorkletProcessor {
  /** @param {{ processorOptions: { rate: number } }} options `rate` in Hz */
  constructor(options) {
    super();
    const { rate } = options.processorOptions;
    this.resampler = new Resampler(sampleRate, rate);
    this.resampled = new Float32Array(this.resampler.capacity(1024));
    this.frameLength = Math.round(rate * FRAME_SECONDS);
    this.frame = new DataView(new ArrayBuffer(this.frameLength * 2));
    this.filled = 0;
    this.peak = 0;
    this.running = true;
    this.port.onmessage = ({ data }) => {
      if (data === "stop") this.running = false;
    };
  }

  /**
   * @param {Float32Array[][]} inputs
   * @param {Float32Array[][]} outputs left alone, which is silence
   * @returns {boolean} whether this node is still needed
   */
  process(inputs, outputs) {
    // A muted track gives no input at all in Firefox. The server's clock is the audio it gets, so silence is sent.
    const channel = inputs[0][0] ?? outputs[0][0];
    const count = this.resampler.process(channel, this.resampled);
    for (let index = 0; index < count; index += 1) this.#push(this.resampled[index]);
    return this.running;
  }

  /** @param {number} sample */
  #push(sample) {
    const clamped = Math.max(-1, Math.min(1, sample));
    this.peak = Math.max(this.peak, Math.abs(clamped));
    this.frame.setInt16(this.filled * 2, Math.round(clamped * 32767), true);
    this.filled += 1;
    if (this.filled < this.frameLength) return;
    const { buffer } = this.frame;
    this.port.postMessage({ frame: buffer, peak: this.peak }, [buffer]);
    this.frame = new DataView(new ArrayBuffer(this.frameLength * 2));
    this.filled = 0;
    this.peak = 0;
  }
}

registerProcessor("repartee-capture", CaptureProcessor);
