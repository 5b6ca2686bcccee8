//! A recogniser: how soon it writes at the pace of speech, and how much it can hear in a second.

use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{Params, StreamId, SttParams, ToEngine, ToWorker, encode};

use crate::arguments::{Arguments, Pace};
use crate::figures::{Cell, Spread, Table};
use crate::recording::{Recording, chosen};
use crate::session::{Heard, LEAST, MOST_RUNS, Session};

/// How much audio comes at once where it comes as fast as it can, in ms.
const FLOOD_PACKET: u32 = 100;

/// All that was measured with one number of streams at one pace.
#[derive(Debug, Default)]
struct Sums {
    first_partials: Vec<f64>,
    finals: Vec<f64>,
    late: Vec<f64>,
    wall: Vec<f64>,
    audio: f64,
    processor: f64,
}

pub(crate) fn measure(session: &mut Session, arguments: &Arguments, table: &mut Table) -> Result<Vec<String>, String> {
    let (recordings, said) = chosen(arguments, session.ready.model.rate)?;
    let streams = table.streams.clone();
    let mut sums: Vec<(Pace, Vec<Sums>)> = arguments
        .paces
        .iter()
        .map(|pace| (*pace, streams.iter().map(|_| Sums::default()).collect()))
        .collect();
    // Every round has all of them, so that a bad minute of the machine spoils a little of each and not all of one.
    for round in 0..arguments.rounds {
        for (pace, sums) in &mut sums {
            for (streams, sums) in streams.iter().zip(sums) {
                let began = Instant::now();
                for _ in 0..MOST_RUNS {
                    let mut talk = Talk::new(session, arguments, *pace, &recordings, *streams, round)?;
                    talk.run(session, sums)?;
                    if *pace == Pace::RealTime || began.elapsed() >= LEAST {
                        break;
                    }
                }
            }
        }
    }
    for (pace, sums) in &sums {
        let each = |cell: &dyn Fn(&Sums) -> Cell| sums.iter().map(cell).collect::<Vec<_>>();
        let per_core = |sums: &Sums| Cell::per_processor(sums.audio, sums.processor);
        if *pace == Pace::RealTime {
            let first = |sums: &Sums| Spread::of(&sums.first_partials).milliseconds();
            table.row("first_partial_ms", "first partial after the first sound", each(&first));
            let last = |sums: &Sums| Spread::of(&sums.finals).milliseconds();
            table.row("final_ms", "final after the end", each(&last));
            table.row(
                "realtime_streams_per_core",
                "seconds of audio per second of processor, at the pace of speech",
                each(&per_core),
            );
            let late = |sums: &Sums| Spread::of(&sums.late).milliseconds();
            table.row("late_ms", "(audio was sent late by)", each(&late));
        } else {
            let factor = |sums: &Sums| {
                let wall: f64 = sums.wall.iter().sum();
                Cell::number(wall / sums.audio, 4, "")
            };
            table.row(
                "real_time_factor",
                "real-time factor, all streams together",
                each(&factor),
            );
            table.row(
                "streams_per_core",
                "streams per core (seconds of audio per second of processor, at once)",
                each(&per_core),
            );
        }
    }
    let packet = arguments.packet_ms;
    Ok(vec![format!(
        "Heard: {said}, in packets of {packet} ms at the pace of speech; {} rounds.",
        arguments.rounds
    )])
}

/// One utterance that is being said.
struct Speaker<'a> {
    stream: StreamId,
    recording: &'a Recording,
    /// When its first sample is said.
    begins: Instant,
    sent: usize,
    allowance: i64,
    finished: bool,
    has_partial: bool,
    has_final: bool,
    done: bool,
}

struct Talk<'a> {
    pace: Pace,
    rate: usize,
    /// In bytes.
    packet: usize,
    began: Instant,
    processor: f64,
    speakers: Vec<Speaker<'a>>,
}

impl<'a> Talk<'a> {
    fn new(
        session: &mut Session,
        arguments: &Arguments,
        pace: Pace,
        recordings: &'a [Recording],
        streams: u32,
        round: u32,
    ) -> Result<Self, String> {
        let rate = session.ready.model.rate;
        let packet_ms = match pace {
            Pace::RealTime => arguments.packet_ms,
            Pace::Flood => FLOOD_PACKET,
        };
        let processor = session.processor_seconds();
        let began = Instant::now();
        let spread = Duration::from_millis(arguments.spread_ms.into());
        let allowance = i64::try_from(session.ready.stream_credit).unwrap_or(i64::MAX);
        let mut speakers = Vec::new();
        for (number, recording) in (0..streams).zip(recordings.iter().cycle().skip(round as usize)) {
            let params = SttParams {
                rate,
                partials: true,
                ..SttParams::default()
            };
            let begins = match pace {
                Pace::RealTime => began + spread * number / streams,
                Pace::Flood => began,
            };
            speakers.push(Speaker {
                stream: session.open(Params::Stt(params), &[])?,
                recording,
                begins,
                sent: 0,
                allowance,
                finished: false,
                has_partial: false,
                has_final: false,
                done: false,
            });
        }
        Ok(Self {
            pace,
            rate: rate as usize,
            packet: (rate * packet_ms / 1000).max(1) as usize * 2,
            began,
            processor,
            speakers,
        })
    }

    /// When so many bytes of an utterance have been said.
    fn due(&self, speaker: &Speaker<'_>, bytes: usize) -> Instant {
        match self.pace {
            Pace::RealTime => speaker.begins + Duration::from_secs_f64((bytes / 2) as f64 / self.rate as f64),
            Pace::Flood => speaker.begins,
        }
    }

    /// Where the packet ends that is sent next.
    fn next_end(&self, speaker: &Speaker<'_>) -> usize {
        (speaker.sent + self.packet).min(speaker.recording.bytes.len())
    }

    fn run(&mut self, session: &mut Session, sums: &mut Sums) -> Result<(), String> {
        while !self.speakers.iter().all(|speaker| speaker.done) {
            let has_sent = self.send_what_is_due(session, sums)?;
            while let Some(heard) = session.arrived()? {
                self.take(&heard, sums);
            }
            if has_sent || self.speakers.iter().all(|speaker| speaker.done) {
                continue;
            }
            let waiting = |speaker: &&Speaker<'_>| !speaker.finished && speaker.allowance > 0;
            let next = self.speakers.iter().filter(waiting);
            let next = next.map(|speaker| self.due(speaker, self.next_end(speaker))).min();
            if let Some(heard) = session.hear(next)? {
                self.take(&heard, sums);
            }
        }
        sums.wall.push(self.began.elapsed().as_secs_f64());
        sums.processor += session.processor_seconds() - self.processor;
        let samples: usize = self.speakers.iter().map(|speaker| speaker.recording.samples()).sum();
        sums.audio += samples as f64 / self.rate as f64;
        Ok(())
    }

    /// One packet of each stream whose packet is due, so that no stream is sent whole before the others.
    fn send_what_is_due(&mut self, session: &mut Session, sums: &mut Sums) -> Result<bool, String> {
        let mut has_sent = false;
        for index in 0..self.speakers.len() {
            let speaker = &self.speakers[index];
            if speaker.finished || speaker.allowance <= 0 {
                continue;
            }
            let (end, now) = (self.next_end(speaker), Instant::now());
            let due = self.due(speaker, end);
            if due > now {
                continue;
            }
            if self.pace == Pace::RealTime {
                sums.late.push(milliseconds(now - due));
            }
            let speaker = &mut self.speakers[index];
            let (message, stream) = (ToWorker::Audio { stream: speaker.stream }, speaker.stream);
            let audio = &speaker.recording.bytes[speaker.sent..end];
            session.send(&message, audio)?;
            // What it costs is the length of its frame.
            let cost = encode(&message, audio, &mut Vec::new()).map_err(|error| error.to_string())?;
            speaker.allowance -= i64::try_from(cost).unwrap_or(i64::MAX);
            speaker.sent = end;
            if end == speaker.recording.bytes.len() {
                speaker.finished = true;
                session.send(&ToWorker::Finish { stream }, &[])?;
            }
            has_sent = true;
        }
        Ok(has_sent)
    }

    fn take(&mut self, heard: &Heard, sums: &mut Sums) {
        let Some(stream) = heard.message.stream() else {
            return;
        };
        let Some(index) = self.speakers.iter().position(|speaker| speaker.stream == stream) else {
            return;
        };
        let speaker = &self.speakers[index];
        let first_sound = self.due(speaker, speaker.recording.onset * 2);
        let end = self.due(speaker, speaker.recording.bytes.len());
        let speaker = &mut self.speakers[index];
        match &heard.message {
            ToEngine::Credit(credit) => speaker.allowance += i64::try_from(credit.n).unwrap_or(i64::MAX),
            ToEngine::Partial(partial) if !partial.text.trim().is_empty() && !speaker.has_partial => {
                speaker.has_partial = true;
                // Noise before the onset may be taken for a word; that isn't soon.
                if let Some(after) = heard.at.checked_duration_since(first_sound) {
                    sums.first_partials.push(milliseconds(after));
                }
            }
            ToEngine::Final(_) if !speaker.has_final => {
                speaker.has_final = true;
                sums.finals.push(milliseconds(heard.at.saturating_duration_since(end)));
            }
            ToEngine::Done(_) => speaker.done = true,
            _ => {}
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
