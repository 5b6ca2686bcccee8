//! The voices of a model.

use repartee_worker_shell::protocol::Voice as VoiceInfo;

use super::front::Front;

/// The most voices that are listed; with more, a ready message would be too long. The others can be asked for by their number.
const LISTED: usize = 256;

/// The longest name of a voice that is taken from a file, in characters.
const LONGEST_NAME: usize = 48;

/// How many voices an error names.
const NAMED: usize = 10;

/// One speaker of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Voice {
    /// Its number in the model.
    pub(crate) speaker: u32,
    /// Its name, where the model gives one.
    pub(crate) name: Option<String>,
    /// What it speaks, as a BCP 47 tag; `None`: not known.
    pub(crate) language: Option<String>,
    /// How it's given its text.
    pub(crate) front: Front,
}

impl Voice {
    fn id(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("speaker:{}", self.speaker))
    }
}

/// All speakers of a model, in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Voices {
    all: Vec<Voice>,
    default: usize,
}

impl Voices {
    /// These voices; the first is the default.
    pub(crate) fn new(all: Vec<Voice>) -> Self {
        Self { all, default: 0 }
    }

    /// Makes another the default, by its name or number.
    ///
    /// # Errors
    /// With the voices that there are.
    pub(crate) fn set_default(&mut self, name: &str) -> Result<(), String> {
        self.default = self.find(Some(name), None)?;
        Ok(())
    }

    /// The default's place.
    pub(crate) fn default(&self) -> usize {
        self.default
    }

    /// The voice in a place.
    pub(crate) fn get(&self, place: usize) -> Option<&Voice> {
        self.all.get(place)
    }

    /// The place of a voice: by its name (`af_bella`), its number (`speaker:3`, `3`), or the first that speaks the language. With neither,
    /// the default.
    ///
    /// # Errors
    /// With the voices or languages that there are.
    pub(crate) fn find(&self, name: Option<&str>, language: Option<&str>) -> Result<usize, String> {
        let place = match name {
            None => self.default,
            Some(name) => self.named(name).ok_or_else(|| {
                let names: Vec<String> = self.all.iter().take(NAMED).map(Voice::id).collect();
                let more = if self.all.len() > NAMED { ", …" } else { "" };
                format!("this model has no voice {name:?}; it has {}{more}", names.join(", "))
            })?,
        };
        let Some(language) = language else { return Ok(place) };
        let speaks = |voice: &Voice| voice.language.as_deref().is_none_or(|own| is_same(own, language));
        if self.all.get(place).is_some_and(speaks) {
            return Ok(place);
        }
        let other = if name.is_none() {
            self.all.iter().position(speaks)
        } else {
            None
        };
        other.ok_or_else(|| {
            format!(
                "{} speaks {}, not {language:?}",
                name.unwrap_or("this model"),
                self.languages().join(", ")
            )
        })
    }

    fn named(&self, name: &str) -> Option<usize> {
        let by_name = |voice: &Voice| voice.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name));
        let number = name.strip_prefix("speaker:").unwrap_or(name).parse().ok();
        self.all
            .iter()
            .position(by_name)
            .or_else(|| self.all.iter().position(|voice| Some(voice.speaker) == number))
    }

    /// Everything that is spoken.
    pub(crate) fn languages(&self) -> Vec<String> {
        let mut languages: Vec<String> = Vec::new();
        let own = self.all.get(self.default).into_iter().chain(&self.all);
        for language in own.filter_map(|voice| voice.language.clone()) {
            if !languages.contains(&language) {
                languages.push(language);
            }
        }
        languages
    }

    /// What the engine is told, the default first.
    pub(crate) fn infos(&self, rate: u32) -> Vec<VoiceInfo> {
        let default = self.all.get(self.default);
        let others = self.all.iter().enumerate();
        let others = others
            .filter(|(place, _)| *place != self.default)
            .map(|(_, voice)| voice);
        let info = |voice: &Voice| VoiceInfo {
            id: voice.id(),
            languages: voice.language.iter().cloned().collect(),
            rate,
            description: String::new(),
        };
        default.into_iter().chain(others).take(LISTED).map(info).collect()
    }
}

/// A name out of a file, where it can be one.
pub(crate) fn name(text: &str) -> Option<String> {
    let text = text.trim();
    let is_name = !text.is_empty() && text.chars().count() <= LONGEST_NAME && !text.chars().any(char::is_control);
    is_name.then(|| text.to_owned())
}

/// Whether two tags mean the same language, whatever the region.
fn is_same(one: &str, other: &str) -> bool {
    let language = |tag: &str| tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    language(one) == language(other)
}

/// The BCP 47 tag for what models and espeak-ng call a language: `en-us`, `en_US`, `English`, `en-gb-x-rp`, `cmn`. `None` for what isn't known.
pub(crate) fn tag(name: &str) -> Option<String> {
    // A model of two languages names both; the last is what the library takes for its voice.
    let name = name.trim().rsplit(' ').next().unwrap_or_default().to_ascii_lowercase();
    let known = match name.as_str() {
        "english" => "en",
        "chinese" | "cmn" | "mandarin" => "zh",
        "german" => "de",
        "french" => "fr",
        "spanish" => "es",
        "italian" => "it",
        "portuguese" => "pt",
        "dutch" => "nl",
        "russian" => "ru",
        "polish" => "pl",
        "ukrainian" => "uk",
        "turkish" => "tr",
        "japanese" => "ja",
        "korean" => "ko",
        "hindi" => "hi",
        "arabic" => "ar",
        "persian" | "farsi" => "fa",
        "swedish" => "sv",
        "norwegian" | "nb" => "no",
        "danish" => "da",
        "finnish" => "fi",
        "greek" => "el",
        "czech" => "cs",
        "hungarian" => "hu",
        "vietnamese" => "vi",
        "cantonese" => "yue",
        other => other,
    };
    let mut parts = known.split(['-', '_']);
    let language = parts.next().filter(|part| (2..=3).contains(&part.len()))?;
    if !language.chars().all(|letter| letter.is_ascii_alphabetic()) {
        return None;
    }
    match parts.next() {
        Some(region) if region.len() == 2 && region.chars().all(|letter| letter.is_ascii_alphabetic()) => {
            Some(format!("{language}-{}", region.to_ascii_uppercase()))
        }
        Some(region) if region.len() == 3 && region.chars().all(|letter| letter.is_ascii_digit()) => {
            Some(format!("{language}-{region}"))
        }
        _ => Some(language.to_owned()),
    }
}

/// What a voice of Kokoro's speaks, by the first letter of its name, as a tag and as espeak-ng calls it.
pub(crate) fn of_kokoro(name: &str) -> Option<(&'static str, &'static str)> {
    // Names are such as af_bella: language, sex, name.
    let (prefix, _) = name.split_once('_').filter(|(prefix, _)| prefix.len() == 2)?;
    Some(match prefix.chars().next()? {
        'a' => ("en-US", "en-us"),
        'b' => ("en-GB", "en-gb"),
        'e' => ("es", "es"),
        'f' => ("fr-FR", "fr-fr"),
        'h' => ("hi", "hi"),
        'i' => ("it", "it"),
        'j' => ("ja", "ja"),
        'p' => ("pt-BR", "pt-br"),
        'z' => ("zh", "cmn"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voices() -> Voices {
        let voice = |speaker: u32, name: Option<&str>, language: &str| Voice {
            speaker,
            name: name.map(str::to_owned),
            language: tag(language),
            front: Front::Text,
        };
        Voices::new(vec![
            voice(0, Some("af_bella"), "en-us"),
            voice(1, Some("ef_dora"), "es"),
            voice(2, None, "en-gb"),
        ])
    }

    #[test]
    fn a_voice_is_found_by_name_number_or_language() {
        let mut voices = voices();
        assert_eq!(voices.find(None, None), Ok(0));
        assert_eq!(voices.find(Some("EF_Dora"), None), Ok(1));
        assert_eq!(voices.find(Some("speaker:2"), Some("en")), Ok(2));
        assert_eq!(voices.find(Some("1"), None), Ok(1));
        assert_eq!(voices.find(None, Some("es-MX")), Ok(1));
        let problem = voices.find(Some("nobody"), None).expect_err("nobody");
        assert!(problem.contains("af_bella, ef_dora, speaker:2"), "{problem}");
        let problem = voices.find(None, Some("de")).expect_err("no German");
        assert!(problem.contains("en-US, es, en-GB"), "{problem}");
        assert!(voices.find(Some("af_bella"), Some("es")).is_err());
        voices.set_default("2").expect("it is there");
        let ids: Vec<String> = voices.infos(24_000).into_iter().map(|info| info.id).collect();
        assert_eq!(ids, ["speaker:2", "af_bella", "ef_dora"]);
    }

    #[test]
    fn many_voices_fit_a_message() {
        let voice = |speaker| Voice {
            speaker,
            name: Some("x".repeat(LONGEST_NAME)),
            language: Some("en-US".into()),
            front: Front::Letters,
        };
        let voices = Voices::new((0..1000).map(voice).collect());
        let infos = voices.infos(22_050);
        assert_eq!(infos.len(), LISTED);
        let bytes = serde_json::to_vec(&infos).expect("JSON").len();
        assert!(bytes < 48 * 1024, "{bytes} bytes");
        assert_eq!(voices.find(Some("speaker:999"), None), Ok(999));
    }

    #[test]
    fn languages_become_tags() {
        let tags = [
            ("en-us", "en-US"),
            ("en_US", "en-US"),
            ("English", "en"),
            ("en-gb-x-rp", "en-GB"),
            ("cmn", "zh"),
            ("zh en-us", "en-US"),
            ("es-419", "es-419"),
            ("de", "de"),
        ];
        for (name, expected) in tags {
            assert_eq!(tag(name).as_deref(), Some(expected), "{name}");
        }
        for name in ["", "unknown", "x", "12"] {
            assert_eq!(tag(name), None, "{name}");
        }
        assert_eq!(of_kokoro("bf_emma"), Some(("en-GB", "en-gb")));
        assert_eq!(of_kokoro("expr-voice-2-m"), None);
    }
}
