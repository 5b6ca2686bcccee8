//! Records a call in memory and runs it again: the same inputs at the same times give the same actions.
//!
//! ```text
//! cargo run --example replay                      # a scripted call
//! cargo run --example replay TRACE.trace.jsonl    # one of `repartee serve --trace FOLDER`
//! ```

use repartee::call::{Command, Settings};
use repartee::session::trace::{Header, Step, replay};
use repartee::session::{Input, Output, Session};
use repartee::time::Time;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let lines = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?.lines().map(str::to_owned).collect(),
        None => recorded(),
    };
    let report = replay(&lines)?;
    println!(
        "{} inputs, {} actions, all of them the same; the call lasted {} ms",
        report.steps,
        report.actions,
        report.until.as_millis()
    );
    Ok(())
}

/// The trace of a short call: somebody types, and hangs up.
fn recorded() -> Vec<String> {
    let (settings, seed) = (Settings::default(), 7);
    let mut lines = vec![Header::new(settings.clone(), seed, "2026-01-01T00:00:00Z".to_owned()).line()];
    let mut session = Session::new(settings, seed);
    let script = [
        (0, Input::Connected),
        (
            1_000,
            Input::Command(Command::Text {
                text: "good morning".into(),
            }),
        ),
        (2_500, Input::Command(Command::Bye)),
    ];
    for (millis, input) in script {
        let at = Time::from_millis(millis);
        session.handle(at, input.clone());
        let mut actions = Vec::new();
        while let Output::Action(action) = session.poll() {
            actions.push(action);
        }
        lines.push(Step { at, input, actions }.line());
    }
    lines
}
