use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::Waker;

use super::*;

/// What the judge waits for in a test: that somebody lets it go on.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A lane whose judge tells the length of what it judges, then waits to be let go on, then answers length per mille.
fn lane() -> (Lane, Receiver<usize>, SyncSender<()>) {
    let (tell, told) = sync_channel(64);
    let (go_on, wait) = sync_channel(64);
    let lane = Lane::start(0, move || {
        Ok(Box::new(move |pcm: &[i16]| {
            tell.send(pcm.len()).map_err(|error| error.to_string())?;
            wait.recv_timeout(PATIENCE).map_err(|error| error.to_string())?;
            if pcm.is_empty() {
                return Err("there is nothing to be judged".to_owned());
            }
            Ok(pcm.len() as f32 / 1_000.0)
        }))
    });
    (lane.expect("a thread starts"), told, go_on)
}

/// Waits for the answer on this thread.
fn answer(mut prediction: Answer) -> Option<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let answer = std::future::poll_fn(|context| prediction.poll_answer(context));
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, answer).await })
        .expect("every question ends")
        .map(Probability::per_mille)
}

#[test]
fn questions_are_answered_in_their_order() {
    let (lane, told, go_on) = lane();
    let asked: Vec<_> = [300, 700, 500]
        .map(|length| lane.ask(&vec![0; length]).expect("there is room"))
        .into();
    for _ in &asked {
        go_on.send(()).expect("the judge waits");
    }
    let answers: Vec<_> = asked.into_iter().map(answer).collect();
    assert_eq!(answers, [Some(300), Some(700), Some(500)]);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [300, 700, 500]);
}

#[test]
fn a_full_lane_refuses_at_once_and_what_is_withdrawn_makes_room() {
    let (lane, told, go_on) = lane();
    let running = lane.ask(&[0; 1]).expect("there is room");
    told.recv_timeout(PATIENCE).expect("it is judged");
    let mut waiting: Vec<_> = (0..WAITING_MAX)
        .map(|number| lane.ask(&vec![0; 100 + number]).expect("there is room"))
        .collect();
    assert_eq!(lane.ask(&[0; 900]).err(), Some(Refusal::Full));
    drop(waiting.swap_remove(3));
    let late = lane.ask(&[0; 900]).expect("one was withdrawn");
    assert_eq!(lane.ask(&[0; 901]).err(), Some(Refusal::Full));
    // All the others are withdrawn: the judge sees none of them.
    drop(waiting);
    for _ in 0..2 {
        go_on.send(()).expect("the judge waits");
    }
    assert_eq!(answer(running), Some(1));
    assert_eq!(answer(late), Some(900));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [900]);
}

#[test]
fn a_judgement_that_fails_is_answered_with_nothing_and_the_next_one_is_judged() {
    let (lane, _told, go_on) = lane();
    let (bad, good) = (lane.ask(&[]), lane.ask(&[0; 40]));
    go_on.send(()).expect("the judge waits");
    go_on.send(()).expect("the judge waits");
    assert_eq!(answer(bad.expect("there is room")), None);
    assert_eq!(answer(good.expect("there is room")), Some(40));
}

#[test]
fn questions_outlive_neither_the_lane_nor_its_thread() {
    let (dropped, told, go_on) = lane();
    let running = dropped.ask(&[0; 10]).expect("there is room");
    told.recv_timeout(PATIENCE).expect("it is judged");
    let waiting = dropped.ask(&[0; 20]).expect("there is room");
    drop(dropped);
    assert_eq!(answer(waiting), None);
    go_on.send(()).expect("the judge waits");
    assert_eq!(answer(running), Some(10), "what was being judged is answered");

    let panicking = Lane::start(0, || Ok(Box::new(|_: &[i16]| panic!("the library has a bug"))));
    let panicking = panicking.expect("a thread starts");
    let asked = panicking.ask(&[0; 10]).expect("there is room");
    assert_eq!(answer(asked), None);
    // The thread closes the lane while it unwinds, at the latest when it has ended.
    while panicking.ask(&[0; 10]).is_ok() {
        thread::yield_now();
    }
    assert_eq!(panicking.ask(&[]).err(), Some(Refusal::Gone));
}

#[test]
fn what_cannot_be_made_is_told() {
    let failed = Lane::start(0, || Err("the file is broken".to_owned()));
    assert_eq!(failed.err().as_deref(), Some("the file is broken"));
    let panicked = Lane::start(0, || panic!("the library has a bug"));
    assert!(
        panicked
            .err()
            .is_some_and(|reason| reason.contains("ended while it was loading"))
    );
}

#[test]
fn an_answer_wakes_whoever_polls() {
    let (lane, _told, go_on) = lane();
    let mut asked = lane.ask(&[0; 250]).expect("there is room");
    let mut context = Context::from_waker(Waker::noop());
    assert!(asked.poll_answer(&mut context).is_pending());
    go_on.send(()).expect("the judge waits");
    assert_eq!(answer(asked), Some(250));
}
