//! One call as a state machine: what happens goes in, what is to be done comes out. It has no clock, no socket and no task.
//!
//! Rule: one [`Call::handle`], then [`Call::poll_action`] until there is none, then the next. The state is told the time with each
//! input, and says by [`Call::deadline`] when it wants to be told the next time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::phone::Wish;
use crate::time::Time;

/// From the caller's arrival until sound goes both ways. What takes longer failed.
const SETUP_LIMIT: Duration = Duration::from_secs(10);
/// Callers don't hear us on hold, nor we them: they are taken back after this, whatever the language model forgot.
const HOLD_LIMIT: Duration = Duration::from_secs(120);
/// Keys that may be pressed before there is a session.
const MOST_KEYS: usize = 32;
/// Wishes that may wait for one another.
const MOST_WISHES: usize = 8;
/// So often is tried to end something.
const MOST_TRIES: u32 = 4;
/// After a failed try to end something; twice as long after each further one.
const RETRY: Duration = Duration::from_secs(1);

/// Whose side of the call a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leg {
    /// The caller's.
    Caller,
    /// Ours: its sound comes to a wire.
    Media,
}

/// What becomes of a caller whom nobody serves (any more).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Afterwards {
    /// The dialplan goes on behind `Stasis()`.
    #[default]
    Continue,
    /// The call is ended: as congestion (cause 34) where there was no conversation.
    HangUp,
}

/// How a caller's channel is hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    Normal,
    Congestion,
}

/// What Asterisk is asked for; [`Input::Answered`] gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Answer the caller.
    Answer,
    /// The variables that the session is to know.
    Variables,
    /// Make the bridge.
    Bridge,
    /// Announce the call and make the media channel.
    Media,
    /// Put the caller and the media channel into the bridge.
    Join,
    /// Put the media channel back into the bridge.
    JoinMedia,
    /// Take the media channel out of the bridge.
    PartMedia,
    /// Music for the caller.
    MusicOn,
    /// No more music.
    MusicOff,
    /// Play keys to the caller's side.
    Keys(String),
    /// Whether the dialplan has this extension for transfers; it is a failure where it has not.
    Exists(String),
    /// Send the caller on in the dialplan: to this extension, or to what follows. There may be music to be ended first.
    Continue(Option<String>),
    /// End the caller's channel.
    HangUp(Farewell),
    /// End the media channel.
    DropMedia,
    /// Delete the bridge.
    DropBridge,
}

/// Why something that was asked for was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Asterisk says no; it would say so again.
    Refused(String),
    /// There was no answer, or none that tells.
    Unclear(String),
}

impl Failure {
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Refused(reason) | Self::Unclear(reason) => reason,
        }
    }
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Something that was asked for was done, or not.
    Answered(Ask, Result<(), Failure>),
    /// The media channel is in the application.
    MediaEntered,
    /// A channel has left the application: it hung up, or somebody sent it elsewhere.
    Left(Leg),
    /// After a transfer, this channel has the caller's place.
    Replaced(String),
    /// The bridge is gone.
    BridgeGone,
    /// A key was pressed by the caller.
    Key(char),
    /// The session is there.
    Connected,
    /// The session is over, or there will be none.
    SessionOver,
    /// The language model wants something, under this id of a tool's call.
    Wish(String, Wish),
    /// A deadline has come.
    Tick,
}

/// What is to be done for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask Asterisk for it.
    Ask(Ask),
    /// Tell the session that a key was pressed.
    Key(char),
    /// Answer the language model.
    Output { call_id: String, text: String },
    /// The session has nothing to come for any more.
    Unannounce,
    /// The call is over. Not everything may have been tidied up.
    Finished { left_over: bool },
}

/// How far a call is.
#[derive(Debug)]
enum State {
    /// It is being made ready, by this.
    Setup(Setup),
    /// Caller and session hear each other, or would but for a hold.
    Talking(Talk),
    /// What was made is being taken down.
    Ending(Ending),
    /// Nothing more is to come.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setup {
    Answering,
    Asking,
    Bridging,
    /// The media channel's creation was answered; it has entered the application. Either may come first.
    CallingMedia {
        created: bool,
        entered: bool,
    },
    Joining,
}

#[derive(Debug, Default)]
struct Talk {
    /// The wish that is being carried out: the tool's call (nobody's for ours) and what is done.
    doing: Option<(Option<String>, Doing)>,
    /// The caller is on hold, until then at most.
    held_until: Option<Time>,
}

/// One step of carrying out a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Doing {
    SendingKeys,
    Parting,
    StartingMusic,
    /// Music could not be had: back to the conversation.
    Undoing(String),
    StoppingMusic,
    Rejoining,
    LookingUp(String),
    Transferring(String),
}

/// What is left to be ended of a call.
#[derive(Debug)]
struct Ending {
    caller: Step,
    media: Step,
    bridge: Step,
    left_over: bool,
}

#[derive(Debug)]
enum Step {
    Done,
    /// Something that was asked for before must be answered first.
    Blocked(Ask),
    Asked(Ask, u32),
    Later(Ask, u32, Time),
}

impl Step {
    const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Call {
    caller: String,
    afterwards: Afterwards,
    state: State,
    /// The one thing that is asked for at a time, until the end begins.
    in_flight: Option<Ask>,
    /// The caller's channel is another since that was asked for.
    changed: bool,
    connected: bool,
    has_music: bool,
    ready_by: Option<Time>,
    keys: VecDeque<char>,
    wishes: VecDeque<(String, Wish)>,
    actions: VecDeque<Action>,
}

impl Call {
    /// A caller has come, by this channel.
    pub(super) fn new(now: Time, caller: &str, is_answered: bool, afterwards: Afterwards) -> Self {
        let mut call = Self::blank(caller, afterwards, State::Setup(Setup::Answering));
        call.ready_by = Some(now + SETUP_LIMIT);
        if is_answered {
            call.setup(Setup::Asking);
        } else {
            call.ask(Ask::Answer);
        }
        call
    }

    /// A caller has come for whom there is no room.
    pub(super) fn refused(caller: &str, afterwards: Afterwards) -> Self {
        let mut call = Self::blank(caller, afterwards, State::Setup(Setup::Answering));
        call.end(Some(afterwards));
        call
    }

    fn blank(caller: &str, afterwards: Afterwards, state: State) -> Self {
        Self {
            caller: caller.to_owned(),
            afterwards,
            state,
            in_flight: None,
            changed: false,
            connected: false,
            has_music: false,
            ready_by: None,
            keys: VecDeque::new(),
            wishes: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// The caller's channel.
    pub(super) fn caller(&self) -> &str {
        &self.caller
    }

    /// Whether both channels are known to be in the bridge, or were until now.
    pub(super) const fn is_talking(&self) -> bool {
        matches!(self.state, State::Talking(_))
    }

    /// Whether the caller may be hearing music, which would go on wherever he is sent.
    pub(super) const fn has_music(&self) -> bool {
        self.has_music
    }

    /// Whether the caller's channel is no business of this call any more.
    pub(super) const fn has_let_go(&self) -> bool {
        match &self.state {
            State::Ending(ending) => ending.caller.is_done(),
            State::Over => true,
            _ => false,
        }
    }

    /// What is to be done next.
    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Tick`] is wanted.
    pub(super) fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Setup(_) => self.ready_by,
            State::Talking(talk) => [self.ready_by, talk.held_until].into_iter().flatten().min(),
            State::Ending(Ending {
                caller, media, bridge, ..
            }) => [caller, media, bridge]
                .into_iter()
                .filter_map(|step| match step {
                    Step::Later(_, _, at) => Some(*at),
                    _ => None,
                })
                .min(),
            State::Over => None,
        }
    }

    /// Something has happened.
    pub(super) fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Answered(ask, result) => self.answered(now, ask, result),
            Input::Left(Leg::Caller) => match &mut self.state {
                State::Ending(ending) => {
                    ending.caller = Step::Done;
                    self.settle();
                }
                State::Over => {}
                _ => self.end(None),
            },
            Input::Left(Leg::Media) => self.lost(|ending| &mut ending.media),
            Input::BridgeGone => self.lost(|ending| &mut ending.bridge),
            Input::MediaEntered => {
                if let State::Setup(Setup::CallingMedia { created, .. }) = self.state {
                    self.setup(Setup::CallingMedia { created, entered: true });
                }
            }
            Input::Replaced(channel) => self.replaced(channel),
            Input::Key(key) => {
                if self.connected {
                    self.actions.push_back(Action::Key(key));
                } else if self.keys.len() < MOST_KEYS {
                    self.keys.push_back(key);
                }
            }
            Input::Connected => self.connected(),
            Input::SessionOver => match self.state {
                State::Ending(_) | State::Over => {}
                _ => self.end(Some(self.afterwards)),
            },
            Input::Wish(call_id, wish) => self.wish(now, call_id, wish),
            Input::Tick => self.tick(now),
        }
    }

    fn tick(&mut self, now: Time) {
        let is_due = |at: Option<Time>| at.is_some_and(|at| now >= at);
        match &mut self.state {
            State::Ending(ending) => {
                for step in [&mut ending.caller, &mut ending.media, &mut ending.bridge] {
                    if let Step::Later(ask, tries, at) = step
                        && now >= *at
                    {
                        self.actions.push_back(Action::Ask(ask.clone()));
                        *step = Step::Asked(ask.clone(), *tries);
                    }
                }
            }
            State::Over => {}
            _ if is_due(self.ready_by) => {
                tracing::warn!("a call from Asterisk has no sound after {} s", SETUP_LIMIT.as_secs());
                self.end(Some(self.afterwards));
            }
            State::Talking(talk) => {
                if is_due(talk.held_until) {
                    talk.held_until = None;
                    if talk.doing.is_none() {
                        self.take_back(None);
                    } else {
                        // As soon as what is being done is done.
                        self.wishes.push_front((String::new(), Wish::Hold(false)));
                    }
                }
            }
            State::Setup(_) => {}
        }
    }

    fn ask(&mut self, ask: Ask) {
        self.changed = false;
        self.in_flight = Some(ask.clone());
        self.actions.push_back(Action::Ask(ask));
    }

    fn output(&mut self, call_id: Option<String>, text: impl Into<String>) {
        if let Some(call_id) = call_id.filter(|call_id| !call_id.is_empty()) {
            let text = text.into();
            self.actions.push_back(Action::Output { call_id, text });
        }
    }

    /// The next step of making a call ready.
    fn setup(&mut self, setup: Setup) {
        let next = match setup {
            Setup::CallingMedia {
                created: true,
                entered: true,
            } => Setup::Joining,
            setup => setup,
        };
        self.state = State::Setup(next);
        match next {
            Setup::Answering => self.ask(Ask::Answer),
            Setup::Asking => self.ask(Ask::Variables),
            Setup::Bridging => self.ask(Ask::Bridge),
            Setup::CallingMedia {
                created: false,
                entered: false,
            } => self.ask(Ask::Media),
            Setup::CallingMedia { .. } => {}
            Setup::Joining => self.ask(Ask::Join),
        }
    }

    fn connected(&mut self) {
        self.connected = true;
        while let Some(key) = self.keys.pop_front() {
            self.actions.push_back(Action::Key(key));
        }
        if self.is_talking() {
            self.ready_by = None;
        }
    }

    fn replaced(&mut self, channel: String) {
        self.caller = channel;
        self.changed = true;
        if let State::Ending(ending) = &mut self.state
            && let Step::Asked(ask, _) | Step::Later(ask, ..) = &ending.caller
        {
            let ask = ask.clone();
            self.actions.push_back(Action::Ask(ask.clone()));
            ending.caller = Step::Asked(ask, 1);
        }
    }

    /// The media channel or the bridge is gone: without it there is no call.
    fn lost(&mut self, step: fn(&mut Ending) -> &mut Step) {
        if let State::Setup(_) | State::Talking(_) = self.state {
            self.end(Some(self.afterwards));
        }
        if let State::Ending(ending) = &mut self.state {
            *step(ending) = Step::Done;
            self.settle();
        }
    }

    fn wish(&mut self, now: Time, call_id: String, wish: Wish) {
        match &self.state {
            State::Setup(_) | State::Talking(_) if wish == Wish::HangUp => {
                self.end_with(Some(Ask::HangUp(Farewell::Normal)));
            }
            State::Setup(_) | State::Talking(_) => {
                if self.wishes.len() >= MOST_WISHES {
                    self.output(Some(call_id), "the exchange has too much to do already");
                    return;
                }
                self.wishes.push_back((call_id, wish));
                self.next_wish(now);
            }
            State::Ending(_) | State::Over => {}
        }
    }

    /// Begins with the next wish, where none is being carried out.
    fn next_wish(&mut self, now: Time) {
        while let State::Talking(talk) = &mut self.state
            && talk.doing.is_none()
            && let Some((call_id, wish)) = self.wishes.pop_front()
        {
            let call_id = Some(call_id);
            match wish {
                // It has been seen to before.
                Wish::HangUp => {}
                Wish::SendKeys(keys) => {
                    talk.doing = Some((call_id, Doing::SendingKeys));
                    self.ask(Ask::Keys(keys));
                }
                Wish::Transfer(extension) => {
                    talk.doing = Some((call_id, Doing::LookingUp(extension.clone())));
                    self.ask(Ask::Exists(extension));
                }
                Wish::Hold(true) if talk.held_until.is_some() => {
                    talk.held_until = Some(now + HOLD_LIMIT);
                    self.output(call_id, ON_HOLD);
                }
                Wish::Hold(true) => {
                    talk.doing = Some((call_id, Doing::Parting));
                    self.ask(Ask::PartMedia);
                }
                Wish::Hold(false) => self.take_back(call_id),
            }
        }
    }

    /// Back to the conversation, where the caller is on hold.
    fn take_back(&mut self, call_id: Option<String>) {
        if let State::Talking(talk) = &mut self.state {
            talk.doing = Some((call_id, Doing::StoppingMusic));
            talk.held_until = None;
            self.ask(Ask::MusicOff);
        }
    }

    fn answered(&mut self, now: Time, ask: Ask, result: Result<(), Failure>) {
        if let State::Ending(_) = self.state {
            self.ended(now, &ask, result);
            return;
        }
        if self.in_flight.as_ref() != Some(&ask) {
            return;
        }
        self.in_flight = None;
        if result.is_err() && self.changed {
            // It was asked of a channel that isn't the caller's any more.
            self.ask(ask);
            return;
        }
        match self.state {
            State::Setup(setup) => self.set_up(now, setup, result),
            State::Talking(_) => {
                self.done(now, result);
                self.next_wish(now);
            }
            State::Ending(_) | State::Over => {}
        }
    }

    fn set_up(&mut self, now: Time, setup: Setup, result: Result<(), Failure>) {
        if let Err(failure) = result {
            tracing::warn!(
                "a call from Asterisk could not be set up ({setup:?}): {}",
                failure.reason()
            );
            self.end(Some(self.afterwards));
            return;
        }
        match setup {
            Setup::Answering => self.setup(Setup::Asking),
            Setup::Asking => self.setup(Setup::Bridging),
            Setup::Bridging => self.setup(Setup::CallingMedia {
                created: false,
                entered: false,
            }),
            Setup::CallingMedia { entered, .. } => {
                self.state = State::Setup(setup);
                self.setup(Setup::CallingMedia { created: true, entered });
            }
            Setup::Joining => {
                self.state = State::Talking(Talk::default());
                if self.connected {
                    self.ready_by = None;
                }
                self.next_wish(now);
            }
        }
    }

    /// One step of a wish is done, or not.
    fn done(&mut self, now: Time, result: Result<(), Failure>) {
        let State::Talking(talk) = &mut self.state else { return };
        let Some((call_id, doing)) = talk.doing.take() else {
            return;
        };
        let mut go_on = |doing| talk.doing = Some((call_id.clone(), doing));
        match (doing, result) {
            (Doing::SendingKeys, Ok(())) => self.output(call_id, "sent"),
            (Doing::Parting, Ok(())) => {
                go_on(Doing::StartingMusic);
                self.has_music = true;
                self.ask(Ask::MusicOn);
            }
            (Doing::StartingMusic, Ok(())) => {
                talk.held_until = Some(now + HOLD_LIMIT);
                self.output(call_id, ON_HOLD);
            }
            (Doing::StartingMusic, Err(failure)) => {
                go_on(Doing::Undoing(failure.reason().to_owned()));
                self.ask(Ask::JoinMedia);
            }
            (Doing::Undoing(reason), Ok(())) => self.output(call_id, reason),
            // There may have been no music.
            (Doing::StoppingMusic, _) => {
                go_on(Doing::Rejoining);
                self.has_music = false;
                self.ask(Ask::JoinMedia);
            }
            (Doing::Rejoining, Ok(())) => self.output(call_id, "you hear each other again"),
            (Doing::Rejoining | Doing::Undoing(_), Err(failure)) => {
                tracing::warn!("a caller on hold can't be taken back: {}", failure.reason());
                self.end(Some(self.afterwards));
            }
            (Doing::LookingUp(extension), Ok(())) => {
                go_on(Doing::Transferring(extension.clone()));
                self.ask(Ask::Continue(Some(extension)));
            }
            (Doing::Transferring(_), Ok(())) => self.end(None),
            (Doing::SendingKeys | Doing::Parting | Doing::LookingUp(_) | Doing::Transferring(_), Err(failure)) => {
                self.output(call_id, failure.reason());
            }
        }
    }

    fn end(&mut self, caller: Option<Afterwards>) {
        self.end_with(caller.map(|afterwards| match afterwards {
            Afterwards::Continue => Ask::Continue(None),
            Afterwards::HangUp if self.connected => Ask::HangUp(Farewell::Normal),
            Afterwards::HangUp => Ask::HangUp(Farewell::Congestion),
        }));
    }

    /// Takes down what was made; the caller's channel is left alone where nothing is to become of it.
    fn end_with(&mut self, caller: Option<Ask>) {
        let (has_bridge, has_media) = match self.state {
            State::Setup(Setup::Answering | Setup::Asking) => (false, false),
            State::Setup(Setup::Bridging) => (true, false),
            State::Setup(_) | State::Talking(_) => (true, true),
            State::Ending(_) | State::Over => return,
        };
        let in_flight = self.in_flight.take();
        let mut step = |ask: Ask, is_blocked: bool| {
            if is_blocked {
                return Step::Blocked(ask);
            }
            self.actions.push_back(Action::Ask(ask.clone()));
            Step::Asked(ask, 1)
        };
        // A transfer that is under way is not overtaken; and what is being made can't be taken down yet.
        let caller = caller.map_or(Step::Done, |ask| step(ask, matches!(in_flight, Some(Ask::Continue(_)))));
        let media = match has_media {
            true => step(Ask::DropMedia, in_flight == Some(Ask::Media)),
            false => Step::Done,
        };
        let bridge = match has_bridge {
            true => step(Ask::DropBridge, in_flight == Some(Ask::Bridge)),
            false => Step::Done,
        };
        self.actions.push_back(Action::Unannounce);
        self.wishes.clear();
        self.ready_by = None;
        self.state = State::Ending(Ending {
            caller,
            media,
            bridge,
            left_over: false,
        });
        self.settle();
    }

    /// While the call is taken down, something was answered.
    fn ended(&mut self, now: Time, ask: &Ask, result: Result<(), Failure>) {
        let State::Ending(ending) = &mut self.state else { return };
        let (step, unblocks) = match ask {
            Ask::Media => (&mut ending.media, true),
            Ask::Bridge => (&mut ending.bridge, true),
            Ask::Continue(Some(_)) => (&mut ending.caller, true),
            Ask::Continue(None) | Ask::HangUp(_) => (&mut ending.caller, false),
            Ask::DropMedia => (&mut ending.media, false),
            Ask::DropBridge => (&mut ending.bridge, false),
            _ => return,
        };
        match step {
            // The transfer went through after all.
            Step::Blocked(Ask::Continue(_) | Ask::HangUp(_)) if result.is_ok() => *step = Step::Done,
            Step::Blocked(next) if unblocks => {
                let next = next.clone();
                self.actions.push_back(Action::Ask(next.clone()));
                *step = Step::Asked(next, 1);
            }
            Step::Asked(asked, tries) if asked == ask => match result {
                // What Asterisk refuses to end is gone.
                Ok(()) | Err(Failure::Refused(_)) => *step = Step::Done,
                Err(Failure::Unclear(reason)) if *tries >= MOST_TRIES => {
                    tracing::warn!("something of a call may be left in Asterisk ({ask:?}): {reason}");
                    ending.left_over = true;
                    *step = Step::Done;
                }
                Err(Failure::Unclear(_)) => {
                    let at = now + RETRY * (1 << (*tries - 1));
                    *step = Step::Later(ask.clone(), *tries + 1, at);
                }
            },
            _ => {}
        }
        self.settle();
    }

    /// The call is over when nothing is left of it.
    fn settle(&mut self) {
        if let State::Ending(ending) = &self.state
            && ending.caller.is_done()
            && ending.media.is_done()
            && ending.bridge.is_done()
        {
            let left_over = ending.left_over;
            self.state = State::Over;
            self.actions.push_back(Action::Finished { left_over });
        }
    }
}

/// What a language model is told of a caller on hold.
const ON_HOLD: &str = "the caller hears music now, and you can't hear each other until you call hold with on=false";

#[cfg(test)]
mod tests;
