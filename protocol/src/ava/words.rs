//! The names that messages, settings and variables share.

use std::fmt;

use serde::{Serialize, Serializer};

/// Something that is one of a few names.
pub(super) trait Named {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Takes the meaning of `name`; false, and no change, where there is none.
    fn set(&mut self, name: &str) -> bool;

    /// What there is to choose from, for people: `a, b, c`.
    fn choices(&self) -> String;
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The one with this name, in small letters.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl Named for $name {
            fn name(&self) -> &'static str {
                self.as_str()
            }

            fn set(&mut self, name: &str) -> bool {
                match Self::parse(name.trim().to_lowercase().as_str()) {
                    Some(known) => {
                        *self = known;
                        true
                    }
                    None => false,
                }
            }

            fn choices(&self) -> String {
                Self::ALL.iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ")
            }
        }
    };
}
pub(super) use names;

names! {
    /// What a connection is for.
    Mode {
        /// Audio in, audio out.
        Full = "full",
        /// Audio in, text out.
        Stt = "stt",
        /// Audio or text in, text out.
        Llm = "llm",
        /// Text in, audio out.
        Tts = "tts",
    }
}

names! {
    /// What a stretch of audio to the client is.
    AudioMode {
        /// A reply.
        Full = "full",
        /// Something to bridge the wait for the reply.
        Filler = "filler",
        /// The reply to a tool's result, farewells included.
        ToolResult = "tool_result",
    }
}

names! {
    /// AVA's recognisers.
    SttBackend {
        /// Kaldi models of Vosk.
        Vosk = "vosk",
        /// sherpa-onnx, streaming or not.
        Sherpa = "sherpa",
        /// Kroko, hosted or as a process.
        Kroko = "kroko",
        /// Whisper on CTranslate2.
        FasterWhisper = "faster_whisper",
        /// Whisper on ggml.
        WhisperCpp = "whisper_cpp",
        /// T-one, for Russian telephony.
        Tone = "tone",
    }
}

names! {
    /// AVA's synthesisers.
    TtsBackend {
        /// Piper's VITS voices.
        Piper = "piper",
        /// Kokoro, local or behind an HTTP interface.
        Kokoro = "kokoro",
        /// MeloTTS.
        MeloTts = "melotts",
        /// Silero.
        Silero = "silero",
        /// Matcha, with a vocoder.
        Matcha = "matcha",
    }
}

names! {
    /// How a sherpa model works.
    SherpaKind {
        /// Streaming: partial results while somebody speaks.
        Online = "online",
        /// A whole stretch of speech at once.
        Offline = "offline",
    }
}

names! {
    /// How T-one searches.
    ToneDecoder {
        /// With a language model of words.
        BeamSearch = "beam_search",
        /// Without.
        Greedy = "greedy",
    }
}

names! {
    /// Where Kokoro runs.
    KokoroMode {
        /// From a folder.
        Local = "local",
        /// From a download of Hugging Face.
        Hf = "hf",
        /// At an HTTP interface.
        Api = "api",
    }
}

names! {
    /// Whether there is a language model at all.
    RuntimeMode {
        /// Speech to text, language model, text to speech.
        Full = "full",
        /// No language model is loaded.
        Minimal = "minimal",
    }
}

names! {
    /// How well a language model calls tools.
    Capability {
        /// It writes the call as it was told.
        Strict = "strict",
        /// It names the tool, but not in the form it was told.
        Partial = "partial",
        /// It can't.
        None = "none",
        /// Nobody has looked.
        Unknown = "unknown",
    }
}
