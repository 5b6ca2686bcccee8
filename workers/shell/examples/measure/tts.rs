//! A voice: how soon it speaks, and how much faster than it's listened to.

use std::time::Instant;

use repartee_worker_shell::protocol::{Params, StreamId, Text, ToEngine, ToWorker, TtsParams};

use crate::arguments::Arguments;
use crate::figures::{Cell, Spread, Table};
use crate::session::{LEAST, MOST_RUNS, Session};

/// Replies of several clauses, as the engine cuts them: the first one is short.
const REPLIES: [[&str; 4]; 4] = [
    [
        "Good morning.",
        "The train to the coast leaves at a quarter past nine,",
        "and it takes about two hours.",
        "Would you like a window seat, or a place near the door?",
    ],
    [
        "Yes, of course.",
        "I have found three restaurants that are open this evening.",
        "The nearest one is a short walk from the station,",
        "and it still has a table for four at half past seven.",
    ],
    [
        "One moment, please.",
        "Your parcel was handed to the driver this morning,",
        "so it should arrive before noon.",
        "I can send you a message when it is around the corner.",
    ],
    [
        "That is a good question.",
        "The weather will be dry until Thursday, with some wind from the west.",
        "On Friday there may be rain,",
        "but the weekend looks warm and sunny again.",
    ],
];

/// How many replies each stream gives in a round at least: medians of more say more.
const LEAST_RUNS: u32 = 3;

#[derive(Debug, Default)]
struct Sums {
    first_audio: Vec<f64>,
    wall: f64,
    audio: f64,
    processor: f64,
}

struct Speaker {
    stream: StreamId,
    asked: Instant,
    has_audio: bool,
    done: bool,
}

pub(crate) fn measure(session: &mut Session, arguments: &Arguments, table: &mut Table) -> Result<Vec<String>, String> {
    let streams = table.streams.clone();
    let mut sums: Vec<Sums> = streams.iter().map(|_| Sums::default()).collect();
    for round in 0..arguments.rounds {
        for (streams, sums) in streams.iter().zip(&mut sums) {
            let began = Instant::now();
            for run in 0..MOST_RUNS {
                speak(session, *streams, round + run, sums)?;
                if run + 1 >= LEAST_RUNS && began.elapsed() >= LEAST {
                    break;
                }
            }
        }
    }
    let each = |cell: &dyn Fn(&Sums) -> Cell| sums.iter().map(cell).collect::<Vec<_>>();
    let first = |sums: &Sums| Spread::of(&sums.first_audio).milliseconds();
    table.row("first_audio_ms", "first audio after the text", each(&first));
    let factor = |sums: &Sums| Cell::number(sums.wall / sums.audio, 4, "");
    table.row(
        "real_time_factor",
        "real-time factor, all streams together",
        each(&factor),
    );
    let per_core = |sums: &Sums| Cell::per_processor(sums.audio, sums.processor);
    table.row(
        "streams_per_core",
        "streams per core (seconds of audio per second of processor)",
        each(&per_core),
    );
    let length = |sums: &Sums| Cell::number(sums.audio / sums.first_audio.len() as f64, 1, " s");
    table.row("reply_seconds", "(length of a reply)", each(&length));
    Ok(vec![format!(
        "Spoken: replies of four clauses sent at once, {} rounds of at least {LEAST_RUNS} replies and {} s for each number of streams.",
        arguments.rounds,
        LEAST.as_secs()
    )])
}

fn speak(session: &mut Session, streams: u32, round: u32, sums: &mut Sums) -> Result<(), String> {
    let model = &session.ready.model;
    let rate = model.voices.first().map_or(model.rate, |voice| voice.rate).max(1);
    let processor = session.processor_seconds();
    let began = Instant::now();
    let mut speakers = Vec::new();
    for (_, reply) in (0..streams).zip(REPLIES.iter().cycle().skip(round as usize)) {
        let stream = session.open(
            Params::Tts(TtsParams {
                marks: true,
                ..TtsParams::default()
            }),
            &[],
        )?;
        speakers.push(Speaker {
            stream,
            asked: Instant::now(),
            has_audio: false,
            done: false,
        });
        for (clause, text) in (0..).zip(reply) {
            let text = (*text).to_owned();
            session.send(&ToWorker::Text(Text { stream, clause, text }), &[])?;
        }
        session.send(&ToWorker::Finish { stream }, &[])?;
    }
    let mut bytes = 0;
    while !speakers.iter().all(|speaker| speaker.done) {
        let Some(heard) = session.hear(None)? else {
            continue;
        };
        let Some(stream) = heard.message.stream() else {
            continue;
        };
        let Some(speaker) = speakers.iter_mut().find(|speaker| speaker.stream == stream) else {
            continue;
        };
        match heard.message {
            ToEngine::Audio { .. } => {
                bytes += heard.payload.len();
                if !speaker.has_audio {
                    speaker.has_audio = true;
                    sums.first_audio
                        .push(heard.at.duration_since(speaker.asked).as_secs_f64() * 1000.0);
                }
            }
            ToEngine::Done(_) if speaker.has_audio => speaker.done = true,
            ToEngine::Done(_) => return Err("the worker said nothing".into()),
            _ => {}
        }
    }
    sums.wall += began.elapsed().as_secs_f64();
    sums.processor += session.processor_seconds() - processor;
    sums.audio += bytes as f64 / 2.0 / f64::from(rate);
    Ok(())
}
