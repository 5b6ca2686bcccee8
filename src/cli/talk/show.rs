//! The conversation on a terminal, or in a pipe.

use std::io::{self, Write as _};
use std::path::Path;

use repartee_protocol::native::{BackendState, Event, Ready, ResponseStatus};

use super::conversation::Conversation;

const GREY: &str = "\x1b[90m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";
const CLEAR_LINE: &str = "\r\x1b[2K";

/// Prints events as they come.
pub(super) struct Show {
    quiet: bool,
    terminal: bool,
    /// A partial transcript stands in the line, without its end.
    partial: bool,
    /// A reply stands in the line, without its end.
    reply: bool,
}

impl Show {
    pub(super) const fn new(quiet: bool, terminal: bool) -> Self {
        Self {
            quiet,
            terminal,
            partial: false,
            reply: false,
        }
    }

    pub(super) const fn silent() -> Self {
        Self::new(true, false)
    }

    /// What can't be written (a reader that went away) is left unwritten.
    fn print(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn colour(&self, colour: &'static str) -> &'static str {
        if self.terminal { colour } else { "" }
    }

    /// Ends what stands in the line.
    fn line(&mut self) {
        if self.partial && self.terminal {
            self.print(CLEAR_LINE);
        }
        if self.reply {
            self.print("\n");
        }
        (self.partial, self.reply) = (false, false);
    }

    pub(super) fn ready(&mut self, ready: &Ready) {
        if self.quiet {
            return;
        }
        let backends: Vec<_> = ready
            .backends
            .iter()
            .filter_map(|backend| match &backend.state {
                BackendState::Ready { name, .. } => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let (grey, plain) = (self.colour(GREY), self.colour(PLAIN));
        self.print(&format!(
            "{grey}{} with {}{plain}\n",
            ready.session,
            backends.join(", ")
        ));
    }

    pub(super) fn event(&mut self, event: &Event) {
        if self.quiet {
            return;
        }
        let (grey, red, plain) = (self.colour(GREY), self.colour(RED), self.colour(PLAIN));
        match event {
            Event::Transcript(transcript) if transcript.is_final => {
                self.line();
                self.print(&format!("you:   {}\n", transcript.text.expose()));
            }
            Event::Transcript(transcript) if self.terminal => {
                self.line();
                self.print(&format!(
                    "{CLEAR_LINE}{grey}you:   {}{plain}",
                    tail(transcript.text.expose())
                ));
                self.partial = true;
            }
            Event::Transcript(transcript) => self.print(&format!("  ...  {}\n", transcript.text.expose())),
            Event::ResponseText(text) => {
                if !self.reply {
                    self.line();
                    self.print("reply: ");
                    self.reply = true;
                }
                self.print(text.delta.expose());
            }
            Event::ResponseDone(done) => {
                self.line();
                if done.status != ResponseStatus::Completed {
                    let how = serde_json::to_value(done.status).ok();
                    let how = how.as_ref().and_then(|how| how.as_str()).unwrap_or("over");
                    self.print(&format!(
                        "{grey}       ({how}; heard: \"{}\"){plain}\n",
                        done.heard.expose()
                    ));
                }
            }
            Event::Error(error) => {
                self.line();
                self.print(&format!("{red}error: {} ({}){plain}\n", error.message, error.code));
            }
            Event::GoingAway(going) => {
                self.line();
                self.print(&format!(
                    "{grey}the server goes away within {} ms{plain}\n",
                    going.within_ms
                ));
            }
            _ => {}
        }
    }

    pub(super) fn report(&mut self, waterfall: &str) {
        if !self.quiet && !waterfall.is_empty() {
            self.line();
            self.print(waterfall);
        }
    }

    pub(super) fn end(&mut self, conversation: &Conversation, wav: Option<&Path>, millis: u64) {
        self.line();
        if !conversation.has_begun() {
            self.print("No speech was heard in this. Is it too quiet, or of another rate than it says?\n");
        }
        if let Some(path) = wav {
            self.print(&format!(
                "{}: {}.{:01} s of reply\n",
                path.display(),
                millis / 1000,
                millis % 1000 / 100
            ));
        }
    }
}

/// The end of a long text: a partial must not wrap, or it can't be cleared.
fn tail(text: &str) -> &str {
    const COLUMNS: usize = 70;
    let excess = text.chars().count().saturating_sub(COLUMNS);
    text.char_indices().nth(excess).map_or("", |(index, _)| &text[index..])
}
