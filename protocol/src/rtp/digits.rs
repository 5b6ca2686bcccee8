//! Digits as telephone events (RFC 4733).
//!
//! A digit is a run of packets that all carry the timestamp of its start and a growing duration; the last one, with
//! the end bit, is sent three times. Any of them may be lost, so a digit counts once for its (SSRC, timestamp): when
//! the first end arrives, or when nothing has arrived for a while.

use std::collections::VecDeque;
use std::time::Duration;

use super::{RtpHeader, RtpSender, payload_type};

/// A digit whose end was lost is over after so much time without a packet. Packets come every 20 to 50 ms.
const ABANDONED_AFTER: Duration = Duration::from_millis(100);
/// The longest duration that one segment can state, in ticks; longer events go on in a further one (RFC 4733
/// §2.5.1.3).
const LONGEST_SEGMENT: u16 = 0xFFFF;
/// How many finished digits are remembered, so that late copies of their packets aren't taken for new digits.
const REMEMBERED: usize = 16;
/// How many digits may wait to be polled. Two come out of one packet at most, so a caller that polls after each
/// never gets near.
const PENDING: usize = 16;
/// The end of an event is sent so many times (RFC 4733 §2.5.1.4).
const END_COPIES: u8 = 3;

const DIGITS: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D',
];

/// The payload of one telephone event packet (RFC 4733 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// 0 to 15 are the digits, see [`digit`](Self::digit); others are tones that we don't use.
    pub event: u8,
    /// The event is over; the duration is final.
    pub end: bool,
    /// The tone's power in dB below 0 dBm0, 0 to 63.
    pub volume: u8,
    /// Ticks of the clock from the timestamp of the packet.
    pub duration: u16,
}

impl TelephoneEvent {
    /// Reads a payload. `None` if it is shorter than four bytes; bytes after them, which some senders append, are
    /// ignored.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let &[event, flags, d0, d1] = payload.first_chunk::<4>()?;
        Some(Self {
            event,
            end: flags & 0x80 != 0,
            volume: flags & 0x3F,
            duration: u16::from_be_bytes([d0, d1]),
        })
    }

    /// The four bytes of the payload.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 4] {
        let [d0, d1] = self.duration.to_be_bytes();
        [
            self.event,
            if self.end { 0x80 } else { 0 } | (self.volume & 0x3F),
            d0,
            d1,
        ]
    }

    /// The key that was pressed: `0` to `9`, `*`, `#`, `A` to `D`.
    #[must_use]
    pub fn digit(self) -> Option<char> {
        DIGITS.get(usize::from(self.event)).copied()
    }
}

/// The event number of a key, in either case. `None` for what is no key.
#[must_use]
pub fn digit_event(digit: char) -> Option<u8> {
    DIGITS
        .iter()
        .position(|&known| known == digit.to_ascii_uppercase())
        .map(|position| position as u8)
}

/// A key that was pressed and released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digit {
    /// `0` to `9`, `*`, `#`, `A` to `D`.
    pub digit: char,
    /// How long it was held, in ticks of the clock, as far as packets told.
    pub ticks: u32,
}

#[derive(Debug, Clone, Copy)]
struct Active {
    ssrc: u32,
    /// Of the current segment.
    timestamp: u32,
    digit: char,
    /// Ticks in the segments before this one.
    before: u32,
    duration: u16,
    last_packet: Duration,
}

impl Active {
    fn finished(self) -> Digit {
        Digit {
            digit: self.digit,
            ticks: self.before.saturating_add(u32::from(self.duration)),
        }
    }
}

/// Turns telephone event packets into digits, each one once.
///
/// Give it every such packet by [`receive`](Self::receive) and poll for digits after each, and again at
/// [`next_deadline`](Self::next_deadline).
#[derive(Debug, Clone, Default)]
pub struct DigitReceiver {
    active: Option<Active>,
    /// (SSRC, timestamp) of finished segments, oldest first.
    finished: VecDeque<(u32, u32)>,
    pending: VecDeque<Digit>,
}

impl DigitReceiver {
    /// A receiver that has heard nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            active: None,
            finished: VecDeque::with_capacity(REMEMBERED),
            pending: VecDeque::with_capacity(PENDING),
        }
    }

    /// Takes a packet that arrived at `now`, a duration since any fixed moment. Events that are no digits and
    /// payloads that are cut short are ignored.
    pub fn receive(&mut self, now: Duration, header: &RtpHeader, payload: &[u8]) {
        let Some(event) = TelephoneEvent::parse(payload) else {
            return;
        };
        let Some(digit) = event.digit() else { return };
        let identity = (header.ssrc, header.timestamp);
        self.abandon(now);
        if self.finished.contains(&identity) {
            return;
        }
        if let Some(active) = &mut self.active {
            if identity == (active.ssrc, active.timestamp) {
                active.duration = active.duration.max(event.duration);
                active.last_packet = now;
                if event.end {
                    self.finish();
                }
                return;
            }
            let continues = header.ssrc == active.ssrc
                && digit == active.digit
                && header.timestamp == active.timestamp.wrapping_add(u32::from(LONGEST_SEGMENT));
            if continues {
                let segment = (active.ssrc, active.timestamp);
                active.before = active.before.saturating_add(u32::from(LONGEST_SEGMENT));
                active.timestamp = header.timestamp;
                active.duration = event.duration;
                active.last_packet = now;
                self.remember(segment);
                if event.end {
                    self.finish();
                }
                return;
            }
            let older = header.ssrc == active.ssrc && (header.timestamp.wrapping_sub(active.timestamp) as i32) < 0;
            if older {
                // All packets of an earlier digit but this one were lost or are late.
                self.remember(identity);
                self.report(Digit {
                    digit,
                    ticks: u32::from(event.duration),
                });
                return;
            }
            // The end of the digit before was lost.
            self.finish();
        }
        self.active = Some(Active {
            ssrc: header.ssrc,
            timestamp: header.timestamp,
            digit,
            before: 0,
            duration: event.duration,
            last_packet: now,
        });
        if event.end {
            self.finish();
        }
    }

    /// The next digit that is finished at `now`.
    pub fn poll(&mut self, now: Duration) -> Option<Digit> {
        self.abandon(now);
        self.pending.pop_front()
    }

    /// When a digit will be over if no packet comes: poll then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.active
            .map(|active| active.last_packet.saturating_add(ABANDONED_AFTER))
    }

    fn abandon(&mut self, now: Duration) {
        if self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(active) = self.active.take() {
            self.remember((active.ssrc, active.timestamp));
            self.report(active.finished());
        }
    }

    fn remember(&mut self, identity: (u32, u32)) {
        if self.finished.len() == REMEMBERED {
            self.finished.pop_front();
        }
        self.finished.push_back(identity);
    }

    /// Nobody polls: the newest digit is refused, so that those before it stay in order.
    fn report(&mut self, digit: Digit) {
        if self.pending.len() < PENDING {
            self.pending.push_back(digit);
        }
    }
}

/// Sends one digit: a packet every `step` ticks while it is held, and its end three times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigitSender {
    event: u8,
    payload_type: u8,
    volume: u8,
    timestamp: u32,
    step: u16,
    /// Ticks that the digit shall last.
    total: u16,
    sent: u16,
    ends: u8,
    started: bool,
}

impl DigitSender {
    /// A digit that starts at the sender's present timestamp, lasts `total` ticks and is told of every `step` ticks
    /// (160 for 20 ms at 8 kHz; never less than 1). `None` if `digit` is no key.
    #[must_use]
    pub fn new(digit: char, sender: &RtpSender, total: u16, step: u16) -> Option<Self> {
        Some(Self {
            event: digit_event(digit)?,
            payload_type: payload_type::TELEPHONE_EVENT,
            // -10 dBm0, what RFC 4733's examples and most phones send.
            volume: 10,
            timestamp: sender.timestamp(),
            step: step.max(1),
            total,
            sent: 0,
            ends: 0,
            started: false,
        })
    }

    /// Appends the next packet to `out`, to be sent `step` ticks after the one before, in place of audio; `false`
    /// once all are sent. The sender's clock goes on by a step each time until the digit is over.
    pub fn write_next(&mut self, sender: &mut RtpSender, out: &mut Vec<u8>) -> bool {
        if self.ends == END_COPIES {
            return false;
        }
        let grown = self.sent.saturating_add(self.step).min(self.total);
        sender.skip(u32::from(grown - self.sent));
        self.sent = grown;
        let end = self.sent == self.total;
        self.ends += u8::from(end);
        sender
            .event_header(self.payload_type, self.timestamp, !self.started)
            .write(out);
        self.started = true;
        let event = TelephoneEvent {
            event: self.event,
            end,
            volume: self.volume,
            duration: self.sent,
        };
        out.extend_from_slice(&event.to_bytes());
        true
    }
}
