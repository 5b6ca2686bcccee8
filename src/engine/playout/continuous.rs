//! A wire that is never silent: a telephone line gets a frame every 20 ms, whether or not somebody speaks.
//!
//! There is one grid of deadlines from the moment the line is open. A frame of silence leaves when it is due; a frame of a reply leaves
//! as far ahead of that as the wire allows. So the peer's queue is empty when a reply begins, and holds the wire's lead while it is spoken.
//! What was missed in a stall is not sent in a burst: the grid begins anew.

use std::time::Duration;

use super::{FRAME, Next, Player, Track, apply_gain};
use crate::engine::wire::{OutFrame, Port};
use crate::id::ResponseId;
use crate::session::PlayoutEvent;
use crate::time::Time;

/// A reply that is stopped in the middle of a word fades away over so long: a step in the signal is heard as a click.
const FADE: Duration = Duration::from_millis(5);

/// The state of such a wire.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// When the frame that is sent next is to be heard: the end of what was sent.
    next_due: Time,
    /// The last words of a reply that was stopped, on their way to silence. Empty when there are none.
    fading: Vec<i16>,
}

impl Player {
    /// The line is open: silence, at least, flows from now on. Nothing for a wire that can be silent.
    pub(in crate::engine) fn open(&mut self, now: Time) {
        if let Some(line) = &mut self.line {
            line.next_due = now;
            self.pacer.start(now);
        }
    }

    pub(super) fn tick_continuously(
        &mut self,
        now: Time,
        port: &mut Port,
        events: &mut Vec<(ResponseId, PlayoutEvent)>,
    ) {
        while let Some(tick) = self.pacer.poll(now) {
            let present = if tick.skipped > 0 { now } else { tick.deadline };
            let Some(line) = &mut self.line else { return };
            line.next_due = line.next_due.max(present);
            let mut due = line.next_due;
            while due <= present + self.lead && self.send_next(now, due, port, events) == Next::Sent {
                due += FRAME;
            }
            if due <= present {
                self.send_silence(due, port);
                due += FRAME;
            }
            if let Some(line) = &mut self.line {
                line.next_due = due;
            }
            self.note_lateness(tick.lateness);
        }
    }

    fn send_silence(&mut self, due: Time, port: &mut Port) {
        let mut frame = OutFrame::new(None, due, false, port.epoch(), self.frame);
        if let Some(line) = &mut self.line {
            for (slot, sample) in frame.pcm_mut().iter_mut().zip(line.fading.drain(..)) {
                *slot = sample;
            }
        }
        port.send_frame(frame);
    }

    /// A reply is stopped: what would have come next fades away. Where frames are sent ahead of their time, the peer has other words
    /// before these, and stops by itself.
    pub(super) fn fade(&mut self, track: &mut Track) {
        // What was sent ahead is flushed: silence is due from the next deadline on.
        if let Some(line) = &mut self.line {
            line.next_due = Time::ZERO;
        }
        let is_heard = self.playing == Some(track.response) && track.sent > 0 && self.lead.is_zero();
        let Some(line) = self.line.as_mut().filter(|_| is_heard) else {
            return;
        };
        line.fading.clear();
        line.fading
            .resize(self.rate.samples(u32::try_from(FADE.as_millis()).unwrap_or(0)), 0);
        let filled = track.fill(&mut line.fading);
        line.fading.truncate(filled);
        apply_gain(&mut line.fading, self.ramp_from, 0);
    }
}
