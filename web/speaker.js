/** The loudspeaker: plays the frames of the reply and knows how far the listener is. */

/**
 * What the playout reports some twenty times a second.
 * @typedef {object} PlayoutReport
 * @property {number} queuedMs audio that waits to be heard
 * @property {number} positionMs how far into all audio ever queued the listener is
 * @property {number} peak largest magnitude heard since the last report, 0 to 1
 * @property {number} underruns how often it ran dry in the middle of speech
 * @property {number} droppedMs audio thrown away because too much was queued
 */

export class Speaker {
  #node;
  #rate;
  #queuedSamples = 0;

  /**
   * @param {AudioWorkletNode} node
   * @param {number} rate
   */
  constructor(node, rate) {
    this.#node = node;
    this.#rate = rate;
  }

  /**
   * @param {AudioContext} context
   * @param {number} rate of the frames, in Hz
   * @param {(report: PlayoutReport) => void} onReport
   * @returns {Promise<Speaker>}
   */
  static async open(context, rate, onReport) {
    await context.audioWorklet.addModule(new URL("./playout-worklet.js", import.meta.url));
    const node = new AudioWorkletNode(context, "repartee-playout", {
      numberOfInputs: 0,
      numberOfOutputs: 1,
      outputChannelCount: [1],
      processorOptions: { rate },
    });
    node.port.onmessage = ({ data }) => onReport(data);
    node.connect(context.destination);
    return new Speaker(node, rate);
  }

  /** @returns {number} length of all audio ever queued, in ms: where the next frame will lie */
  get queuedMs() {
    return (this.#queuedSamples * 1000) / this.#rate;
  }

  /** @param {ArrayBuffer} frame 16-bit little-endian mono; it is given away */
  play(frame) {
    this.#queuedSamples += frame.byteLength >> 1;
    this.#node.port.postMessage({ frame }, [frame]);
  }

  /** What is queued is the last of a reply. */
  finish() {
    this.#node.port.postMessage({ end: true });
  }

  /** Silence, at once. */
  flush() {
    this.#node.port.postMessage({ flush: true });
  }

  /** Gives the node back. */
  close() {
    this.#node.port.onmessage = null;
    this.#node.port.postMessage({ stop: true });
    this.#node.disconnect();
  }
}
