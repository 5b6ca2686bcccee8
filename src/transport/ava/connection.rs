//! One connection: an actor that reads, is told, and writes. It waits for nothing but its own socket.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, Stream as _, StreamExt as _};
use repartee_protocol::ava::{
    Audio, AuthResponse, BargeIn, BargeInAck, Finals, Frame, Kind, Mode, ModeReady, Output, Reply, Request, RequestId,
    SetMode, SttResult, TtsAudio, UNKNOWN_CALL, VERSION,
};
use repartee_protocol::native::Private;
use tokio::task::AbortHandle;
use tokio::time::{Sleep, timeout};

use super::Ava;
use super::jobs::{Done, Jobs};
use super::kept::{Conversation, Kept};
use super::live::{Live, News, Then};
use super::replying::Asked;
use super::speaker::{self, Stretch};
use crate::access;
use crate::audio::Resampler;
use crate::call::{BackendKind, Command, Endpointing, HistoryEdit, SettingsUpdate, Stages};
use crate::engine::{Refused, WireProfile};
use crate::pii::Pii;
use crate::time::Time;

/// A client that doesn't take a message in this time takes nothing any more.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pings.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// A client of which nothing was heard for so long after a ping has vanished.
const PONG_TIMEOUT: Duration = Duration::from_secs(120);
/// The other side answers a close, or doesn't.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes of the largest text message before `auth`.
const MOST_BEFORE_AUTH: usize = 64 * 1024;
/// A caller of whom no audio comes for so long in the middle of a turn has ended it: the engine drops his audio while the agent
/// speaks. Its bursts are 320 ms apart.
const GAP: Duration = Duration::from_millis(1_000);

/// Serves one connection to its end.
pub(super) async fn serve(socket: WebSocket, ava: Ava) {
    let (sink, stream) = socket.split();
    let now = ava.control().clock.now();
    let clock = ava.control().clock;
    let mut connection = Connection {
        is_trusted: ava.options().token.is_none(),
        ava,
        sink,
        stream,
        call_id: UNKNOWN_CALL.to_owned(),
        mode: Mode::Full,
        output: Output::default(),
        silence_ms: None,
        finals: Finals::new(),
        tools: Default::default(),
        prompt: None,
        prompt_call: None,
        conversation: Conversation::default(),
        interrupted: false,
        is_ended: false,
        audio_request: None,
        resampler: None,
        live: None,
        jobs: Jobs::new(),
        llm_job: None,
        reply_jobs: Vec::new(),
        replies: 0,
        asked: None,
        version_told: false,
        refusal_told: false,
        utterances: 0,
        seen: now,
        ping_at: now + PING_INTERVAL,
        live_first: false,
        timer: Box::pin(tokio::time::sleep_until(clock.instant(now + PING_INTERVAL))),
    };
    let end = connection.run().await;
    connection.end(end).await;
}

/// How a connection ends.
pub(super) enum End {
    /// The other side has gone.
    Gone,
    /// It is told so, with this code and reason.
    Told(u16, &'static str),
}

/// What has happened.
enum Happening {
    Message(Option<Result<Message, axum::Error>>),
    News(News),
    Done(Done),
    Timer,
}

pub(super) struct Connection {
    pub(super) ava: Ava,
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    is_trusted: bool,
    pub(super) call_id: String,
    pub(super) mode: Mode,
    pub(super) output: Output,
    /// Silence that ends a turn, where the client has named one.
    silence_ms: Option<u16>,
    pub(super) finals: Finals,
    pub(super) tools: repartee_protocol::ava::ToolState,
    /// The call's own prompt.
    pub(super) prompt: Option<Private>,
    prompt_call: Option<String>,
    pub(super) conversation: Conversation,
    /// The caller has interrupted, and nothing was replied since.
    pub(super) interrupted: bool,
    /// The call is over: nothing of it needs to be kept.
    is_ended: bool,
    /// The request id of the last audio message.
    pub(super) audio_request: Option<RequestId>,
    /// From the rate of the client's audio.
    resampler: Option<Resampler>,
    pub(super) live: Option<Box<Live>>,
    pub(super) jobs: Jobs,
    /// The last `llm_request`.
    pub(super) llm_job: Option<AbortHandle>,
    /// What works for the reply that is under way.
    pub(super) reply_jobs: Vec<AbortHandle>,
    /// Replies that were begun: the number of the last.
    pub(super) replies: u64,
    /// What the language model was last asked within the session.
    pub(super) asked: Option<Asked>,
    version_told: bool,
    refusal_told: bool,
    /// Replies that were spoken while they were thought.
    pub(super) utterances: u64,
    /// When something last came.
    seen: Time,
    ping_at: Time,
    /// Who is asked first: the session, or the client.
    live_first: bool,
    timer: Pin<Box<Sleep>>,
}

impl Connection {
    pub(super) fn now(&self) -> Time {
        self.ava.control().clock.now()
    }

    async fn run(&mut self) -> End {
        loop {
            self.set_timer();
            let happening = poll_fn(|context| self.poll(context)).await;
            if let Err(end) = self.handle(happening).await {
                return end;
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Happening> {
        self.live_first = !self.live_first;
        for live in [self.live_first, !self.live_first] {
            if live {
                if let Some(live) = &mut self.live
                    && let Poll::Ready(news) = live.poll(context)
                {
                    return Poll::Ready(Happening::News(news));
                }
            } else if !self.live.as_ref().is_some_and(|live| live.is_full())
                && let Poll::Ready(message) = Pin::new(&mut self.stream).poll_next(context)
            {
                return Poll::Ready(Happening::Message(message));
            }
        }
        if let Poll::Ready(done) = self.jobs.poll(context) {
            return Poll::Ready(Happening::Done(done));
        }
        self.timer.as_mut().poll(context).map(|()| Happening::Timer)
    }

    /// When something must be done though nothing happens.
    fn set_timer(&mut self) {
        let clock = self.ava.control().clock;
        let mut next = clock.instant(self.ping_at);
        if let Some(until) = self.asked.as_ref().and_then(|asked| asked.until) {
            next = next.min(clock.instant(until));
        }
        if let Some(live) = &self.live {
            let gap = self.gap_end();
            for deadline in [live.speaker.deadline(), gap].into_iter().flatten() {
                next = next.min(live.clock.instant(deadline));
            }
        }
        if self.timer.deadline() != next {
            self.timer.as_mut().reset(next);
        }
    }

    /// When an open turn ends because no audio comes.
    fn gap_end(&self) -> Option<Time> {
        let live = self.live.as_ref()?;
        let gap = GAP.min(Duration::from_millis(self.ava.server().stt_idle_ms.into()));
        (live.turn_is_open && live.has_all() && !live.idle).then(|| live.heard_at + gap)
    }

    async fn handle(&mut self, happening: Happening) -> Result<(), End> {
        match happening {
            Happening::Message(message) => {
                self.seen = self.now();
                match message {
                    Some(Ok(Message::Text(text))) => self.text(text.as_str()).await,
                    Some(Ok(Message::Binary(pcm))) => self.binary(&pcm).await,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                    Some(Ok(Message::Close(_))) | None => Err(End::Gone),
                    Some(Err(error)) => Err(unreadable(&error)),
                }
            }
            Happening::News(News::Frame(frame)) => self.frame(&frame).await,
            Happening::News(News::Event(event)) => self.event(event).await,
            Happening::News(News::Over) => {
                self.live = None;
                Ok(())
            }
            Happening::Done(done) => self.done(done).await,
            Happening::Timer => self.timer().await,
        }
    }

    async fn timer(&mut self) -> Result<(), End> {
        let now = self.now();
        if now >= self.ping_at {
            if now.since(self.seen) >= PING_INTERVAL + PONG_TIMEOUT {
                return Err(End::Gone);
            }
            self.ping_at = now + PING_INTERVAL;
            self.write(Message::Ping(Bytes::new())).await?;
        }
        let gap_end = self.gap_end();
        if let Some(live) = &mut self.live {
            let now = live.clock.now();
            if gap_end.is_some_and(|end| now >= end) {
                live.idle = true;
                live.command(Command::Commit);
            }
            if live.speaker.deadline().is_some_and(|deadline| now >= deadline) {
                let stretch = live.speaker.flush(now);
                self.speak(stretch).await?;
            }
        }
        self.give_up_late().await
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, reply: impl Into<Reply>) -> Result<(), End> {
        let reply: Reply = reply.into();
        self.write(Message::text(reply.to_json())).await
    }

    /// Sends audio: its header, and the binary message behind it.
    pub(super) async fn send_audio(&mut self, audio: TtsAudio) -> Result<(), End> {
        let (header, audio) = audio.into_messages();
        self.write(Message::text(header)).await?;
        self.write(Message::Binary(audio)).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match timeout(SEND_TIMEOUT, self.sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => {
                tracing::warn!("a client takes nothing any more; it is let go");
                Err(End::Gone)
            }
        }
    }

    /// Sends stretches of replies, as far as they still count.
    pub(super) async fn speak(&mut self, stretches: impl IntoIterator<Item = Stretch>) -> Result<(), End> {
        for stretch in stretches {
            let Some(told) = self
                .live
                .as_mut()
                .and_then(|live| live.told.get_mut(&stretch.response))
                .filter(|told| !told.dead)
            else {
                continue;
            };
            told.voiced = true;
            let overlaps = told.is_reply == Some(true) && self.asked.as_ref().is_some_and(|asked| asked.overlaps);
            let mode = told.mode;
            let audio = TtsAudio::new(&self.call_id, mode, stretch.output, stretch.audio);
            if let Some(audio) = audio {
                let audio = if overlaps {
                    let utterance = format!("utt-{}-{}", self.call_id, self.utterances);
                    audio.with_place(&utterance, stretch.index, false)
                } else {
                    audio
                };
                self.send_audio(audio).await?;
            }
        }
        Ok(())
    }

    async fn text(&mut self, text: &str) -> Result<(), End> {
        if !self.is_trusted && text.len() > MOST_BEFORE_AUTH {
            return self.send(AuthResponse::NEEDED).await;
        }
        let frame = match Frame::parse(text) {
            Ok(frame) => frame,
            Err(ignored) => {
                tracing::debug!("a message is ignored: {ignored}");
                if !self.is_trusted && ignored.is_a_message() {
                    return self.send(AuthResponse::NEEDED).await;
                }
                return Ok(());
            }
        };
        if !self.is_trusted && frame.kind != Kind::Auth {
            return self.send(AuthResponse::NEEDED).await;
        }
        if frame
            .protocol_version
            .is_some_and(|version| version != i64::from(VERSION))
            && !std::mem::replace(&mut self.version_told, true)
        {
            tracing::warn!("a client says that it speaks another version of the protocol than {VERSION}");
        }
        let request_id = frame.request_id.clone();
        if self.is_trusted
            && let Some(call_id) = frame.call_id.clone()
        {
            self.belongs_to(call_id);
        }
        let kind = frame.kind;
        match frame.read() {
            Ok(request) => self.request(request, request_id).await,
            Err(ignored) => {
                tracing::debug!("{kind:?} is ignored: {ignored}");
                Ok(())
            }
        }
    }

    /// The connection is of this call from now on. What the call was told before its last connection broke is taken over.
    fn belongs_to(&mut self, call_id: String) {
        if self.call_id == call_id {
            return;
        }
        let is_new = self.call_id == UNKNOWN_CALL && self.prompt.is_none() && self.live.is_none();
        self.call_id = call_id;
        if is_new && let Some(kept) = self.ava.control().take(&self.call_id) {
            tracing::info!("a call goes on after its connection broke call_id={}", self.call_id);
            self.prompt = kept.prompt;
            self.prompt_call = Some(self.call_id.clone());
            self.tools = kept.tools;
            self.conversation = kept.conversation;
        }
    }

    async fn request(&mut self, request: Request, request_id: Option<RequestId>) -> Result<(), End> {
        match request {
            Request::Auth(token) => self.auth(&token).await,
            Request::SetMode(set) => self.set_mode(set).await,
            Request::Audio(audio) => self.audio(audio, request_id).await,
            Request::BargeIn(barge_in) => self.barge_in(barge_in, request_id).await,
            Request::Tts(request) => self.tts_request(&request, request_id).await,
            Request::Llm(request) => self.llm_request(request, request_id).await,
            Request::ToolContext(fields) => {
                self.tools.replace(&self.call_id, fields);
                Ok(())
            }
            Request::LlmTool(request) => self.tool_request(*request, request_id).await,
            Request::ToolResult(result) => self.tool_result(result, request_id).await,
            Request::SwitchSession(prompt) => self.switch_session(prompt, request_id).await,
            Request::Status => {
                let status = self.ava.status();
                self.send(status).await
            }
            other => self.long_request(other, request_id).await,
        }
    }

    async fn auth(&mut self, token: &Private) -> Result<(), End> {
        let is_right = access::token_is_right(self.ava.options().token.as_deref(), Some(token.expose()));
        self.is_trusted |= is_right;
        self.send(if is_right {
            AuthResponse::OK
        } else {
            AuthResponse::INVALID
        })
        .await
    }

    async fn set_mode(&mut self, set: SetMode) -> Result<(), End> {
        self.silence_ms = set.segment_silence_ms;
        self.output = Output::default().after(set.output);
        if let Some(mode) = set.mode {
            self.set_stages(mode);
        }
        let endpointing = self.endpointing();
        if let Some(live) = &self.live {
            live.command(Command::Update(Box::new(SettingsUpdate {
                endpointing: Some(endpointing),
                ..SettingsUpdate::default()
            })));
        }
        let ready = ModeReady::new(
            &self.call_id,
            self.mode,
            set.segment_energy_threshold,
            set.segment_silence_ms,
            self.output,
        );
        self.send(ready).await
    }

    /// Another mode: the session's stages go by it.
    fn set_stages(&mut self, mode: Mode) {
        if self.mode == mode {
            return;
        }
        self.mode = mode;
        if let Some(live) = &self.live {
            live.command(Command::Update(Box::new(SettingsUpdate {
                stages: Some(stages(mode)),
                ..SettingsUpdate::default()
            })));
        }
    }

    fn endpointing(&self) -> Endpointing {
        let options = self.ava.options();
        let mut endpointing = options.settings.endpointing;
        if let Some(silence) = self.silence_ms {
            endpointing.silence_ms = silence.into();
            endpointing.max_silence_ms = endpointing.max_silence_ms.max(endpointing.silence_ms);
        }
        endpointing
    }

    async fn binary(&mut self, pcm: &Bytes) -> Result<(), End> {
        if !self.is_trusted {
            return self.send(AuthResponse::NEEDED).await;
        }
        self.audio_request = None;
        let pcm = pcm.slice(..pcm.len() - pcm.len() % 2);
        self.hear(&pcm, 16_000).await
    }

    async fn audio(&mut self, audio: Audio, request_id: Option<RequestId>) -> Result<(), End> {
        self.output = self.output.after(audio.output);
        if let Some(mode) = audio.mode {
            self.set_stages(mode);
        }
        self.audio_request = request_id;
        self.hear(&audio.pcm, audio.rate).await
    }

    /// Hands audio to the session, which is opened for it.
    async fn hear(&mut self, bytes: &Bytes, rate: u32) -> Result<(), End> {
        if self.mode == Mode::Tts {
            tracing::warn!(
                "audio is ignored: the connection's mode is tts call_id={}",
                self.call_id
            );
            return Ok(());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if self.ava.lacks(BackendKind::Stt) || !self.ensure_live() {
            let backend = self.ava.control().with(|selection| selection.stt.backend);
            let request_id = self.audio_request.clone();
            let result = SttResult::unavailable(&self.call_id, self.mode, backend).with_request(request_id);
            return self.send(result).await;
        }
        let pcm: Vec<i16> = bytes
            .chunks_exact(2)
            .map(|sample| i16::from_le_bytes([sample[0], sample[1]]))
            .collect();
        if self.resampler.as_ref().is_none_or(|resampler| resampler.from() != rate) {
            self.resampler = Resampler::from_hz(rate, speaker::RATE)
                .inspect_err(|error| tracing::warn!("audio is ignored: {error}"))
                .ok();
        }
        if let (Some(resampler), Some(live)) = (&mut self.resampler, &mut self.live) {
            let mut heard = Vec::with_capacity(pcm.len() * 2);
            resampler.process(&pcm, &mut heard);
            live.hear(&heard);
        }
        Ok(())
    }

    /// Opens the session if there is none; whether there is one.
    pub(super) fn ensure_live(&mut self) -> bool {
        if self.live.is_some() {
            return true;
        }
        let profile = WireProfile {
            output_rate: speaker::RATE,
            lead: speaker::LEAD,
            continuous: false,
        };
        let mut settings = self.ava.options().settings.clone();
        settings.stages = stages(self.mode);
        settings.endpointing = self.endpointing();
        settings.barge_in.enabled = false;
        settings.approval = true;
        settings.tools = Vec::new();
        settings.instructions = Pii::new(self.ava.system_prompt(self.prompt.as_ref(), false, false));
        settings.limits.max_response_tokens = self.ava.control().with(|selection| selection.llm.max_tokens);
        settings.limits.max_text_chars = 100_000;
        let limit_ms = u32::try_from(self.ava.llm_limit().as_millis()).unwrap_or(u32::MAX);
        settings.limits.llm_first_token_timeout_ms = settings.limits.llm_first_token_timeout_ms.min(limit_ms);
        match self.ava.engine().open(settings, profile) {
            Ok(call) => {
                tracing::debug!(session = %call.id, "session opened call_id={}", self.call_id);
                let live = Live::new(call);
                for (role, text) in self.conversation.messages() {
                    live.command(Command::Edit(HistoryEdit::Append {
                        role: *role,
                        text: text.clone(),
                    }));
                }
                self.live = Some(Box::new(live));
                true
            }
            Err(refused) => {
                if !std::mem::replace(&mut self.refusal_told, true) {
                    tracing::warn!("no session for a call: {refused} call_id={}", self.call_id);
                }
                let _: Refused = refused;
                false
            }
        }
    }

    /// The caller has interrupted. The answer goes first, and nothing of what was under way after it.
    async fn barge_in(&mut self, barge_in: BargeIn, request_id: Option<RequestId>) -> Result<(), End> {
        self.jobs.call_off();
        self.llm_job = None;
        self.reply_jobs.clear();
        self.replies += 1;
        self.asked = None;
        self.is_ended |= barge_in.stops_session;
        if let Some(live) = &mut self.live {
            live.hush();
        }
        if barge_in.rollback && !barge_in.stops_session {
            self.interrupted = true;
            match &mut self.live {
                Some(live) => live.then(Then::RollBack),
                None => self.conversation.roll_back(),
            }
        }
        let acknowledged = BargeInAck::new(&self.call_id, request_id);
        self.send(acknowledged).await
    }

    async fn switch_session(&mut self, prompt: Option<Private>, request_id: Option<RequestId>) -> Result<(), End> {
        use repartee_protocol::ava::SwitchResponse;
        let Some(prompt) = prompt else {
            let missing = SwitchResponse::prompt_missing(&self.call_id, request_id);
            return self.send(missing).await;
        };
        self.is_ended = false;
        self.prompt = Some(prompt);
        if self.prompt_call.as_ref() != Some(&self.call_id) {
            self.conversation.clear();
            if let Some(live) = &self.live {
                live.command(Command::Edit(HistoryEdit::Clear));
            }
            self.prompt_call = Some(self.call_id.clone());
        }
        let taken = SwitchResponse::prompt_taken(&self.call_id, request_id);
        self.send(taken).await
    }

    /// Lets go of everything; what the call was told is kept for a while if it isn't over.
    async fn end(mut self, end: End) {
        if let End::Told(code, reason) = end {
            let close = Message::Close(Some(CloseFrame {
                code,
                reason: reason.into(),
            }));
            let _ = timeout(LINGER, self.sink.send(close)).await;
        }
        self.live = None;
        let knows = self.prompt.is_some() || !self.conversation.is_empty();
        if knows && !self.is_ended && self.call_id != UNKNOWN_CALL {
            let kept = Kept {
                prompt: self.prompt.take(),
                tools: std::mem::take(&mut self.tools),
                conversation: std::mem::take(&mut self.conversation),
            };
            self.ava.control().keep(&self.call_id, kept);
        }
        // A close is only answered by reading on.
        let _ = timeout(LINGER, async { while let Some(Ok(_)) = self.stream.next().await {} }).await;
    }
}

/// What a session does in a mode. Without a language model's stage it waits to be told what is answered.
fn stages(mode: Mode) -> Stages {
    Stages {
        stt: true,
        llm: false,
        tts: mode == Mode::Full,
    }
}

/// The end after a message that could not be received.
fn unreadable(error: &axum::Error) -> End {
    // axum hides tungstenite's error behind its own; its text is the only way to tell the two apart.
    let text = error.to_string();
    if text.contains("too long") || text.contains("too large") {
        End::Told(close_code::SIZE, "a message is too large")
    } else {
        End::Gone
    }
}
