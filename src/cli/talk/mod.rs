//! `repartee talk`: a client that speaks from a recording, a text or the microphone, and shows what becomes of it.

pub mod conversation;
#[cfg(feature = "mic")]
mod microphone;
pub mod recording;
mod show;
mod stream;
pub mod waterfall;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use repartee_protocol::native::{
    AudioFormat, Codec, Framing, Hello, Private, Rate, Request, Say, SettingsUpdate, StagesUpdate,
};
use serde::Serialize;

use self::conversation::{Conversation, Exchange};
use self::recording::read_recording;
use self::show::Show;
use self::stream::{Outcome, Source, converse};
use super::{Failure, client, config, serve};

/// Arguments of `repartee talk`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    repartee talk question.wav\n  \
    repartee talk --text \"what time is it\" --out reply.wav\n  \
    repartee talk question.flac --format opus --framing rtp --json\n  \
    repartee talk question.wav --embedded        needs no running server\n\n\
    Exit status 0: something was understood or replied. 1: nothing was, or it could not be done.\n")]
pub struct TalkArguments {
    /// A recording: WAV, FLAC, MP3 or Ogg Vorbis, of any rate.
    #[arg(required_unless_present_any = ["text", "mic"])]
    file: Option<PathBuf>,
    /// Speak this text, with the engine's own voice.
    #[arg(long, conflicts_with_all = ["file", "mic"])]
    text: Option<String>,
    /// Speak into the microphone, until Ctrl-C (needs a build with `--features mic`).
    #[arg(long, conflicts_with = "file")]
    mic: bool,
    /// The server.
    #[arg(long, default_value = "127.0.0.1:8080", env = "REPARTEE_URL")]
    url: String,
    /// The server's access token.
    #[arg(long, env = "REPARTEE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Start an engine in this process instead of asking a server.
    #[arg(long, conflicts_with = "url")]
    embedded: bool,
    /// Flags for the embedded engine, as for `serve`.
    #[command(flatten)]
    options: Box<config::Options>,
    /// Codec of the audio, both ways.
    #[arg(long, value_enum, default_value_t = Format::Pcm16)]
    format: Format,
    /// Samples a second: 8000, 16000, 24000 or 48000 [default: what suits the codec].
    #[arg(long)]
    rate: Option<u32>,
    /// What a message holds.
    #[arg(long, value_enum, default_value_t = FramingChoice::Raw)]
    framing: FramingChoice,
    /// Write what was heard back to this WAV file.
    #[arg(long, value_name = "WAV")]
    out: Option<PathBuf>,
    /// Print one JSON object at the end, and nothing else.
    #[arg(long)]
    json: bool,
    /// Give up when nothing happens for so long (s) after the audio has ended.
    #[arg(long, default_value_t = 15)]
    patience: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Pcm16,
    Pcmu,
    Pcma,
    Opus,
}

#[derive(Clone, Copy, ValueEnum)]
enum FramingChoice {
    Raw,
    Rtp,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Summary<'a> {
    session_id: &'a str,
    turns: &'a [Exchange],
    partials: u64,
    audio_in_ms: u64,
    audio_out_ms: u64,
    reply_wav: Option<&'a Path>,
}

/// Runs the command.
pub(super) fn run(arguments: &TalkArguments) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let talking = talk(arguments);
        tokio::select! {
            result = talking => result,
            _ = tokio::signal::ctrl_c(), if !arguments.mic => {
                eprintln!();
                Ok(ExitCode::from(130))
            }
        }
    })
}

fn format(arguments: &TalkArguments) -> Result<AudioFormat, Failure> {
    let codec = match arguments.format {
        Format::Pcm16 => Codec::Pcm16,
        Format::Pcmu => Codec::Pcmu,
        Format::Pcma => Codec::Pcma,
        Format::Opus => Codec::Opus,
    };
    let rate = match arguments.rate {
        None => codec.default_rate(),
        Some(hertz) => Rate::new(hertz)
            .filter(|rate| codec.takes(*rate))
            .ok_or_else(|| Failure(format!("{codec} has no rate of {hertz} Hz; {}", rates_of(codec))))?,
    };
    let framing = match arguments.framing {
        FramingChoice::Raw => Framing::Raw,
        FramingChoice::Rtp => Framing::Rtp,
    };
    Ok(AudioFormat {
        rate,
        framing,
        ..AudioFormat::of(codec)
    })
}

fn rates_of(codec: Codec) -> String {
    let rates: Vec<_> = Rate::ALL
        .into_iter()
        .filter(|rate| codec.takes(*rate))
        .map(|rate| rate.hertz().to_string())
        .collect();
    format!("it has {}", rates.join(", "))
}

async fn talk(arguments: &TalkArguments) -> Result<ExitCode, Failure> {
    let format = format(arguments)?;
    // What can be wrong here is found before anything is started.
    if arguments.text.as_deref().is_some_and(|text| text.trim().is_empty()) {
        return Err(Failure("there is nothing to speak: --text is empty".to_owned()));
    }
    if let Some(path) = &arguments.out {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) || path.is_dir() {
            return Err(Failure(format!(
                "can't write {}: {}",
                path.display(),
                if path.is_dir() {
                    "it is a folder"
                } else {
                    "its folder isn't there"
                }
            )));
        }
    }
    let recording = match &arguments.file {
        Some(path) => Some(read_recording(path, format.rate.hertz())?),
        None => None,
    };
    let embedded = match arguments.embedded {
        true => Some(serve::embed(&arguments.options).await?),
        false => None,
    };
    let url = embedded
        .as_ref()
        .map_or_else(|| arguments.url.clone(), |server| server.address.to_string());
    let url = client::session_url(&url);
    let hello = Hello {
        token: arguments.token.as_deref().map(Private::from),
        input: format,
        output: format,
        client: Some(concat!("repartee-talk/", env!("CARGO_PKG_VERSION")).to_owned()),
        ..Hello::default()
    };
    let source = match (recording, &arguments.text) {
        (Some(samples), _) => Source::Samples(samples),
        (None, Some(text)) => Source::Samples(spoken(&url, hello.clone(), text).await?),
        (None, None) => microphone(format)?,
    };
    let mut show = Show::new(arguments.json, std::io::stdout().is_terminal());
    let outcome = converse(&url, hello, source, Duration::from_secs(arguments.patience), &mut show).await?;
    if let Some(path) = &arguments.out {
        write_wav(path, format.rate.hertz(), &outcome.reply)?;
    }
    conclude(arguments, format, &outcome, &mut show);
    if let Some(server) = embedded {
        server.stop().await;
    }
    Ok(if outcome.conversation.has_words() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn conclude(arguments: &TalkArguments, format: AudioFormat, outcome: &Outcome, show: &mut Show) {
    let millis = |samples: usize| samples as u64 * 1_000 / u64::from(format.rate.hertz());
    if arguments.json {
        let summary = Summary {
            session_id: &outcome.session,
            turns: &outcome.conversation.exchanges,
            partials: outcome.conversation.partials,
            audio_in_ms: millis(outcome.samples_sent),
            audio_out_ms: millis(outcome.reply.len()),
            reply_wav: arguments.out.as_deref(),
        };
        let text = serde_json::to_string(&summary).expect("a summary has no map keys but strings");
        // What can't be written (a reader that went away) is left unwritten.
        let _ = writeln!(std::io::stdout(), "{text}");
    } else {
        show.end(
            &outcome.conversation,
            arguments.out.as_deref(),
            millis(outcome.reply.len()),
        );
    }
}

/// `text`, spoken by the engine: a session of its own that only speaks.
async fn spoken(url: &str, hello: Hello, text: &str) -> Result<Vec<i16>, Failure> {
    let stages = StagesUpdate {
        stt: Some(false),
        llm: Some(false),
        tts: Some(true),
    };
    let settings = SettingsUpdate {
        stages: Some(stages),
        ..SettingsUpdate::default()
    };
    let hello = Hello {
        settings: Some(settings),
        ..hello
    };
    let say = Request::Say(Say::new(text));
    let outcome = converse(
        url,
        hello,
        Source::Request(say),
        Duration::from_secs(10),
        &mut Show::silent(),
    )
    .await?;
    if outcome.reply.is_empty() {
        return Err(Failure(
            "the engine has no voice to speak the text with; see `/ready` for the reason".to_owned(),
        ));
    }
    Ok(outcome.reply)
}

#[cfg(feature = "mic")]
fn microphone(format: AudioFormat) -> Result<Source, Failure> {
    Ok(Source::Live(microphone::open(format.rate.hertz())?))
}

#[cfg(not(feature = "mic"))]
fn microphone(_: AudioFormat) -> Result<Source, Failure> {
    Err(Failure(
        "this build has no microphone: `cargo build --release --features mic` makes one that does (it needs Debian's \
         libasound2-dev)"
            .to_owned(),
    ))
}

fn write_wav(path: &Path, rate: u32, samples: &[i16]) -> Result<(), Failure> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let write = || -> Result<(), hound::Error> {
        let mut writer = hound::WavWriter::create(path, spec)?;
        for sample in samples {
            writer.write_sample(*sample)?;
        }
        writer.finalize()
    };
    write().map_err(|error| Failure(format!("can't write {}: {error}", path.display())))
}

impl Conversation {
    /// The waterfall of the newest turn that has a report.
    fn waterfall(&self) -> String {
        let report = self
            .exchanges
            .iter()
            .rev()
            .find_map(|exchange| exchange.report.as_ref());
        let stages = report.iter().flat_map(|report| &report.stages);
        waterfall::waterfall(stages.map(|stage| (stage.stage.as_str(), stage.ms.as_f64())))
    }
}
