//! Calls in virtual time, as timelines that people review. The recogniser, the model, the synthesiser and the loudspeaker
//! are scripted; the session is the real one.

use repartee::call::{
    BackendKind, Command, Digit, HistoryEdit, KeyCollection, Say, Settings, SettingsUpdate, Stages, ToolOutput,
    TurnDetection,
};
use repartee::pii::Pii;
use repartee::session::simulation::{Answer, Latencies, Script};
use repartee::session::{Action, Input, Output, Session};

fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings {
        instructions: Pii::from("Be brief."),
        ..Settings::default()
    };
    change(&mut settings);
    settings
}

fn call() -> Script {
    Script::new(settings(|_| {}))
}

/// A reply that takes about eight seconds to be said.
const LONG: &str = "Certainly, I can tell you. The museum opens at nine in the morning and closes at six in the evening. \
                    On Mondays it is closed.";

fn long_reply() -> Script {
    call()
        .user(500, "when does the museum open", 1_300)
        .answer("when does the museum open", Answer::Text(LONG.to_owned()))
}

#[test]
fn ordinary_turn() {
    insta::assert_snapshot!(call().user(500, "good morning to you", 1_200).until(8_000).run());
}

#[test]
fn two_turns_of_a_conversation() {
    let timeline = call()
        .user(300, "good morning", 700)
        .user(5_000, "how are you", 800)
        .until(11_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn barge_in() {
    let timeline = long_reply()
        .user(5_000, "no wait I meant the zoo", 1_500)
        .until(12_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn backchannel_to_what_the_client_supplies_is_told_and_does_not_interrupt() {
    let timeline = Script::new(settings(|settings| settings.stages.llm = false))
        .latencies(Latencies {
            stt_partial: (10, 30),
            ..Latencies::ORDINARY
        })
        .say(500, LONG)
        .user(3_000, "mhm yeah okay", 510)
        .until(14_000)
        .run()
        .to_string();
    assert!(timeline.contains("Completed, heard"), "{timeline}");
    assert!(timeline.contains("user: \"mhm yeah okay\""), "{timeline}");
}

#[test]
fn backchannel_does_not_interrupt() {
    let timeline = long_reply()
        .latencies(Latencies {
            stt_partial: (10, 30),
            ..Latencies::ORDINARY
        })
        .user(5_000, "mhm yeah okay", 510)
        .until(13_500)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn a_short_word_interrupts_when_it_is_understood() {
    insta::assert_snapshot!(long_reply().user(5_000, "stop", 200).until(9_000).run());
}

#[test]
fn false_alarm_is_resumed() {
    insta::assert_snapshot!(long_reply().noise(5_000, 130).until(13_500).run());
}

#[test]
fn a_click_only_dips_the_volume() {
    insta::assert_snapshot!(long_reply().noise(5_000, 70).until(13_500).run());
}

#[test]
fn the_user_resumes_before_the_turn_ends() {
    let timeline = call()
        .user(300, "I would like", 700)
        .user(1_450, "a cup of tea", 800)
        .until(7_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn an_unfinished_sentence_is_waited_for() {
    let timeline = call()
        .user(300, "I would like to", 900)
        .user(2_400, "buy a ticket", 800)
        .until(8_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn two_quick_turns_are_answered_together() {
    let timeline = call()
        .user(300, "good morning", 700)
        .user(1_800, "how are you", 800)
        .until(8_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn stt_worker_lost_in_the_middle_of_an_utterance() {
    let timeline = call()
        .user(300, "I would like a cup of tea please", 2_000)
        .lose(1_200, BackendKind::Stt, 400)
        .until(9_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn stt_is_switched_in_the_middle_of_an_utterance() {
    let timeline = call()
        .user(300, "I would like a cup of tea please", 2_000)
        .switch(1_200, BackendKind::Stt)
        .until(9_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn stt_worker_does_not_come_back() {
    let timeline = call()
        .user(300, "I would like a cup of tea please", 2_000)
        .lose(1_900, BackendKind::Stt, 60_000)
        .until(30_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn tts_worker_lost_between_two_clauses() {
    insta::assert_snapshot!(long_reply().lose(2_990, BackendKind::Tts, 500).until(14_000).run());
}

#[test]
fn a_worker_that_takes_longer_than_a_retry_costs_one_try() {
    // The first clause is being made when the synthesiser dies, and it is away for longer than a failed request waits.
    let timeline = long_reply()
        .lose(2_740, BackendKind::Tts, 900)
        .until(14_000)
        .run()
        .to_string();
    assert!(timeline.contains("Completed, heard"), "{timeline}");
    assert!(!timeline.contains("goes on as text"), "{timeline}");
    // The recogniser dies twice in one utterance.
    let timeline = call()
        .user(300, "I would like a cup of tea please and a piece of cake", 4_000)
        .lose(900, BackendKind::Stt, 900)
        .lose(3_000, BackendKind::Stt, 900)
        .until(14_000)
        .run()
        .to_string();
    assert!(
        timeline.contains("final \"I would like a cup of tea please and a piece of cake\""),
        "{timeline}"
    );
}

#[test]
fn tts_worker_lost_while_it_is_heard() {
    let timeline = long_reply()
        .latencies(Latencies {
            tts_next: (150, 190),
            ..Latencies::ORDINARY
        })
        .lose(6_500, BackendKind::Tts, 500)
        .until(14_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn a_recogniser_that_is_behind_is_waited_for_while_it_gets_on() {
    let behind = |latencies: Latencies| {
        call()
            .user(300, "one two three four five six", 2_400)
            .latencies(latencies)
            .until(40_000)
            .run()
            .to_string()
    };
    // Its last words come four seconds late, its final ones eight: five are waited for silence.
    let timeline = behind(Latencies {
        stt_partial: (4_000, 4_000),
        stt_final: (8_000, 8_000),
        ..Latencies::ORDINARY
    });
    assert!(timeline.contains("final \"one two three four five six\""), "{timeline}");
    assert!(!timeline.contains("no final transcript"), "{timeline}");
    // Words that come for ever don't hold the turn up for ever; silence is waited for as before.
    let timeline = behind(Latencies {
        stt_final: (60_000, 60_000),
        ..Latencies::ORDINARY
    });
    assert!(timeline.contains("no final transcript"), "{timeline}");
}

#[test]
fn llm_fails_once() {
    let fail = |text: &str| Answer::Failure {
        text: text.to_owned(),
        retry: true,
    };
    let timeline = call()
        .user(300, "good morning", 700)
        .answer("good morning", fail(""))
        .answer("good morning", Answer::Text("And to you.".to_owned()))
        .until(7_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn llm_fails_in_the_middle_of_a_reply() {
    let fail = Answer::Failure {
        text: "And to you, too. I am ".to_owned(),
        retry: true,
    };
    insta::assert_snapshot!(
        call()
            .user(300, "good morning", 700)
            .answer("good morning", fail)
            .until(7_000)
            .run()
    );
}

#[test]
fn llm_fails_for_good() {
    let fail = Answer::Failure {
        text: String::new(),
        retry: false,
    };
    insta::assert_snapshot!(
        call()
            .user(300, "good morning", 700)
            .answer("good morning", fail)
            .until(5_000)
            .run()
    );
}

#[test]
fn without_a_language_model() {
    insta::assert_snapshot!(
        call()
            .without(BackendKind::Llm)
            .user(300, "good morning", 700)
            .user(3_000, "good night", 700)
            .until(6_000)
            .run()
    );
}

#[test]
fn without_a_synthesiser() {
    insta::assert_snapshot!(
        call()
            .without(BackendKind::Tts)
            .user(300, "good morning", 700)
            .until(5_000)
            .run()
    );
}

fn say(text: &str, interrupt: bool, interruptible: bool) -> Command {
    Command::Say(Say {
        text: Pii::from(text),
        interrupt,
        interruptible,
        remember: true,
    })
}

#[test]
fn say_queue() {
    let timeline = call()
        .say(200, "Welcome.")
        .say(300, "How can I help?")
        .command(1_200, say("One moment.", true, true))
        .until(6_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn an_announcement_is_not_interrupted() {
    let timeline = call()
        .command(
            200,
            say("This call is recorded for quality and training.", false, false),
        )
        .user(1_500, "hello is anybody there", 1_300)
        .until(9_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn tool_call() {
    let call_tool = Answer::Tool {
        text: "Let me see.".to_owned(),
        name: "weather".to_owned(),
        arguments: "{\"place\":\"Oslo\"}".to_owned(),
    };
    let timeline = call()
        .user(300, "how is the weather", 900)
        .answer("how is the weather", call_tool)
        .command(
            3_000,
            Command::ToolOutput(ToolOutput {
                call_id: "call_1".to_owned(),
                output: Pii::from("rain"),
                respond: true,
            }),
        )
        .until(8_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn typed_turn_interrupts() {
    let timeline = long_reply()
        .command(
            5_000,
            Command::Text {
                text: Pii::from("never mind"),
            },
        )
        .until(9_000)
        .run();
    insta::assert_snapshot!(timeline);
}

fn keys(settings: &mut Settings) {
    settings.keys = Some(KeyCollection {
        terminator: Digit::new('#'),
        timeout_ms: 2_000,
        max_keys: 4,
    });
}

fn press(mut script: Script, at: u64, pressed: &str) -> Script {
    for (index, key) in (0..).zip(pressed.chars()) {
        let digit = Digit::new(key).expect("a key of a telephone");
        script = script.command(at + 300 * index, Command::Dtmf { digit });
    }
    script
}

/// The first key stops the reply; the terminator, a pause and the most that is wanted each end an entry.
#[test]
fn keys_of_a_telephone_are_a_turn() {
    let call = Script::new(settings(keys)).say(100, LONG);
    let call = press(call, 2_000, "12#");
    let call = press(call, 9_000, "7");
    let call = press(call, 16_000, "12345");
    // A terminator that is pressed twice takes nothing back.
    let timeline = press(call, 24_000, "9##").until(30_000).run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn keys_are_only_told_where_nobody_gathers_them() {
    let timeline = press(call(), 1_000, "12#").until(6_000).run().to_string();
    assert_eq!(timeline.matches("client  key").count(), 3, "{timeline}");
    assert!(!timeline.contains("user:"), "{timeline}");
}

#[test]
fn the_client_cancels_and_asks_again() {
    let timeline = long_reply()
        .command(5_000, Command::Cancel { response: None })
        .command(6_000, Command::Respond)
        .command(6_100, Command::Respond)
        .until(9_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn history_is_edited() {
    let timeline = call()
        .command(
            100,
            Command::Edit(HistoryEdit::Append {
                role: repartee::call::Role::User,
                text: Pii::from("my name is Ada"),
            }),
        )
        .command(200, Command::Status)
        .command(300, Command::Edit(HistoryEdit::Clear))
        .command(
            400,
            Command::Edit(HistoryEdit::Delete {
                item: repartee::id::ItemId::new(1),
            }),
        )
        .command(500, Command::Commit)
        .until(1_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn drain_finishes_the_open_turn_and_its_reply() {
    let timeline = call()
        .user(500, "good morning to you", 1_200)
        .input(1_000, Input::Drain { within_ms: 10_000 })
        .command(1_500, say("too late", false, true))
        .user(4_000, "and one more thing", 1_000)
        .until(12_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn drain_has_a_deadline() {
    insta::assert_snapshot!(
        long_reply()
            .input(5_000, Input::Drain { within_ms: 1_000 })
            .until(9_000)
            .run()
    );
}

#[test]
fn bye_in_the_middle_of_a_reply() {
    insta::assert_snapshot!(long_reply().command(5_000, Command::Bye).until(9_000).run());
}

#[test]
fn a_long_turn_is_committed_in_segments() {
    let text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen";
    let timeline = Script::new(settings(|settings| settings.endpointing.hard_limit_ms = 2_000))
        .user(300, text, 5_000)
        .until(12_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn the_client_commits() {
    let timeline = Script::new(settings(|settings| settings.turn_detection = TurnDetection::Client))
        .user(300, "good morning", 700)
        .command(1_200, Command::Commit)
        .command(1_205, Command::Commit)
        .user(5_000, "forget this", 500)
        .command(5_700, Command::Clear)
        .until(6_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn transcription_only() {
    let stages = Stages {
        stt: true,
        llm: false,
        tts: false,
    };
    let timeline = Script::new(settings(|settings| settings.stages = stages))
        .user(300, "good morning", 700)
        .user(1_800, "good night", 700)
        .until(5_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn text_to_text() {
    let stages = Stages {
        stt: false,
        llm: true,
        tts: false,
    };
    let timeline = Script::new(settings(|settings| settings.stages = stages))
        .without_audio()
        .command(
            300,
            Command::Text {
                text: Pii::from("good morning"),
            },
        )
        .until(3_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn text_to_speech() {
    let stages = Stages {
        stt: false,
        llm: false,
        tts: true,
    };
    let timeline = Script::new(settings(|settings| settings.stages = stages))
        .without_audio()
        .say(300, "Good morning. How are you?")
        .until(4_000)
        .run();
    insta::assert_snapshot!(timeline);
}

fn eager() -> Settings {
    settings(|settings| settings.endpointing.eager_ms = 250)
}

#[test]
fn eager_reply_hits() {
    insta::assert_snapshot!(
        Script::new(eager())
            .user(500, "good morning to you", 1_200)
            .until(7_000)
            .run()
    );
}

#[test]
fn eager_reply_misses() {
    let timeline = Script::new(eager())
        .user(500, "good morning to you", 1_200)
        .user(2_150, "my friend", 600)
        .until(8_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn turn_model_ends_a_turn_early() {
    insta::assert_snapshot!(
        call()
            .turn_model(975)
            .user(500, "good morning to you", 1_200)
            .until(6_000)
            .run()
    );
}

#[test]
fn turn_model_keeps_a_turn_open() {
    insta::assert_snapshot!(
        call()
            .turn_model(50)
            .user(500, "my number is five five five", 1_400)
            .user(2_900, "one two three four", 1_000)
            .until(9_000)
            .run()
    );
}

#[test]
fn turn_model_is_not_waited_for_when_the_user_goes_on() {
    let timeline = call()
        .turn_model(990)
        .user(500, "my number is", 800)
        // The model is asked after 100 ms of silence and takes 40 ms to answer.
        .user(1_430, "five five five", 800)
        .until(6_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn settings_change_during_a_call() {
    let update = |update| Command::Update(Box::new(update));
    let timeline = call()
        .command(
            100,
            update(SettingsUpdate {
                temperature_milli: Some(9_999),
                ..SettingsUpdate::default()
            }),
        )
        .command(
            200,
            update(SettingsUpdate {
                stages: Some(Stages {
                    stt: true,
                    llm: true,
                    tts: false,
                }),
                ..SettingsUpdate::default()
            }),
        )
        .user(500, "good morning", 700)
        .until(4_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn idle_call_is_closed() {
    let timeline = Script::new(settings(|settings| settings.limits.idle_timeout_ms = 3_000))
        .without_audio()
        .say(200, "Hello.")
        .until(20_000)
        .run();
    insta::assert_snapshot!(timeline);
}

/// Said nothing, heard nothing, and restored after every single input: it is the same call.
#[test]
fn a_call_that_is_restored_all_the_time_is_the_same_call() {
    let script = || {
        long_reply()
            .seed(7)
            .user(5_000, "no wait I meant the zoo", 1_500)
            .lose(5_800, BackendKind::Stt, 300)
            .until(12_000)
    };
    let (plain, restored) = (script().run(), script().restored_every(1).run());
    assert_eq!(plain.actions, restored.actions);
}

#[test]
fn with_instant_backends_only_the_endpointing_delay_is_left() {
    for seed in 0..20 {
        let timeline = call()
            .seed(seed)
            .latencies(Latencies::INSTANT)
            .user(500 + seed * 3, "good morning to you", 1_200)
            .until(5_000)
            .run();
        let report = timeline.reports().next().expect("the turn is reported");
        let total = report.total().as_millis();
        assert!((600..=610).contains(&total), "{total} ms:\n{timeline}");
    }
}

#[test]
fn barge_in_is_quick() {
    for seed in 0..20 {
        let at = 5_000 + seed * 7;
        let timeline = long_reply()
            .seed(seed)
            .user(at, "no wait I meant the zoo", 1_500)
            .until(7_000)
            .run();
        let after = |wanted: fn(&Action) -> bool| {
            timeline
                .actions
                .iter()
                .find(|(_, action)| wanted(action))
                .map(|(time, _)| time.as_millis() - at)
                .expect("it happens")
        };
        let ducked = after(|action| matches!(action, Action::Gain { .. }));
        let stopped = after(|action| matches!(action, Action::StopPlayout { .. }));
        assert!(ducked <= 100, "ducked after {ducked} ms");
        assert!(stopped <= 290, "stopped after {stopped} ms");
    }
}

#[test]
fn a_noise_before_the_reply_is_heard_delays_it() {
    insta::assert_snapshot!(
        call()
            .user(500, "good morning to you", 1_200)
            .noise(2_520, 150)
            .until(8_000)
            .run()
    );
}

#[test]
fn without_barge_in_the_reply_goes_on() {
    let timeline = Script::new(settings(|settings| settings.barge_in.enabled = false))
        .user(500, "good morning to you", 1_200)
        .user(3_200, "and how are you", 800)
        .until(8_000)
        .run();
    insta::assert_snapshot!(timeline);
}

#[test]
fn without_a_recogniser() {
    insta::assert_snapshot!(
        call()
            .without(BackendKind::Stt)
            .user(500, "good morning to you", 1_200)
            .until(4_000)
            .run()
    );
}

/// The page of a session that is written into a log shows nothing of what was said.
#[test]
fn what_was_said_is_not_printed() {
    let timeline = long_reply()
        .user(5_000, "no wait I meant the zoo", 1_500)
        .until(7_500)
        .run();
    let mut session = Session::new(settings(|_| {}), 1);
    for (at, input) in timeline.inputs {
        session.handle(at, input.clone());
        let mut printed = format!("{input:?} {session:?}");
        while let Output::Action(action) = session.poll() {
            printed += &format!("{action:?}");
        }
        for word in ["museum", "zoo", "Mondays", "Certainly"] {
            assert!(!printed.contains(word), "{word}: {printed}");
        }
    }
}
