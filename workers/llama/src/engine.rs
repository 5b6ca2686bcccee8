//! All live streams in one context: each step of the library takes in a token of every answer and a piece of every prompt.

use std::collections::BTreeMap;
use std::time::Instant;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use repartee_worker_shell::protocol::{Chat, Params, StreamId, code};
use repartee_worker_shell::{Batch, Failure, Outlet, Step, Stream};

use crate::answer::Answer;
use crate::common::Parser;
use crate::conversation::{MARKER, Style};
use crate::pictures::{self, Eyes, Picture};
use crate::sampler::{Candidates, Defaults, Sampler};
use crate::slots::{Cell, Slots, Taken};
use crate::stream::Live;
use crate::vocabulary::Vocabulary;

/// The most stop strings of a stream, and the longest, in bytes. Each is looked for in each piece of text.
const MOST_STOPS: usize = 32;
const LONGEST_STOP: usize = 256;

/// How much is computed at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many tokens one conversation may have.
    pub(crate) context: usize,
    /// The most tokens of one step.
    pub(crate) batch: usize,
    /// The most tokens of prompts in a step that others wait for.
    pub(crate) prompt_chunk: usize,
}

/// The loaded model, and who is being answered.
pub(crate) struct Engine {
    pub(crate) context: LlamaContext<'static>,
    pub(crate) model: &'static LlamaModel,
    pub(crate) batch: LlamaBatch<'static>,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) style: Style,
    pub(crate) defaults: Defaults,
    pub(crate) slots: Slots,
    pub(crate) candidates: Candidates,
    pub(crate) eyes: Option<Eyes>,
    pub(crate) limits: Limits,
    pub(crate) live: BTreeMap<StreamId, Live>,
    /// Steps made so far.
    pub(crate) steps: u64,
}

/// A stream's part of a step.
struct Share {
    stream: StreamId,
    slot: usize,
    /// Where its cells begin in its sequence.
    start: usize,
    cells: Vec<Cell>,
    /// Whether what follows the last of them is asked for.
    asks: bool,
}

impl Batch for Engine {
    fn step(&mut self, streams: &mut [Stream]) -> Step {
        for stream in streams.iter_mut() {
            if stream.is_cancelled() {
                self.forget(stream.id());
                continue;
            }
            // All that a chat is came with its opening.
            while stream.next_input().is_some() {}
            if !self.live.contains_key(&stream.id()) {
                match self.admit(stream) {
                    Ok(live) => {
                        self.live.insert(stream.id(), live);
                    }
                    Err(failure) => stream.out().fail(failure),
                }
            }
        }
        let outlets: BTreeMap<StreamId, &Outlet> = streams
            .iter()
            .filter(|stream| self.live.contains_key(&stream.id()))
            .map(|stream| (stream.id(), stream.out()))
            .collect();
        let shares = self.shares(&outlets);
        if !shares.is_empty() {
            self.make_room(shares.iter().map(|share| self.need(share)).sum());
            self.run(&shares, &outlets);
        }
        let more = outlets
            .iter()
            .any(|(stream, out)| self.live.contains_key(stream) && !out.is_blocked());
        if more { Step::Again } else { Step::Wait }
    }
}

impl Engine {
    /// Takes a new stream.
    fn admit(&mut self, stream: &Stream) -> Result<Live, Failure> {
        let Params::Llm(params) = &stream.open().params else {
            return Err(Failure::new(code::UNSUPPORTED, "not a chat to answer"));
        };
        // What is wrong with it isn't told in serde's words, which would quote it.
        let chat: Chat = serde_json::from_slice(stream.payload()).map_err(|error| {
            Failure::new(
                code::INVALID,
                format!("the chat can't be read, at column {}", error.column()),
            )
        })?;
        if params.stop.len() > MOST_STOPS || params.stop.iter().any(|stop| stop.len() > LONGEST_STOP) {
            let message = format!("more than {MOST_STOPS} stop strings, or one of more than {LONGEST_STOP} bytes");
            return Err(Failure::new(code::TOO_LONG, message));
        }
        let task = self.style.task(&chat, params)?;
        let (prompt, pictures) = self.prompt(&chat, &task.prepared.prompt)?;
        if prompt.len() >= self.limits.context {
            let message = format!(
                "the prompt has {} tokens, and the context has room for {} with an answer",
                prompt.len(),
                self.limits.context - 1
            );
            return Err(Failure::new(code::TOO_LONG, message));
        }
        let sampler = Sampler::new(
            self.model,
            params,
            &self.defaults,
            &task.prepared,
            task.grammar_holds_prompt,
        )?;
        let parser = if task.parse {
            let parser = Parser::new(&task.prepared);
            Some(parser.map_err(|reason| Failure::new(code::INTERNAL, format!("no parser for the answer: {reason}")))?)
        } else {
            None
        };
        let stops = params.stop.iter().chain(&task.prepared.stops).cloned().collect();
        let preserved = task
            .prepared
            .preserved
            .iter()
            .filter_map(|text| self.one_token(text))
            .collect();
        let taken = self
            .slots
            .take(params.cache_key.as_deref(), &prompt)
            .ok_or_else(|| Failure::new(code::INTERNAL, "every sequence of the cache is taken"))?;
        let cached = self.reuse(taken, &prompt, &pictures);
        Ok(Live {
            slot: taken.slot,
            prompt,
            pictures,
            last: None,
            sampler,
            answer: Answer::new(stops, parser),
            preserved,
            most: if params.max_tokens == 0 {
                u32::MAX
            } else {
                params.max_tokens
            },
            cached,
            made: 0,
            compute: std::time::Duration::ZERO,
            since: self.steps,
        })
    }

    /// What the prompt puts into the cache, and the pictures in it.
    fn prompt(&self, chat: &Chat, text: &str) -> Result<(Vec<Cell>, Vec<Picture>), Failure> {
        let images = pictures::of(chat, self.eyes.as_ref())?;
        let mut prompt: Vec<Cell> = Vec::new();
        let mut pictures = Vec::new();
        let mut pieces = text.split(MARKER);
        let mut piece = pieces.next().unwrap_or_default();
        for (number, image) in images.iter().enumerate() {
            let lacks = || Failure::new(code::UNSUPPORTED, "the chat template leaves out a picture");
            prompt.extend(self.cells(piece, number == 0)?);
            piece = pieces.next().ok_or_else(lacks)?;
            if let Some(eyes) = &self.eyes {
                let (picture, cells) = eyes.look(image, prompt.len())?;
                prompt.extend(cells);
                pictures.push(picture);
            }
        }
        prompt.extend(self.cells(piece, images.is_empty())?);
        match prompt.last() {
            Some(last) if *last >= 0 => Ok((prompt, pictures)),
            _ => Err(Failure::new(code::INVALID, "a chat without any text")),
        }
    }

    fn cells(&self, text: &str, whole: bool) -> Result<Vec<Cell>, Failure> {
        let tokens = self.vocabulary.tokens(self.model, text, whole)?;
        Ok(tokens.into_iter().map(|token| token.0).collect())
    }

    /// The token whose text this is.
    fn one_token(&self, text: &str) -> Option<LlamaToken> {
        match self.vocabulary.tokens(self.model, text, false).ok()?.as_slice() {
            [token] => Some(*token),
            _ => None,
        }
    }

    /// Leaves in a sequence what the prompt begins with, and adds what another one has of it. Gives how much of the prompt is there.
    fn reuse(&mut self, taken: Taken, prompt: &[Cell], pictures: &[Picture]) -> usize {
        // A picture is there as a whole, or not.
        let whole = |length: usize| {
            let broken = pictures
                .iter()
                .find(|picture| (picture.start + 1..picture.start + picture.length).contains(&length));
            broken.map_or(length, |picture| picture.start)
        };
        let own = self.cut(taken.slot, whole(taken.own));
        let Some((other, length)) = taken.other else {
            return own;
        };
        let length = whole(length);
        // A state that isn't made of cells is that of a sequence's end, and can't be had for its beginning.
        if length <= own || self.model.is_recurrent() || self.model.is_hybrid() {
            return own;
        }
        let (from, to) = (sequence(other), sequence(taken.slot));
        let copied = self
            .context
            .copy_kv_cache_seq(from, to, Some(u32_of(own)), Some(u32_of(length)));
        if copied.is_err() {
            return own;
        }
        self.slots.extend(taken.slot, &prompt[own..length]);
        length
    }

    /// Leaves only the first `length` cells of a sequence, or none where its model can't do that. Gives how many are left.
    fn cut(&mut self, slot: usize, length: usize) -> usize {
        if length == self.slots.cells(slot).len() {
            return length;
        }
        let (sequence, place) = (u32_of(slot), u32_of(length));
        if length > 0 && self.context.clear_kv_cache_seq(Some(sequence), Some(place), None) == Ok(true) {
            self.slots.truncate(slot, length);
            return length;
        }
        self.empty(slot);
        0
    }

    /// Takes everything out of a sequence, which is always possible.
    fn empty(&mut self, slot: usize) {
        let _ = self.context.clear_kv_cache_seq(Some(u32_of(slot)), None, None);
        self.slots.truncate(slot, 0);
    }

    /// Gives up conversations that rest, so that `more` cells fit.
    fn make_room(&mut self, more: usize) {
        while let Some(slot) = self.slots.victim(more) {
            self.empty(slot);
            self.slots.clear(slot);
        }
    }

    /// A stream is over. What its sequence holds is kept for the next turn.
    fn forget(&mut self, stream: StreamId) {
        if let Some(live) = self.live.remove(&stream) {
            self.slots.release(live.slot);
        }
    }

    /// Every stream's part of the next step: a token of each answer that may be sent, and with what is left of the step, a piece of each
    /// prompt, as large for all.
    fn shares(&self, outlets: &BTreeMap<StreamId, &Outlet>) -> Vec<Share> {
        let mut shares = Vec::new();
        let mut prompts = Vec::new();
        for (stream, out) in outlets {
            let Some(live) = self.live.get(stream) else {
                continue;
            };
            let start = self.slots.cells(live.slot).len();
            match live.last {
                None => prompts.push((*stream, live, start)),
                Some(_) if out.is_blocked() => {}
                Some(last) => shares.push(Share {
                    stream: *stream,
                    slot: live.slot,
                    start,
                    cells: vec![last.0],
                    asks: true,
                }),
            }
        }
        let most = if shares.is_empty() {
            self.limits.batch
        } else {
            self.limits.prompt_chunk.min(self.limits.batch - shares.len())
        };
        let each = (most / prompts.len().max(1)).max(1);
        for (stream, live, start) in prompts {
            // A picture has a step of its own: see `run`.
            let cells = live.piece(start, each).to_vec();
            let asks = start + cells.len() == live.prompt.len();
            shares.push(Share {
                stream,
                slot: live.slot,
                start,
                cells,
                asks,
            });
        }
        shares
    }

    /// How many cells a share adds.
    fn need(&self, share: &Share) -> usize {
        let picture = || {
            self.live
                .get(&share.stream)?
                .picture(share.start)
                .map(|picture| picture.length)
        };
        if share.cells.is_empty() {
            picture().unwrap_or(0)
        } else {
            share.cells.len()
        }
    }

    /// Computes a step. Where the library fails, each stream is tried alone, so that only those fail that can't be computed.
    fn run(&mut self, shares: &[Share], outlets: &BTreeMap<StreamId, &Outlet>) {
        let began = Instant::now();
        let (texts, seen): (Vec<&Share>, Vec<&Share>) = shares.iter().partition(|share| !share.cells.is_empty());
        for share in seen {
            if let Err(failure) = self.show(share) {
                self.fail(share, failure, outlets);
            }
        }
        if !texts.is_empty()
            && let Err(error) = self.decode(&texts)
        {
            for share in &texts {
                self.repair(share);
            }
            if let [share] = texts.as_slice() {
                let message = format!("llama.cpp can't decode {} tokens: {error}", share.cells.len());
                self.fail(share, Failure::new(code::INTERNAL, message), outlets);
            } else {
                for share in texts {
                    self.run(std::slice::from_ref(share), outlets);
                }
            }
            return;
        }
        // Outputs are numbered by the place of their token in the step.
        let mut index = 0;
        for share in &texts {
            index += i32::try_from(share.cells.len()).unwrap_or(i32::MAX);
            self.slots.extend(share.slot, &share.cells);
            if share.asks
                && let Some(out) = outlets.get(&share.stream)
            {
                self.answer(share.stream, index - 1, out);
            }
        }
        let each = began.elapsed() / u32::try_from(shares.len()).unwrap_or(1).max(1);
        for share in shares {
            if let Some(live) = self.live.get_mut(&share.stream) {
                live.compute += each;
            }
        }
    }

    fn decode(&mut self, shares: &[&Share]) -> Result<(), String> {
        self.batch.clear();
        for share in shares {
            for (number, cell) in share.cells.iter().enumerate() {
                let place = i32::try_from(share.start + number).map_err(|error| error.to_string())?;
                let asks = share.asks && number + 1 == share.cells.len();
                self.batch
                    .add(LlamaToken(*cell), place, &[sequence(share.slot)], asks)
                    .map_err(|error| error.to_string())?;
            }
        }
        self.steps += 1;
        self.context.decode(&mut self.batch).map_err(|error| error.to_string())
    }

    /// Takes away what a step that failed may have left in a sequence.
    fn repair(&mut self, share: &Share) {
        let _ = self
            .context
            .clear_kv_cache_seq(Some(u32_of(share.slot)), Some(u32_of(share.start)), None);
    }

    /// Puts the picture at which a stream has arrived into its sequence. It's computed alone.
    fn show(&mut self, share: &Share) -> Result<(), Failure> {
        let missing = || Failure::new(code::INTERNAL, "a prompt without an end");
        let live = self.live.get(&share.stream).ok_or_else(missing)?;
        let picture = live.picture(share.start).ok_or_else(missing)?;
        let eyes = self.eyes.as_mut().ok_or_else(missing)?;
        let batch = i32::try_from(self.limits.batch).unwrap_or(i32::MAX);
        eyes.show(picture, &mut self.context, sequence(share.slot), batch)?;
        let end = share.start + picture.length;
        self.slots.extend(share.slot, &live.prompt[share.start..end]);
        Ok(())
    }

    fn fail(&mut self, share: &Share, failure: Failure, outlets: &BTreeMap<StreamId, &Outlet>) {
        // Whatever lies in its sequence now, nobody relies on it.
        self.empty(share.slot);
        self.slots.clear(share.slot);
        self.forget(share.stream);
        if let Some(out) = outlets.get(&share.stream) {
            out.fail(failure);
        }
    }

    /// Chooses the next token of an answer and sends what it says.
    fn answer(&mut self, stream: StreamId, index: i32, out: &Outlet) {
        let Some(live) = self.live.get_mut(&stream) else {
            return;
        };
        let token = match live.sampler.next(&self.context, index, &mut self.candidates) {
            Ok(token) => token,
            Err(failure) => {
                self.forget(stream);
                return out.fail(failure);
            }
        };
        let vocabulary = self.model.vocab();
        if vocabulary.is_eog(token) {
            return self.finish(stream, "stop", false, out);
        }
        live.made += 1;
        let bytes = vocabulary.token_to_piece(token, live.preserved.contains(&token), None);
        if live.answer.push(&bytes, out) {
            return self.finish(stream, "stop", true, out);
        }
        if live.made >= live.most || self.slots.cells(live.slot).len() >= self.limits.context {
            return self.finish(stream, "length", false, out);
        }
        live.last = Some(token);
    }

    fn finish(&mut self, stream: StreamId, reason: &str, stopped: bool, out: &Outlet) {
        let Some(live) = self.live.get_mut(&stream) else {
            return;
        };
        match live.answer.finish(stream, stopped, reason == "stop", out) {
            Ok(0) => out.done(Some(reason), live.usage(self.steps)),
            Ok(_) => out.done(Some("tool_calls"), live.usage(self.steps)),
            Err(failure) => out.fail(failure),
        }
        self.forget(stream);
    }
}

/// The library's number of a sequence.
fn sequence(slot: usize) -> i32 {
    i32::try_from(slot).expect("there are at most 256 sequences")
}

fn u32_of(number: usize) -> u32 {
    u32::try_from(number).expect("a context has far fewer places")
}
