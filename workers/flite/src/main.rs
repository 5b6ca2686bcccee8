//! The flite worker: text to speech with flite's own voices.
//!
//! flite is so quick (some 75 times as fast as speech) that one thread serves all streams in turns, a clause at a time; and
//! each of its voices exists once in a process, so there's nothing to be won by more.

mod ffi;
mod speech;
mod text;
mod voice;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{
    Hello, Job, Load, LoadFailed, Mark, ModelInfo, Params, StreamId, Text, TtsParams, Usage, Voice as VoiceInfo, code,
};
use repartee_worker_shell::{Batch, Failure, Input, KnownModel, Loaded, Models, Outlet, Service, Step, Stream, Worker};

use crate::speech::{Sink, Speech};
use crate::voice::{KNOWN, Listener, Voice};

/// How many responses may be spoken at once.
const STREAMS: u32 = 64;
/// How many more may wait.
const WAITING: u32 = 64;

/// The longest text of one call in characters. A clause is far shorter.
const LONGEST: usize = 4000;

/// Texts that the engine may send ahead on each stream, in bytes.
const CREDIT: u64 = 32 * 1024;

/// The slowest and the fastest speech; beyond, it can't be understood.
const SPEEDS: std::ops::RangeInclusive<f32> = 0.5..=2.0;

struct Flite;

impl Worker for Flite {
    fn hello(&self) -> Hello {
        repartee_worker_shell::hello("flite", env!("CARGO_PKG_VERSION"), "flite 2.2", &[Job::Tts])
    }

    fn models(&self, _root: &Models) -> Vec<KnownModel> {
        let voices = KNOWN.iter().map(|known| KnownModel {
            id: format!("flite-cmu-us-{}", known.id),
            description: format!("{}, {} Hz", known.description, known.rate),
            problem: None,
        });
        let all = KnownModel {
            id: "flite".into(),
            description: "every voice of flite's".into(),
            problem: None,
        };
        std::iter::once(all).chain(voices).collect()
    }

    fn load(&mut self, request: &Load, _root: &Models) -> Result<Loaded, LoadFailed> {
        let refuse = |code: &str, reason: String| LoadFailed::new(code, reason);
        if request.job != Job::Tts {
            return Err(refuse(
                code::UNSUPPORTED,
                format!("flite is for tts, not for {:?}", request.job),
            ));
        }
        let wanted = match request.options.get("voice").map(|voice| voice.as_str()) {
            None => request.model.strip_prefix("flite-").unwrap_or(KNOWN[0].id),
            Some(Some(voice)) => voice,
            Some(None) => return Err(refuse(code::INVALID, "the option \"voice\" has to be a string".into())),
        };
        if request.model != "flite" && !request.model.starts_with("flite-") {
            let reason = format!(
                "flite has no model {:?}; its models are flite and flite-cmu-us-VOICE",
                request.model
            );
            return Err(refuse(code::MISSING, reason));
        }
        let default = find(wanted).ok_or_else(|| refuse(code::MISSING, no_such_voice(wanted)))?;
        let mut voices = Vec::new();
        for known in &KNOWN {
            let voice = Voice::new(known);
            voices
                .push(voice.ok_or_else(|| refuse(code::INTERNAL, format!("flite can't make its voice {}", known.id)))?);
        }
        let began = Instant::now();
        let mut silent = Silent(0);
        voices[default].speak("Ready.", 1.0, &mut silent);
        if silent.0 == 0 {
            return Err(refuse(code::INTERNAL, "flite said nothing".into()));
        }
        let warmup = began.elapsed();
        let mut infos: Vec<VoiceInfo> = KNOWN.iter().map(info).collect();
        infos[..=default].rotate_right(1);
        let model = ModelInfo {
            name: request.model.clone(),
            rate: KNOWN[default].rate,
            languages: vec!["en-US".into()],
            voices: infos,
            max_streams: STREAMS,
            max_waiting: WAITING,
            streaming: true,
            max_input: LONGEST as u32,
            ..ModelInfo::default()
        };
        let service = Service::Batch(Box::new(Speakers {
            voices,
            default,
            streams: BTreeMap::new(),
        }));
        Ok(Loaded::on_cpu(model, warmup, CREDIT, service))
    }
}

fn info(known: &voice::Known) -> VoiceInfo {
    VoiceInfo {
        id: known.id.into(),
        languages: vec![if known.id == "awb" { "en-GB" } else { "en-US" }.into()],
        rate: known.rate,
        description: known.description.into(),
    }
}

/// Which of the voices is meant, by its short name, by flite's own (`cmu_us_rms`) or by the catalogue's (`cmu-us-rms`).
fn find(name: &str) -> Option<usize> {
    let short = name
        .strip_prefix("cmu_us_")
        .or_else(|| name.strip_prefix("cmu-us-"))
        .unwrap_or(name);
    KNOWN.iter().position(|known| known.id == short)
}

fn no_such_voice(name: &str) -> String {
    let names: Vec<&str> = KNOWN.iter().map(|known| known.id).collect();
    format!("flite has no voice {name:?}; there are {}", names.join(", "))
}

/// Counts what it hears.
struct Silent(usize);

impl Listener for Silent {
    fn words(&mut self, _words: Vec<text::Timed>, _samples: usize) {}

    fn audio(&mut self, samples: &[i16]) -> bool {
        self.0 += samples.len();
        true
    }
}

/// All voices, and the responses that are being spoken.
struct Speakers {
    voices: Vec<Voice>,
    default: usize,
    streams: BTreeMap<StreamId, Speaker>,
}

#[derive(Default)]
struct Speaker {
    samples: u64,
    compute: Duration,
}

impl Batch for Speakers {
    fn step(&mut self, streams: &mut [Stream]) -> Step {
        let mut next = Step::Wait;
        for stream in streams {
            if stream.is_cancelled() {
                self.streams.remove(&stream.id());
                continue;
            }
            // One clause of each stream in turn: nobody waits for more than a clause of everybody else.
            match stream.next_input() {
                None | Some(Input::Audio(_)) => {}
                Some(Input::Finish) => {
                    let Speaker { samples, compute } = self.streams.remove(&stream.id()).unwrap_or_default();
                    let compute_us = u64::try_from(compute.as_micros()).unwrap_or(u64::MAX);
                    stream.out().done(
                        None,
                        Usage {
                            samples,
                            compute_us,
                            ..Usage::default()
                        },
                    );
                }
                Some(Input::Text(text)) => {
                    next = Step::Again;
                    if let Err(failure) = self.speak(stream, &text) {
                        self.streams.remove(&stream.id());
                        stream.out().fail(failure);
                    }
                }
            }
        }
        next
    }
}

impl Speakers {
    fn speak(&mut self, stream: &Stream, text: &Text) -> Result<(), Failure> {
        let Params::Tts(params) = &stream.open().params else {
            return Err(Failure::new(code::UNSUPPORTED, "not a response to speak"));
        };
        let voice = match &params.voice {
            None => self.default,
            Some(name) => find(name).ok_or_else(|| Failure::new(code::UNSUPPORTED, no_such_voice(name)))?,
        };
        check(params, text)?;
        let speed = params.speed.unwrap_or(1.0).clamp(*SPEEDS.start(), *SPEEDS.end());
        let began = Instant::now();
        let speaker = self.streams.entry(stream.id()).or_default();
        let out = Out {
            outlet: stream.out(),
            clause: text.clause,
            marks: params.marks,
        };
        for piece in text::pieces(&text.text) {
            if stream.is_cancelled() {
                break;
            }
            let mut speech = Speech::new(&out, &text.text, &piece, KNOWN[voice].rate, speaker.samples);
            self.voices[voice].speak(&piece.text, speed, &mut speech);
            speaker.samples += speech.end();
        }
        speaker.compute += began.elapsed();
        Ok(())
    }
}

fn check(params: &TtsParams, text: &Text) -> Result<(), Failure> {
    if text.text.chars().count() > LONGEST {
        return Err(Failure::new(
            code::TOO_LONG,
            format!("a text of more than {LONGEST} characters"),
        ));
    }
    match &params.language {
        Some(language) if !language.to_ascii_lowercase().starts_with("en") => Err(Failure::new(
            code::UNSUPPORTED,
            format!("flite speaks English, not {language:?}"),
        )),
        _ if params.speed.is_some_and(|speed| !speed.is_finite()) => {
            Err(Failure::new(code::INVALID, "the speed is no number"))
        }
        _ => Ok(()),
    }
}

/// Sends a clause's results.
struct Out<'a> {
    outlet: &'a Outlet,
    clause: u32,
    marks: bool,
}

impl Sink for Out<'_> {
    fn wants_more(&self) -> bool {
        !self.outlet.is_cancelled()
    }

    fn audio(&self, samples: &[i16]) {
        self.outlet.audio(samples);
    }

    fn marks(&self, words: Vec<Mark>, estimated: bool) {
        if self.marks {
            self.outlet.marks(self.clause, words, estimated);
        }
    }
}

fn main() -> ExitCode {
    repartee_worker_shell::main(Flite)
}
