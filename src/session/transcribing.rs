//! The session has speech written down: transcriptions begin, are cut, fail, are repeated, and change over to another
//! recogniser.

use std::time::Duration;

use super::Action;
use super::core::Session;
use super::recognition::{MAX_SEGMENTS, Recognition, Segment, SegmentState};
use crate::call::{BackendKind, CallError, ErrorCode, Event, Origin, StageFailure, SttEvent};
use crate::id::{TranscriptionId, TurnId};
use crate::pii::Pii;
use crate::time::{Samples, Time};

/// A recogniser that is behind, but gets on, is waited for: so many times as long as one that is silent. Asking it again from the
/// first sample would only put it further behind.
const WAITS_WHILE_IT_GETS_ON: u32 = 4;

/// From this part of the hard limit on (in thousandths) a segment is cut at the next pause, so that no word is cut in two.
const SOFT_LIMIT_PER_MILLE: u64 = 750;

impl Segment {
    /// The final words are waited for from `from` on: for `timeout`, unless more words come meanwhile.
    pub(super) fn await_final(&mut self, from: Time, timeout: Duration) {
        self.deadline = Some(from + timeout);
        self.latest = Some(from + timeout * WAITS_WHILE_IT_GETS_ON);
    }

    /// It gets on: words came at `now`.
    fn put_off(&mut self, now: Time, timeout: Duration) {
        if let (Some(deadline), Some(latest)) = (self.deadline, self.latest) {
            self.deadline = Some(deadline.max(now + timeout).min(latest));
        }
    }

    /// When something must be done about it.
    pub(super) fn due(&self) -> Option<Time> {
        match self.state {
            SegmentState::Running => self.deadline,
            SegmentState::Waiting { until } => Some(until),
            SegmentState::Over => None,
        }
    }
}

impl Session {
    /// Whether speech is to be written down; says once when it can't be.
    pub(super) fn wants_recognition(&mut self) -> bool {
        self.settings.stages.stt && !self.tell_missing(BackendKind::Stt)
    }

    /// Asks for the recognition of the open turn from here on.
    pub(super) fn begin_segment(&mut self, from: Samples) {
        let id = self.ids.transcription;
        let generation = self.leases.generation(BackendKind::Stt);
        let state = if self.leases.is_away(BackendKind::Stt) {
            SegmentState::Waiting {
                until: self.now + self.patience(BackendKind::Stt),
            }
        } else {
            SegmentState::Running
        };
        let now = self.now;
        let Some(recognition) = self.turn.open_mut().and_then(|open| open.recognition.as_mut()) else {
            return;
        };
        self.ids.transcription = id.next();
        let language = recognition.language.clone();
        let given_up = (recognition.segments.len() == MAX_SEGMENTS)
            .then(|| recognition.segments.front().map(|oldest| (oldest.id, oldest.state)))
            .flatten();
        if let Some((oldest, _)) = given_up {
            recognition.settle(oldest, None, now);
        }
        recognition.segments.push_back(Segment {
            id,
            from,
            end: None,
            deadline: None,
            latest: None,
            text: Pii::default(),
            stable: 0,
            retries: 0,
            not_before: now,
            generation,
            state,
        });
        if let Some((oldest, SegmentState::Running)) = given_up {
            self.act(Action::CancelTranscription { id: oldest });
        }
        if state == SegmentState::Running {
            self.act(Action::Transcribe {
                id,
                from,
                not_before: now,
                language,
            });
        }
    }

    /// Commits the running segment when it is too long; a little earlier where the user pauses anyway.
    pub(super) fn cut_segment(&mut self, at: Samples, paused: bool) {
        let timeout = Duration::from_millis(self.settings.limits.stt_final_timeout_ms.into());
        let now = self.now;
        let Some(open) = self.turn.open_mut() else { return };
        let hard = Samples::from_millis(open.endpointing.hard_limit_ms.into());
        let limit = if paused {
            Samples::new(hard.count() * SOFT_LIMIT_PER_MILLE / 1_000)
        } else {
            hard
        };
        let Some(segment) = open
            .recognition
            .as_mut()
            .and_then(|recognition| recognition.segments.back_mut())
            .filter(|segment| segment.end.is_none() && at.saturating_sub(segment.from) >= limit)
        else {
            return;
        };
        segment.end = Some(at);
        segment.await_final(now, timeout);
        let (id, running) = (segment.id, segment.state == SegmentState::Running);
        if running {
            self.act(Action::FinishTranscription { id, end: at });
        }
        self.begin_segment(at);
    }

    pub(super) fn cancel_recognition(&mut self, recognition: Option<Recognition>) {
        for segment in recognition.into_iter().flat_map(|recognition| recognition.segments) {
            if segment.state == SegmentState::Running {
                self.act(Action::CancelTranscription { id: segment.id });
            }
        }
    }

    /// The recognition that this transcription belongs to, and its turn.
    pub(super) fn recognition(&mut self, id: TranscriptionId) -> Option<(TurnId, &mut Recognition)> {
        let has = |recognition: &Recognition| recognition.segments.iter().any(|segment| segment.id == id);
        if self
            .turn
            .open()
            .and_then(|open| open.recognition.as_ref())
            .is_some_and(has)
        {
            let open = self.turn.open_mut()?;
            return Some((open.id, open.recognition.as_mut()?));
        }
        self.endings.iter_mut().find_map(|ending| {
            let turn = ending.report.turn;
            ending
                .recognition
                .as_mut()
                .filter(|recognition| has(recognition))
                .map(|found| (turn, found))
        })
    }

    pub(super) fn handle_stt(&mut self, id: TranscriptionId, event: SttEvent) {
        let now = self.now;
        let timeout = Duration::from_millis(self.settings.limits.stt_final_timeout_ms.into());
        let Some((turn, recognition)) = self.recognition(id) else {
            self.count_stale();
            return;
        };
        let Some(segment) = recognition.segment(id) else {
            self.count_stale();
            return;
        };
        match event {
            SttEvent::Partial { text, stable_chars } => {
                if segment.text != text {
                    segment.put_off(now, timeout);
                }
                recognition.guess(id, &text, stable_chars, now);
                let news = recognition.revise(turn, false);
                self.gives_partials = true;
                if let Some(event) = news {
                    self.emit(event);
                }
                self.consider_interruption();
            }
            SttEvent::Final { text } => {
                // A recogniser that ends by itself, unasked, has heard what had arrived; the turn goes on after that.
                let early = recognition.segment(id).is_some_and(|segment| segment.end.is_none());
                if early {
                    self.end_segment_early(id);
                }
                let Some((_, recognition)) = self.recognition(id) else {
                    return;
                };
                recognition.settle(id, Some(&text), now);
                // The final event of a turn is told when the turn is settled; this is only a segment of it.
                let news = if recognition.is_over() {
                    None
                } else {
                    recognition.revise(turn, false)
                };
                if let Some(event) = news {
                    self.emit(event);
                }
            }
            SttEvent::Failed(failure) => self.segment_failed(id, &failure),
        }
    }

    fn end_segment_early(&mut self, id: TranscriptionId) {
        let received = self.clock.received;
        let Some((_, recognition)) = self.recognition(id) else {
            return;
        };
        let Some(segment) = recognition.segment(id) else { return };
        let end = received.max(segment.from);
        segment.end = Some(end);
        self.begin_segment(end);
    }

    /// A recognition failed: it is repeated from the kept audio, or its turn goes on with the words that are there.
    fn segment_failed(&mut self, id: TranscriptionId, failure: &StageFailure) {
        let max_retries = self.settings.limits.max_retries;
        if failure.retry {
            // What was to take over does, if what failed is gone.
            self.adopt(BackendKind::Stt);
        }
        let patience = self.patience(BackendKind::Stt);
        let (lost, now) = (self.leases.is_away(BackendKind::Stt), self.now);
        let not_before = self.not_before(failure.retry_after_ms);
        let Some((_, recognition)) = self.recognition(id) else {
            return;
        };
        let Some(segment) = recognition.segments.iter_mut().find(|segment| segment.id == id) else {
            return;
        };
        if failure.retry && segment.retries < max_retries {
            segment.retries += 1;
            segment.not_before = not_before;
            if lost {
                segment.state = SegmentState::Waiting { until: now + patience };
            } else {
                self.repeat_segment(id, not_before);
            }
            return;
        }
        self.give_up_segment(id, ErrorCode::SttFailed, &failure.backend, &failure.reason);
    }

    fn give_up_segment(&mut self, id: TranscriptionId, code: ErrorCode, backend: &str, reason: &str) {
        let now = self.now;
        let Some((turn, recognition)) = self.recognition(id) else {
            return;
        };
        recognition.settle(id, None, now);
        let told = std::mem::replace(&mut recognition.failure_told, true);
        if !told {
            self.emit(Event::Error(CallError {
                code,
                origin: Origin::Backend,
                retry: true,
                message: format!("{turn} could not be transcribed (to its end): {backend}: {reason}"),
            }));
        }
    }

    /// Asks again for a segment, under a new id, from its first sample.
    fn repeat_segment(&mut self, id: TranscriptionId, not_before: Time) {
        let timeout = Duration::from_millis(self.settings.limits.stt_final_timeout_ms.into());
        let generation = self.leases.generation(BackendKind::Stt);
        let new = self.ids.transcription;
        let kept_from = self.clock.kept_from;
        let Some((_, recognition)) = self.recognition(id) else {
            return;
        };
        let language = recognition.language.clone();
        let Some(segment) = recognition.segments.iter_mut().find(|segment| segment.id == id) else {
            return;
        };
        segment.id = new;
        segment.state = SegmentState::Running;
        segment.not_before = not_before;
        segment.generation = generation;
        let from = segment.from.max(kept_from);
        let end = segment.end;
        if end.is_some() {
            segment.await_final(not_before, timeout);
        }
        self.ids.transcription = new.next();
        self.act(Action::Transcribe {
            id: new,
            from,
            not_before,
            language,
        });
        if let Some(end) = end {
            self.act(Action::FinishTranscription { id: new, end });
        }
    }

    pub(super) fn segment_timed_out(&mut self, id: TranscriptionId) {
        let Some((_, recognition)) = self.recognition(id) else {
            return;
        };
        let Some(segment) = recognition.segments.iter().find(|segment| segment.id == id) else {
            return;
        };
        match segment.state {
            SegmentState::Running => {
                self.act(Action::CancelTranscription { id });
                self.segment_failed(
                    id,
                    &StageFailure {
                        backend: "stt".to_owned(),
                        reason: "no final transcript came in time".to_owned(),
                        retry: true,
                        retry_after_ms: 0,
                    },
                );
            }
            SegmentState::Waiting { .. } if segment.end.is_none() => {
                // While the user speaks on, nobody waits for the words: there is time.
                let until = self.now + self.patience(BackendKind::Stt);
                if let Some((_, recognition)) = self.recognition(id) {
                    recognition.wait_on(id, until);
                }
            }
            SegmentState::Waiting { .. } => {
                self.give_up_segment(id, ErrorCode::SttFailed, "stt", "it did not come back in time");
            }
            SegmentState::Over => {}
        }
    }

    /// A recogniser is there (again). What waited for it is asked for now; a turn that is open changes over to a new one
    /// at once, with all its audio, so that no word is lost.
    pub(super) fn recogniser_ready(&mut self, was_lost: bool) {
        let generation = self.leases.generation(BackendKind::Stt);
        let open = self.turn.open().and_then(|open| open.recognition.as_ref());
        let ended = self.endings.iter().filter_map(|ending| ending.recognition.as_ref());
        let again: Vec<(TranscriptionId, Time, bool)> = ended
            .map(|recognition| (recognition, was_lost))
            .chain(open.map(|recognition| (recognition, true)))
            .flat_map(|(recognition, change)| recognition.segments.iter().map(move |segment| (segment, change)))
            .filter_map(|(segment, change)| match segment.state {
                SegmentState::Waiting { .. } => Some((segment.id, segment.not_before, false)),
                SegmentState::Running if change && segment.generation.is_some() && segment.generation != generation => {
                    Some((segment.id, segment.not_before, true))
                }
                SegmentState::Running | SegmentState::Over => None,
            })
            .collect();
        for (id, not_before, running) in again {
            if running {
                self.act(Action::CancelTranscription { id });
            }
            // Each of the sessions that lost it was told another instant: they keep to it, or all would come at once.
            let soonest = self.not_before(0);
            self.repeat_segment(id, soonest.max(not_before));
        }
    }

    /// The recogniser is gone. What was to be asked for again later waits until there is one: asking nobody would cost one
    /// more of its tries. What is being recognised fails by itself.
    pub(super) fn recogniser_lost(&mut self) {
        let patience = self.patience(BackendKind::Stt);
        let now = self.now;
        let open = self.turn.open_mut().and_then(|open| open.recognition.as_mut());
        let ended = self.endings.iter_mut().filter_map(|ending| ending.recognition.as_mut());
        let mut waiting = Vec::new();
        for segment in ended.chain(open).flat_map(|recognition| &mut recognition.segments) {
            if segment.state == SegmentState::Running && segment.not_before > now {
                segment.state = SegmentState::Waiting { until: now + patience };
                waiting.push(segment.id);
            }
        }
        for id in waiting {
            self.act(Action::CancelTranscription { id });
        }
    }

    /// None is coming: what waited for one is given up.
    pub(super) fn recogniser_missing(&mut self) {
        let open = self.turn.open().and_then(|open| open.recognition.as_ref());
        let ended = self.endings.iter().filter_map(|ending| ending.recognition.as_ref());
        let waiting: Vec<TranscriptionId> = ended
            .chain(open)
            .flat_map(|recognition| &recognition.segments)
            .filter(|segment| matches!(segment.state, SegmentState::Waiting { .. }))
            .map(|segment| segment.id)
            .collect();
        let now = self.now;
        for id in waiting {
            self.tell_missing(BackendKind::Stt);
            if let Some((_, recognition)) = self.recognition(id) {
                recognition.settle(id, None, now);
            }
        }
    }
}
