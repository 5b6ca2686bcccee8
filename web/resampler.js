/**
 * Band-limited resampling of a stream, small enough to run in an audio worklet.
 *
 * Every output sample is the input convolved with a Kaiser-windowed sinc whose cut-off lies below the lower of the two
 * Nyquist frequencies (J. O. Smith, "Digital Audio Resampling", CCRMA). The kernel is tabulated at `PHASES` fractional
 * positions and interpolated linearly between them, so any pair of rates works, 44.1 kHz to 16 kHz too.
 * Nothing is allocated after construction.
 */

/** Zero crossings of the sinc on each side; with the window below, the transition is a fifth of the lower Nyquist frequency. */
const ZERO_CROSSINGS = 24;
/** Cut-off, the middle of that transition, as a share of the lower Nyquist frequency: 16 kHz passes up to 6.5 kHz. */
const CUTOFF = 0.92;
/** Shape of the Kaiser window: 8 keeps the stop band some 80 dB down, below the noise of 16-bit samples in speech. */
const KAISER_BETA = 8;
/** Tabulated fractional positions; with linear interpolation the error is below −90 dB. */
const PHASES = 256;
/** The longest block that one call takes, in samples; longer ones are worked off in parts. */
const BLOCK = 1024;

/**
 * The modified Bessel function of the first kind and order zero, by its power series.
 * @param {number} x
 * @returns {number}
 */
function besselI0(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > sum * 1e-12; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/** A resampler for one mono stream; it keeps what it needs of the past between calls. */
export class Resampler {
  /**
   * @param {number} inputRate in Hz
   * @param {number} outputRate in Hz
   */
  constructor(inputRate, outputRate) {
    /** Input samples per output sample. */
    this.step = inputRate / outputRate;
    const stretch = Math.max(1, this.step);
    /** Input samples on each side of an output sample that shape it. */
    this.half = Math.ceil(ZERO_CROSSINGS * stretch);
    this.taps = 2 * this.half;
    this.table = Resampler.#kernel(this.half, CUTOFF / stretch);
    this.buffer = new Float32Array(this.taps + BLOCK + 1);
    // Silence stands before the first sample, so that the first output sample lies exactly on the first input sample.
    this.filled = this.half - 1;
    /** Where the next output sample's taps begin in the buffer; its fraction is the phase. */
    this.position = 0;
  }

  /** Forgets the past, as before the first sample. */
  reset() {
    this.buffer.fill(0);
    this.filled = this.half - 1;
    this.position = 0;
  }

  /**
   * How many output samples `count` input samples give at the most.
   * @param {number} count
   * @returns {number}
   */
  capacity(count) {
    return Math.ceil(count / this.step) + 1;
  }

  /**
   * Takes input and writes what it gives.
   * @param {Float32Array} input
   * @param {Float32Array} output with room for at least `capacity(input.length)` samples
   * @returns {number} samples written
   */
  process(input, output) {
    let written = 0;
    for (let start = 0; start < input.length; start += BLOCK) {
      const part = input.length - start > BLOCK ? input.subarray(start, start + BLOCK) : input.subarray(start);
      this.buffer.set(part, this.filled);
      this.filled += part.length;
      written = this.#drain(output, written);
    }
    return written;
  }

  /**
   * @param {Float32Array} output
   * @param {number} written
   * @returns {number}
   */
  #drain(output, written) {
    const { taps, table, buffer } = this;
    while (Math.floor(this.position) + taps <= this.filled) {
      const first = Math.floor(this.position);
      const phase = (this.position - first) * PHASES;
      const row = Math.floor(phase);
      const blend = phase - row;
      const here = row * taps;
      const next = here + taps;
      let sum = 0;
      for (let tap = 0; tap < taps; tap += 1) {
        sum += buffer[first + tap] * (table[here + tap] + blend * (table[next + tap] - table[here + tap]));
      }
      output[written] = sum;
      written += 1;
      this.position += this.step;
    }
    // What lies before the next output sample's taps is not needed any more.
    const drop = Math.min(Math.floor(this.position), this.filled);
    buffer.copyWithin(0, drop, this.filled);
    this.filled -= drop;
    this.position -= drop;
    return written;
  }

  /**
   * The kernel at `PHASES + 1` fractional positions, one row of taps each; every row sums to one, so that a constant
   * stays what it is.
   * @param {number} half taps on each side
   * @param {number} cutoff as a share of the input's Nyquist frequency
   * @returns {Float32Array}
   */
  static #kernel(half, cutoff) {
    const taps = 2 * half;
    const table = new Float32Array((PHASES + 1) * taps);
    const scale = besselI0(KAISER_BETA);
    for (let phase = 0; phase <= PHASES; phase += 1) {
      const row = table.subarray(phase * taps, (phase + 1) * taps);
      let sum = 0;
      for (let tap = 0; tap < taps; tap += 1) {
        const distance = tap - (half - 1) - phase / PHASES;
        const reach = distance / half;
        const window = Math.abs(reach) >= 1 ? 0 : besselI0(KAISER_BETA * Math.sqrt(1 - reach * reach)) / scale;
        const angle = Math.PI * cutoff * distance;
        row[tap] = window * (angle === 0 ? 1 : Math.sin(angle) / angle);
        sum += row[tap];
      }
      for (let tap = 0; tap < taps; tap += 1) row[tap] /= sum;
    }
    return table;
  }
}
