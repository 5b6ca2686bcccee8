//! Packets of a stream into frames in order, by one of two disciplines.
//!
//! - **Timed**, for UDP. Every tick of the stream has a moment at which it is handed on, some depth after it could
//!   have arrived at the earliest. What isn't there by then is concealed, and time runs on whether packets come or
//!   not. The depth follows the network between bounds: it grows when packets come too late, and shrinks, best in
//!   silence, when they all come too early. A far clock that runs faster or slower shows as the same two things.
//! - **Ordered**, for RTP over a transport that is reliable and ordered (a WebSocket). There is nothing to wait for:
//!   a frame is handed on as soon as it is the next one. Only a gap in the sequence is held open for a moment.
//!
//! Sans-IO. Push packets as they arrive; then pull until [`Pull::Wait`], and again at
//! [`next_deadline`](JitterBuffer::next_deadline). Lengths are in ticks of the stream's RTP clock, which for Opus is
//! not the rate of its samples. The buffer holds a bounded number of packets and allocates nothing after it was made.
//!
//! The rules are those of RFC 3550 appendix A.1 for sequence numbers, and of common receivers for the rest: a source
//! that changes its SSRC is a new stream at once, one whose numbers jump is when it does so twice in a row; a gap in
//! the timestamps alone is silence that was not sent, a gap in both is loss.

mod config;
mod margin;
mod stream;

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;
pub use config::{Discipline, JitterConfig};
use margin::Margin;
use stream::{Numbers, Position, Probation};

/// What a packet is to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// Sound that lasts so many ticks.
    Audio {
        /// Told from the payload, never assumed: 10, 30, 40 and 60 ms exist.
        ticks: u32,
    },
    /// "Nothing to hear from here on" (RFC 3389).
    ComfortNoise,
    /// Something that only uses up a sequence number, such as a telephone event.
    Other,
}

/// A packet as the buffer needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JitterPacket<P> {
    /// RTP's sequence number.
    pub sequence: u16,
    /// RTP's timestamp.
    pub timestamp: u32,
    /// RTP's source.
    pub ssrc: u32,
    /// RTP's marker: the first packet after silence.
    pub marker: bool,
    /// What it is to the stream.
    pub kind: PacketKind,
    /// Handed back by [`Pull::Frame`].
    pub payload: P,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits for its turn.
    Queued,
    /// It waits for its turn, and the oldest packet was dropped to make room.
    QueuedAndDropped,
    /// It is here already, and was dropped.
    Duplicate,
    /// Its moment is over, and it was dropped.
    Late,
    /// Its numbers are far from the stream's. It is kept aside; if the next packet follows it, a new stream begins.
    Probation,
    /// A new stream began with it.
    NewStream,
}

/// What is to be heard next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull<P> {
    /// This payload.
    Frame(P),
    /// So many ticks were lost: conceal them.
    Conceal(u32),
    /// So many ticks were never sent, or must pass before the next frame: silence.
    Silence(u32),
    /// So many ticks of what comfort noise announced: silence, or noise for who wants it.
    ComfortNoise(u32),
    /// Another source speaks from here on: reset the decoder. It lasts no time.
    NewStream,
    /// Nothing yet.
    Wait,
}

/// Counts since the buffer was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JitterStats {
    /// Packets pushed.
    pub received: u64,
    /// Packets that were here already.
    pub duplicates: u64,
    /// Packets that came after their moment.
    pub late: u64,
    /// Packets that came after one with a higher sequence number, whether in time or not.
    pub reordered: u64,
    /// Packets dropped because too many waited.
    pub overflowed: u64,
    /// Packets far from the stream that nothing followed.
    pub strays: u64,
    /// Streams after the first.
    pub restarts: u64,
    /// Gaps that were taken for loss, in packets.
    pub lost: u64,
    /// Ticks concealed.
    pub concealed_ticks: u64,
    /// Ticks of silence, comfort noise included.
    pub silent_ticks: u64,
    /// Times that the depth grew.
    pub stretched: u64,
    /// Frames dropped so that the depth shrinks.
    pub shrunk: u64,
}

#[derive(Debug, Clone)]
struct Entry<P> {
    position: Position,
    arrived: Time,
    packet: JitterPacket<P>,
}

impl<P> Entry<P> {
    fn ticks(&self) -> i64 {
        match self.packet.kind {
            PacketKind::Audio { ticks } => i64::from(ticks),
            PacketKind::ComfortNoise | PacketKind::Other => 0,
        }
    }
}

/// How much sound, in time, fills a gap at the end of the queue before it is silence.
const CONCEALED: Duration = Duration::from_millis(60);
/// A jump of the timestamps by more than this makes a stray.
const JUMP: Duration = Duration::from_secs(3);
/// A consumer that comes so late has stalled: it goes on with what is newest.
const STALL: Duration = Duration::from_secs(1);
/// Once all that came for so long came too late, it isn't the network: the sender's clock stood still while it was silent, or the way has
/// become longer than the depth may be. What a network held back comes in a burst, of which the last is in time.
const DEAF: Duration = Duration::from_millis(150);
/// A packet whose start is covered by less than this fraction of a frame is on time all the same.
const OVERLAP_DIVISOR: i64 = 2;

/// See the [module's words](self).
#[derive(Debug, Clone)]
pub struct JitterBuffer<P> {
    config: JitterConfig,
    numbers: Option<Numbers>,
    probation: Option<Probation<P>>,
    /// In the order of timestamps, then sequence numbers.
    queue: VecDeque<Entry<P>>,
    /// Payloads that were not handed on, for the caller to use their memory again.
    discarded: Vec<P>,
    play: Play,
    margin: Margin,
    stats: JitterStats,
    /// The caller said that the last frame held silence.
    quiet: bool,
    /// A new stream's decoder is to be reset before anything else.
    announce: bool,
    finished: bool,
}

/// Where the output is.
#[derive(Debug, Clone, Default)]
struct Play {
    /// The output runs from here (timed): `anchor + emitted` is when the next item is due.
    anchor: Time,
    emitted: u64,
    /// The timestamp that is next, unwrapped; none before the first packet.
    next: Option<i64>,
    /// The last sequence number that was consumed, unwrapped.
    last_sequence: i64,
    /// Ticks made up since the queue ran dry; they are given back if what was missing comes after all.
    dry: i64,
    /// Ticks of silence or concealment to put in before the next frame.
    insert: i64,
    /// Comfort noise was announced, and no sound came since.
    comfort: bool,
    /// A frame of this stream was handed on.
    started: bool,
    /// All that came since the first of these moments came too late, and the last of it at the other.
    late: Option<(Time, Time)>,
}

impl<P> JitterBuffer<P> {
    /// A buffer before its first packet.
    ///
    /// # Panics
    /// If the clock, the frame or the capacity is zero.
    #[must_use]
    pub fn new(config: JitterConfig) -> Self {
        assert!(
            config.clock > 0 && config.frame > 0 && config.capacity > 0,
            "a stream has a clock, frames and room"
        );
        Self {
            config,
            numbers: None,
            probation: None,
            // One more, since a packet is put in before the oldest is dropped.
            queue: VecDeque::with_capacity(config.capacity + 1),
            discarded: Vec::with_capacity(config.capacity),
            play: Play::default(),
            margin: Margin::default(),
            stats: JitterStats::default(),
            quiet: false,
            announce: false,
            finished: false,
        }
    }

    /// Takes a packet that arrived at `now`.
    pub fn push(&mut self, now: Time, packet: JitterPacket<P>) -> Pushed {
        self.stats.received += 1;
        self.finished = false;
        let jump = self.ticks_in(JUMP);
        let Some(numbers) = &mut self.numbers else {
            self.start(now, packet);
            return Pushed::Queued;
        };
        if numbers.ssrc() != packet.ssrc {
            self.restart(now, packet);
            return Pushed::NewStream;
        }
        let idle =
            i64::try_from(now.since(numbers.newest_arrival()).as_nanos() * u128::from(self.config.clock) / NANOS)
                .unwrap_or(i64::MAX);
        let Some(position) = numbers.place(packet.sequence, packet.timestamp, jump, jump.saturating_add(idle)) else {
            return self.examine(now, packet);
        };
        if self.probation.take().is_some() {
            self.stats.strays += 1;
        }
        let is_behind = numbers.is_behind(position);
        if !numbers.accept(position, now) {
            self.stats.duplicates += 1;
            self.discard(packet.payload);
            return Pushed::Duplicate;
        }
        self.stats.reordered += u64::from(is_behind);
        self.enqueue(now, position, packet)
    }

    /// The next item at `now`. Call it until it answers [`Pull::Wait`].
    pub fn pull(&mut self, now: Time) -> Pull<P> {
        if self.announce {
            self.announce = false;
            return Pull::NewStream;
        }
        let Some(next) = self.play.next else { return Pull::Wait };
        match self.config.discipline {
            Discipline::Timed { least, most, .. } => self.pull_timed(now, next, least, most),
            Discipline::Ordered { packets, patience } => self.pull_ordered(now, next, packets, patience),
        }
    }

    /// After [`Pull::Conceal`]: the payload of the packet right behind what was lost, if it is here. Opus can mend a
    /// loss with it ([`Decoder::recover`](super::Decoder::recover)).
    #[must_use]
    pub fn peek(&self) -> Option<&P> {
        let front = self.queue.front()?;
        (Some(front.position.timestamp) == self.play.next).then_some(&front.packet.payload)
    }

    /// When to pull next if no packet comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        if self.announce {
            return Some(Time::ZERO);
        }
        self.play.next?;
        match self.config.discipline {
            Discipline::Timed { .. } => (!self.finished || !self.queue.is_empty()).then(|| self.due()),
            Discipline::Ordered { patience, .. } => self.queue.front().map(|entry| entry.arrived + patience),
        }
    }

    /// Tells whether the frame that was pulled last held silence: the best place to drop or stretch time is there.
    pub const fn note_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// No more packets will come: what is queued is handed on without waiting for what is missing, and then nothing.
    /// Another packet takes this back.
    pub const fn finish(&mut self) {
        self.finished = true;
    }

    /// The payload of a packet that was dropped, so that its memory can be used again. Nothing is lost by never asking:
    /// no more of them are kept than packets.
    pub fn reclaim(&mut self) -> Option<P> {
        self.discarded.pop()
    }

    /// Counts since the buffer was made.
    #[must_use]
    pub const fn stats(&self) -> JitterStats {
        self.stats
    }

    /// Packets that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no packet waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The present depth: how long before its moment the fastest of the recent packets came (timed).
    #[must_use]
    pub fn depth(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.margin.most()).unwrap_or(0))
    }

    /// The interarrival jitter of RFC 3550 §6.4.1, in ticks.
    #[must_use]
    pub fn jitter(&self) -> u32 {
        self.numbers.as_ref().map_or(0, Numbers::jitter)
    }

    /// From the next packet on, timestamps count another clock: a new stream begins with it. The output goes on without a
    /// hole, and what is queued is dropped. Counts of ticks are of the clock that they were counted in.
    ///
    /// # Panics
    /// If the clock or the frame is zero.
    pub fn change_clock(&mut self, clock: u32, frame: u32) {
        assert!(clock > 0 && frame > 0, "a stream has a clock and frames");
        self.play.anchor = self.due();
        self.play.emitted = 0;
        self.play.insert = 0;
        self.config.clock = clock;
        self.config.frame = frame;
        self.announce = self.numbers.take().is_some();
        self.probation = None;
        while !self.queue.is_empty() {
            self.discard_front();
        }
        self.stats.restarts += u64::from(self.announce);
    }

    // Taking packets.

    fn start(&mut self, now: Time, packet: JitterPacket<P>) {
        let (numbers, position) = Numbers::new(packet.ssrc, packet.sequence, packet.timestamp, self.config.clock, now);
        self.numbers = Some(numbers);
        let began = self.play.next.is_some();
        self.play.next = Some(position.timestamp);
        self.play.last_sequence = position.sequence - 1;
        self.play.dry = 0;
        self.play.comfort = false;
        self.play.started = false;
        self.play.late = None;
        self.quiet = true;
        if let Discipline::Timed { initial, .. } = self.config.discipline {
            if began {
                // The output runs already, and goes on with silence while the depth fills again.
                self.play.insert = self.ticks_in(initial);
            } else {
                self.play.anchor = now + initial;
                self.play.emitted = 0;
            }
        }
        self.margin.reset(now);
        let _ = self.enqueue(now, position, packet);
    }

    fn restart(&mut self, now: Time, packet: JitterPacket<P>) {
        self.stats.restarts += 1;
        self.stats.strays += u64::from(self.probation.take().is_some());
        while !self.queue.is_empty() {
            self.discard_front();
        }
        self.announce = true;
        self.start(now, packet);
    }

    /// A packet far from the stream: the second that agrees with the one before makes a new stream.
    fn examine(&mut self, now: Time, packet: JitterPacket<P>) -> Pushed {
        let jump = self.ticks_in(JUMP);
        match self.probation.take() {
            Some(probation) if probation.is_followed_by(&packet, jump) => {
                let (arrived, first) = probation.into_parts();
                self.restart(arrived, first);
                // It follows the first, so its place is near, and it isn't the same packet.
                let _ = self.push(now, packet);
                self.stats.received -= 1;
                Pushed::NewStream
            }
            earlier => {
                self.stats.strays += u64::from(earlier.is_some());
                self.probation = Some(Probation::new(now, packet));
                Pushed::Probation
            }
        }
    }

    fn enqueue(&mut self, now: Time, position: Position, packet: JitterPacket<P>) -> Pushed {
        let entry = Entry {
            position,
            arrived: now,
            packet,
        };
        let next = self.play.next.unwrap_or(position.timestamp);
        let is_audio = matches!(entry.packet.kind, PacketKind::Audio { .. });
        if let PacketKind::Audio { ticks } = entry.packet.kind {
            self.learn_frame(ticks);
        }
        // Packets come in order nearly always, so the place is at the back or close to it.
        let place = self
            .queue
            .iter()
            .rposition(|other| other.position <= position)
            .map_or(0, |before| before + 1);
        if is_audio {
            if let Some(due) = self.due_of(position.timestamp) {
                self.margin.record(now, due);
            }
            let behind = next - position.timestamp;
            if behind > entry.ticks() / OVERLAP_DIVISOR && !self.rewind(behind, &entry) {
                self.margin.note_late();
                self.stats.late += 1;
                self.discard(entry.packet.payload);
                return Pushed::Late;
            }
            self.play.late = None;
        } else if position.sequence <= self.play.last_sequence {
            self.stats.late += 1;
            self.discard(entry.packet.payload);
            return Pushed::Late;
        }
        self.queue.insert(place, entry);
        if self.queue.len() > self.config.capacity {
            self.stats.overflowed += 1;
            if let Some(dropped) = self.queue.pop_front() {
                self.play.next = Some(next.max(dropped.position.timestamp + dropped.ticks()));
                self.play.last_sequence = self.play.last_sequence.max(dropped.position.sequence);
                self.discard(dropped.packet.payload);
            }
            return Pushed::QueuedAndDropped;
        }
        Pushed::Queued
    }

    /// A packet comes `behind` ticks after its moment. If only made-up sound was heard since, its moment is moved:
    /// the depth grows by that, as far as it may.
    fn rewind(&mut self, behind: i64, entry: &Entry<P>) -> bool {
        if !self.play.started && self.play.dry == 0 {
            // The stream's first packets changed places.
            self.play.next = Some(entry.position.timestamp);
            self.play.last_sequence = self.play.last_sequence.min(entry.position.sequence - 1);
            return true;
        }
        let Discipline::Timed { initial, most, .. } = self.config.discipline else {
            return false;
        };
        let most = self.ticks_in(most);
        if behind <= self.play.dry {
            // The margin of this packet is negative by as much as it is late; the fastest ones then have this depth.
            let depth = self.ticks_of_nanos(self.margin.most()) + behind;
            if depth <= most {
                self.play.next = Some(entry.position.timestamp);
                self.play.dry -= behind;
                self.stats.stretched += 1;
                self.margin.shift(self.nanos_of_ticks(behind));
                return true;
            }
        }
        if entry.position.sequence <= self.play.last_sequence {
            return false;
        }
        let now = entry.arrived;
        let late = self.play.late.filter(|(_, last)| now.since(*last) < DEAF);
        let since = late.map_or(now, |(since, _)| since);
        self.play.late = Some((since, now));
        if entry.packet.marker || now.since(since) >= DEAF {
            // A new spurt of talk from a sender whose clock stood still in the silence: it starts afresh.
            self.play.next = Some(entry.position.timestamp);
            self.play.dry = 0;
            self.play.insert = self.ticks_in(initial);
            self.margin.reset(entry.arrived);
            return true;
        }
        false
    }

    fn learn_frame(&mut self, ticks: u32) {
        // At most 120 ms, the longest packet of any codec here; a hostile length would make huge frames of silence.
        if ticks > 0 && ticks <= self.config.clock / 8 {
            self.config.frame = ticks;
        }
    }

    fn discard_front(&mut self) {
        if let Some(entry) = self.queue.pop_front() {
            self.discard(entry.packet.payload);
        }
    }

    fn discard(&mut self, payload: P) {
        if self.discarded.len() < self.config.capacity {
            self.discarded.push(payload);
        }
    }

    // Handing on.

    fn pull_timed(&mut self, now: Time, next: i64, least: Duration, most: Duration) -> Pull<P> {
        if self.finished && self.queue.is_empty() {
            return Pull::Wait;
        }
        let due = self.due();
        if now < due {
            return Pull::Wait;
        }
        if now.since(due) > STALL {
            self.skip_stall(now, most);
            return self.pull(now);
        }
        if self.play.insert > 0 {
            let ticks = self.play.insert.min(i64::from(self.config.frame));
            self.play.insert -= ticks;
            return if self.quiet {
                self.silence(ticks)
            } else {
                self.conceal(ticks)
            };
        }
        self.adapt(now, least, most);
        let next = self.play.next.unwrap_or(next);
        self.drop_consumed(next);
        let frame = i64::from(self.config.frame);
        let Some(front) = self.queue.front() else {
            // Dry. Time runs on: what comes later is told from this by its numbers.
            self.play.next = Some(next + frame);
            self.play.dry += frame;
            let concealed = self.play.dry <= self.ticks_in(CONCEALED).max(frame);
            return if concealed && !self.play.comfort && !self.quiet {
                self.conceal(frame)
            } else {
                self.silence(frame)
            };
        };
        let gap = front.position.timestamp - next;
        if gap > 0 {
            let ticks = gap.min(frame);
            self.play.next = Some(next + ticks);
            // What the gap holds can still come, as long as only made-up sound is heard in its place.
            self.play.dry += ticks;
            return self.fill(ticks, gap <= frame);
        }
        self.release()
    }

    fn pull_ordered(&mut self, now: Time, next: i64, packets: usize, patience: Duration) -> Pull<P> {
        self.drop_consumed(next);
        let Some(front) = self.queue.front() else {
            return Pull::Wait;
        };
        let gap = front.position.timestamp - next;
        if gap <= 0 {
            return self.release();
        }
        let missing = front.position.sequence - self.play.last_sequence > 1;
        let patient = self.queue.len() < packets && now < front.arrived + patience && !self.finished;
        if missing && patient {
            return Pull::Wait;
        }
        let ticks = gap.min(i64::from(self.config.frame));
        self.play.next = Some(next + ticks);
        self.fill(ticks, gap <= i64::from(self.config.frame))
    }

    /// Fills `ticks` before the first packet of the queue; `last` if that closes the gap.
    fn fill(&mut self, ticks: i64, last: bool) -> Pull<P> {
        let missing = self
            .queue
            .front()
            .map_or(0, |front| front.position.sequence - self.play.last_sequence - 1)
            .max(0);
        if missing == 0 || self.play.comfort {
            return self.silence(ticks);
        }
        if last {
            self.stats.lost += missing.unsigned_abs();
        }
        self.conceal(ticks)
    }

    /// Hands on the first packet of the queue, whose moment it is.
    fn release(&mut self) -> Pull<P> {
        let Some(entry) = self.queue.pop_front() else {
            return Pull::Wait;
        };
        let ticks = entry.ticks();
        self.play.next = Some(entry.position.timestamp + ticks);
        self.play.last_sequence = self.play.last_sequence.max(entry.position.sequence);
        self.play.dry = 0;
        self.play.comfort = false;
        self.play.started = true;
        self.play.emitted += ticks.unsigned_abs();
        Pull::Frame(entry.packet.payload)
    }

    /// Takes packets without sound off the front of the queue, and sound whose time was covered meanwhile.
    fn drop_consumed(&mut self, next: i64) {
        while let Some(front) = self.queue.front() {
            match front.packet.kind {
                PacketKind::Audio { .. } => {
                    if next - front.position.timestamp <= front.ticks() / OVERLAP_DIVISOR {
                        return;
                    }
                    self.stats.late += 1;
                }
                // They hold no time of their own, and wait for the sound before them.
                PacketKind::ComfortNoise | PacketKind::Other if front.position.timestamp > next => return,
                PacketKind::ComfortNoise => self.play.comfort = true,
                PacketKind::Other => {}
            }
            self.play.last_sequence = self.play.last_sequence.max(front.position.sequence);
            self.discard_front();
        }
    }

    /// Moves the depth towards what the last while has shown to be enough.
    fn adapt(&mut self, now: Time, least: Duration, most: Duration) {
        let frame = self.nanos_of_ticks(i64::from(self.config.frame));
        match self.margin.advise(now, frame, nanos(least), nanos(most), self.quiet) {
            margin::Advice::Keep => {}
            margin::Advice::Stretch => {
                self.stats.stretched += 1;
                self.margin.shift(frame);
                self.play.insert += i64::from(self.config.frame);
            }
            margin::Advice::Shrink => {
                // Only a packet whose turn it is can be left out; a gap has nothing to drop.
                let next = self.play.next.unwrap_or(0);
                let is_next = self.queue.front().is_some_and(|front| front.position.timestamp <= next);
                if is_next
                    && self.queue.len() > 1
                    && let Some(dropped) = self.queue.pop_front()
                {
                    self.stats.shrunk += 1;
                    self.margin.shift(-self.nanos_of_ticks(dropped.ticks()));
                    self.play.next = Some(dropped.position.timestamp + dropped.ticks());
                    self.play.last_sequence = self.play.last_sequence.max(dropped.position.sequence);
                    self.discard(dropped.packet.payload);
                }
            }
        }
    }

    /// The consumer stood still: the output goes on from `now`, with what is newest.
    fn skip_stall(&mut self, now: Time, most: Duration) {
        self.play.anchor = now;
        self.play.emitted = 0;
        let most = self.ticks_in(most);
        while let (Some(front), Some(back)) = (self.queue.front(), self.queue.back()) {
            if back.position.timestamp - front.position.timestamp <= most {
                break;
            }
            self.play.last_sequence = self.play.last_sequence.max(front.position.sequence);
            self.stats.overflowed += 1;
            self.discard_front();
        }
        if let Some(front) = self.queue.front() {
            self.play.next = Some(front.position.timestamp);
            self.play.last_sequence = front.position.sequence - 1;
        }
        self.play.dry = 0;
        self.play.insert = 0;
        self.margin.reset(now);
    }

    fn conceal(&mut self, ticks: i64) -> Pull<P> {
        self.play.emitted += ticks.unsigned_abs();
        self.stats.concealed_ticks += ticks.unsigned_abs();
        Pull::Conceal(as_ticks(ticks))
    }

    fn silence(&mut self, ticks: i64) -> Pull<P> {
        self.play.emitted += ticks.unsigned_abs();
        self.stats.silent_ticks += ticks.unsigned_abs();
        if self.play.comfort {
            Pull::ComfortNoise(as_ticks(ticks))
        } else {
            Pull::Silence(as_ticks(ticks))
        }
    }

    // Time and ticks.

    /// When the next item is due (timed).
    fn due(&self) -> Time {
        let clock = u64::from(self.config.clock);
        let (seconds, rest) = (self.play.emitted / clock, self.play.emitted % clock);
        // The rest is less than a second, so this is exact and does not overflow, however long the stream.
        self.play.anchor + Duration::new(seconds, (rest * 1_000_000_000 / clock) as u32)
    }

    /// When the sound at `timestamp` is due (timed), in nanoseconds since the session began; it may lie before that.
    fn due_of(&self, timestamp: i64) -> Option<i64> {
        let Discipline::Timed { .. } = self.config.discipline else {
            return None;
        };
        let ahead = timestamp - self.play.next? + self.play.insert;
        Some(
            i64::try_from(self.due().as_nanos())
                .unwrap_or(i64::MAX)
                .saturating_add(self.nanos_of_ticks(ahead)),
        )
    }

    fn ticks_in(&self, duration: Duration) -> i64 {
        self.ticks_of_nanos(nanos(duration))
    }

    fn ticks_of_nanos(&self, nanos: i64) -> i64 {
        (i128::from(nanos) * i128::from(self.config.clock) / NANOS as i128) as i64
    }

    fn nanos_of_ticks(&self, ticks: i64) -> i64 {
        (i128::from(ticks) * NANOS as i128 / i128::from(self.config.clock)) as i64
    }
}

const NANOS: u128 = 1_000_000_000;

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn as_ticks(ticks: i64) -> u32 {
    u32::try_from(ticks).expect("at most one frame is filled at a time")
}

#[cfg(test)]
mod tests;
