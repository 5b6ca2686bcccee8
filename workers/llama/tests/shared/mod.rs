//! What the tests of the worker share: loading, asking, and where the models are.
#![expect(clippy::unwrap_used, reason = "a test that can't go on says where")]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{
    Chat, ChatMessage, Done, Failed, Function, Job, LlmParams, Load, LoadFailed, Params, Ready, Role, StreamId,
    ToEngine, ToWorker,
};
use repartee_worker_shell::testing::{Client, models_folder, synthetic_folder};
use serde_json::Value;

/// The real model: stories of children, whose vocabulary has words and no bytes.
pub(crate) const STORIES: &str = "llm/TinyStories-656K-f32.gguf";
/// The synthetic one: every byte, a chat template, tools.
pub(crate) const CHAT: &str = "synthetic-chat.gguf";

pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_repartee-worker-llama"))
}

/// The folder with real models; `None`, and a line that says so, where there's none.
pub(crate) fn real_models() -> Option<PathBuf> {
    let folder = models_folder().filter(|folder| folder.join(STORIES).is_file());
    if folder.is_none() {
        println!("skipped: no {STORIES} in the models folder (REPARTEE_MODELS)");
    }
    folder
}

/// The folder with the synthetic models.
pub(crate) fn synthetic() -> PathBuf {
    synthetic_folder("llama").expect("no synthetic models: run scripts/synthetic.sh llama")
}

pub(crate) fn load(client: &mut Client, model: &str, options: &[(&str, Value)]) -> Result<Ready, LoadFailed> {
    client.load(Job::Llm, model, options).unwrap()
}

/// A load with further files.
pub(crate) fn load_with(client: &mut Client, model: &str, files: &[(&str, &str)]) -> Result<Ready, LoadFailed> {
    let files = files
        .iter()
        .map(|(role, file)| ((*role).into(), (*file).into()))
        .collect();
    let load = Load {
        job: Job::Llm,
        model: model.into(),
        files,
        options: BTreeMap::new(),
        threads: 0,
        device: None,
    };
    client.send(&ToWorker::Load(load), &[]).unwrap();
    match client.receive().unwrap().0 {
        ToEngine::Ready(ready) => Ok(ready),
        ToEngine::LoadFailed(failed) => Err(failed),
        other => panic!("{other:?}"),
    }
}

/// A worker with the story model; `None` where that isn't there.
pub(crate) fn stories(options: &[(&str, Value)]) -> Option<(Client, Ready)> {
    let folder = real_models()?;
    let (mut client, _) = Client::start_with_models(binary(), Some(&folder)).unwrap();
    let ready = load(&mut client, STORIES, options).unwrap();
    Some((client, ready))
}

/// A worker with the synthetic chat model.
pub(crate) fn chats(options: &[(&str, Value)]) -> (Client, Ready) {
    let (mut client, _) = Client::start_with_models(binary(), Some(&synthetic())).unwrap();
    let ready = load(&mut client, CHAT, options).unwrap();
    (client, ready)
}

pub(crate) fn message(role: Role, content: &str) -> ChatMessage {
    ChatMessage {
        role,
        content: content.into(),
        tool_calls: Vec::new(),
        tool_call_id: None,
        images: Vec::new(),
    }
}

pub(crate) fn user(content: &str) -> Chat {
    Chat {
        messages: vec![message(Role::User, content)],
        ..Chat::default()
    }
}

/// Greedy, up to so many tokens.
pub(crate) fn greedy(max_tokens: u32) -> LlmParams {
    LlmParams {
        max_tokens,
        temperature: Some(0.0),
        ..LlmParams::default()
    }
}

/// What came on a stream.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    pub(crate) pieces: Vec<String>,
    pub(crate) calls: Vec<Function>,
    pub(crate) first: Option<Duration>,
    pub(crate) whole: Duration,
    pub(crate) done: Option<Done>,
    pub(crate) failed: Option<Failed>,
}

impl Answered {
    pub(crate) fn text(&self) -> String {
        self.pieces.concat()
    }

    pub(crate) fn done(&self) -> &Done {
        self.done.as_ref().unwrap_or_else(|| panic!("{:?}", self.failed))
    }

    pub(crate) fn reason(&self) -> &str {
        self.done().reason.as_deref().unwrap()
    }

    pub(crate) fn failed(&self) -> &Failed {
        self.failed.as_ref().unwrap_or_else(|| panic!("{self:?}"))
    }
}

pub(crate) fn open(client: &mut Client, params: &LlmParams, chat: &Chat) -> StreamId {
    let payload = serde_json::to_vec(chat).unwrap();
    client.open_with(Params::Llm(params.clone()), &payload).unwrap()
}

/// Hears all of these streams to their ends.
pub(crate) fn hear(client: &mut Client, streams: &[StreamId]) -> Vec<Answered> {
    let began = Instant::now();
    let mut all: BTreeMap<StreamId, Answered> = streams.iter().map(|id| (*id, Answered::default())).collect();
    let mut open = streams.len();
    while open > 0 {
        let (message, _) = client.receive().unwrap();
        let Some(answered) = message.stream().and_then(|stream| all.get_mut(&stream)) else {
            continue;
        };
        assert!(
            answered.done.is_none() && answered.failed.is_none(),
            "nothing follows an end: {message:?}"
        );
        match message {
            ToEngine::Token(token) => {
                answered.first.get_or_insert_with(|| began.elapsed());
                answered.pieces.push(token.text);
            }
            ToEngine::ToolCall(call) => answered.calls.push(call.call),
            ToEngine::Done(done) => {
                answered.done = Some(done);
                answered.whole = began.elapsed();
                open -= 1;
            }
            ToEngine::Failed(failed) => {
                answered.failed = Some(failed);
                open -= 1;
            }
            ToEngine::Credit(_) => {}
            other => panic!("{other:?}"),
        }
    }
    streams.iter().map(|id| all.remove(id).unwrap()).collect()
}

/// One answer.
pub(crate) fn ask(client: &mut Client, params: &LlmParams, chat: &Chat) -> Answered {
    let stream = open(client, params, chat);
    hear(client, &[stream]).remove(0)
}
