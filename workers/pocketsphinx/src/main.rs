//! The pocketsphinx worker: speech to text with libpocketsphinx, American English out of Debian.
//!
//! A decoder takes some 91 MiB and one utterance at a time, so there is a pool of them ([`Lane`]s), each on a thread of its own,
//! leased for an utterance. The first is loaded with the model, the others when they are first needed.

mod decoder;
mod ffi;
mod log;
mod model;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use repartee_worker_shell::protocol::{FinalText, Hello, Job, Load, LoadFailed, ModelInfo, Open, Params, code};
use repartee_worker_shell::{Agreement, Failure, Input, KnownModel, Lane, Loaded, Models, Outlet, Service, Worker};

use crate::decoder::Decoder;
use crate::model::Model;

/// The one rate that the model takes, in Hz.
const RATE: u32 = 16_000;

/// Utterances at once unless the load says otherwise. At a real-time factor of 0.2 that keeps one core busy.
const LANES: u64 = 4;
/// Utterances that may wait for a lane.
const WAITING: u64 = 8;
/// More lanes than this are a mistake: 91 MiB each.
const MOST: u64 = 64;

/// The longest utterance: the decoder's memory grows with it.
const LONGEST: Duration = Duration::from_secs(300);

/// How many samples are decoded before looking whether the utterance is still wanted and what it says: 100 ms.
const STEP: usize = RATE as usize / 10;

/// How much of an utterance is kept back to learn its speaker and channel from before decoding begins: 400 ms. It's decoded faster than
/// it was said, so after a second the words are no later for it. On short commands of a quiet speaker it halves the errors.
const BEGINNING: usize = RATE as usize * 2 / 5;

/// After how many steps the decoder follows its speaker again: each second.
const ADAPT: usize = 10;

/// How many successive hypotheses have to agree on a word. With one each [`STEP`], half a second.
const AGREEING: usize = 5;

/// Partials don't follow on one another faster than this, also when an utterance is replayed faster than real time.
const BETWEEN_PARTIALS: Duration = Duration::from_millis(80);

/// What the engine may send ahead on each stream: 10 s of audio, so that an utterance can be replayed at once.
const CREDIT: u64 = 10 * RATE as u64 * 2;

struct Pocketsphinx;

impl Worker for Pocketsphinx {
    fn hello(&self) -> Hello {
        let mut hello = repartee_worker_shell::hello(
            "pocketsphinx",
            env!("CARGO_PKG_VERSION"),
            "libpocketsphinx 0.8+5prealpha",
            &[Job::Stt],
        );
        hello.formats.push("pocketsphinx".into());
        hello
    }

    fn models(&self, _root: &Models) -> Vec<KnownModel> {
        model::known()
    }

    fn load(&mut self, request: &Load, root: &Models) -> Result<Loaded, LoadFailed> {
        if request.job != Job::Stt {
            let reason = format!("pocketsphinx is for stt, not for {:?}", request.job);
            return Err(LoadFailed::new(code::UNSUPPORTED, reason));
        }
        let model = model::resolve(request, root)?;
        let lanes = number(request, "lanes", LANES)?.max(1);
        let waiting = number(request, "waiting", WAITING)?;
        let mut first = Recogniser::new(model.clone());
        first
            .load()
            .map_err(|reason| LoadFailed::new(code::INTERNAL, reason).about(model.name.clone()))?;
        let began = Instant::now();
        first
            .warm_up()
            .map_err(|reason| LoadFailed::new(code::INTERNAL, reason))?;
        let warmup = began.elapsed();
        let mut pool: Vec<Box<dyn Lane>> = vec![Box::new(first)];
        pool.extend((1..lanes).map(|_| Box::new(Recogniser::new(model.clone())) as Box<dyn Lane>));
        let info = ModelInfo {
            name: model.name,
            rate: RATE,
            languages: vec![model.language],
            max_streams: lanes as u32,
            max_waiting: waiting as u32,
            streaming: true,
            max_input: LONGEST.as_millis() as u32,
            ..ModelInfo::default()
        };
        Ok(Loaded::on_cpu(info, warmup, CREDIT, Service::Lanes(pool)))
    }
}

/// A whole number out of a load's options.
fn number(request: &Load, name: &str, default: u64) -> Result<u64, LoadFailed> {
    let Some(value) = request.options.get(name) else {
        return Ok(default);
    };
    value.as_u64().filter(|number| *number <= MOST).ok_or_else(|| {
        let reason = format!("{name:?} has to be a number of at most {MOST}");
        LoadFailed::new(code::INVALID, reason)
    })
}

/// One decoder with the utterance that it is at.
struct Recogniser {
    model: Model,
    decoder: Option<Decoder>,
    agreement: Agreement,
    partials: bool,
    samples: u64,
    last: (String, u32),
    last_at: Option<Instant>,
    /// What was heard and not decoded yet: less than a [`STEP`], or than [`BEGINNING`] at first.
    pcm: Vec<i16>,
    steps: usize,
}

impl Recogniser {
    fn new(model: Model) -> Self {
        Self {
            model,
            decoder: None,
            agreement: Agreement::of(AGREEING),
            partials: true,
            samples: 0,
            last: (String::new(), 0),
            last_at: None,
            pcm: Vec::new(),
            steps: 0,
        }
    }

    fn load(&mut self) -> Result<&mut Decoder, String> {
        match &mut self.decoder {
            Some(decoder) => Ok(decoder),
            none => Ok(none.insert(Decoder::new(&self.model.options)?)),
        }
    }

    /// Decodes half a second of noise, through all passes, so that the pages of the model are in memory.
    fn warm_up(&mut self) -> Result<(), String> {
        let mut state = 1_u32;
        let noise: Vec<i16> = (0..RATE / 2)
            .map(|_| {
                // The generator of Numerical Recipes; any noise does.
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 21) as i16 - 1024
            })
            .collect();
        let decoder = self.load()?;
        decoder.start(&noise)?;
        decoder.process(&noise)?;
        decoder.finish()?;
        drop(decoder.hypothesis());
        Ok(())
    }

    fn audio(&mut self, audio: &[u8], out: &Outlet) -> Result<(), Failure> {
        self.pcm
            .extend(audio.as_chunks::<2>().0.iter().map(|bytes| i16::from_le_bytes(*bytes)));
        self.samples += audio.len() as u64 / 2;
        if self.samples > LONGEST.as_secs() * u64::from(RATE) {
            let message = format!("an utterance of more than {} s", LONGEST.as_secs());
            return Err(Failure::new(code::TOO_LONG, message));
        }
        if self.steps > 0 || self.pcm.len() >= BEGINNING {
            self.decode(out)?;
        }
        Ok(())
    }

    /// Decodes whole steps. Where they begin depends on the samples alone, so that it makes no difference to the words how the
    /// audio was cut into packets.
    fn decode(&mut self, out: &Outlet) -> Result<(), Failure> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(());
        };
        if self.steps == 0 {
            decoder
                .start(&self.pcm[..self.pcm.len().min(BEGINNING)])
                .map_err(internal)?;
        }
        let whole = self.pcm.len() / STEP * STEP;
        for piece in self.pcm[..whole].chunks(STEP) {
            if out.is_cancelled() {
                return Ok(());
            }
            decoder.process(piece).map_err(internal)?;
            self.steps += 1;
            if self.steps.is_multiple_of(ADAPT) {
                decoder.adapt();
            }
            if !self.partials {
                continue;
            }
            let text = decoder.hypothesis();
            let stable = self.agreement.stable_chars(&text);
            let is_due = self.last_at.is_none_or(|last| last.elapsed() >= BETWEEN_PARTIALS);
            if is_due && (self.last.0 != text || self.last.1 != stable) {
                let heard = self.steps * STEP;
                out.partial(&text, stable, milliseconds(heard as u64));
                self.last = (text, stable);
                self.last_at = Some(Instant::now());
            }
        }
        self.pcm.drain(..whole);
        Ok(())
    }

    /// Decodes the rest and gives the words of the whole utterance.
    fn finish(&mut self, out: &Outlet) -> Result<(), Failure> {
        self.decode(out)?;
        let Some(decoder) = &mut self.decoder else {
            return Ok(());
        };
        decoder.process(&self.pcm).map_err(internal)?;
        decoder.finish().map_err(internal)?;
        let (text, audio_ms) = (decoder.hypothesis(), milliseconds(self.samples));
        out.final_text(FinalText {
            text,
            audio_ms,
            ..FinalText::default()
        });
        Ok(())
    }
}

impl Lane for Recogniser {
    fn open(&mut self, open: &Open, _payload: &Bytes, _out: &Outlet) -> Result<(), Failure> {
        let Params::Stt(params) = &open.params else {
            return Err(internal("not an utterance".to_owned()));
        };
        if let Some(language) = &params.language {
            let base = |tag: &str| tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
            if base(language) != base(&self.model.language) {
                let message = format!("this model hears {}, not {language:?}", self.model.language);
                return Err(Failure::new(code::UNSUPPORTED, message));
            }
        }
        self.partials = params.partials;
        self.load().map(drop).map_err(internal)
    }

    fn input(&mut self, input: Input, out: &Outlet) -> Result<(), Failure> {
        match input {
            Input::Audio(audio) => self.audio(&audio, out),
            Input::Text(_) => Ok(()),
            Input::Finish => self.finish(out),
        }
    }

    fn close(&mut self) {
        if let Some(decoder) = &mut self.decoder {
            decoder.end();
        }
        self.agreement.reset();
        (self.samples, self.steps) = (0, 0);
        self.pcm.clear();
        self.last = (String::new(), 0);
        self.last_at = None;
    }
}

fn internal(message: String) -> Failure {
    Failure::new(code::INTERNAL, message)
}

fn milliseconds(samples: u64) -> u32 {
    u32::try_from(samples * 1000 / u64::from(RATE)).unwrap_or(u32::MAX)
}

fn main() -> ExitCode {
    repartee_worker_shell::main(Pocketsphinx)
}
