//! The session over which a server is walked: every wait has an end, and a wait that is dropped leaves it usable.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use repartee_protocol::native::{
    AudioFormat, Backend, BackendKind, BackendState, Bare, Cancel, Capabilities, Control, Edit, Event, Hello, Origin,
    Private, Ready, Request, ResponseDone, ResponseId, ResponseStatus, Say, SettingsUpdate, StagesUpdate, Status,
    Switch, SwitchFailed, SwitchOf, SwitchStage, Switched, Text, TurnDetection, TurnId,
};
use tokio::time::{MissedTickBehavior, interval, timeout_at};

use super::text::plain;
use crate::audio::{Heard, Inbound, Outbound, RtpStart};
use crate::cli::client::{self, ClientError, ClientReceiver, ClientSender, Incoming};
use crate::engine::Clock;
use crate::time::Time;
use crate::transport::native::media_format;

/// Milliseconds of a frame.
const FRAME_MS: u32 = 20;
/// Silence before the sentence: detectors of speech want to have heard the room.
const LEAD: Duration = Duration::from_millis(300);
/// No speech was found when none has been so long after the audio.
const NO_SPEECH: Duration = Duration::from_secs(4);
/// No further turn is waited for so long after the audio.
const LAST_TURN: Duration = Duration::from_millis(1_000);
/// A session in which nothing happens for minutes may be ended by its server: it is told so often that somebody is there.
const PING: Duration = Duration::from_secs(10);
/// How long small things may take: settings, a cancellation, the state of the session.
pub(super) const SOON: Duration = Duration::from_secs(5);

/// Why something didn't come about.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It didn't come in time.
    #[error("{what} did not come within {} s{}", limit.as_secs(), after(said.as_deref()))]
    Late {
        /// What.
        what: &'static str,
        limit: Duration,
        /// What the server said meanwhile.
        said: Option<String>,
    },
    /// The server refused a switch, or could not make it.
    #[error("{}: {}", stage(.0.stage), plain(&.0.reason))]
    Switch(Box<SwitchFailed>),
    /// The server refused, or failed at, something else.
    #[error("{0}")]
    Refused(String),
    /// The session is over.
    #[error("{0}")]
    Broken(String),
}

fn after(said: Option<&str>) -> String {
    said.map_or_else(String::new, |said| format!("; the server said: {said}"))
}

const fn stage(stage: SwitchStage) -> &'static str {
    match stage {
        SwitchStage::Request => "refused",
        SwitchStage::Resolve => "not found",
        SwitchStage::Check => "can't be loaded here",
        SwitchStage::Load => "not loaded",
        SwitchStage::Verify => "loaded, but does not work",
        SwitchStage::Swap => "not taken over",
        SwitchStage::Cancelled => "called off",
    }
}

/// What became of audio that was spoken to the server.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// Milliseconds from the first sample of the sentence until a turn was opened.
    pub(super) started_ms: Option<u64>,
    /// Milliseconds from the first sample of the sentence until words came, partial or final.
    pub(super) first_words_ms: Option<u64>,
    /// Milliseconds from the last sample of the sentence until the (last) turn ended.
    pub(super) stopped_ms: Option<u64>,
    /// Milliseconds from there to the last final transcript.
    pub(super) final_ms: Option<u64>,
    /// The final transcripts.
    pub(super) finals: Vec<Private>,
    /// What the server said was wrong meanwhile.
    pub(super) error: Option<String>,
}

impl Hearing {
    /// All that was understood.
    pub(super) fn text(&self) -> String {
        let texts: Vec<&str> = self.finals.iter().map(Private::expose).collect();
        texts.join(" ")
    }
}

/// What a voice said.
#[derive(Debug)]
pub(super) struct Spoken {
    /// 16 kHz.
    pub(super) pcm: Vec<i16>,
    /// Milliseconds from the request to the first audio.
    pub(super) first_ms: Option<u64>,
    pub(super) status: ResponseStatus,
    pub(super) error: Option<String>,
}

/// What a language model answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: Private,
    /// Milliseconds from the request to the first text.
    pub(super) first_ms: Option<u64>,
    pub(super) status: ResponseStatus,
    pub(super) error: Option<String>,
}

/// An open session.
pub(super) struct Link {
    pub(super) ready: Ready,
    sender: ClientSender,
    receiver: ClientReceiver,
    inbound: Inbound,
    outbound: Outbound,
    pub(super) clock: Clock,
    /// Frames sent.
    frames: u64,
    /// Controls that were named.
    named: u64,
    states: Vec<Backend>,
    live: BTreeSet<ResponseId>,
    switching: BTreeSet<&'static str>,
    error: Option<String>,
}

impl Link {
    /// Opens a session that uses every stage.
    pub(super) async fn open(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let format = AudioFormat::default();
        let stages = StagesUpdate {
            stt: Some(true),
            llm: Some(true),
            tts: Some(true),
        };
        let hello = Hello {
            token: token.map(Private::from),
            settings: Some(SettingsUpdate {
                stages: Some(stages),
                turn_detection: Some(TurnDetection::Server),
                approval: Some(false),
                ..SettingsUpdate::default()
            }),
            client: Some(concat!("repartee-matrix/", env!("CARGO_PKG_VERSION")).to_owned()),
            ..Hello::default()
        };
        let (ready, sender, receiver) = client::open(url, hello).await?;
        let media = media_format(&format);
        let start = RtpStart {
            payload_type: format.payload_type(),
            ssrc: 0,
            sequence: 0,
            timestamp: 0,
        };
        Ok(Self {
            sender,
            receiver,
            inbound: Inbound::new(media, format.payload_type(), None, media.rate)
                .map_err(|error| ClientError::Broken(error.to_string()))?,
            outbound: Outbound::new(media, start).map_err(|error| ClientError::Broken(error.to_string()))?,
            clock: Clock::start(),
            frames: 0,
            named: 0,
            states: ready.backends.clone(),
            live: BTreeSet::new(),
            switching: BTreeSet::new(),
            error: None,
            ready,
        })
    }

    /// How a job's backend is, as far as the server has told.
    pub(super) fn state(&self, kind: BackendKind) -> Option<&BackendState> {
        self.states
            .iter()
            .find(|backend| backend.kind == kind)
            .map(|backend| &backend.state)
    }

    /// Whether a job is done by a model that was made for tests.
    pub(super) fn is_synthetic(&self, kind: BackendKind) -> bool {
        matches!(self.state(kind), Some(BackendState::Ready { synthetic: true, .. }))
    }

    /// Whether something does this job.
    pub(super) fn serves(&self, kind: BackendKind) -> bool {
        matches!(self.state(kind), Some(BackendState::Ready { .. }))
    }

    async fn send(&mut self, request: Request) -> Result<(), Trouble> {
        let sent = self.sender.control(request.into()).await;
        sent.map_err(|error| Trouble::Broken(error.to_string()))
    }

    /// Sends a request whose refusal names it.
    async fn send_named(&mut self, request: Request) -> Result<String, Trouble> {
        self.named += 1;
        let id = format!("matrix-{}", self.named);
        let control = Control {
            id: Some(id.clone()),
            request,
        };
        let sent = self.sender.control(control).await;
        sent.map_err(|error| Trouble::Broken(error.to_string()))?;
        Ok(id)
    }

    /// The next thing that comes, until `deadline`; `None` then. It may be dropped while it waits.
    async fn next(&mut self, deadline: Time) -> Result<Option<Incoming>, Trouble> {
        loop {
            let ping = self.clock.now() + PING;
            let until = self.clock.instant(deadline.min(ping));
            match timeout_at(until, self.receiver.next()).await {
                Ok(Some(Ok(incoming))) => {
                    if let Incoming::Event(event) = &incoming {
                        self.observe(event)?;
                    }
                    return Ok(Some(incoming));
                }
                Ok(Some(Err(error))) => return Err(Trouble::Broken(plain(&error.to_string()))),
                Ok(None) => return Err(Trouble::Broken("the server has ended the session".to_owned())),
                Err(_) if deadline <= ping => return Ok(None),
                Err(_) => self.send(Request::Ping(Bare {})).await?,
            }
        }
    }

    fn observe(&mut self, event: &Event) -> Result<(), Trouble> {
        match event {
            Event::Backend(backend) => {
                self.states.retain(|known| known.kind != backend.kind);
                self.states.push(backend.clone());
            }
            Event::Status(status) => self.states.clone_from(&status.backends),
            Event::ResponseStarted(started) => {
                self.live.insert(started.response);
            }
            Event::ResponseDone(done) => {
                self.live.remove(&done.response);
            }
            Event::Switched(switched) => {
                self.switching.remove(switched.kind.as_str());
            }
            Event::SwitchFailed(failed) => {
                self.switching.remove(failed.kind.as_str());
            }
            Event::Error(error) if error.close_code.is_some() => return Err(Trouble::Broken(plain(&error.message))),
            Event::Error(error) => self.error = Some(plain(&error.message)),
            Event::Closed(_) => return Err(Trouble::Broken("the server has closed the session".to_owned())),
            _ => {}
        }
        Ok(())
    }

    /// Takes what comes until an event for which `wanted` answers something.
    async fn until<T>(
        &mut self,
        what: &'static str,
        limit: Duration,
        mut wanted: impl FnMut(&Event) -> Option<Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let deadline = self.clock.now() + limit;
        while let Some(incoming) = self.next(deadline).await? {
            if let Incoming::Event(event) = &incoming
                && let Some(found) = wanted(event)
            {
                return found;
            }
        }
        let said = self.error.take();
        Err(Trouble::Late { what, limit, said })
    }

    /// Waits until it is known of these jobs who does them, or that nobody does, for at most `limit`.
    pub(super) async fn settle(&mut self, kinds: &[BackendKind], limit: Duration) -> Result<(), Trouble> {
        let deadline = self.clock.now() + limit;
        let settled = |link: &Self| {
            kinds.iter().all(|kind| {
                let state = link.state(*kind);
                matches!(state, Some(BackendState::Ready { .. } | BackendState::Missing { .. }))
            })
        };
        while !settled(self) {
            if self.next(deadline).await?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// What can serve there.
    pub(super) async fn capabilities(&mut self, limit: Duration) -> Result<Capabilities, Trouble> {
        let id = self.send_named(Request::Capabilities(Bare {})).await?;
        self.until("the list of backends", limit, |event| match event {
            Event::Capabilities(capabilities) => Some(Ok(capabilities.clone())),
            event => refusal(event, &id),
        })
        .await
    }

    /// Which stages run from now on.
    pub(super) async fn stages(&mut self, stt: bool, llm: bool, tts: bool) -> Result<(), Trouble> {
        let stages = StagesUpdate {
            stt: Some(stt),
            llm: Some(llm),
            tts: Some(tts),
        };
        let update = SettingsUpdate {
            stages: Some(stages),
            ..SettingsUpdate::default()
        };
        let id = self.send_named(Request::Update(Box::new(update))).await?;
        self.until("the answer to an update", SOON, |event| match event {
            Event::Updated(updated) if updated.reply_to.as_ref() == Some(&id) => Some(Ok(())),
            event => refusal(event, &id),
        })
        .await
    }

    /// The state of the session.
    pub(super) async fn status(&mut self) -> Result<Box<Status>, Trouble> {
        let id = self.send_named(Request::Status(Bare {})).await?;
        self.until("the status", SOON, |event| match event {
            Event::Status(status) => Some(Ok(status.clone())),
            event => refusal(event, &id),
        })
        .await
    }

    /// Makes a switch, and waits until it is made. One that takes too long is called off.
    pub(super) async fn switch(&mut self, switch: Switch, limit: Duration) -> Result<Switched, Trouble> {
        let kind = switch.kind;
        self.error = None;
        self.switching.insert(kind.as_str());
        let id = self.send_named(Request::Switch(Box::new(switch))).await?;
        let made = self
            .until("the end of its loading", limit, |event| match event {
                Event::Switched(switched) if switched.kind == kind => Some(Ok(switched.clone())),
                Event::SwitchFailed(failed) if failed.kind == kind => {
                    Some(Err(Trouble::Switch(Box::new(failed.clone()))))
                }
                event => refusal(event, &id),
            })
            .await;
        match &made {
            Err(Trouble::Late { .. }) => self.call_off().await?,
            Err(Trouble::Refused(_)) => {
                self.switching.remove(kind.as_str());
            }
            _ => {}
        }
        made
    }

    /// Calls off every switch that is under way, and every reply; forgets what was said. For what was given up in the middle.
    pub(super) async fn call_off(&mut self) -> Result<(), Trouble> {
        for kind in BackendKind::ALL {
            if self.switching.contains(kind.as_str()) {
                self.send(Request::CancelSwitch(SwitchOf { kind })).await?;
            }
        }
        if !self.live.is_empty() {
            self.send(Request::Cancel(Cancel::default())).await?;
        }
        self.send(Request::Clear(Bare {})).await?;
        let deadline = self.clock.now() + SOON;
        while !(self.switching.is_empty() && self.live.is_empty()) {
            if self.next(deadline).await?.is_none() {
                break;
            }
        }
        self.error = None;
        Ok(())
    }

    /// Has the server's voice say `text`.
    pub(super) async fn say(&mut self, text: &str, limit: Duration) -> Result<Spoken, Trouble> {
        self.error = None;
        let mut say = Say::new(text);
        (say.interruptible, say.remember) = (false, false);
        let asked = self.clock.now();
        self.send(Request::Say(say)).await?;
        let deadline = asked + limit;
        let (mut pcm, mut first, mut response) = (Vec::new(), None, None);
        let mut heard = Heard::default();
        while let Some(incoming) = self.next(deadline).await? {
            match incoming {
                Incoming::Audio(message) => {
                    first.get_or_insert_with(|| millis(asked, self.clock.now()));
                    heard.pcm.clear();
                    // A frame that can't be read is a fault that the level and the words show.
                    let _ = self.inbound.message(Time::ZERO, &message, &mut heard);
                    pcm.extend_from_slice(&heard.pcm);
                }
                Incoming::Event(Event::ResponseStarted(started)) => {
                    response.get_or_insert(started.response);
                }
                Incoming::Event(Event::ResponseDone(ResponseDone {
                    response: id, status, ..
                })) if response == Some(id) => {
                    return Ok(Spoken {
                        pcm,
                        first_ms: first,
                        status,
                        error: self.error.take(),
                    });
                }
                Incoming::Event(event) => {
                    if let Some(refused) = fault(&event).filter(|_| response.is_none()) {
                        return Err(refused);
                    }
                }
            }
        }
        let said = self.error.take();
        Err(Trouble::Late {
            what: "the end of what it says",
            limit,
            said,
        })
    }

    /// Asks the language model, which remembers nothing of what went before.
    pub(super) async fn ask(&mut self, prompt: &str, limit: Duration) -> Result<Answer, Trouble> {
        self.error = None;
        self.send(Request::Edit(Edit::Clear {})).await?;
        let asked = self.clock.now();
        self.send(Request::Text(Text { text: prompt.into() })).await?;
        let deadline = asked + limit;
        let (mut first, mut response) = (None, None);
        while let Some(incoming) = self.next(deadline).await? {
            let Incoming::Event(event) = incoming else { continue };
            match event {
                Event::ResponseStarted(started) => {
                    response.get_or_insert(started.response);
                }
                Event::ResponseText(text) if response == Some(text.response) && !text.delta.expose().is_empty() => {
                    first.get_or_insert_with(|| millis(asked, self.clock.now()));
                }
                Event::ResponseDone(done) if response == Some(done.response) => {
                    return Ok(Answer {
                        text: done.text,
                        first_ms: first,
                        status: done.status,
                        error: self.error.take(),
                    });
                }
                event => {
                    if let Some(refused) = fault(&event).filter(|_| response.is_none()) {
                        return Err(refused);
                    }
                }
            }
        }
        let said = self.error.take();
        Err(Trouble::Late {
            what: "the end of its answer",
            limit,
            said,
        })
    }

    /// Speaks `pcm` (16 kHz) to the server at the pace of real time, and silence after it, until its turns are over or `limit` is. `recognised`:
    /// a recogniser listens, so that a turn is over with its final transcript.
    pub(super) async fn hear(&mut self, pcm: &[i16], recognised: bool, limit: Duration) -> Result<Hearing, Trouble> {
        self.error = None;
        let frame = (16 * FRAME_MS) as usize;
        let lead = usize::try_from(LEAD.as_millis() * 16).unwrap_or_default();
        let mut samples = vec![0; lead];
        samples.extend_from_slice(pcm);
        samples.resize(samples.len().next_multiple_of(frame), 0);
        let silence = vec![0; frame];
        let mut ticks = interval(Duration::from_millis(u64::from(FRAME_MS)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut position, mut payload) = (0, Vec::new());
        let (mut from, mut to, mut stopped) = (None, None, None);
        let mut open: BTreeSet<TurnId> = BTreeSet::new();
        let mut hearing = Hearing::default();
        loop {
            let now = self.clock.now();
            if let Some(to) = to {
                let waited = now.since(to);
                let heard = if recognised {
                    !hearing.finals.is_empty()
                } else {
                    stopped.is_some()
                };
                let nothing = hearing.started_ms.is_none() && waited > NO_SPEECH;
                if (heard && open.is_empty() && waited > LAST_TURN) || nothing || waited > limit {
                    hearing.error = self.error.take();
                    return Ok(hearing);
                }
            }
            let incoming = tokio::select! {
                _ = ticks.tick() => {
                    if position >= lead {
                        from.get_or_insert_with(|| self.clock.now());
                    }
                    let pcm = samples.get(position..position + frame).unwrap_or(&silence);
                    payload.clear();
                    let due = Time::from_millis(self.frames * u64::from(FRAME_MS));
                    let encoded = self.outbound.frame(pcm, due, &mut payload);
                    encoded.map_err(|error| Trouble::Broken(error.to_string()))?;
                    self.frames += 1;
                    position += frame;
                    let sent = self.sender.audio(Bytes::copy_from_slice(&payload)).await;
                    sent.map_err(|error| Trouble::Broken(error.to_string()))?;
                    if position >= samples.len() {
                        to.get_or_insert_with(|| self.clock.now());
                    }
                    None
                }
                // The ticks end every wait: none of this is longer than a frame.
                incoming = self.receiver.next() => match incoming {
                    Some(Ok(Incoming::Event(event))) => Some(event),
                    Some(Ok(Incoming::Audio(_))) => None,
                    Some(Err(error)) => return Err(Trouble::Broken(plain(&error.to_string()))),
                    None => return Err(Trouble::Broken("the server has ended the session".to_owned())),
                },
            };
            let Some(event) = incoming else { continue };
            self.observe(&event)?;
            let now = self.clock.now();
            let since = |start: Option<Time>| start.map(|start| millis(start, now));
            match event {
                Event::SpeechStarted(started) => {
                    open.insert(started.turn);
                    hearing.started_ms = hearing.started_ms.or(since(from));
                }
                Event::SpeechStopped(ended) if hearing.started_ms.is_some() => {
                    stopped = Some(now);
                    // A turn that ended within the sentence, at a pause, ended at once.
                    hearing.stopped_ms = Some(since(to).unwrap_or_default());
                    if !recognised {
                        open.remove(&ended.turn);
                    }
                }
                Event::Transcript(transcript) if open.contains(&transcript.turn) => {
                    if !transcript.text.expose().is_empty() {
                        hearing.first_words_ms = hearing.first_words_ms.or(since(from));
                    }
                    if transcript.is_final {
                        open.remove(&transcript.turn);
                        hearing.final_ms = since(stopped);
                        hearing.finals.push(transcript.text);
                    }
                }
                _ => {}
            }
        }
    }

    /// Ends the session in order.
    pub(super) async fn bye(mut self) {
        if self.send(Request::Bye(Bare {})).await.is_err() {
            return;
        }
        let deadline = self.clock.now() + SOON;
        // Its end comes as trouble, which is none here.
        while let Ok(Some(_)) = self.next(deadline).await {}
    }
}

/// Milliseconds between two instants.
pub(super) fn millis(from: Time, to: Time) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}

/// Whether `event` refuses the control with this id.
fn refusal<T>(event: &Event, id: &str) -> Option<Result<T, Trouble>> {
    match event {
        Event::Error(error) if error.reply_to.as_deref() == Some(id) => {
            Some(Err(Trouble::Refused(plain(&error.message))))
        }
        _ => None,
    }
}

/// What a backend says instead of beginning.
fn fault(event: &Event) -> Option<Trouble> {
    match event {
        Event::Error(error) if error.origin == Origin::Backend => Some(Trouble::Refused(plain(&error.message))),
        _ => None,
    }
}
