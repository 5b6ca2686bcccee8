//! Backends switched in the middle of simulated calls, in virtual time: what a call keeps, what it loses, and when it takes the new one.

use repartee::call::{BackendKind, Command, Event, ResponseStatus, Scope, Settings, SwitchRequest, SwitchStage, When};
use repartee::pii::Pii;
use repartee::session::simulation::{Answer, Script, Timeline};
use repartee::session::{Action, Input};

const LONG: &str = "Certainly, I can tell you. The museum opens at nine in the morning and closes at six in the evening. \
                    On Mondays it is closed.";

fn call() -> Script {
    Script::new(Settings {
        instructions: Pii::from("Be brief."),
        ..Settings::default()
    })
}

fn long_reply() -> Script {
    call()
        .user(500, "when does the museum open", 1_300)
        .answer("when does the museum open", Answer::Text(LONG.to_owned()))
}

fn to(kind: BackendKind, model: &str) -> SwitchRequest {
    SwitchRequest {
        model: Some(model.to_owned()),
        ..SwitchRequest::new(kind)
    }
}

fn asked(request: SwitchRequest) -> Input {
    Input::Command(Command::Switch(Box::new(request)))
}

/// Every action of a call, with its instant in ms.
fn actions(timeline: &Timeline) -> impl Iterator<Item = (u64, &Action)> {
    timeline.actions.iter().map(|(at, action)| (at.as_millis(), action))
}

fn events(timeline: &Timeline) -> impl Iterator<Item = (u64, &Event)> {
    actions(timeline).filter_map(|(at, action)| match action {
        Action::Emit(event) => Some((at, event)),
        _ => None,
    })
}

fn adopted(timeline: &Timeline, kind: BackendKind) -> Vec<u64> {
    actions(timeline)
        .filter(|(_, action)| matches!(action, Action::Adopt { kind: which, .. } if *which == kind))
        .map(|(at, _)| at)
        .collect()
}

fn finals(timeline: &Timeline) -> Vec<&str> {
    events(timeline)
        .filter_map(|(_, event)| match event {
            Event::Transcript {
                text, is_final: true, ..
            } => Some(text.expose().as_str()),
            _ => None,
        })
        .collect()
}

fn completed(timeline: &Timeline) -> usize {
    events(timeline)
        .filter(|(_, event)| {
            matches!(
                event,
                Event::ResponseDone {
                    status: ResponseStatus::Completed,
                    ..
                }
            )
        })
        .count()
}

fn switched(timeline: &Timeline) -> Vec<(u64, u32)> {
    events(timeline)
        .filter_map(|(at, event)| match event {
            Event::Switched { gap_ms, .. } => Some((at, *gap_ms)),
            _ => None,
        })
        .collect()
}

fn failures(timeline: &Timeline) -> Vec<(SwitchStage, bool)> {
    events(timeline)
        .filter_map(|(_, event)| match event {
            Event::SwitchFailed { failure, serving, .. } => Some((failure.stage, serving.is_some())),
            _ => None,
        })
        .collect()
}

#[test]
fn a_recogniser_takes_over_in_the_middle_of_an_utterance() {
    let timeline = call()
        .user(300, "I would like a cup of tea please", 2_000)
        .input(1_000, asked(to(BackendKind::Stt, "better")))
        .until(9_000)
        .run();
    assert_eq!(finals(&timeline), ["I would like a cup of tea please"]);
    // Loaded after 400 ms, while the user speaks, and given all of it from the first sample on.
    let at = adopted(&timeline, BackendKind::Stt);
    assert_eq!(at.len(), 2, "{timeline}");
    assert!((1_400..1_410).contains(&at[1]), "{timeline}");
    assert_eq!(switched(&timeline).len(), 1);
    assert_eq!(switched(&timeline)[0].1, 0, "nobody was without a recogniser");
    let from: Vec<u64> = actions(&timeline)
        .filter_map(|(_, action)| match action {
            Action::Transcribe { from, .. } => Some(from.as_millis()),
            _ => None,
        })
        .collect();
    assert_eq!(from.len(), 2);
    assert_eq!(from[0], from[1], "from the same sample");
    insta::assert_snapshot!(timeline);
}

#[test]
fn at_the_next_turn_if_that_is_wanted() {
    let request = SwitchRequest {
        when: When::NextTurn,
        ..to(BackendKind::Stt, "better")
    };
    let timeline = call()
        .user(300, "I would like a cup of tea please", 2_000)
        .input(1_000, asked(request))
        .until(9_000)
        .run();
    let at = adopted(&timeline, BackendKind::Stt);
    let settled = events(&timeline)
        .find(|(_, event)| matches!(event, Event::Transcript { is_final: true, .. }))
        .map(|(at, _)| at)
        .expect("a final transcript");
    assert!(at[1] >= settled && at[1] < settled + 50, "{timeline}");
    assert_eq!(finals(&timeline).len(), 1);
}

#[test]
fn a_response_keeps_its_voice_to_its_end() {
    let timeline = long_reply()
        .input(4_000, asked(to(BackendKind::Tts, "another voice")))
        .user(14_000, "thank you", 700)
        .until(22_000)
        .run();
    assert_eq!(completed(&timeline), 2, "{timeline}");
    let at = adopted(&timeline, BackendKind::Tts)[1];
    let last_of_first = actions(&timeline)
        .filter(|(_, action)| matches!(action, Action::Synthesize { response, .. } if response.number() == 1))
        .map(|(at, _)| at)
        .last()
        .expect("clauses");
    let first_of_second = actions(&timeline)
        .find(|(_, action)| matches!(action, Action::Synthesize { response, .. } if response.number() == 2))
        .map(|(at, _)| at)
        .expect("clauses");
    assert!(last_of_first < at && at <= first_of_second, "{timeline}");
    insta::assert_snapshot!(timeline);
}

#[test]
fn a_model_answers_to_the_end_before_another_is_asked() {
    let timeline = long_reply()
        .input(1_400, asked(to(BackendKind::Llm, "wiser")))
        .until(14_000)
        .run();
    assert_eq!(completed(&timeline), 1);
    assert_eq!(adopted(&timeline, BackendKind::Llm).len(), 2);
    assert_eq!(failures(&timeline), []);
}

#[test]
fn what_cannot_be_loaded_leaves_the_old_one_serving() {
    let timeline = call()
        .input(200, asked(to(BackendKind::Stt, "broken")))
        .input(220, asked(to(BackendKind::Tts, "broken")))
        .input(240, asked(to(BackendKind::Llm, "broken")))
        .user(300, "good morning to you", 1_200)
        .until(9_000)
        .run();
    assert_eq!(failures(&timeline), [(SwitchStage::Load, true); 3]);
    assert_eq!((finals(&timeline).len(), completed(&timeline)), (1, 1));
}

#[test]
fn the_old_one_dies_while_the_new_one_waits() {
    // The synthesiser is switched in the middle of a reply, waits for its end, and the one that speaks dies.
    let timeline = long_reply()
        .input(2_750, asked(to(BackendKind::Tts, "another voice")))
        .lose(3_250, BackendKind::Tts, 60_000)
        .user(14_000, "thank you", 700)
        .until(24_000)
        .run();
    // What had been made was heard; the reply doesn't go on in another voice, the next one has it.
    let text = timeline.to_string();
    assert!(text.contains("goes on as text"), "{text}");
    assert_eq!(adopted(&timeline, BackendKind::Tts).len(), 2, "{text}");
    let second = events(&timeline).any(|(_, event)| {
        matches!(event, Event::ResponseDone { response, status: ResponseStatus::Completed, heard_audio, .. }
            if response.number() == 2 && heard_audio.as_millis() > 100)
    });
    assert!(second, "{text}");
}

#[test]
fn two_at_once_are_refused_by_name_and_a_thousand_cost_nothing() {
    let mut script = call().input(200, asked(to(BackendKind::Stt, "better")));
    for number in 0..1_000 {
        script = script.input(210 + number / 10, asked(to(BackendKind::Stt, "best")));
    }
    let timeline = script.user(700, "good morning to you", 1_200).until(9_000).run();
    let failed = failures(&timeline);
    assert_eq!(failed, vec![(SwitchStage::Request, true); 1_000]);
    assert!(timeline.to_string().contains("switch_1 of stt is under way"));
    assert_eq!(switched(&timeline).len(), 1);
    assert_eq!(finals(&timeline).len(), 1);
}

#[test]
fn what_is_called_off_is_told_and_not_taken() {
    let timeline = call()
        .input(200, asked(to(BackendKind::Llm, "wiser")))
        .input(300, Input::Command(Command::CancelSwitch { kind: BackendKind::Llm }))
        .user(700, "good morning to you", 1_200)
        .until(9_000)
        .run();
    assert_eq!(failures(&timeline), [(SwitchStage::Cancelled, true)]);
    assert_eq!(adopted(&timeline, BackendKind::Llm).len(), 1);
    assert_eq!(completed(&timeline), 1);
}

#[test]
fn a_candidate_runs_beside_until_it_is_promoted() {
    let request = SwitchRequest {
        shadow: true,
        ..to(BackendKind::Stt, "candidate")
    };
    let timeline = call()
        .input(100, asked(request))
        .user(700, "good morning to you", 1_200)
        .input(5_000, Input::Command(Command::Promote { kind: BackendKind::Stt }))
        .user(6_000, "and good bye", 900)
        .until(12_000)
        .run();
    assert_eq!(finals(&timeline).len(), 2);
    let at = adopted(&timeline, BackendKind::Stt);
    assert!(at.len() == 2 && at[1] >= 5_000, "{timeline}");
    assert_eq!(
        switched(&timeline).len(),
        2,
        "when it ran, and when it took over: {timeline}"
    );
}

#[test]
fn refusals_say_what_is_wrong() {
    let nothing = SwitchRequest::new(BackendKind::Llm);
    let voice = SwitchRequest {
        voice: Some("x".to_owned()),
        ..SwitchRequest::new(BackendKind::Stt)
    };
    let beside = SwitchRequest {
        shadow: true,
        ..to(BackendKind::Vad, "x")
    };
    let timeline = call()
        .input(100, asked(nothing))
        .input(110, asked(voice))
        .input(120, asked(beside))
        .until(1_000)
        .run();
    assert_eq!(failures(&timeline), [(SwitchStage::Request, true); 3]);
    let text = timeline.to_string();
    for reason in ["names nothing", "has no voice", "can't run beside"] {
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
fn a_reply_that_must_be_approved_is_not_told_before() {
    let mut settings = Settings {
        approval: true,
        ..Settings::default()
    };
    settings.instructions = Pii::from("Be brief.");
    let timeline = Script::new(settings)
        .user(300, "good morning", 700)
        .input(
            3_000,
            Input::Command(Command::Approve {
                response: repartee::id::ResponseId::new(1),
            }),
        )
        .user(7_000, "and good bye", 900)
        .input(10_000, Input::Command(Command::Cancel { response: None }))
        .until(20_000)
        .run();
    let prepared: Vec<u64> = events(&timeline)
        .filter(|(_, event)| matches!(event, Event::ResponsePrepared { .. }))
        .map(|(at, _)| at)
        .collect();
    let started: Vec<u64> = events(&timeline)
        .filter(|(_, event)| matches!(event, Event::ResponseStarted { .. }))
        .map(|(at, _)| at)
        .collect();
    assert_eq!(prepared.len(), 2, "{timeline}");
    assert_eq!(started, [3_000], "only what was approved: {timeline}");
    assert_eq!(completed(&timeline), 1);
    assert_eq!(timeline.history.len(), 3, "two of the user's, one of ours: {timeline}");
}

/// Twenty switches back and forth in one conversation, of everything, some of which fail: every word of the user is in exactly one final
/// transcript, every reply is whole.
#[test]
fn twenty_switches_in_a_conversation_lose_nothing() {
    for seed in 0..20 {
        let mut script = call().seed(seed);
        let mut said = Vec::new();
        for turn in 0..10_u64 {
            let text = format!("this is sentence number {turn} of ten");
            script = script.user(500 + turn * 9_000, &text, 1_800);
            said.push(text);
        }
        for number in 0..20_u64 {
            let kind = [BackendKind::Stt, BackendKind::Tts, BackendKind::Llm][usize::try_from(number % 3).unwrap()];
            let model = if number % 5 == 4 {
                "broken".to_owned()
            } else {
                format!("model-{number}")
            };
            let scope = if number % 2 == 0 { Scope::Server } else { Scope::Session };
            let request = SwitchRequest {
                scope,
                ..to(kind, &model)
            };
            script = script.input(700 + number * 4_337 + seed * 97, asked(request));
        }
        let timeline = script.until(100_000).run();
        assert_eq!(finals(&timeline), said, "seed {seed}: {timeline}");
        assert_eq!(completed(&timeline), 10, "seed {seed}: {timeline}");
        assert_eq!(failures(&timeline), [(SwitchStage::Load, true); 4], "seed {seed}");
        assert_eq!(switched(&timeline).len(), 16, "seed {seed}: {timeline}");
        assert!(switched(&timeline).iter().all(|(_, gap)| *gap == 0), "seed {seed}");
    }
}
