/** The microphone: asks for it, and gives frames of 20 ms of 16-bit mono. */

import { problem } from "./problems.js";

/**
 * A frame of the microphone.
 * @callback OnFrame
 * @param {ArrayBuffer} frame 16-bit little-endian mono
 * @param {number} peak largest magnitude in it, 0 to 1
 */

/** An open microphone. */
export class Microphone {
  #stream;
  #source;
  #node;

  /**
   * @param {MediaStream} stream
   * @param {MediaStreamAudioSourceNode} source
   * @param {AudioWorkletNode} node
   */
  constructor(stream, source, node) {
    this.#stream = stream;
    this.#source = source;
    this.#node = node;
  }

  /**
   * Asks the person for the microphone and starts it.
   * @param {AudioContext} context
   * @param {number} rate of the frames, in Hz
   * @param {OnFrame} onFrame
   * @param {() => void} onLost called when the device goes away
   * @returns {Promise<Microphone>}
   * @throws {import("./problems.js").Problem} when there is no microphone to be had
   */
  static async open(context, rate, onFrame, onLost) {
    if (!navigator.mediaDevices?.getUserMedia) throw problem("microphone-unsupported");
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
      });
    } catch (cause) {
      throw microphoneProblem(cause);
    }
    await context.audioWorklet.addModule(new URL("./capture-worklet.js", import.meta.url));
    const source = context.createMediaStreamSource(stream);
    const node = new AudioWorkletNode(context, "repartee-capture", {
      numberOfInputs: 1,
      numberOfOutputs: 1,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { rate },
    });
    node.port.onmessage = ({ data }) => onFrame(data.frame, data.peak);
    // The node gives silence; it is connected because browsers run only what leads to the destination.
    source.connect(node).connect(context.destination);
    stream.getAudioTracks()[0].onended = onLost;
    return new Microphone(stream, source, node);
  }

  /** @param {boolean} muted a muted microphone sends silence, so that the server's clock runs on */
  setMuted(muted) {
    for (const track of this.#stream.getAudioTracks()) track.enabled = !muted;
  }

  /** Gives the device back. */
  close() {
    for (const track of this.#stream.getAudioTracks()) {
      track.onended = null;
      track.stop();
    }
    this.#source.disconnect();
    this.#node.disconnect();
    this.#node.port.onmessage = null;
    this.#node.port.postMessage("stop");
  }
}

/**
 * What `getUserMedia` threw, as a problem with a remedy.
 * @param {unknown} cause
 * @returns {import("./problems.js").Problem}
 */
function microphoneProblem(cause) {
  const name = cause instanceof DOMException ? cause.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return problem("microphone-denied");
  if (name === "NotFoundError" || name === "OverconstrainedError") return problem("microphone-missing");
  if (name === "NotReadableError" || name === "AbortError") return problem("microphone-busy");
  return problem("microphone-unsupported", cause instanceof Error ? cause.message : undefined);
}
