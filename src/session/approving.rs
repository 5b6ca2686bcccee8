//! Replies that the client wants to hear as text before they are spoken or told.

use std::time::Duration;

use super::core::Session;
use super::reply::{Approval, Reply};
use super::response::{ResponseEffect, ResponseEvent};
use crate::call::{CallError, ErrorCode, Event, Origin, ResponseStatus};
use crate::id::ResponseId;

/// How long a client has to approve a reply.
const APPROVAL_WAIT: Duration = Duration::from_secs(30);

impl Session {
    /// All words of a reply are there that the client wants to hear first: it is asked, once. Whether anything was done.
    pub(super) fn ask_approval(&mut self) -> bool {
        let until = self.now + APPROVAL_WAIT;
        let Some(reply) = &mut self.reply else { return false };
        if reply.approval != Approval::Needed {
            return false;
        }
        if reply.has_content() {
            reply.approval = Approval::Asked { until };
            let event = Event::ResponsePrepared {
                response: reply.id,
                turn: reply.turn,
                text: reply.text.clone(),
                calls: reply.tool_calls.clone(),
            };
            self.emit(event);
        } else {
            // Nothing that could be approved.
            reply.approval = Approval::NotNeeded;
            reply.state.handle(ResponseEvent::Promote { content: false });
        }
        true
    }

    /// The client approves a reply that waits for that.
    pub(super) fn approve(&mut self, response: ResponseId) {
        let waits = |reply: &Reply| reply.id == response && matches!(reply.approval, Approval::Asked { .. });
        let Some(mut reply) = self.reply.take_if(|reply| waits(reply)) else {
            self.refuse(
                ErrorCode::InvalidState,
                format!("{response} doesn't wait to be approved"),
            );
            return;
        };
        reply.approval = Approval::NotNeeded;
        if reply.state.handle(ResponseEvent::Promote { content: true }) == ResponseEffect::Announce {
            self.announce(&mut reply);
        }
        self.reply = Some(reply);
    }

    pub(super) fn approval_timed_out(&mut self) {
        self.emit(Event::Error(CallError {
            code: ErrorCode::Timeout,
            origin: Origin::Client,
            retry: false,
            message: format!("the reply was not approved within {} s", APPROVAL_WAIT.as_secs()),
        }));
        self.stop_reply(ResponseStatus::Cancelled);
    }
}
