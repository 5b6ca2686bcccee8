//! The model's vocabulary: from text to tokens and back, without what makes the library abort.

use std::collections::HashSet;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use repartee_worker_shell::Failure;
use repartee_worker_shell::protocol::code;

use crate::gguf::Gguf;

/// How SentencePiece writes a space.
const SPACE: char = '▁';
/// Every byte has a token in a usual vocabulary.
const BYTES: usize = 256;

/// What can be said with the model's tokens.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// `None`: everything. Else the characters that are tokens, and texts that are tokens whatever they're made of. A SentencePiece vocabulary
    /// without tokens for bytes makes the library throw when it meets any other.
    sayable: Option<(HashSet<char>, Vec<String>)>,
    /// The text of the token that begins a prompt, where the library adds one.
    pub(crate) beginning: String,
    /// The texts that templates know as `bos_token` and `eos_token`.
    pub(crate) bos: String,
    pub(crate) eos: String,
}

impl Vocabulary {
    pub(crate) fn of(model: &LlamaModel, gguf: &Gguf) -> Self {
        let vocabulary = model.vocab();
        let text = |token: LlamaToken| {
            // Below zero: there's none.
            if token.0 < 0 {
                String::new()
            } else {
                String::from_utf8_lossy(&vocabulary.token_to_piece(token, true, None)).into_owned()
            }
        };
        let bos = text(vocabulary.bos());
        Self {
            sayable: (gguf.text("tokenizer.ggml.model") == Some("llama"))
                .then(|| sayable(model))
                .flatten(),
            beginning: if vocabulary.should_add_bos() {
                bos.clone()
            } else {
                String::new()
            },
            bos,
            eos: text(vocabulary.eos()),
        }
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// When a character of it can't be said. It isn't told: it's the caller's text.
    pub(crate) fn tokens(&self, model: &LlamaModel, text: &str, whole: bool) -> Result<Vec<LlamaToken>, Failure> {
        if !self.can_say(text) {
            let message =
                "the prompt has a character that this model's vocabulary lacks, and it has no tokens for bytes";
            return Err(Failure::new(code::UNSUPPORTED, message));
        }
        // A template writes the token that begins a prompt, and the library adds it.
        let text = if whole && !self.beginning.is_empty() {
            text.strip_prefix(self.beginning.as_str()).unwrap_or(text)
        } else {
            text
        };
        Ok(model.vocab().tokenize(text.as_bytes(), whole, true))
    }

    /// Whether every character of `text` has a token.
    pub(crate) fn can_say(&self, text: &str) -> bool {
        let Some((letters, words)) = &self.sayable else {
            return true;
        };
        let has_all = |text: &str| text.chars().all(|letter| letters.contains(&letter));
        has_all(text) || {
            let mut text = text.to_owned();
            for word in words {
                text = text.replace(word.as_str(), " ");
            }
            has_all(&text)
        }
    }
}

/// See [`Vocabulary::sayable`].
fn sayable(model: &LlamaModel) -> Option<(HashSet<char>, Vec<String>)> {
    let vocabulary = model.vocab();
    let mut letters = HashSet::new();
    let mut words = Vec::new();
    let mut bytes = 0;
    for token in vocabulary.tokens() {
        let attributes = vocabulary.attr(token);
        if attributes.contains(LlamaTokenAttr::Byte) {
            bytes += 1;
            continue;
        }
        let Some(Ok(text)) = vocabulary.text(token).map(|text| text.to_str()) else {
            continue;
        };
        let mut characters = text.chars();
        if let (Some(letter), None) = (characters.next(), characters.next()) {
            letters.insert(if letter == SPACE { ' ' } else { letter });
        }
        if attributes.contains(LlamaTokenAttr::Control) || attributes.contains(LlamaTokenAttr::UserDefined) {
            words.push(text.to_owned());
        }
    }
    (bytes < BYTES).then_some((letters, words))
}
