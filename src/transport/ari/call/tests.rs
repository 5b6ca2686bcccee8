use super::*;

/// What becomes of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Caller {
    InApplication,
    Gone,
    InDialplan(Option<String>),
}

/// An Asterisk with one call, as far as a call can tell.
#[derive(Debug)]
struct World {
    caller: Caller,
    is_media: bool,
    is_bridge: bool,
    /// Who is in the bridge: the caller, the media channel.
    joined: (bool, bool),
    music: bool,
    /// Nobody answers.
    is_down: bool,
    events: VecDeque<Input>,
}

impl World {
    const fn new() -> Self {
        Self {
            caller: Caller::InApplication,
            is_media: false,
            is_bridge: false,
            joined: (false, false),
            music: false,
            is_down: false,
            events: VecDeque::new(),
        }
    }

    fn lose_caller(&mut self, caller: Caller) -> bool {
        if self.caller != Caller::InApplication {
            return false;
        }
        self.caller = caller;
        self.joined.0 = false;
        self.events.push_back(Input::Left(Leg::Caller));
        true
    }

    fn lose_media(&mut self) -> bool {
        if !self.is_media {
            return false;
        }
        (self.is_media, self.joined.1) = (false, false);
        self.events.push_back(Input::Left(Leg::Media));
        true
    }

    fn lose_bridge(&mut self) -> bool {
        if !self.is_bridge {
            return false;
        }
        (self.is_bridge, self.joined) = (false, (false, false));
        self.events.push_back(Input::BridgeGone);
        true
    }

    fn carry_out(&mut self, ask: &Ask) -> Result<(), Failure> {
        if self.is_down {
            return Err(Failure::Unclear("can't connect".to_owned()));
        }
        let is_here = self.caller == Caller::InApplication;
        let was_done = match ask {
            Ask::Answer | Ask::Variables | Ask::Keys(_) => is_here,
            Ask::Bridge => {
                self.is_bridge = true;
                true
            }
            Ask::Media => {
                self.is_media = true;
                self.events.push_back(Input::MediaEntered);
                true
            }
            Ask::Join => {
                self.joined = (is_here, self.is_media);
                is_here && self.is_media && self.is_bridge
            }
            Ask::JoinMedia => {
                self.joined.1 = self.is_media;
                self.is_media && self.is_bridge
            }
            Ask::PartMedia => std::mem::take(&mut self.joined.1),
            Ask::MusicOn => {
                self.music = true;
                is_here
            }
            Ask::MusicOff => std::mem::take(&mut self.music),
            Ask::Exists(extension) => extension != "404",
            Ask::Continue(extension) => self.lose_caller(Caller::InDialplan(extension.clone())),
            Ask::HangUp(_) => self.lose_caller(Caller::Gone),
            Ask::DropMedia => self.lose_media(),
            Ask::DropBridge => self.lose_bridge(),
        };
        if was_done {
            Ok(())
        } else {
            Err(Failure::Refused("not found (404)".to_owned()))
        }
    }
}

/// A call in its world.
#[derive(Debug)]
struct Play {
    call: Call,
    world: World,
    now: Time,
    /// Answers come before events that were there already.
    answers_first: bool,
    answers: VecDeque<Input>,
    asked: Vec<Ask>,
    keys: String,
    outputs: Vec<(String, String)>,
    finished: Option<bool>,
    unannounced: bool,
}

impl Play {
    fn new(answers_first: bool, afterwards: Afterwards) -> Self {
        Self::with(Call::new(Time::ZERO, "1.1", false, afterwards), answers_first)
    }

    fn with(call: Call, answers_first: bool) -> Self {
        let mut play = Self {
            call,
            world: World::new(),
            now: Time::ZERO,
            answers_first,
            answers: VecDeque::new(),
            asked: Vec::new(),
            keys: String::new(),
            outputs: Vec::new(),
            finished: None,
            unannounced: false,
        };
        play.act();
        play
    }

    fn act(&mut self) {
        while let Some(action) = self.call.poll_action() {
            assert_eq!(self.finished, None, "nothing follows the end");
            match action {
                Action::Ask(ask) => {
                    let result = self.world.carry_out(&ask);
                    self.asked.push(ask.clone());
                    self.answers.push_back(Input::Answered(ask, result));
                }
                Action::Key(key) => self.keys.push(key),
                Action::Output { call_id, text } => self.outputs.push((call_id, text)),
                Action::Unannounce => self.unannounced = true,
                Action::Finished { left_over } => self.finished = Some(left_over),
            }
        }
    }

    fn give(&mut self, input: Input) {
        self.call.handle(self.now, input);
        self.act();
    }

    /// The next thing that happens by itself; false when nothing does before a deadline.
    fn step(&mut self) -> bool {
        let queues = match self.answers_first {
            true => [&mut self.answers, &mut self.world.events],
            false => [&mut self.world.events, &mut self.answers],
        };
        let next = queues.into_iter().find_map(VecDeque::pop_front);
        let Some(input) = next else { return false };
        self.give(input);
        true
    }

    fn settle(&mut self) {
        while self.step() {}
    }

    /// Lets time pass until the next deadline; false where there is none.
    fn wait(&mut self) -> bool {
        let Some(at) = self.call.deadline() else { return false };
        assert!(at >= self.now, "a deadline in the past was not seen to");
        self.now = at;
        self.give(Input::Tick);
        self.settle();
        true
    }

    /// Up to the conversation.
    fn talk(&mut self) {
        self.give(Input::Connected);
        self.settle();
        assert!(self.call.is_talking(), "{self:?}");
        assert_eq!(self.call.deadline(), None);
    }

    /// To the end of everything.
    fn finish(&mut self) {
        self.settle();
        for _ in 0..20 {
            if self.finished.is_some() || !self.wait() {
                break;
            }
        }
        assert!(self.finished.is_some(), "it never ends: {self:?}");
        assert_eq!(self.call.deadline(), None);
        assert!(self.unannounced && self.call.has_let_go());
        // What comes late changes nothing.
        for input in [
            Input::Left(Leg::Caller),
            Input::Left(Leg::Media),
            Input::BridgeGone,
            Input::SessionOver,
            Input::Connected,
            Input::MediaEntered,
            Input::Tick,
            Input::Wish("9".to_owned(), Wish::HangUp),
        ] {
            self.give(input);
        }
    }

    fn is_tidy(&self) -> bool {
        !self.world.is_media && !self.world.is_bridge && self.world.caller != Caller::InApplication
    }
}

const BOTH: [bool; 2] = [true, false];

#[test]
fn a_call_is_set_up_in_order_and_ends_with_its_caller() {
    for answers_first in BOTH {
        let mut play = Play::new(answers_first, Afterwards::Continue);
        play.give(Input::Key('1'));
        assert_eq!(play.keys, "");
        play.talk();
        let expected = [Ask::Answer, Ask::Variables, Ask::Bridge, Ask::Media, Ask::Join];
        assert_eq!(play.asked, expected);
        play.give(Input::Key('2'));
        assert_eq!(play.keys, "12");
        assert_eq!(play.world.joined, (true, true));
        play.world.lose_caller(Caller::Gone);
        play.finish();
        assert!(play.is_tidy());
        assert_eq!(play.asked[expected.len()..], [Ask::DropMedia, Ask::DropBridge]);
    }
}

#[test]
fn an_answered_channel_is_not_answered_again() {
    let mut play = Play::with(Call::new(Time::ZERO, "1.1", true, Afterwards::Continue), true);
    play.talk();
    assert_eq!(play.asked[0], Ask::Variables);
}

/// What can go wrong.
#[derive(Clone, Copy, Debug)]
enum Blow {
    CallerHangsUp,
    MediaDies,
    BridgeGoes,
    SessionEnds,
    Restart,
    Unreachable,
    UnreachableForAWhile,
    Transferred,
}

#[test]
fn whatever_goes_wrong_at_whatever_step_nothing_is_left_behind() {
    use Blow::*;
    let blows = [
        CallerHangsUp,
        MediaDies,
        BridgeGoes,
        SessionEnds,
        Restart,
        Unreachable,
        UnreachableForAWhile,
        Transferred,
    ];
    let wishes = [
        None,
        Some(Wish::HangUp),
        Some(Wish::Transfer("200".to_owned())),
        Some(Wish::Transfer("404".to_owned())),
        Some(Wish::SendKeys("1w2".to_owned())),
        Some(Wish::Hold(true)),
    ];
    for (blow, wish, answers_first, afterwards, connects_first) in blows.iter().flat_map(|blow| {
        wishes.iter().flat_map(move |wish| {
            BOTH.into_iter().flat_map(move |first| {
                [Afterwards::Continue, Afterwards::HangUp]
                    .into_iter()
                    .flat_map(move |afterwards| {
                        BOTH.map(move |connects| (*blow, wish.clone(), first, afterwards, connects))
                    })
            })
        })
    }) {
        for steps in 0..30 {
            let mut play = Play::new(answers_first, afterwards);
            if connects_first {
                play.give(Input::Connected);
            }
            if let Some(wish) = wish.clone() {
                play.give(Input::Wish("1".to_owned(), wish));
            }
            for _ in 0..steps {
                play.step();
            }
            let case =
                format!("{blow:?} after {steps} steps, {wish:?}, {answers_first}, {afterwards:?}, {connects_first}");
            match blow {
                CallerHangsUp => drop(play.world.lose_caller(Caller::Gone)),
                MediaDies => drop(play.world.lose_media()),
                BridgeGoes => drop(play.world.lose_bridge()),
                SessionEnds => play.give(Input::SessionOver),
                // All is gone, and nobody says so; the wire notices that its sound has ended.
                Restart => {
                    play.world = World {
                        caller: Caller::Gone,
                        is_down: true,
                        ..World::new()
                    };
                    play.give(Input::SessionOver);
                }
                Unreachable | UnreachableForAWhile => {
                    play.world.is_down = true;
                    play.give(Input::SessionOver);
                    if matches!(blow, UnreachableForAWhile) {
                        play.settle();
                        play.wait();
                        play.world.is_down = false;
                    }
                }
                Transferred => play.give(Input::Replaced("1.9".to_owned())),
            }
            play.settle();
            if play.finished.is_none() && play.call.is_talking() {
                play.give(Input::Connected);
                play.settle();
                assert!(play.world.is_media && play.world.is_bridge, "{case}: {play:?}");
                play.world.lose_caller(Caller::Gone);
            }
            play.finish();
            match blow {
                // It can't be known: whoever connects again looks around.
                Unreachable if !play.is_tidy() => assert_eq!(play.finished, Some(true), "{case}"),
                _ => assert!(play.is_tidy(), "{case}: {play:?}"),
            }
        }
    }
}

#[test]
fn sound_that_never_comes_does_not_keep_a_caller() {
    for (afterwards, caller, last) in [
        (Afterwards::Continue, Caller::InDialplan(None), Ask::Continue(None)),
        (Afterwards::HangUp, Caller::Gone, Ask::HangUp(Farewell::Congestion)),
    ] {
        let mut play = Play::new(true, afterwards);
        play.settle();
        assert!(play.call.is_talking());
        assert!(play.wait());
        assert_eq!(play.now, Time::ZERO + SETUP_LIMIT);
        play.finish();
        assert_eq!(play.world.caller, caller);
        assert!(play.is_tidy() && play.asked.contains(&last));
    }
}

#[test]
fn a_call_for_which_there_is_no_room_is_not_answered() {
    for (afterwards, asked) in [
        (Afterwards::Continue, Ask::Continue(None)),
        (Afterwards::HangUp, Ask::HangUp(Farewell::Congestion)),
    ] {
        let mut play = Play::with(Call::refused("1.1", afterwards), true);
        play.finish();
        assert_eq!(play.asked, [asked]);
    }
}

#[test]
fn a_session_that_ends_lets_the_dialplan_go_on_or_hangs_up() {
    for (afterwards, caller) in [
        (Afterwards::Continue, Caller::InDialplan(None)),
        (Afterwards::HangUp, Caller::Gone),
    ] {
        let mut play = Play::new(true, afterwards);
        play.talk();
        play.give(Input::SessionOver);
        play.finish();
        assert_eq!(play.world.caller, caller);
        assert!(!play.asked.contains(&Ask::HangUp(Farewell::Congestion)));
    }
}

fn wish(play: &mut Play, id: &str, wish: Wish) {
    play.give(Input::Wish(id.to_owned(), wish));
    play.settle();
}

#[test]
fn wishes_are_carried_out_one_after_the_other() {
    let mut play = Play::new(true, Afterwards::Continue);
    play.talk();
    play.give(Input::Wish("a".to_owned(), Wish::SendKeys("1".to_owned())));
    play.give(Input::Wish("b".to_owned(), Wish::Hold(true)));
    assert_eq!(play.asked.last(), Some(&Ask::Keys("1".to_owned())));
    play.settle();
    assert_eq!(play.outputs[0], ("a".to_owned(), "sent".to_owned()));
    assert_eq!(play.outputs[1].0, "b");
    assert_eq!(play.world.joined, (true, false));
    assert!(play.world.music);
    wish(&mut play, "c", Wish::Hold(true));
    wish(&mut play, "d", Wish::Hold(false));
    assert_eq!(play.world.joined, (true, true));
    assert!(!play.world.music && play.call.is_talking());
    assert_eq!(play.outputs.len(), 4);
    // Too many at once are refused, each with an answer.
    for number in 0..=MOST_WISHES + 1 {
        play.give(Input::Wish(number.to_string(), Wish::SendKeys("1".to_owned())));
    }
    play.settle();
    assert_eq!(play.outputs.len(), 4 + MOST_WISHES + 2);
    wish(&mut play, "e", Wish::HangUp);
    play.finish();
    assert_eq!(play.world.caller, Caller::Gone);
    assert_eq!(play.outputs.len(), 4 + MOST_WISHES + 2);
}

#[test]
fn nobody_is_on_hold_for_ever() {
    let mut play = Play::new(true, Afterwards::Continue);
    play.talk();
    wish(&mut play, "a", Wish::Hold(true));
    assert!(play.wait());
    assert_eq!(play.now, Time::ZERO + HOLD_LIMIT);
    assert_eq!(play.world.joined, (true, true));
    assert!(!play.world.music);
    assert_eq!(play.outputs.len(), 1);
    assert_eq!(play.call.deadline(), None);
}

#[test]
fn a_transfer_leaves_the_caller_alone_and_is_told_only_when_it_fails() {
    let mut play = Play::new(true, Afterwards::Continue);
    play.talk();
    wish(&mut play, "a", Wish::Transfer("404".to_owned()));
    assert_eq!(play.outputs.len(), 1);
    assert!(play.call.is_talking());
    wish(&mut play, "b", Wish::Transfer("200".to_owned()));
    play.finish();
    assert_eq!(play.outputs.len(), 1);
    assert_eq!(play.world.caller, Caller::InDialplan(Some("200".to_owned())));
    let asked_afterwards = &play.asked[play.asked.len() - 2..];
    assert_eq!(asked_afterwards, [Ask::DropMedia, Ask::DropBridge]);
}

#[test]
fn music_ends_before_a_caller_on_hold_is_sent_on() {
    let mut play = Play::new(true, Afterwards::Continue);
    play.talk();
    wish(&mut play, "a", Wish::Hold(true));
    assert!(play.call.has_music());
    wish(&mut play, "b", Wish::Transfer("200".to_owned()));
    play.finish();
    assert!(play.call.has_music(), "whoever asks for it ends the music first");
}

#[test]
fn after_an_attended_transfer_the_new_channel_is_the_caller() {
    let mut play = Play::new(true, Afterwards::Continue);
    play.talk();
    play.give(Input::Replaced("1.9".to_owned()));
    assert_eq!(play.call.caller(), "1.9");
    assert!(play.call.is_talking());
    wish(&mut play, "a", Wish::HangUp);
    play.finish();
    assert!(play.is_tidy());
}

#[test]
fn what_was_made_too_late_is_taken_down_when_it_is_there() {
    let mut play = Play::new(true, Afterwards::Continue);
    // Up to where the media channel is being made.
    while play.asked.last() != Some(&Ask::Media) {
        assert!(play.step());
    }
    play.give(Input::Left(Leg::Caller));
    assert!(!play.asked.contains(&Ask::DropMedia), "it isn't there yet");
    assert!(play.asked.contains(&Ask::DropBridge));
    play.world.caller = Caller::Gone;
    play.finish();
    assert!(play.is_tidy());
}
