//! The parts that this program plays: it starts itself again, once for each, so that the system keeps their accounts apart.

use std::env;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Outcome;

/// The argument that names a part.
pub(crate) const ROLE: &str = "--role";

/// A part that is being played. It ends when this is dropped.
pub(crate) struct Player {
    child: Child,
    /// Its end tells the part that it is over.
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Player {
    /// Starts this program in `role`.
    pub(crate) fn start(role: &str, options: &impl Serialize) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args([ROLE, role, &serde_json::to_string(options)?]);
        Self::spawn(command)
    }

    /// Starts another program whose lines are to be read.
    pub(crate) fn spawn(mut command: Command) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        Ok(Self {
            child,
            stdin,
            lines: BufReader::new(stdout.ok_or("the child has no output")?).lines(),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line it prints.
    pub(crate) fn line(&mut self) -> Outcome<String> {
        Ok(self.lines.next().ok_or("a part of the bench ended before its time")??)
    }

    /// The next line it prints, which is JSON.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        let line = self.line()?;
        serde_json::from_str(&line).map_err(|error| format!("{error} in {line:?}").into())
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.stdin.take();
        // A part that plays well ends by itself; the others are ended.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Says one thing to whoever started this part.
pub(crate) fn say(what: &impl Serialize) -> Outcome<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}

/// Turns both cores (or how many there are) as a busy recogniser would: at nice 10, where workers run. Ends with its
/// standard input.
pub(crate) fn spin() -> Outcome<()> {
    rustix::process::nice(10)?;
    for _ in 0..super::process::machine().0 {
        std::thread::spawn(|| {
            let mut number = 1_u64;
            loop {
                number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
        });
    }
    say(&"spinning")?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    std::process::exit(0);
}
