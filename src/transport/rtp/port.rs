//! One port: it waits for a call, serves it, and waits for the next.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use repartee_protocol::rtp::{Datagram, RtpPacket, classify};
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;

use super::RtpOptions;
use super::doorstep::{Doorstep, Source};
use super::intake::Intake;
use super::outgoing::Outgoing;
use super::ports::{Door, Opened, Report, Use};
use crate::audio::{Heard, RtpFormats, RtpReceiver, SampleRate, StreamQuality};
use crate::call::CloseReason;
use crate::engine::Clock;
use crate::phone::{Admission, Carrier, Facts, Happening, Key, Line, Phones};
use crate::time::Time;

/// So many packets in a row make a call that nobody announced.
const STREAM: u8 = 4;
/// And so many do where one is expected: a single one may be the last of the call before.
const EXPECTED: u8 = 2;
/// A deadline that has passed without anything to do is not asked for again before this.
const BREATH: Duration = Duration::from_millis(1);
/// No call lasts so long: a month.
const A_LONG_TIME: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How a call begins.
#[derive(Clone, Copy, Debug)]
struct Begin {
    /// Where its other side is.
    peer: SocketAddr,
    /// The number of the reservation that it belongs to.
    reserved: Option<u64>,
    ssrc: Option<u32>,
}

/// See the [module](self).
pub(super) struct Port {
    door: Arc<Door>,
    below: Option<Arc<Door>>,
    above: Option<Arc<Door>>,
    reports: mpsc::Receiver<Report>,
    turns: Arc<AtomicU64>,
    phones: Phones,
    admission: Admission,
    options: Arc<RtpOptions>,
    closed: watch::Receiver<()>,
    clock: Clock,
    intake: Intake,
    doorstep: Doorstep,
    formats: RtpFormats,
    heard: Heard,
    /// The reservation whose call is over.
    done: u64,
}

impl Port {
    /// # Errors
    /// The system can't watch the socket.
    pub(super) fn new(
        opened: Opened,
        phones: Phones,
        admission: Admission,
        options: Arc<RtpOptions>,
        closed: watch::Receiver<()>,
    ) -> io::Result<Self> {
        let clock = Clock::start();
        Ok(Self {
            intake: Intake::new(opened.door.socket()?, clock)?,
            door: opened.door,
            below: opened.below,
            above: opened.above,
            reports: opened.reports,
            turns: opened.turns,
            phones,
            admission,
            doorstep: Doorstep::new(options.idle),
            options,
            closed,
            clock,
            formats: RtpFormats::asterisk(),
            heard: Heard::default(),
            done: 0,
        })
    }

    /// Serves calls until the wire is closed.
    pub(super) async fn serve(mut self) {
        while let Some(begin) = self.next_call().await {
            self.doorstep.clear();
            self.call(begin).await;
            if let Some(number) = begin.reserved {
                self.done = number;
            }
            self.door.give_back(self.turns.fetch_add(1, Ordering::Relaxed) + 1);
        }
    }

    /// Waits for the next call. `None` when the wire is closed.
    async fn next_call(&mut self) -> Option<Begin> {
        loop {
            if let Use::Reserved(number, Some(peer)) = self.door.used()
                && number != self.done
            {
                return Some(Begin {
                    peer,
                    reserved: Some(number),
                    ssrc: None,
                });
            }
            tokio::select! {
                () = self.door.changed() => {}
                _ = self.closed.changed() => return None,
                // Nobody's.
                Some(_) = self.reports.recv() => {}
                () = self.intake.ready() => {
                    if let Some(begin) = self.knocks() {
                        return Some(begin);
                    }
                }
            }
        }
    }

    /// Reads what has come to a port without a call.
    fn knocks(&mut self) -> Option<Begin> {
        let now = self.clock.now();
        let used = self.door.used();
        let expected = match used {
            Use::Free(_) => None,
            Use::Reserved(number, _) if number != self.done => Some(number),
            // Its call is over, and whoever has reserved it doesn't know yet.
            Use::Reserved(..) | Use::Called => {
                self.intake.read(|_, _| {});
                return None;
            }
        };
        let Self {
            intake,
            doorstep,
            admission,
            formats,
            below,
            door,
            phones,
            options,
            ..
        } = self;
        let mut begin = None;
        intake.read(|from, datagram| {
            if begin.is_some() || !admission.admits(from.ip()) {
                return;
            }
            if classify(datagram) == Datagram::Rtcp {
                if let Some(below) = below {
                    below.report(from, datagram);
                }
                return;
            }
            let Ok(packet) = RtpPacket::parse(datagram) else { return };
            let header = packet.header;
            if packet.payload.is_empty() || formats.format(header.payload_type).is_none() {
                return;
            }
            let in_a_row = doorstep.knock(now, from, &header);
            let is_expected = || expected.is_some() || phones.announced().knows(&Key::Port(door.port()));
            if (in_a_row >= STREAM && options.unannounced) || (in_a_row >= EXPECTED && is_expected()) {
                begin = Some(Begin {
                    peer: from,
                    reserved: expected,
                    ssrc: Some(header.ssrc),
                });
            }
        });
        // Whoever reserves it this very moment is faster.
        begin.filter(|begin| begin.reserved.is_some() || door.take())
    }

    /// Serves a call to its end.
    async fn call(&mut self, begin: Begin) {
        let outgoing = match Outgoing::new(self.options.answer) {
            Ok(outgoing) => outgoing,
            Err(error) => {
                tracing::error!(%error, "a call can't be answered");
                return;
            }
        };
        let carrier = Carrier {
            wire: "rtp",
            rate: self.options.answer.rate(),
            lead: Duration::ZERO,
            continuous: true,
        };
        let announced = self.phones.announced().take(&Key::Port(self.door.port()));
        let line = match self.phones.answer(carrier, Facts::default(), announced) {
            Ok(line) => line,
            Err(refused) => {
                tracing::warn!("a call is refused: {refused}");
                if let Some(ssrc) = begin.ssrc {
                    self.doorstep.over(self.clock.now(), Source { from: begin.peer, ssrc });
                }
                return;
            }
        };
        let mut call = OneCall {
            receiver: RtpReceiver::new(
                self.formats.clone(),
                SampleRate::Hz16000,
                outgoing.ssrc(),
                Some(begin.peer),
                None,
            ),
            outgoing,
            clock: line.clock(),
            line,
            source: begin.ssrc.map(|ssrc| Source { from: begin.peer, ssrc }),
            heard_at: Time::ZERO,
            strangers: 0,
            reports_to: None,
            report: Vec::with_capacity(128),
        };
        let end = self.run(&mut call, begin).await;
        if let Some(source) = call.source
            && end == End::Ours
        {
            self.doorstep.over(self.clock.now(), source);
        }
        call.goodbye(&self.door, self.above.as_deref());
    }

    /// Both directions, until the call is over.
    async fn run(&mut self, call: &mut OneCall, begin: Begin) -> End {
        let mut timer = Box::pin(tokio::time::sleep_until(call.clock.instant(Time::ZERO)));
        let idle = begin.reserved.is_none().then_some(self.options.idle);
        loop {
            let now = call.clock.now();
            call.reports(now, &self.door, self.above.as_deref());
            if idle.is_some_and(|idle| now.since(call.heard_at) >= idle) {
                tracing::info!(session = %call.line.session(), "nothing has come for too long");
                return End::Theirs;
            }
            if begin.reserved.is_some_and(|number| !self.is_reserved(number)) {
                return End::Ours;
            }
            let mut deadline = call.next_deadline();
            if let Some(idle) = idle {
                deadline = deadline.min(call.heard_at + idle);
            }
            arm(&mut timer, &call.clock, deadline.max(now + BREATH));
            tokio::select! {
                happening = call.line.next() => match happening {
                    Happening::Frame(frame) => {
                        let peer = call.receiver.peer().unwrap_or(begin.peer);
                        if !call.outgoing.send(&self.door, peer, &frame) {
                            call.line.note_unsent();
                        }
                    }
                    // What has been sent is being played; nothing follows it.
                    Happening::Flush => {}
                    Happening::Over(CloseReason::TooSlow) => return End::Theirs,
                    Happening::Over(_) => return End::Ours,
                },
                () = self.intake.ready() => self.hear(call),
                () = timer.as_mut() => {
                    let now = call.clock.now();
                    call.receiver.poll(now, &mut self.heard);
                    call.hand_over(&mut self.heard);
                }
                Some(report) = self.reports.recv() => call.receive_report(&report),
                // What the port is used for is looked at above.
                () = self.door.changed() => {}
            }
        }
    }

    fn is_reserved(&self, number: u64) -> bool {
        matches!(self.door.used(), Use::Reserved(current, _) if current == number)
    }

    /// Reads what has come to a port with a call.
    fn hear(&mut self, call: &mut OneCall) {
        let Self {
            intake,
            admission,
            below,
            heard,
            ..
        } = self;
        let now = call.clock.now();
        let (own, told) = (call.outgoing.ssrc(), call.receiver.peer());
        intake.read(|from, datagram| {
            // Where the call's other side is said to be is known from somebody who may say so.
            if !(told.is_some_and(|told| told.ip() == from.ip()) || admission.admits(from.ip())) {
                call.strangers += 1;
                return;
            }
            if classify(datagram) == Datagram::Rtcp && call.receiver.peer() != Some(from) {
                if let Some(below) = below {
                    below.report(from, datagram);
                }
                return;
            }
            if let Ok(packet) = RtpPacket::parse(datagram) {
                if packet.header.ssrc == own {
                    // Our own, sent back to us.
                    call.strangers += 1;
                    return;
                }
                // What can't be read is counted there, and the call goes on.
                let _ = call.receiver.receive(now, from, datagram, heard);
                if call.receiver.peer() == Some(from) {
                    let ssrc = packet.header.ssrc;
                    call.source = Some(Source { from, ssrc });
                    call.heard_at = now;
                }
            } else {
                let _ = call.receiver.receive(now, from, datagram, heard);
            }
        });
        call.hand_over(heard);
    }
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The far side, by silence.
    Theirs,
    /// Our side, or who reserved the port: what goes on to come is nobody's.
    Ours,
}

/// A call that is going on.
struct OneCall {
    line: Line,
    clock: Clock,
    receiver: RtpReceiver,
    outgoing: Outgoing,
    /// The stream that comes.
    source: Option<Source>,
    /// When something of it came.
    heard_at: Time,
    /// Packets from networks that may not call, and our own.
    strangers: u64,
    /// Where the peer's reports come from, if that isn't where its sound does.
    reports_to: Option<SocketAddr>,
    report: Vec<u8>,
}

impl OneCall {
    fn next_deadline(&self) -> Time {
        // The line has its own, so there is something to wait for in any case.
        let far = Time::ZERO + A_LONG_TIME;
        [self.receiver.next_deadline(), self.receiver.next_report()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(far)
    }

    /// Gives what was heard to the line.
    fn hand_over(&mut self, heard: &mut Heard) {
        let received = received(&self.receiver.quality(), self.strangers);
        self.line.hear_timed(&heard.pcm, received);
        heard.pcm.clear();
        for key in heard.digits.drain(..) {
            self.line.key(key);
        }
    }

    /// A report that came to the port above: about this call, if it is of its source.
    fn receive_report(&mut self, report: &Report) {
        let is_ours = self.source.is_some_and(|source| {
            source.from.ip() == report.from.ip() && report.bytes.get(4..8) == Some(&source.ssrc.to_be_bytes())
        });
        if is_ours {
            self.reports_to = Some(report.from);
            self.receiver
                .receive_report(self.clock.now(), report.from, &report.bytes);
        }
    }

    /// Sends our report where it is due: from the port to which the peer's come.
    fn reports(&mut self, now: Time, door: &Door, above: Option<&Door>) {
        if self.receiver.next_report().is_some_and(|due| now >= due) {
            self.report.clear();
            let sent = self.outgoing.sent(now);
            if self.receiver.write_report(now, Some(sent), &mut self.report) {
                self.send_report(door, above);
            }
        }
    }

    /// Says goodbye to a peer with whom reports were exchanged.
    fn goodbye(&mut self, door: &Door, above: Option<&Door>) {
        if self.receiver.next_report().is_some() {
            self.report.clear();
            self.report.extend_from_slice(self.outgoing.goodbye());
            self.send_report(door, above);
        }
    }

    fn send_report(&self, door: &Door, above: Option<&Door>) {
        // Reports are lost like everything else on this wire.
        match (self.reports_to, above, self.receiver.peer()) {
            (Some(to), Some(above), _) => drop(above.send(to, &self.report)),
            (None, _, Some(peer)) => drop(door.send(peer, &self.report)),
            _ => {}
        }
    }
}

fn arm(timer: &mut std::pin::Pin<Box<Sleep>>, clock: &Clock, deadline: Time) {
    let instant = clock.instant(deadline);
    if timer.deadline() != instant {
        timer.as_mut().reset(instant);
    }
}

/// What a call's own account of its packets is, with the strangers of its port.
fn received(quality: &StreamQuality, strangers: u64) -> StreamQuality {
    StreamQuality {
        strangers: quality.strangers + strangers,
        ..*quality
    }
}
