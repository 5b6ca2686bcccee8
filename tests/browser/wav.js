/** WAV files of 16-bit samples: just enough to make a microphone out of a recording. */

/**
 * @param {Buffer} bytes a RIFF file
 * @returns {{ rate: number, samples: Int16Array }} the first channel
 */
export function readWav(bytes) {
  if (bytes.toString("latin1", 0, 4) !== "RIFF" || bytes.toString("latin1", 8, 12) !== "WAVE") {
    throw new Error("not a WAV file");
  }
  let rate = 0;
  let channels = 0;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const name = bytes.toString("latin1", at, at + 4);
    const length = bytes.readUInt32LE(at + 4);
    const body = at + 8;
    if (name === "fmt ") {
      channels = bytes.readUInt16LE(body + 2);
      rate = bytes.readUInt32LE(body + 4);
      if (bytes.readUInt16LE(body + 14) !== 16) throw new Error("not 16-bit samples");
    } else if (name === "data") {
      const count = Math.floor(Math.min(length, bytes.length - body) / (2 * channels));
      const samples = new Int16Array(count);
      for (let index = 0; index < count; index += 1) samples[index] = bytes.readInt16LE(body + index * 2 * channels);
      return { rate, samples };
    }
    at = body + length + (length % 2);
  }
  throw new Error("a WAV file without samples");
}

/**
 * @param {number} rate in Hz
 * @param {Int16Array} samples mono
 * @returns {Buffer}
 */
export function writeWav(rate, samples) {
  const header = Buffer.alloc(44);
  header.write("RIFF", 0, "latin1");
  header.writeUInt32LE(36 + samples.length * 2, 4);
  header.write("WAVEfmt ", 8, "latin1");
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(rate, 24);
  header.writeUInt32LE(rate * 2, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write("data", 36, "latin1");
  header.writeUInt32LE(samples.length * 2, 40);
  return Buffer.concat([header, Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength)]);
}

/**
 * @param {number} rate in Hz
 * @param {(number | Int16Array)[]} parts seconds of silence, or samples
 * @returns {Int16Array}
 */
export function splice(rate, parts) {
  const pieces = parts.map((part) => (typeof part === "number" ? new Int16Array(Math.round(part * rate)) : part));
  const whole = new Int16Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
