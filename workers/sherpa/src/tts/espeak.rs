//! Phonemes, by the program `espeak-ng`.
//!
//! sherpa-onnx has had no phonemizer of its own since its version 2, because espeak-ng is under the GPL: voices that were trained on
//! its phonemes (Piper, Kitten, Kokoro, most English ones of Matcha) are given theirs by the caller. We aren't linked with it either:
//! it runs as a program of its own, once for each language, and is spoken to through a socket: a line of text in, lines of
//! phonemes in the International Phonetic Alphabet out. A phrase takes 2 to 20 ms.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::dialect::TIE;

/// The variable that names the program where it isn't in the search path.
pub(crate) const PROGRAM_VARIABLE: &str = "REPARTEE_ESPEAK_NG";

/// The longest wait for one line of phonemes: a hundred times what the longest phrase takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most phonemes taken for one phrase, in bytes. Numbers become long, but not that long.
const LONGEST: u64 = 64 * 1024;

/// No answer says by itself where it ends, so after each phrase this is asked too, and its phonemes are the end. It's a word of no language,
/// and is taken out of phrases.
const END: &str = "qzxjq";

/// One `espeak-ng` that speaks one language.
#[derive(Debug)]
pub(crate) struct Espeak {
    process: Child,
    write: UnixStream,
    read: BufReader<UnixStream>,
    end: String,
}

/// The program: where the variable says, else wherever the search path has it.
pub(crate) fn program() -> PathBuf {
    std::env::var_os(PROGRAM_VARIABLE).map_or_else(|| PathBuf::from("espeak-ng"), PathBuf::from)
}

/// Whether the program can be run at all.
pub(crate) fn is_there() -> bool {
    let version = Command::new(program())
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// Whether this can be the name of one of its voices. A name with a slash would be a file.
pub(crate) fn is_voice(name: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '+');
    !name.is_empty() && name.len() <= 64 && !name.starts_with('-') && name.chars().all(plain)
}

impl Espeak {
    /// Starts the program for a voice, such as `en-us`, with its own data or those in the folder `data` (the one that is called
    /// `espeak-ng-data`, or the one that holds it). `tied`: letters that are one sound are to be tied by [`TIE`].
    ///
    /// # Errors
    /// With the cause and the remedy.
    pub(crate) fn start(voice: &str, data: Option<&Path>, tied: bool) -> Result<Self, String> {
        if !is_voice(voice) {
            return Err(format!("{voice:?} is no name of a voice of espeak-ng"));
        }
        let broken = |error: io::Error| format!("espeak-ng can't be spoken to: {error}");
        let (ours, theirs) = UnixStream::pair().map_err(broken)?;
        ours.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
        ours.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
        let output = theirs.try_clone().map_err(broken)?;
        let mut command = Command::new(program());
        // No sound; IPA; input in UTF-8.
        command.args(["-q", "--ipa", "-b", "1", "-v", voice]);
        if tied {
            command.arg(format!("--tie={TIE}"));
        }
        if let Some(data) = data {
            let mut path = std::ffi::OsString::from("--path=");
            path.push(data);
            command.arg(path);
        }
        let process = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .spawn()
            .map_err(|error| {
                format!(
                    "this voice is given its phonemes by espeak-ng, which can't be run ({error}); on Debian and Ubuntu: \
                     apt install espeak-ng (elsewhere: set {PROGRAM_VARIABLE}), or put a lexicon.txt beside the model"
                )
            })?;
        let write = ours.try_clone().map_err(broken)?;
        let mut espeak = Self {
            process,
            write,
            read: BufReader::new(ours),
            end: String::new(),
        };
        espeak.send(END).and_then(|()| espeak.line()).map_or_else(
            |error| {
                Err(format!(
                    "espeak-ng has no voice {voice:?}{}, or isn't well ({error}); its own message is above",
                    data.map_or(String::new(), |data| format!(" in {}", data.display()))
                ))
            },
            |end| {
                espeak.end = end;
                Ok(())
            },
        )?;
        Ok(espeak)
    }

    /// The phonemes of a phrase, on one line.
    ///
    /// # Errors
    /// When the program has ended or hangs. It's of no use any more then.
    pub(crate) fn phonemes(&mut self, phrase: &str) -> io::Result<String> {
        // A line break would end the phrase, double brackets begin phonemes as espeak itself writes them.
        let phrase: String = phrase
            .chars()
            .map(|letter| {
                if letter.is_control() || matches!(letter, '[' | ']') {
                    ' '
                } else {
                    letter
                }
            })
            .collect();
        let phrase = phrase.replace(END, " ");
        self.send(&format!("{}\n{END}", phrase.trim()))?;
        let mut phonemes = String::new();
        loop {
            let line = self.line()?;
            if line == self.end {
                return Ok(phonemes);
            }
            if phonemes.len() as u64 + line.len() as u64 > LONGEST {
                return Err(io::Error::other("more phonemes than any phrase has"));
            }
            if !phonemes.is_empty() && !line.is_empty() {
                phonemes.push(' ');
            }
            phonemes.push_str(&line);
        }
    }

    /// Ends it as if it had died.
    #[cfg(test)]
    pub(super) fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it has ended");
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        self.write.write_all(format!("{text}\n").as_bytes())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        let length = self.read.by_ref().take(LONGEST).read_line(&mut line)?;
        if length == 0 || !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(without_flags(line.trim()))
    }
}

impl Drop for Espeak {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Phonemes without the marks of a change of language, which are names in brackets: `(en)mˈiːtɪŋ(fr)`.
fn without_flags(line: &str) -> String {
    let mut inside = false;
    line.chars()
        .filter(|letter| match letter {
            '(' => {
                inside = true;
                false
            }
            ')' => {
                inside = false;
                false
            }
            _ => !inside,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_voice_is_no_path_and_no_option() {
        for good in ["en-us", "de", "fr-fr", "en-gb-x-rp", "en+f3"] {
            assert!(is_voice(good), "{good}");
        }
        for bad in ["", "-v", "../x", "a/b", "a b", "a\nb"] {
            assert!(!is_voice(bad), "{bad}");
        }
    }

    #[test]
    fn marks_of_a_change_of_language_are_no_phonemes() {
        assert_eq!(without_flags("(en)mˈiːtɪŋ(fr) sa"), "mˈiːtɪŋ sa");
    }

    #[test]
    fn phrases_become_phonemes_and_each_answer_is_that_phrases() {
        assert!(is_there(), "espeak-ng is missing: workers/sherpa/setup.sh installs it");
        let mut espeak = Espeak::start("en-us", None, false).expect("espeak-ng is there");
        let hello = espeak.phonemes("Hello there").expect("an answer");
        assert_eq!(hello, "həlˈoʊ ðˈɛɹ");
        assert_eq!(espeak.phonemes("").expect("an answer"), "");
        assert_eq!(espeak.phonemes("\n\n").expect("an answer"), "");
        // What it takes for several clauses comes on several lines.
        let long = espeak.phonemes(&"one, two. ".repeat(30)).expect("an answer");
        assert_eq!(long.matches("tˈuː").count(), 30);
        assert_eq!(espeak.phonemes(END).expect("an answer"), "");
        assert_eq!(espeak.phonemes("Hello there").expect("an answer"), hello);
        let missing = Espeak::start("zz-no-such", None, false).expect_err("no such voice");
        assert!(missing.contains("zz-no-such"), "{missing}");
    }
}
