//! Servers of language models, as a switch or the configuration names them.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::House;
use super::seats::Make;
use crate::backend::Backend;
use crate::call::{BackendKind, Served, SwitchFailure, SwitchRequest, SwitchStage};
use crate::config::Config;
use crate::pii::Pii;
use crate::provider::openai::{self, OpenaiBackend, OpenaiOptions};
use crate::registry::Plan;

/// How long a server that somebody named may take to name its models: it may be far away.
const PATIENCE: Duration = Duration::from_secs(3);
/// The options that a switch may name.
const OPTIONS: [&str; 3] = ["base_url", "url", "api_key"];

/// A server, as far as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its address; absent: one that answers on this machine.
    base: Option<String>,
    /// The model; absent: the first that it lists.
    model: Option<String>,
    api_key: Option<Pii<String>>,
}

impl Wanted {
    /// What a request names; what it leaves out is as with `before`, which serves, else as configured. A key goes to nobody but the server
    /// that it was given for.
    pub(super) fn of(
        request: &SwitchRequest,
        before: Option<&OpenaiOptions>,
        config: &Config,
    ) -> Result<Self, SwitchFailure> {
        let refuse = |reason: String| SwitchFailure::new(SwitchStage::Resolve, reason);
        if let Some(name) = request.options.keys().find(|name| !OPTIONS.contains(&name.as_str())) {
            return Err(refuse(format!(
                "openai has no option {name:?}; there are {}",
                OPTIONS.join(", ")
            )));
        }
        let text = |name: &str| match request.options.get(name) {
            None => Ok(None),
            Some(serde_json::Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(_) => Err(refuse(format!("openai's option {name:?} is a text"))),
        };
        let named = text("base_url")?.or(text("url")?);
        if named.as_ref().is_some_and(|base| base.contains('@')) {
            return Err(refuse(
                "the address of a server has no user in it: put the key into the option api_key".to_owned(),
            ));
        }
        let configured = || config.llm.url.clone();
        let base = named
            .or_else(|| before.map(|before| before.base.clone()))
            .or_else(configured);
        let api_key = text("api_key")?.map(Pii::new);
        let api_key = api_key.or_else(|| {
            before
                .filter(|before| Some(&before.base) == base.as_ref())?
                .api_key
                .clone()
        });
        let own = || {
            config
                .llm
                .api_key
                .as_ref()
                .filter(|_| base.is_some() && base == config.llm.url)
        };
        let api_key = api_key.or_else(|| own().map(|key| Pii::new(key.expose().to_owned())));
        let is_same = before.is_some_and(|before| Some(&before.base) == base.as_ref());
        let kept = before.filter(|_| is_same).map(|before| before.model.clone());
        let configured_model = || {
            config
                .llm
                .model
                .clone()
                .filter(|_| base.is_some() && base == config.llm.url)
        };
        let model = request.model.clone().or(kept).or_else(configured_model);
        Ok(Self { base, model, api_key })
    }

    /// Asks it, or those of this machine.
    pub(super) async fn find(self, config: &Config) -> Result<OpenaiOptions, SwitchFailure> {
        let refuse = |stage, reason: String| SwitchFailure::new(stage, reason);
        let (base, models) = match self.base {
            Some(base) => {
                let server = openai::Server {
                    name: "asked".to_owned(),
                    base: base.clone(),
                    api_key: self.api_key.clone(),
                };
                match openai::probe(&server, PATIENCE).await {
                    Ok(models) => (base, models),
                    // Some servers don't list what they have: whether it has the model is seen when it is tried.
                    Err(openai::ProbeError::Strange { .. }) if self.model.is_some() => (base, Vec::new()),
                    Err(error @ openai::ProbeError::Client(_)) => {
                        return Err(refuse(SwitchStage::Resolve, error.to_string()));
                    }
                    Err(error) => return Err(refuse(SwitchStage::Check, error.to_string())),
                }
            }
            None => match openai::detect(&[], openai::PROBE_TIMEOUT).await {
                Some(found) => (found.server.base, found.models),
                None => {
                    let reason = "no OpenAI-compatible server answers on this machine: start one, or name its address in the option base_url";
                    return Err(refuse(SwitchStage::Check, reason.to_owned()));
                }
            },
        };
        let Some(model) = self.model.or_else(|| models.into_iter().next()) else {
            return Err(refuse(SwitchStage::Resolve, format!("{base} lists no model: name one")));
        };
        Ok(options(config, &base, &model, self.api_key))
    }
}

/// A model of a server, with the configured patience.
pub(super) fn options(config: &Config, base: &str, model: &str, api_key: Option<Pii<String>>) -> OpenaiOptions {
    OpenaiOptions {
        api_key,
        connect_timeout: Duration::from_millis(u64::from(config.llm.connect_timeout_ms)),
        first_event_timeout: Duration::from_millis(u64::from(config.llm.first_token_timeout_ms)),
        ..OpenaiOptions::new(base, model)
    }
}

impl House {
    /// A server's model, to be spoken to. Needs no memory here.
    pub(in crate::cli::serve) fn server_plan(&self, options: OpenaiOptions) -> Result<Plan, String> {
        // An address that is none is told now.
        let runtime = Handle::current();
        OpenaiBackend::new(options.clone(), self.generations().next(), runtime.clone())
            .map_err(|error| error.to_string())?;
        let served = Served {
            backend: "openai".to_owned(),
            model: options.model.clone(),
        };
        // The key itself has no place in a text that may be printed.
        let mut secret = DefaultHasher::new();
        options.api_key.as_ref().map(|key| key.expose()).hash(&mut secret);
        let key = format!("openai {} {} {:x}", options.base, options.model, secret.finish());
        let load = super::Load::Server(options.clone());
        let make: Make = Arc::new(move |_, generation| {
            let backend =
                OpenaiBackend::new(options.clone(), generation, runtime.clone()).map_err(|error| error.to_string())?;
            Ok(Backend::Llm(Arc::new(backend)))
        });
        Ok(self.plan_here(BackendKind::Llm, served, key, make, load))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    fn request(options: &[(&str, &str)]) -> SwitchRequest {
        SwitchRequest {
            options: options
                .iter()
                .map(|(name, value)| ((*name).to_owned(), serde_json::json!(value)))
                .collect(),
            ..SwitchRequest::new(BackendKind::Llm)
        }
    }

    #[test]
    fn a_key_goes_only_where_it_was_given_for() {
        let config = config(&[("llm.url", "http://a/v1"), ("llm.api_key", "of a"), ("llm.model", "m")]);
        let wanted = |request: &SwitchRequest, before: Option<&OpenaiOptions>| {
            let wanted = Wanted::of(request, before, &config).unwrap();
            (wanted.base, wanted.model, wanted.api_key.map(Pii::into_exposed))
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            wanted(&request(&[]), None),
            (text("http://a/v1"), text("m"), text("of a"))
        );
        assert_eq!(
            wanted(&request(&[("url", "http://b/v1")]), None),
            (text("http://b/v1"), None, None)
        );
        let given = request(&[("base_url", "http://b/v1"), ("api_key", "of b")]);
        assert_eq!(wanted(&given, None), (text("http://b/v1"), None, text("of b")));
        let before = options(&config, "http://b/v1", "x", Some(Pii::from("of b")));
        assert_eq!(
            wanted(&request(&[]), Some(&before)),
            (text("http://b/v1"), text("x"), text("of b"))
        );
        let back = wanted(&request(&[("url", "http://a/v1")]), Some(&before));
        assert_eq!(back, (text("http://a/v1"), text("m"), text("of a")));
        let away = wanted(&request(&[("url", "http://c/v1")]), Some(&before));
        assert_eq!(away, (text("http://c/v1"), None, None));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let config = config(&[]);
        for (options, told) in [
            (request(&[("bse_url", "x")]), "no option \"bse_url\""),
            (request(&[("url", "")]), "is a text"),
            (request(&[("url", "http://me:secret@b/v1")]), "no user"),
        ] {
            let failure = Wanted::of(&options, None, &config).unwrap_err();
            assert!(
                failure.reason.contains(told) && !failure.reason.contains("secret"),
                "{failure:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_server_that_is_silent_is_told() {
        let config = config(&[]);
        let wanted = Wanted::of(&request(&[("url", "http://127.0.0.1:9/v1")]), None, &config).unwrap();
        let failure = wanted.find(&config).await.unwrap_err();
        assert_eq!(failure.stage, SwitchStage::Check);
        assert!(failure.reason.contains("127.0.0.1:9"), "{failure:?}");
        let wanted = Wanted::of(&request(&[("url", "ftp://x")]), None, &config).unwrap();
        assert_eq!(wanted.find(&config).await.unwrap_err().stage, SwitchStage::Resolve);
    }
}
