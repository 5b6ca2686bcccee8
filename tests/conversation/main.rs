//! Whole conversations over the native wire, in real time. The backends are scripted; the engine and the wire are the real
//! ones, and so is the program where it is the program that is looked at.

mod controls;
mod media;
mod program;
#[path = "../support/mod.rs"]
mod support;
mod turns;

use repartee::time::Time;
use repartee_protocol::native::{Event, Private, Request, Say, Text};
use std::time::Duration;

/// Some fourteen seconds at the pace of the fake voice.
const LONG: &str = "Certainly, I can tell you all about it. The museum opens at nine in the morning and closes at six in \
                    the evening. On Mondays it is closed. Children under twelve pay nothing, and neither does anybody who \
                    comes on the first Sunday of a month.";

fn private(text: &str) -> Private {
    Private::from(text)
}

fn say(text: &str) -> Request {
    Request::Say(Say::new(text))
}

fn typed(text: &str) -> Request {
    Request::Text(Text { text: private(text) })
}

fn kind(event: &Event) -> String {
    let value = serde_json::to_value(event).expect("an event is JSON");
    value["type"].as_str().unwrap_or_default().to_owned()
}

/// The frames of a reply come one by one, 20 ms apart.
fn assert_paced(times: &[Time]) {
    let span = times[times.len() - 1].since(times[0]);
    let nominal = Duration::from_millis(20) * u32::try_from(times.len() - 1).expect("not that many");
    // Never faster than it is heard. That a busy machine was late by some frames now and then is no fault of the engine's.
    assert!(
        span + Duration::from_millis(60) > nominal,
        "{} frames in {span:?}",
        times.len()
    );
    assert!(
        span < nominal + nominal / 10 + Duration::from_millis(300),
        "{} frames in {span:?}",
        times.len()
    );
    let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    gaps.sort();
    let median = gaps[gaps.len() / 2];
    assert!(
        median.abs_diff(Duration::from_millis(20)) < Duration::from_millis(5),
        "{median:?} between frames in the middle"
    );
}
