/** The conversation as it is written down: what was understood, and the reply as it is spoken. */

import { renderWaterfall } from "./waterfall.js";

/** Turns kept on the page; the oldest go first. */
const MAX_TURNS = 100;
/** Characters spoken in a second until the voice in use has been measured: some 170 words a minute. */
const CHARACTERS_PER_SECOND = 15;
/** Spoken for at least this long (ms), a reply tells the pace of its voice. */
const MEASURE_FROM_MS = 1000;
/** A person who is this near the end (CSS pixels) is following, and is taken along. */
const FOLLOW_WITHIN = 160;

/**
 * @param {string} tag
 * @param {string} className
 * @param {string} [text]
 * @returns {HTMLElement}
 */
function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/**
 * Where in `text` the words of `heard` end. The spoken words may differ from the written ones in spaces only.
 * @param {string} text
 * @param {string} heard
 * @returns {number} characters of `text`
 */
export function heardLength(text, heard) {
  const words = heard.split(/\s+/u).filter(Boolean).length;
  let end = 0;
  const pattern = /\S+/gu;
  for (let count = 0; count < words; count += 1) {
    const match = pattern.exec(text);
    if (!match) return text.length;
    end = match.index + match[0].length;
  }
  return end;
}

/**
 * The end of the word that is being spoken at a character.
 * @param {string} text
 * @param {number} at
 * @returns {number}
 */
export function wordEnd(text, at) {
  if (at <= 0) return 0;
  if (at >= text.length) return text.length;
  const rest = text.slice(at).search(/\s/u);
  return rest < 0 ? text.length : at + rest;
}

/** One reply on the page. */
class Reply {
  text = "";
  done = false;
  /** @type {number | null} where its audio begins among all audio queued, in ms */
  audioFrom = null;
  /** @type {number | null} where its audio ends, once that is known */
  audioTo = null;

  /** @param {HTMLElement} line the paragraph that shows it */
  constructor(line) {
    this.line = line;
    this.heard = element("span", "heard");
    this.pending = element("span", "pending");
    line.append(this.heard, this.pending);
  }

  /** @param {number} length characters heard so far */
  show(length) {
    const heard = this.text.slice(0, length);
    if (this.heard.textContent !== heard) this.heard.textContent = heard;
    const pending = this.text.slice(length);
    if (this.pending.textContent !== pending) this.pending.textContent = pending;
  }
}

/** The log of turns. */
export class Captions {
  #log;
  #announcer;
  #empty;
  /** @type {Map<string, HTMLElement>} turns of this session by id */
  #turns = new Map();
  /** @type {Map<string, Reply>} replies of this session by id */
  #replies = new Map();
  /** @type {HTMLElement | null} the turn at the end of the log */
  #newest = null;
  /** @type {HTMLElement | null} a typed turn whose reply has not started yet */
  #typed = null;
  #pace = CHARACTERS_PER_SECOND;

  /**
   * @param {HTMLElement} log
   * @param {HTMLElement} announcer spoken by screen readers: final words only, not every guess
   * @param {HTMLElement} empty shown while there is no turn
   */
  constructor(log, announcer, empty) {
    this.#log = log;
    this.#announcer = announcer;
    this.#empty = empty;
  }

  /** @param {string} text what a screen reader shall say when it has the time */
  announce(text) {
    this.#announcer.textContent = text;
  }

  /** A new session counts its turns from the start; those on the page stay as they are. */
  beginSession() {
    for (const reply of this.#replies.values()) this.#settle(reply, reply.heard.textContent.length, "connection lost");
    for (const partial of this.#log.querySelectorAll(".partial")) partial.className = "caption final";
    this.#turns.clear();
    this.#replies.clear();
    this.#newest = null;
    this.#typed = null;
  }

  /** @param {{ turn: string, text: string, stable_chars: number, final: boolean }} transcript */
  showTranscript({ turn, text, stable_chars: stable, final }) {
    // A typed turn stands on the page before the server has given it an id.
    if (this.#typed && !this.#turns.has(turn) && this.#caption(this.#typed).textContent === text) {
      this.#turns.set(turn, this.#typed);
      this.#typed = null;
    }
    // A noise that was taken for speech leaves no trace on the page, unless words had stood there already.
    if (!text && !this.#turns.has(turn)) return;
    const caption = this.#caption(this.#turn(turn));
    if (final) {
      caption.className = text ? "caption final" : "caption final nothing";
      caption.textContent = text || "(nothing understood)";
      if (text) this.announce(`You: ${text}`);
    } else {
      // Characters are counted as code points, as the server counts them.
      const characters = [...text];
      caption.className = "caption partial";
      caption.replaceChildren(
        element("span", "stable", characters.slice(0, stable).join("")),
        characters.slice(stable).join(""),
      );
    }
    this.#follow();
  }

  /** @param {string} text what was typed, as a turn whose id is not known yet */
  showTyped(text) {
    this.#typed = this.#append();
    const caption = this.#caption(this.#typed);
    caption.className = "caption final";
    caption.textContent = text;
    this.#follow(true);
  }

  /** @param {{ response: string, turn?: string | null }} event */
  startReply({ response, turn }) {
    const known = turn == null ? undefined : this.#turns.get(turn);
    const article = known ?? this.#typed ?? this.#append();
    if (article === this.#typed) this.#typed = null;
    if (turn != null) this.#turns.set(turn, article);
    const line = element("p", "reply");
    document.getElementById("reply")?.removeAttribute("id");
    line.id = "reply";
    const row = element("div", "row engine");
    row.append(element("span", "who", "Repartee"), line);
    const figure = article.querySelector(".waterfall");
    if (figure) figure.before(row);
    else article.append(row);
    this.#replies.set(response, new Reply(line));
    this.#follow();
  }

  /** @param {{ response: string, delta: string }} event */
  appendReply({ response, delta }) {
    const reply = this.#replies.get(response);
    if (!reply || reply.done) return;
    reply.text += delta;
    reply.show(reply.heard.textContent.length);
    this.#follow();
  }

  /**
   * The audio of a reply begins here.
   * @param {string} response
   * @param {number} atMs among all audio queued
   */
  startAudio(response, atMs) {
    const reply = this.#replies.get(response);
    if (reply) reply.audioFrom = atMs;
  }

  /**
   * The audio of a reply ends here.
   * @param {string} response
   * @param {number} atMs among all audio queued
   */
  finishAudio(response, atMs) {
    const reply = this.#replies.get(response);
    if (reply) reply.audioTo = atMs;
  }

  /**
   * The listener has come so far. Which words that are is worked out from the pace of the voice; the server's word at
   * the end of the reply is the truth.
   * @param {number} positionMs among all audio queued
   */
  advance(positionMs) {
    for (const reply of this.#replies.values()) {
      if (reply.done || reply.audioFrom === null) continue;
      const heardMs = positionMs - reply.audioFrom;
      if (heardMs <= 0) continue;
      reply.show(wordEnd(reply.text, Math.floor((heardMs / 1000) * this.#pace)));
    }
  }

  /** @param {{ response: string, status: string, text: string, heard: string }} event */
  finishReply({ response, status, text, heard }) {
    const reply = this.#replies.get(response);
    if (!reply || reply.done) return;
    reply.text = text;
    const end = status === "completed" ? text.length : heardLength(text, heard);
    this.#measure(reply, end);
    const notes = { interrupted: "interrupted", cancelled: "stopped", failed: "failed" };
    this.#settle(reply, end, notes[/** @type {keyof typeof notes} */ (status)]);
    if (end > 0) this.announce(`Repartee: ${text.slice(0, end)}`);
  }

  /** @param {{ turn: string, response?: string | null, stages: { stage: string, ms: number }[], total_ms: number }} report */
  showReport(report) {
    const reply = report.response == null ? null : this.#replies.get(report.response)?.line.closest("article");
    const article = reply ?? this.#turns.get(report.turn) ?? this.#typed;
    if (!article) return;
    article.querySelector(".waterfall")?.remove();
    article.append(renderWaterfall(report.stages, report.total_ms));
    this.#follow();
  }

  /**
   * @param {Reply} reply
   * @param {number} end characters heard
   */
  #measure(reply, end) {
    if (reply.audioFrom === null || reply.audioTo === null) return;
    const tookMs = reply.audioTo - reply.audioFrom;
    if (tookMs >= MEASURE_FROM_MS && end > 0) this.#pace = (end * 1000) / tookMs;
  }

  /**
   * @param {Reply} reply
   * @param {number} end characters heard
   * @param {string} [note] why it ended before its end
   */
  #settle(reply, end, note) {
    if (reply.done) return;
    reply.done = true;
    reply.show(end);
    reply.line.classList.add("done");
    if (!note) return;
    const unsaid = reply.text.slice(end).trim();
    reply.pending.replaceWith(" ", ...(unsaid ? [element("s", "unsaid", unsaid)] : []), element("span", "note", note));
  }

  /**
   * @param {string} id
   * @returns {HTMLElement}
   */
  #turn(id) {
    const known = this.#turns.get(id);
    if (known) return known;
    const article = this.#append();
    this.#turns.set(id, article);
    return article;
  }

  /** @returns {HTMLElement} */
  #append() {
    const article = element("article", "turn");
    this.#log.append(article);
    this.#newest?.classList.remove("newest");
    article.classList.add("newest");
    this.#newest = article;
    this.#empty.hidden = true;
    while (this.#log.childElementCount > MAX_TURNS) this.#log.firstElementChild?.remove();
    return article;
  }

  /**
   * @param {HTMLElement} article
   * @returns {HTMLElement}
   */
  #caption(article) {
    const known = article.querySelector(".caption");
    if (known) return /** @type {HTMLElement} */ (known);
    const row = element("div", "row person");
    const caption = element("p", "caption");
    row.append(element("span", "who", "You"), caption);
    article.prepend(row);
    return caption;
  }

  /** @param {boolean} [always] even where the person looks at something above */
  #follow(always = false) {
    const page = document.documentElement;
    const below = page.scrollHeight - page.scrollTop - page.clientHeight;
    if (always || below < FOLLOW_WITHIN) page.scrollTop = page.scrollHeight;
  }
}
