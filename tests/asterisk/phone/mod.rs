//! A test phone: it calls, is called, speaks, presses keys, and writes down what it hears. It speaks SIP over UDP on loopback, where
//! nothing is lost; so it repeats nothing, but for what it is asked twice. One call at a time.

mod codec;
mod ear;
mod media;
mod sip;

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use repartee::time::Time;

pub(crate) use self::codec::Codec;
pub(crate) use self::ear::{Ear, Packet};
use self::media::Media;
pub(crate) use self::media::{Line, go_real_time};
use self::sip::{Message, Names};
use crate::now;

/// Whatever must happen on loopback happens within this time, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(10);

/// How far a call is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// We called, and nobody has answered yet.
    Calling,
    /// We are called, and have not answered yet.
    Ringing,
    /// Both sides speak.
    Answered { at: Time },
    /// It is over. `by_us`: this phone hung up.
    Ended { at: Time, by_us: bool, status: u16 },
}

#[derive(Debug)]
struct Call {
    phase: Phase,
    names: Names,
    sequence: u32,
    /// The invitation that we have not answered.
    invitation: Option<Message>,
    codecs: Vec<Codec>,
    media: Media,
    line: Line,
    version: u32,
    direction: &'static str,
}

#[derive(Debug)]
struct State {
    call: Option<Call>,
    /// It answers by itself.
    answers: bool,
}

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    address: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
    stop: AtomicBool,
    name: String,
}

/// The phone; whatever it does ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Phone {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    codecs: Vec<Codec>,
    line: Line,
}

static NUMBER: AtomicU32 = AtomicU32::new(1);

fn unique() -> String {
    format!("{}x{}", NUMBER.fetch_add(1, Ordering::Relaxed), std::process::id())
}

impl Phone {
    /// A phone that calls.
    pub(crate) fn new(name: &str) -> Self {
        Self::at(name, "127.0.0.1:0")
    }

    /// A phone that can be called at this address, because Asterisk's configuration says so.
    pub(crate) fn at(name: &str, address: &str) -> Self {
        let socket = UdpSocket::bind(address).expect("the namespace has this port for us");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a socket takes it");
        let shared = Arc::new(Shared {
            address: socket.local_addr().expect("it is bound"),
            socket,
            state: Mutex::new(State {
                call: None,
                answers: false,
            }),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            name: name.to_owned(),
        });
        let own = Arc::clone(&shared);
        Self {
            shared,
            thread: Some(thread::spawn(move || own.run())),
            codecs: vec![Codec::Ulaw],
            line: Line::default(),
        }
    }

    /// What it offers, the best first.
    pub(crate) fn codecs(mut self, codecs: &[Codec]) -> Self {
        self.codecs = codecs.to_vec();
        self
    }

    /// Its line is as bad as this, from the first packet on.
    pub(crate) fn line(mut self, line: Line) -> Self {
        self.line = line;
        self
    }

    /// Answers each call at once.
    pub(crate) fn answers(self) -> Self {
        self.shared.state().answers = true;
        self
    }

    /// Calls `extension` of the Asterisk on loopback, and waits until it is answered.
    pub(crate) fn call(&self, extension: &str) -> &Self {
        self.dial(extension);
        let phase = self.wait("an answer", LIMIT, |phase| {
            matches!(phase, Phase::Answered { .. } | Phase::Ended { .. })
        });
        assert!(
            matches!(phase, Phase::Answered { .. }),
            "{extension} answers: {phase:?}"
        );
        self
    }

    /// Calls, and waits for nothing.
    pub(crate) fn dial(&self, extension: &str) {
        let own = self.shared.address;
        let target = format!("sip:{extension}@127.0.0.1:5060");
        let call = Call {
            phase: Phase::Calling,
            names: Names {
                call_id: unique(),
                local: format!(
                    "\"{name}\" <sip:{name}@{own}>;tag={}",
                    unique(),
                    name = self.shared.name
                ),
                remote: format!("<{target}>"),
                target,
                contact: format!("sip:{}@{own}", self.shared.name),
            },
            sequence: 1,
            invitation: None,
            codecs: self.codecs.clone(),
            media: Media::bind(),
            line: self.line,
            version: 1,
            direction: "sendrecv",
        };
        let mut state = self.shared.state();
        self.shared.invite(&call);
        state.call = Some(call);
    }

    /// How far its call is; none, if there never was one.
    pub(crate) fn phase(&self) -> Option<Phase> {
        self.shared.state().call.as_ref().map(|call| call.phase.clone())
    }

    /// Waits until the phase of its call is as `wanted`, and fails the test when that does not come.
    pub(crate) fn wait(&self, what: &str, limit: Duration, wanted: impl Fn(&Phase) -> bool) -> Phase {
        let reached = |state: &mut State| !state.call.as_ref().is_some_and(|call| wanted(&call.phase));
        let (state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.state(), limit, reached)
            .unwrap_or_else(PoisonError::into_inner);
        let phase = state.call.as_ref().map(|call| call.phase.clone());
        assert!(
            !timeout.timed_out(),
            "{}: {what} did not come within {limit:?}; it is {phase:?}",
            self.shared.name
        );
        phase.expect("it has a call, because its phase was looked at")
    }

    /// Waits until the call is over; the answer is when that was. Fails if this phone itself has ended it.
    pub(crate) fn wait_ended(&self, limit: Duration) -> Time {
        match self.wait("the end of the call", limit, |phase| {
            matches!(phase, Phase::Ended { .. })
        }) {
            Phase::Ended { at, by_us: false, .. } => at,
            other => panic!("the other side hangs up: {other:?}"),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase(), None | Some(Phase::Ended { .. }))
    }

    /// Hangs up, or gives up calling.
    pub(crate) fn hang_up(&self) {
        let mut state = self.shared.state();
        if let Some(call) = &mut state.call {
            self.shared.hang_up(call);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Puts the other side on hold, or takes it back (a re-INVITE that says `sendonly` or `sendrecv`).
    pub(crate) fn hold(&self, held: bool) {
        let mut state = self.shared.state();
        if let Some(call) = &mut state.call {
            call.sequence += 1;
            call.version += 1;
            call.direction = if held { "sendonly" } else { "sendrecv" };
            self.shared.invite(call);
        }
    }

    fn with_media<T>(&self, use_it: impl FnOnce(&Media) -> T) -> T {
        let state = self.shared.state();
        use_it(&state.call.as_ref().expect("it has a call").media)
    }

    /// The rate of what it says and hears, in Hz.
    pub(crate) fn rate(&self) -> u32 {
        let state = self.shared.state();
        state.call.as_ref().map_or(8_000, |call| call.codecs[0].rate())
    }

    /// Says `samples`, and does not wait for their end. The rate is [`Phone::rate`].
    pub(crate) fn say(&self, samples: &[i16]) {
        self.with_media(|media| media.say(samples));
    }

    /// When the first of what was said last left.
    pub(crate) fn begun(&self) -> Time {
        let mut begun = None;
        crate::until("the microphone speaks", LIMIT, || {
            begun = self.with_media(Media::begun);
            begun.is_some()
        });
        begun.expect("that was waited for")
    }

    /// Waits until all that was said and pressed has left.
    pub(crate) fn wait_said(&self, limit: Duration) -> Time {
        crate::until("all is said", limit, || self.with_media(Media::is_done));
        now()
    }

    /// Presses keys, each for `duration`, while silence would be sent or speech waits.
    pub(crate) fn press(&self, keys: &str, duration: Duration) {
        self.with_media(|media| media.press(keys, duration));
    }

    pub(crate) fn mute(&self, muted: bool) {
        self.with_media(|media| media.mute(muted));
    }

    /// What it has heard so far.
    pub(crate) fn ear(&self) -> Ear {
        self.with_media(Media::ear)
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.hang_up();
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut datagram = [0; 8_192];
        while !self.stop.load(Ordering::Acquire) {
            let Ok((length, from)) = self.socket.recv_from(&mut datagram) else {
                continue;
            };
            if let Some(message) = Message::parse(&datagram[..length]) {
                self.handle(&message, from);
                self.changed.notify_all();
            }
        }
    }

    fn send(&self, text: &str, to: SocketAddr) {
        let _ = self.socket.send_to(text.as_bytes(), to);
    }

    /// Asterisk is where all requests go.
    fn asterisk() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 5060))
    }

    fn invite(&self, call: &Call) {
        let body = sip::session_description(call.media.address(), &call.codecs, call.version, call.direction);
        let text = sip::request("INVITE", &call.names, call.sequence, &unique(), self.address, &body);
        self.send(&text, Self::asterisk());
    }

    fn accept(&self, call: &mut Call) {
        let Some(invitation) = call.invitation.take() else {
            return;
        };
        if let Some((peer, codec)) = sip::read_description(&invitation.body) {
            call.codecs = vec![codec];
            call.media.start(peer, codec, call.line);
        }
        let body = sip::session_description(call.media.address(), &call.codecs, call.version, call.direction);
        let tag = call.names.local.rsplit_once("tag=").map_or("", |(_, tag)| tag);
        let answer = invitation.response("200 OK", tag, Some(&call.names.contact), &body);
        self.send(&answer, Self::asterisk());
        call.phase = Phase::Answered { at: now() };
    }

    fn hang_up(&self, call: &mut Call) {
        match call.phase {
            Phase::Answered { .. } => {
                call.sequence += 1;
                let text = sip::request("BYE", &call.names, call.sequence, &unique(), self.address, "");
                self.send(&text, Self::asterisk());
            }
            Phase::Ringing => {
                if let Some(invitation) = call.invitation.take() {
                    self.send(
                        &invitation.response("486 Busy Here", "busy", None, ""),
                        Self::asterisk(),
                    );
                }
            }
            // Nobody in these tests gives up before there is an answer.
            Phase::Calling | Phase::Ended { .. } => {}
        }
        call.end(true, 200);
    }

    fn handle(&self, message: &Message, from: SocketAddr) {
        let mut state = self.state();
        let known = state
            .call
            .as_ref()
            .is_some_and(|call| call.names.call_id == message.call_id());
        match (message.status(), message.method()) {
            (Some(status), "INVITE") if known => {
                if let Some(call) = &mut state.call {
                    self.invited(call, message, status);
                }
            }
            (Some(_), _) => {}
            (None, "ACK") => {}
            (None, "INVITE") => self.called(&mut state, message, from, known),
            (None, "BYE") if known => {
                self.send(&message.response("200 OK", "", None, ""), from);
                if let Some(call) = &mut state.call {
                    call.end(false, 200);
                }
            }
            (None, "CANCEL") if known => {
                self.send(&message.response("200 OK", "", None, ""), from);
                if let Some(call) = &mut state.call {
                    if let Some(invitation) = call.invitation.take() {
                        self.send(
                            &invitation.response("487 Request Terminated", "cancelled", None, ""),
                            from,
                        );
                    }
                    call.end(false, 487);
                }
            }
            (None, "OPTIONS" | "UPDATE" | "NOTIFY") => self.send(&message.response("200 OK", "any", None, ""), from),
            (None, _) => self.send(
                &message.response("481 Call/Transaction Does Not Exist", "none", None, ""),
                from,
            ),
        }
    }

    /// An answer to our invitation.
    fn invited(&self, call: &mut Call, message: &Message, status: u16) {
        if status < 200 {
            return;
        }
        message.header("to").clone_into(&mut call.names.remote);
        let sequence = message
            .header("cseq")
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok());
        let sequence = sequence.unwrap_or(call.sequence);
        if status >= 300 {
            // The acknowledgement of a refusal belongs to the invitation: it has its branch (RFC 3261 §17.1.1.3).
            let via = message.header("via");
            let branch = via.split("branch=z9hG4bK").nth(1).unwrap_or_default();
            let branch = branch.split(';').next().unwrap_or_default();
            self.send(
                &sip::request("ACK", &call.names, sequence, branch, self.address, ""),
                Self::asterisk(),
            );
            if call.phase == Phase::Calling {
                call.end(false, status);
            }
            return;
        }
        if let Some(contact) = message.contact() {
            call.names.target = contact;
        }
        self.send(
            &sip::request("ACK", &call.names, sequence, &unique(), self.address, ""),
            Self::asterisk(),
        );
        if call.phase == Phase::Calling {
            if let Some((peer, codec)) = sip::read_description(&message.body) {
                call.codecs = vec![codec];
                call.media.start(peer, codec, call.line);
            }
            call.phase = Phase::Answered { at: now() };
        }
    }

    /// Somebody invites us, or invites us anew.
    fn called(&self, state: &mut State, message: &Message, from: SocketAddr, known: bool) {
        if known {
            if let Some(call) = &mut state.call
                && matches!(call.phase, Phase::Answered { .. })
            {
                let body = sip::session_description(call.media.address(), &call.codecs, call.version, call.direction);
                let answer = message.response("200 OK", "", Some(&call.names.contact), &body);
                self.send(&answer, from);
            }
            return;
        }
        if state
            .call
            .as_ref()
            .is_some_and(|call| !matches!(call.phase, Phase::Ended { .. }))
        {
            self.send(&message.response("486 Busy Here", "busy", None, ""), from);
            return;
        }
        let tag = unique();
        let contact = format!("sip:{}@{}", self.name, self.address);
        self.send(&message.response("180 Ringing", &tag, Some(&contact), ""), from);
        let to = message.header("to");
        let mut call = Call {
            phase: Phase::Ringing,
            names: Names {
                call_id: message.call_id().to_owned(),
                local: format!("{to};tag={tag}"),
                remote: message.header("from").to_owned(),
                target: message.contact().unwrap_or_default(),
                contact,
            },
            sequence: 1,
            invitation: Some(message.clone()),
            codecs: vec![Codec::Ulaw],
            media: Media::bind(),
            line: Line::default(),
            version: 1,
            direction: "sendrecv",
        };
        if state.answers {
            self.accept(&mut call);
        }
        state.call = Some(call);
    }
}

impl Call {
    fn end(&mut self, by_us: bool, status: u16) {
        if !matches!(self.phase, Phase::Ended { .. }) {
            self.phase = Phase::Ended {
                at: now(),
                by_us,
                status,
            };
        }
        self.media.silence();
    }
}
