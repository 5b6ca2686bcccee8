/** Where the time of a turn went: one stacked bar, with the milliseconds of each stage and of the whole. */

/** What the stages are called, in the order in which they happen. */
const STAGES = new Map([
  ["endpointing", "End of turn"],
  ["stt_final", "Final words"],
  ["llm_first_token", "First token"],
  ["first_sentence", "First sentence"],
  ["tts_first_audio", "Voice"],
  ["send", "Send"],
]);

/** A bar never stands for less than this (ms), so that quick turns look quick. */
const SHORTEST_SCALE_MS = 1000;

/**
 * @param {number} ms
 * @returns {string}
 */
export function formatMs(ms) {
  if (ms > 0 && ms < 1) return "<1 ms";
  return `${Math.round(ms)} ms`;
}

/**
 * @param {{ stage: string, ms: number }[]} stages
 * @param {number} totalMs
 * @returns {HTMLElement}
 */
export function renderWaterfall(stages, totalMs) {
  const figure = document.createElement("figure");
  figure.className = "waterfall";
  figure.dataset.totalMs = String(totalMs);
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.setAttribute("aria-hidden", "true");
  const legend = document.createElement("dl");
  const scale = Math.max(SHORTEST_SCALE_MS, totalMs);
  for (const { stage, ms } of stages) {
    // A typed turn has no end of speech, work done ahead of time takes none.
    if (ms === 0) continue;
    const key = STAGES.has(stage) ? stage : "other";
    const part = document.createElement("span");
    part.className = `part stage-${key}`;
    part.style.width = `${(100 * ms) / scale}%`;
    bar.append(part);
    legend.append(entry(STAGES.get(stage) ?? stage.replaceAll("_", " "), formatMs(ms), `stage-${key}`));
  }
  legend.append(entry("Total", formatMs(totalMs), "total"));
  figure.append(bar, legend);
  return figure;
}

/**
 * @param {string} name
 * @param {string} value
 * @param {string} className
 * @returns {HTMLElement}
 */
function entry(name, value, className) {
  const group = document.createElement("div");
  group.className = className;
  const term = document.createElement("dt");
  term.textContent = name;
  const detail = document.createElement("dd");
  detail.textContent = value;
  group.append(term, detail);
  return group;
}
