//! A worker without a library: it writes down how much it heard and speaks a tone. Tests of the link and of the supervisor use it, and
//! its source is the shortest example of a worker.
//!
//! It misbehaves when asked to: a load with the option `fail`, or a stream with the hint (STT) or text (TTS) `abort`, `panic`, `hang` or
//! `fail`.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use repartee_worker_shell::protocol::{
    FinalText, Hello, Job, Load, LoadFailed, Mark, ModelInfo, Open, Params, Voice, code,
};
use repartee_worker_shell::{
    Batch, Failure, Input, KnownModel, Lane, Loaded, Models, Outlet, Service, Step, Stream, Worker,
};

/// The rate of everything here, in Hz.
const RATE: u32 = 16_000;

/// The fake library.
struct Fake;

/// Misbehaves as asked.
fn obey(wish: &str) -> Result<(), Failure> {
    match wish {
        "abort" => std::process::abort(),
        "panic" => panic!("as asked"),
        "hang" => std::thread::sleep(Duration::from_secs(3600)),
        "fail" => return Err(Failure::new(code::INTERNAL, "as asked")),
        _ => {}
    }
    Ok(())
}

impl Worker for Fake {
    fn hello(&self) -> Hello {
        repartee_worker_shell::hello(
            "fake",
            env!("CARGO_PKG_VERSION"),
            "no library",
            &[Job::Stt, Job::Tts, Job::Llm],
        )
    }

    fn models(&self, _root: &Models) -> Vec<KnownModel> {
        vec![KnownModel {
            id: "fake".into(),
            description: "counts and beeps".into(),
            problem: None,
        }]
    }

    fn load(&mut self, request: &Load, _root: &Models) -> Result<Loaded, LoadFailed> {
        let number = |name: &str, default: u64| {
            request
                .options
                .get(name)
                .and_then(|value| value.as_u64())
                .unwrap_or(default)
        };
        if request.options.contains_key("fail") {
            eprintln!("the fake library says why it fails");
            let reason = "as asked; install the package fake-model".to_owned();
            return Err(LoadFailed::new(code::MISSING, reason).about("fake-model"));
        }
        std::thread::sleep(Duration::from_millis(number("load_ms", 0)));
        let lanes = number("lanes", 2) as u32;
        let service = match request.job {
            Job::Stt => Service::Lanes((0..lanes).map(|_| Box::new(Ear::default()) as Box<dyn Lane>).collect()),
            _ => Service::Batch(Box::new(Mouth)),
        };
        let model = ModelInfo {
            name: "fake".into(),
            rate: RATE,
            languages: vec!["en-US".into()],
            voices: vec![Voice {
                id: "beep".into(),
                rate: RATE,
                ..Voice::default()
            }],
            max_streams: if request.job == Job::Stt { lanes } else { 64 },
            max_waiting: number("waiting", 1) as u32,
            streaming: true,
            ..ModelInfo::default()
        };
        let stream_credit = number("stream_credit", 320_000);
        Ok(Loaded::on_cpu(model, Duration::from_millis(1), stream_credit, service))
    }
}

/// "Writes down" how many samples it heard: a partial for each piece of audio.
#[derive(Default)]
struct Ear {
    samples: usize,
    wish: String,
}

impl Lane for Ear {
    fn open(&mut self, open: &Open, _payload: &Bytes, _out: &Outlet) -> Result<(), Failure> {
        if let Params::Stt(params) = &open.params {
            self.wish = params.hints.first().cloned().unwrap_or_default();
        }
        Ok(())
    }

    fn input(&mut self, input: Input, out: &Outlet) -> Result<(), Failure> {
        match input {
            Input::Audio(audio) => {
                obey(&self.wish)?;
                self.samples += audio.len() / 2;
                let milliseconds = (self.samples * 1000 / RATE as usize) as u32;
                out.partial(&format!("heard {}", self.samples), 5, milliseconds);
            }
            Input::Finish => out.final_text(FinalText {
                text: format!("heard {} samples", self.samples),
                ..FinalText::default()
            }),
            Input::Text(_) => {}
        }
        Ok(())
    }

    fn close(&mut self) {
        self.samples = 0;
    }
}

/// "Speaks" 50 ms of a tone for each character, and completes a chat by spelling the text of its opening.
struct Mouth;

impl Batch for Mouth {
    fn step(&mut self, streams: &mut [Stream]) -> Step {
        for stream in streams {
            if let (Params::Llm(_), false) = (&stream.open().params, stream.is_cancelled()) {
                for letter in String::from_utf8_lossy(stream.payload()).chars() {
                    stream.out().token(&letter.to_string());
                }
                stream.out().done(Some("stop"), Default::default());
                continue;
            }
            while let Some(input) = stream.next_input() {
                let result = match input {
                    Input::Text(text) => obey(&text.text).map(|()| speak(&text.text, text.clause, stream.out())),
                    Input::Finish => {
                        stream.out().done(None, Default::default());
                        Ok(())
                    }
                    Input::Audio(_) => Ok(()),
                };
                if let Err(failure) = result {
                    stream.out().fail(failure);
                }
            }
        }
        Step::Wait
    }
}

fn speak(text: &str, clause: u32, out: &Outlet) {
    let letters = text.chars().count();
    let each = RATE as usize / 20;
    let mark = Mark {
        text: text.into(),
        char_end: letters as u32,
        end: (letters * each) as u64,
        ..Mark::default()
    };
    out.marks(clause, vec![mark], true);
    let tone: Vec<i16> = (0..each)
        .map(|sample| if sample % 40 < 20 { 2000 } else { -2000 })
        .collect();
    for _ in 0..letters {
        if out.is_cancelled() {
            return;
        }
        out.audio(&tone);
    }
}

fn main() -> ExitCode {
    repartee_worker_shell::main(Fake)
}
