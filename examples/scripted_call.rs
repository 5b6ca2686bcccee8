//! A whole telephone call in virtual time: nothing is heard, no model is needed, and it takes a millisecond.
//!
//! ```text
//! cargo run --example scripted_call
//! ```

use repartee::call::{BackendKind, Command};
use repartee::session::simulation::{Answer, Script};

fn main() {
    let opening_hours = "Certainly, I can tell you. The museum opens at nine in the morning and closes at six in the \
                         evening. On Mondays it is closed.";
    let timeline = Script::default()
        .seed(1)
        .say(200, "Good morning, this is the museum.")
        .user(3_500, "when do you open", 1_100)
        .answer("when do you open", Answer::Text(opening_hours.to_owned()))
        // The caller interrupts, and the history keeps just what was heard until then.
        .user(8_000, "no wait I meant on Sundays", 1_600)
        // The recogniser's process dies while the caller speaks; no word is lost.
        .lose(8_900, BackendKind::Stt, 300)
        .command(14_500, Command::Bye)
        .until(15_000)
        .run();
    print!("{timeline}");
}
