//! Texts that were spoken once and are spoken again: greetings, fillers, farewells (`LOCAL_TTS_PHRASE_CACHE_ENABLED`).

use std::collections::VecDeque;

use bytes::Bytes;
use repartee_protocol::ava::Output;

use crate::id::Generation;
use crate::pii::Pii;

/// Texts that are kept; the oldest make room.
const MOST: usize = 256;

/// The texts and their audio.
#[derive(Default)]
pub(super) struct Phrases(VecDeque<(Generation, Output, Pii<String>, Bytes)>);

impl Phrases {
    /// The audio of `text`, as this load of the synthesiser spoke it.
    pub(super) fn find(&self, generation: Generation, output: Output, text: &str) -> Option<Bytes> {
        let same = |kept: &&(Generation, Output, Pii<String>, Bytes)| {
            kept.0 == generation && kept.1 == output && kept.2.expose() == text
        };
        self.0.iter().find(same).map(|kept| kept.3.clone())
    }

    /// Keeps it.
    pub(super) fn keep(&mut self, generation: Generation, output: Output, text: &str, audio: Bytes) {
        if self.find(generation, output, text).is_some() {
            return;
        }
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((generation, output, Pii::from(text), audio));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_is_found_in_its_format_and_of_its_voice_only() {
        let mut phrases = Phrases::default();
        let (one, two) = (Generation::new(1), Generation::new(2));
        phrases.keep(one, Output::Mulaw8000, "Hello", Bytes::from_static(b"abc"));
        assert_eq!(
            phrases.find(one, Output::Mulaw8000, "Hello").as_deref(),
            Some(&b"abc"[..])
        );
        assert!(phrases.find(two, Output::Mulaw8000, "Hello").is_none());
        assert!(phrases.find(one, Output::Linear16At16000, "Hello").is_none());
        assert!(phrases.find(one, Output::Mulaw8000, "hello").is_none());
    }
}
