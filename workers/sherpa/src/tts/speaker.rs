//! The responses that are being spoken, in turns.
//!
//! The library computes one piece at a time and doesn't batch, so one thread serves all streams: each step speaks one piece of the
//! stream whose listener runs dry first. One who has heard nothing yet is waiting since the text came, and so goes before those
//! who have seconds to play; and a long text only takes the turns that nobody needs more.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{Mark, Params, StreamId, Text, TtsParams, Usage, code};
use repartee_worker_shell::{Batch, Failure, Input, Outlet, Step, Stream};

use super::speech::{Sink, Speech};
use super::synthesiser::Synthesiser;
use super::text::{Piece, pieces};

/// The longest text of one clause in characters. A clause is far shorter.
pub(crate) const LONGEST: usize = 4000;

/// The slowest and the fastest speech that a stream may ask for; beyond, it can't be understood.
const SPEEDS: std::ops::RangeInclusive<f32> = 0.5..=2.0;

/// All responses that are being spoken.
pub(crate) struct Speakers {
    synthesiser: Synthesiser,
    streams: BTreeMap<StreamId, Speaker>,
}

/// One response.
struct Speaker {
    voice: usize,
    speed: f32,
    marks: bool,
    /// The clause that is being spoken, and what is left of it.
    clause: u32,
    text: String,
    pieces: VecDeque<Piece>,
    /// When its listener will have heard all that was sent; before the first audio, when the text came.
    dry: Instant,
    samples: u64,
    compute: Duration,
}

impl Speakers {
    /// Speakers with this model.
    pub(crate) fn new(synthesiser: Synthesiser) -> Self {
        Self {
            synthesiser,
            streams: BTreeMap::new(),
        }
    }

    /// Takes what came on a stream, until there's something to say.
    fn take(&mut self, stream: &mut Stream) {
        while self
            .streams
            .get(&stream.id())
            .is_none_or(|speaker| speaker.pieces.is_empty())
        {
            match stream.next_input() {
                None | Some(Input::Audio(_)) => return,
                Some(Input::Finish) => {
                    let speaker = self.streams.remove(&stream.id());
                    let (samples, compute) = speaker.map_or((0, Duration::ZERO), |it| (it.samples, it.compute));
                    let compute_us = u64::try_from(compute.as_micros()).unwrap_or(u64::MAX);
                    stream.out().done(
                        None,
                        Usage {
                            samples,
                            compute_us,
                            ..Usage::default()
                        },
                    );
                    return;
                }
                Some(Input::Text(text)) => {
                    if let Err(failure) = self.add(stream, text) {
                        self.streams.remove(&stream.id());
                        stream.out().fail(failure);
                        return;
                    }
                }
            }
        }
    }

    fn add(&mut self, stream: &Stream, text: Text) -> Result<(), Failure> {
        if text.text.chars().count() > LONGEST {
            let message = format!("a text of more than {LONGEST} characters");
            return Err(Failure::new(code::TOO_LONG, message));
        }
        let speaker = match self.streams.entry(stream.id()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                let Params::Tts(params) = &stream.open().params else {
                    return Err(Failure::new(code::UNSUPPORTED, "not a response to speak"));
                };
                new.insert(speaker(&self.synthesiser, params)?)
            }
        };
        let now = Instant::now();
        if speaker.samples == 0 || speaker.dry < now {
            speaker.dry = now;
        }
        speaker.pieces = pieces(&text.text, speaker.samples == 0).into();
        speaker.clause = text.clause;
        speaker.text = text.text;
        Ok(())
    }

    /// Speaks one piece of a stream.
    fn speak(&mut self, stream: &Stream) -> Result<(), Failure> {
        let Some(speaker) = self.streams.get_mut(&stream.id()) else {
            return Ok(());
        };
        let Some(piece) = speaker.pieces.pop_front() else {
            return Ok(());
        };
        let began = Instant::now();
        let sink = Out {
            outlet: stream.out().clone(),
            clause: speaker.clause,
            marks: speaker.marks,
        };
        let rate = self.synthesiser.rate();
        let speech = Speech::new(Box::new(sink), &speaker.text, piece.words, rate, speaker.samples);
        let speech = Rc::new(RefCell::new(speech));
        let ears = Rc::clone(&speech);
        let first = Rc::new(RefCell::new(None));
        let heard_at = Rc::clone(&first);
        let spoken = self
            .synthesiser
            .speak(speaker.voice, speaker.speed, &piece.text, move |samples, progress| {
                heard_at.borrow_mut().get_or_insert_with(Instant::now);
                ears.borrow_mut().chunk(samples, progress)
            });
        let sent = speech.borrow().sent();
        speaker.samples += sent;
        speaker.compute += began.elapsed();
        let heard = first.borrow().unwrap_or(began);
        speaker.dry = speaker.dry.max(heard) + Duration::from_micros(sent * 1_000_000 / u64::from(rate.max(1)));
        spoken
    }
}

fn speaker(synthesiser: &Synthesiser, params: &TtsParams) -> Result<Speaker, Failure> {
    let voice = synthesiser
        .voice(params.voice.as_deref(), params.language.as_deref())
        .map_err(|reason| Failure::new(code::UNSUPPORTED, reason))?;
    let speed = params.speed.unwrap_or(synthesiser.speed());
    if !speed.is_finite() {
        return Err(Failure::new(code::INVALID, "the speed is no number"));
    }
    Ok(Speaker {
        voice,
        speed: speed.clamp(*SPEEDS.start(), *SPEEDS.end()),
        marks: params.marks,
        clause: 0,
        text: String::new(),
        pieces: VecDeque::new(),
        dry: Instant::now(),
        samples: 0,
        compute: Duration::ZERO,
    })
}

impl Batch for Speakers {
    fn step(&mut self, streams: &mut [Stream]) -> Step {
        for stream in streams.iter_mut() {
            if stream.is_cancelled() {
                self.streams.remove(&stream.id());
            } else {
                self.take(stream);
            }
        }
        // Who may not send isn't spoken for: what is made would only be held back.
        let next = streams
            .iter()
            .filter(|stream| !stream.is_cancelled() && !stream.out().is_blocked())
            .filter_map(|stream| Some((self.streams.get(&stream.id())?, stream)))
            .filter(|(speaker, _)| !speaker.pieces.is_empty())
            .min_by_key(|(speaker, _)| speaker.dry)
            .map(|(_, stream)| stream);
        let Some(stream) = next else {
            return Step::Wait;
        };
        if let Err(failure) = self.speak(stream) {
            self.streams.remove(&stream.id());
            stream.out().fail(failure);
        }
        Step::Again
    }
}

/// Sends a piece's results.
struct Out {
    outlet: Outlet,
    clause: u32,
    marks: bool,
}

impl Sink for Out {
    fn wants_more(&self) -> bool {
        !self.outlet.is_cancelled()
    }

    fn audio(&self, samples: &[i16]) {
        self.outlet.audio(samples);
    }

    fn marks(&self, words: Vec<Mark>) {
        if self.marks {
            self.outlet.marks(self.clause, words, true);
        }
    }
}
