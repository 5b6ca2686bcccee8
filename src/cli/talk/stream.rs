//! One conversation over the wire, at the pace of real time.

use std::time::Duration;

use bytes::Bytes;
use repartee_protocol::native::{Event, Hello, Request};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::conversation::Conversation;
use super::show::Show;
use crate::audio::{Heard, Inbound, Outbound, RtpStart};
use crate::cli::Failure;
use crate::cli::client::{self, ClientError, Incoming};
use crate::engine::Clock;
use crate::time::Time;
use crate::transport::native::media_format;

/// Milliseconds of a frame.
const FRAME_MS: u32 = 20;
/// After everything has gone quiet, so long is waited for more before the conversation is over: the server decides on the
/// end of a turn within two seconds at most with its defaults.
const SETTLE: Duration = Duration::from_millis(2_500);

/// Where the client's side comes from.
pub(super) enum Source {
    /// A recording, at the rate of the format.
    Samples(Vec<i16>),
    /// A microphone: frames until it ends.
    #[cfg_attr(
        not(feature = "mic"),
        expect(dead_code, reason = "built with the feature `mic` only")
    )]
    Live(mpsc::Receiver<Vec<i16>>),
    /// A control instead of audio.
    Request(Request),
}

/// What became of it.
pub(super) struct Outcome {
    pub(super) session: String,
    pub(super) conversation: Conversation,
    /// Everything that was heard back, one reply after the other.
    pub(super) reply: Vec<i16>,
    pub(super) samples_sent: usize,
}

/// Holds a conversation to its end: until the source is exhausted and nothing happens any more.
pub(super) async fn converse(
    url: &str,
    hello: Hello,
    source: Source,
    patience: Duration,
    show: &mut Show,
) -> Result<Outcome, Failure> {
    let format = hello.input;
    let (ready, mut sender, mut receiver) = client::open(url, hello).await?;
    show.ready(&ready);
    let media = media_format(&format);
    let ssrc = getrandom::u32().map_err(|error| Failure(error.to_string()))?;
    let start = RtpStart {
        payload_type: format.payload_type(),
        ssrc,
        sequence: 0,
        timestamp: ssrc,
    };
    let mut outbound = Outbound::new(media, start)?;
    let mut inbound = Inbound::new(media, format.payload_type(), None, media.rate)?;

    let frame = (format.rate.hertz() * FRAME_MS / 1_000) as usize;
    let (mut samples, mut live, mut silent) = match source {
        Source::Samples(samples) => (samples, None, true),
        Source::Live(receiver) => (Vec::new(), Some(receiver), false),
        Source::Request(request) => {
            sender.control(request.into()).await?;
            (Vec::new(), None, false)
        }
    };
    // The last frame is filled up with silence.
    samples.resize(samples.len().next_multiple_of(frame), 0);

    let mut outcome = Outcome {
        session: ready.session.clone(),
        conversation: Conversation::default(),
        reply: Vec::new(),
        samples_sent: 0,
    };
    let mut ticks = interval(Duration::from_millis(u64::from(FRAME_MS)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut position, mut frames, mut payload) = (0, 0_u64, Vec::new());
    let silence = vec![0; frame];
    let mut heard = Heard::default();
    let clock = Clock::start();
    let mut last_event = clock.now();
    let mut leaving = false;
    loop {
        tokio::select! {
            _ = ticks.tick(), if silent && !leaving => {
                let pcm = samples.get(position..position + frame).unwrap_or(&silence);
                payload.clear();
                outbound.frame(pcm, Time::from_millis(frames * u64::from(FRAME_MS)), &mut payload)?;
                if position < samples.len() {
                    position += frame;
                    outcome.samples_sent += frame;
                    last_event = clock.now();
                }
                frames += 1;
                sender.audio(Bytes::copy_from_slice(&payload)).await?;
            }
            Some(pcm) = receive(&mut live), if !leaving => {
                payload.clear();
                outbound.frame(&pcm, Time::from_millis(frames * u64::from(FRAME_MS)), &mut payload)?;
                outcome.samples_sent += pcm.len();
                frames += 1;
                sender.audio(Bytes::copy_from_slice(&payload)).await?;
                last_event = clock.now();
            }
            _ = tokio::signal::ctrl_c(), if live.is_some() => {
                // The microphone is off; silence goes on, so that the turn ends and its reply is heard. Again: at once.
                if silent {
                    return Err(Failure("interrupted".to_owned()));
                }
                (live, silent) = (None, true);
                ticks.reset();
                last_event = clock.now();
            }
            incoming = receiver.next() => match incoming {
                Some(Ok(Incoming::Event(event))) => {
                    last_event = clock.now();
                    show.event(&event);
                    if let Event::Error(error) = &event && error.close_code.is_some() {
                        return Err(ClientError::Refused { code: error.code.to_string(), message: error.message.clone() }.into());
                    }
                    outcome.conversation.observe(&event);
                    if matches!(event, Event::TurnReport(_)) {
                        show.report(&outcome.conversation.waterfall());
                    }
                }
                Some(Ok(Incoming::Audio(message))) => {
                    last_event = clock.now();
                    heard.pcm.clear();
                    // A frame that can't be read is a fault of the server's; what can be is heard all the same.
                    let _ = inbound.message(Time::ZERO, &message, &mut heard);
                    outcome.reply.extend_from_slice(&heard.pcm);
                }
                Some(Err(error)) => return Err(error.into()),
                None => break,
            },
            _ = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        let exhausted = position >= samples.len() && live.as_ref().is_none_or(mpsc::Receiver::is_closed);
        let idle = clock.now().since(last_event);
        let over = exhausted && outcome.conversation.is_quiet() && idle > SETTLE;
        if !leaving && (over || (exhausted && idle > patience)) {
            leaving = true;
            sender
                .control(Request::Bye(repartee_protocol::native::Bare {}).into())
                .await?;
            last_event = clock.now();
        } else if leaving && idle > Duration::from_secs(5) {
            break;
        }
    }
    Ok(outcome)
}

/// The next frame of a microphone; never, where there is none.
async fn receive(live: &mut Option<mpsc::Receiver<Vec<i16>>>) -> Option<Vec<i16>> {
    match live {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}
