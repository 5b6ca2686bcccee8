//! Which voices a model has, and how each is given its text.

use repartee_worker_shell::protocol::{LoadFailed, code};

use super::files::refuse;
use super::front::Front;
use super::model::{Kind, Model};
use super::settings::{Frontend, Settings};
use super::voices::Voice;
use super::{espeak, name_of, piper, voices};

/// Decides how each voice is given its text.
pub(crate) struct Fronts<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) model: &'a Model,
    pub(crate) has_lexicon: bool,
}

impl Fronts<'_> {
    /// The voices, in the order of their speakers.
    ///
    /// # Errors
    /// When none of them can be given a text.
    pub(crate) fn voices(&self) -> Result<Vec<Voice>, LoadFailed> {
        let espeak_is_there = espeak::is_there();
        let mut problem = None;
        let mut all = Vec::new();
        for speaker in 0..self.model.speakers {
            let name = self.model.names.get(&speaker).cloned();
            let of_kokoro = match self.model.kind {
                Kind::Kokoro { .. } => name.as_deref().and_then(voices::of_kokoro),
                _ => None,
            };
            let espeak = self.settings.language.as_deref();
            let espeak = espeak
                .or(of_kokoro.map(|(_, espeak)| espeak))
                .or(self.model.espeak.as_deref());
            let language = match (of_kokoro, &self.settings.language) {
                (Some((tag, _)), _) => Some(tag.to_owned()),
                (None, Some(language)) => voices::tag(language),
                (None, None) => self
                    .model
                    .espeak
                    .as_deref()
                    .and_then(voices::tag)
                    .or_else(|| self.model.language.as_deref().and_then(voices::tag)),
            };
            match self.front(espeak, espeak_is_there) {
                Ok(front) => all.push(Voice {
                    speaker,
                    name,
                    language,
                    front,
                }),
                Err(reason) => {
                    problem.get_or_insert(reason);
                }
            }
        }
        match problem {
            Some(reason) if all.is_empty() => Err(refuse(code::MISSING, &self.model.file, reason)),
            _ => Ok(all),
        }
    }

    fn front(&self, espeak: Option<&str>, espeak_is_there: bool) -> Result<Front, String> {
        let name = name_of(&self.model.file);
        match (&self.model.kind, &self.model.piper) {
            (Kind::VitsLetters | Kind::VitsLexicon | Kind::Matcha { lexicon: true, .. }, _) => return Ok(Front::Text),
            (_, Some(piper)) if piper.alphabet == piper::Alphabet::Letters => return Ok(Front::Letters),
            _ => {}
        }
        // Kokoro's Chinese and Japanese aren't espeak-ng's phonemes.
        let is_own = matches!(self.model.kind, Kind::Kokoro { .. }) && matches!(espeak, Some("cmn" | "ja"));
        let by_espeak = espeak.filter(|_| !is_own);
        let wants = self.settings.frontend;
        if wants != Some(Frontend::Lexicon)
            && let Some(voice) = by_espeak
            && (espeak_is_there || wants == Some(Frontend::Espeak) || !self.has_lexicon)
        {
            return Ok(Front::Espeak(voice.to_owned()));
        }
        let is_japanese = is_own && espeak == Some("ja");
        if self.has_lexicon && !is_japanese && wants != Some(Frontend::Espeak) {
            return Ok(Front::Text);
        }
        Err(match wants {
            Some(Frontend::Lexicon) => {
                format!("there is no lexicon.txt beside {name}, which the option \"frontend\" asks for")
            }
            _ => format!(
                "{name} doesn't say whose phonemes it speaks: set the option \"language\" (en-us), or put a lexicon.txt beside it"
            ),
        })
    }
}
