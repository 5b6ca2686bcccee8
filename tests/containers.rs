//! The files of the container image agree with each other and with AVA's names, and an engine that isn't here ends the build with a
//! sentence. Nothing is built here; `make test-container` does that.

#![expect(clippy::unwrap_used, reason = "a test that can't read the tree says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use repartee::config::KEYS;
use saphyr::{LoadableYamlNode as _, Yaml};

const DOCKERFILE: &str = "Dockerfile";
const COMPOSE: &str = "docker-compose.yml";
const COMPOSE_GPU: &str = "docker-compose.gpu.yml";
const COMPOSE_FOR_AVA: &str = "deploy/ava/docker-compose.override.yml";
const ENGINES: &str = "scripts/container-engines.sh";

/// What becomes of a build argument of AVA's image.
enum Fate {
    /// This worker is built.
    Worker(&'static str),
    /// It ends the build.
    Refused,
    /// A script reads it.
    ReadBy(&'static str),
}

/// The build arguments of AVA's `local_ai_server`, of its Dockerfile for CPUs and that for GPUs.
const AVA_BUILD_ARGUMENTS: &[(&str, Fate)] = &[
    ("INCLUDE_VOSK", Fate::Refused),
    ("INCLUDE_SHERPA", Fate::Worker("sherpa")),
    ("INCLUDE_PIPER", Fate::Worker("sherpa")),
    ("INCLUDE_KOKORO", Fate::Worker("sherpa")),
    ("INCLUDE_LLAMA", Fate::Worker("llama")),
    ("INCLUDE_FASTER_WHISPER", Fate::Refused),
    ("INCLUDE_WHISPER_CPP", Fate::Worker("whisper")),
    ("INCLUDE_TONE", Fate::Worker("sherpa")),
    ("INCLUDE_MELOTTS", Fate::Worker("sherpa")),
    ("INCLUDE_SILERO", Fate::Refused),
    ("INCLUDE_KROKO_EMBEDDED", Fate::Refused),
    ("KROKO_SERVER_SHA256", Fate::Refused),
    ("ONNX_RUNTIME_SHA256", Fate::Refused),
    ("LLAMA_CUDA_ARCHITECTURES", Fate::ReadBy("scripts/container-build.sh")),
];

/// The variables of AVA's `local_ai_server`, without its second names for some of them.
const AVA_VARIABLES: &str = "
    LOCAL_AI_MODE GPU_AVAILABLE LOCAL_WS_HOST LOCAL_WS_PORT LOCAL_WS_AUTH_TOKEN LOCAL_AI_MOCK_MODELS LOCAL_AI_FAIL_FAST
    LOCAL_LOG_LEVEL LOCAL_DEBUG LOCAL_STT_BACKEND LOCAL_STT_MODEL_PATH LOCAL_STT_IDLE_MS LOCAL_STT_SEGMENT_ENERGY_THRESHOLD
    LOCAL_STT_SEGMENT_PREROLL_MS LOCAL_STT_SEGMENT_MIN_MS LOCAL_STT_SEGMENT_SILENCE_MS LOCAL_STT_SEGMENT_MAX_MS SHERPA_MODEL_PATH
    SHERPA_MODEL_TYPE SHERPA_VAD_MODEL_PATH SHERPA_VAD_THRESHOLD SHERPA_VAD_MIN_SILENCE_MS SHERPA_VAD_MIN_SPEECH_MS
    SHERPA_OFFLINE_PREROLL_MS SHERPA_OFFLINE_DEBUG_SEGMENTS TONE_MODEL_PATH TONE_DECODER_TYPE TONE_KENLM_PATH FASTER_WHISPER_MODEL
    FASTER_WHISPER_DEVICE FASTER_WHISPER_COMPUTE_TYPE FASTER_WHISPER_LANGUAGE WHISPER_CPP_MODEL_PATH WHISPER_CPP_LANGUAGE KROKO_URL
    KROKO_API_KEY KROKO_LANGUAGE KROKO_EMBEDDED KROKO_MODEL_PATH KROKO_PORT LOCAL_LLM_MODEL_PATH LOCAL_LLM_THREADS LOCAL_LLM_CONTEXT
    LOCAL_LLM_BATCH LOCAL_LLM_MAX_TOKENS LOCAL_LLM_TEMPERATURE LOCAL_LLM_TOP_P LOCAL_LLM_REPEAT_PENALTY LOCAL_LLM_GPU_LAYERS
    LOCAL_LLM_GPU_LAYERS_AUTO_DEFAULT LOCAL_LLM_SYSTEM_PROMPT LOCAL_LLM_VOICE_PREAMBLE LOCAL_LLM_STOP_TOKENS LOCAL_LLM_CHAT_FORMAT
    LOCAL_LLM_USE_MLOCK LOCAL_LLM_INFER_TIMEOUT_SEC LOCAL_TOOL_GATEWAY_ENABLED LOCAL_TTS_BACKEND LOCAL_TTS_MODEL_PATH KOKORO_MODE
    KOKORO_VOICE KOKORO_LANG KOKORO_MODEL_PATH KOKORO_API_BASE_URL KOKORO_API_KEY KOKORO_API_MODEL MELOTTS_VOICE MELOTTS_DEVICE
    MELOTTS_SPEED SILERO_SPEAKER SILERO_LANGUAGE SILERO_MODEL_ID SILERO_SAMPLE_RATE SILERO_MODEL_PATH MATCHA_MODEL_PATH
    MATCHA_VOCODER_PATH MATCHA_SPEED MATCHA_SID LOCAL_ENABLE_FILLER_AUDIO LOCAL_FILLER_PHRASES LOCAL_FILLER_VOICE LOCAL_FILLER_SPEED
    LOCAL_LLM_STREAMING_TTS_OVERLAP LOCAL_TTS_PHRASE_CACHE_ENABLED LOCAL_TTS_PHRASE_CACHE_MAX_LEN SILERO_DIRECT_MULAW
    LOCAL_SPECULATIVE_LLM LOCAL_SPECULATIVE_LLM_MAX_TOKENS LOCAL_SPECULATIVE_LLM_STABILITY_MS LOCAL_COMFORT_NOISE
    LIVE_STATUS_ADMIN_URL LIVE_STATUS_PUSH_TOKEN LIVE_STATUS_PUSH_INTERVAL_SECONDS LIVE_STATUS_PUSH_TIMEOUT_SECONDS";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The arguments before the first `FROM`, with their defaults.
fn dockerfile_arguments() -> BTreeMap<String, String> {
    let text = read(DOCKERFILE);
    let before = text.lines().take_while(|line| !line.starts_with("FROM "));
    before
        .filter_map(|line| line.strip_prefix("ARG ")?.split_once('='))
        .map(|(name, default)| (name.to_owned(), default.to_owned()))
        .collect()
}

/// The lines of one stage of the Dockerfile; the last one has no name.
fn stage(name: Option<&str>) -> Vec<String> {
    let text = read(DOCKERFILE);
    let mut stages = text.split("\nFROM ").skip(1);
    let found = match name {
        Some(name) => stages.find(|stage| stage.lines().next().unwrap().ends_with(&format!(" AS {name}"))),
        None => stages.last(),
    };
    found.unwrap().lines().map(str::to_owned).collect()
}

fn yaml(file: &str) -> Yaml<'static> {
    let mut documents = Yaml::load_from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(documents.len(), 1, "{file} is one document");
    documents.remove(0)
}

/// What a service of a Compose file says under these keys.
fn service<'a>(document: &'a Yaml<'static>, name: &str, keys: &[&str]) -> &'a Yaml<'static> {
    ["services", name].iter().chain(keys).fold(document, |node, key| {
        node.as_mapping_get(key)
            .unwrap_or_else(|| panic!("the service {name} has no {}", keys.join(".")))
    })
}

/// The build arguments that a service forwards, each with the default that stands in `${NAME:-default}`.
fn forwarded(file: &str, name: &str) -> BTreeMap<String, String> {
    let document = yaml(file);
    let arguments = service(&document, name, &["build", "args"]).as_mapping().unwrap();
    arguments
        .iter()
        .map(|(argument, value)| {
            let (argument, value) = (argument.as_str().unwrap(), value.as_str().unwrap());
            let default = value
                .strip_prefix(&format!("${{{argument}:-"))
                .and_then(|rest| rest.strip_suffix('}'));
            let default = default.unwrap_or_else(|| panic!("{file}: {argument}: {value} doesn't forward {argument}"));
            (argument.to_owned(), default.to_owned())
        })
        .collect()
}

/// Runs the script that reads the build arguments, with these alone.
fn engines(arguments: &[(&str, &str)]) -> Output {
    Command::new(path(ENGINES))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(arguments.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn every_compose_file_forwards_every_build_argument() {
    let declared = dockerfile_arguments();
    assert!(declared.contains_key("INCLUDE_SHERPA"), "{declared:?}");
    for (file, name) in [
        (COMPOSE, "repartee"),
        (COMPOSE, "local_ai_server"),
        (COMPOSE_FOR_AVA, "local_ai_server"),
    ] {
        assert_eq!(
            forwarded(file, name),
            declared,
            "{file}, {name}: other arguments or other defaults than the Dockerfile"
        );
    }
    let mut for_gpu = declared;
    for (name, default) in [
        ("INCLUDE_WHISPER_CPP", "true"),
        ("REPARTEE_WORKER_FEATURES", "cuda"),
        ("BUILD_IMAGE", "nvidia/cuda:12.4.1-devel-ubuntu22.04"),
        ("RUNTIME_IMAGE", "nvidia/cuda:12.4.1-runtime-ubuntu22.04"),
    ] {
        assert!(for_gpu.insert(name.to_owned(), default.to_owned()).is_some(), "{name}");
    }
    for name in ["repartee", "local_ai_server"] {
        assert_eq!(forwarded(COMPOSE_GPU, name), for_gpu, "{COMPOSE_GPU}, {name}");
        let device = yaml(COMPOSE_GPU);
        let devices = service(&device, name, &["deploy", "resources", "reservations", "devices"]);
        assert_eq!(
            devices.as_sequence().unwrap()[0]
                .as_mapping_get("driver")
                .unwrap()
                .as_str(),
            Some("nvidia")
        );
    }
}

#[test]
fn every_build_argument_reaches_a_stage() {
    let whole = read(DOCKERFILE);
    let own_defaults: Vec<_> = dockerfile_arguments().into_keys().collect();
    for name in own_defaults {
        let reaches = ["engines", "build"]
            .iter()
            .any(|stage_name| stage(Some(stage_name)).contains(&format!("ARG {name}")));
        // An image is named before its stage begins.
        let is_image = whole.contains(&format!("\nFROM ${{{name}}}"));
        assert!(
            reaches || is_image,
            "{name} is declared, and no stage of the Dockerfile takes it"
        );
    }
}

#[test]
fn every_build_argument_of_ava_is_used_or_refused() {
    let declared = dockerfile_arguments();
    for (name, fate) in AVA_BUILD_ARGUMENTS {
        assert!(declared.contains_key(*name), "the Dockerfile doesn't know {name}");
        let value = if name.starts_with("INCLUDE_") {
            "true"
        } else {
            "0123abcd"
        };
        let Output { status, stdout, stderr } = engines(&[(name, value)]);
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        match fate {
            Fate::Worker(worker) => {
                assert!(status.success(), "{name}: {stderr}");
                assert_eq!(stdout, format!("{worker}\n"), "{name}");
                assert!(path(&format!("workers/{worker}/Cargo.toml")).is_file());
            }
            Fate::Refused => {
                assert_eq!(status.code(), Some(2), "{name}=true builds an image without it");
                let sentence = stderr.lines().find(|line| line.trim_start().starts_with(name));
                assert!(sentence.is_some_and(|line| line.ends_with('.')), "{name}: {stderr}");
                assert_eq!(stdout, "", "{name}");
                assert!(
                    ["", "false"].contains(&declared[*name].as_str()),
                    "the default build would end: {name}"
                );
            }
            Fate::ReadBy(script) => assert!(
                read(script).contains(&format!("${{{name}")),
                "{script} doesn't read {name}"
            ),
        }
    }
}

#[test]
fn the_default_image_is_built() {
    let declared = dockerfile_arguments();
    let arguments: Vec<_> = declared
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let Output { status, stdout, stderr } = engines(&arguments);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    assert_eq!(String::from_utf8_lossy(&stdout), "sherpa\nllama\n");
    assert_eq!(engines(&[]).stdout, b"", "nothing is asked for, so nothing is added");
}

#[test]
fn switches_are_written_as_ava_takes_them() {
    for yes in ["1", "true", "TRUE", "yes", "y", "On"] {
        assert_eq!(engines(&[("INCLUDE_LLAMA", yes)]).stdout, b"llama\n", "{yes}");
        assert!(!engines(&[("INCLUDE_VOSK", yes)]).status.success(), "{yes}");
    }
    for no in ["", "0", "false", "No", "n", "off"] {
        let output = engines(&[("INCLUDE_LLAMA", no), ("INCLUDE_VOSK", no)]);
        assert!(output.status.success() && output.stdout.is_empty(), "{no}");
    }
    let output = engines(&[("INCLUDE_LLAMA", "maybe"), ("INCLUDE_VOSK", "true")]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("INCLUDE_LLAMA=maybe: ") && told.contains("INCLUDE_VOSK=true: "),
        "not both are told: {told}"
    );
}

#[test]
fn the_image_is_the_one_that_ava_expects() {
    let last = stage(None);
    let users: Vec<_> = last.iter().filter_map(|line| line.strip_prefix("USER ")).collect();
    assert_eq!(users, ["repartee"], "it runs as one user, who isn't root");
    let runtime = read("scripts/container-runtime.sh");
    assert!(runtime.contains("useradd --uid 1000 ") && runtime.contains(" repartee\n"));
    assert!(last.contains(&"WORKDIR /app".to_owned()));
    assert!(last.contains(&"EXPOSE 8080 8765".to_owned()));
    assert!(last.contains(&"VOLUME [\"/app/models\", \"/app/data\"]".to_owned()));
    assert!(
        last.iter()
            .any(|line| line.starts_with("HEALTHCHECK ") && line.ends_with("CMD [\"repartee\", \"health\"]"))
    );
    // For AVA's own health check.
    for package in ["python3", "python-is-python3", "python3-websockets"] {
        assert!(runtime.split_whitespace().any(|word| word == package), "{package}");
    }

    let document = yaml(COMPOSE);
    let says = |key: &str| {
        service(&document, "local_ai_server", &[key])
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(says("container_name").as_deref(), Some("local_ai_server"));
    assert_eq!(says("network_mode").as_deref(), Some("host"));
    assert_eq!(
        says("image").as_deref(),
        Some("asterisk-ai-voice-agent-local-ai-server:latest")
    );
    let gpu = yaml(COMPOSE_GPU);
    assert_eq!(
        service(&gpu, "local_ai_server", &["image"]).as_str(),
        Some("asterisk-ai-voice-agent-local-ai-server-gpu:latest")
    );
    let volumes: Vec<_> = service(&document, "local_ai_server", &["volumes"])
        .as_sequence()
        .unwrap()
        .iter()
        .map(|volume| volume.as_str().unwrap())
        .collect();
    assert_eq!(
        volumes,
        ["${AVA_DIR:-.}/models:/app/models", "${AVA_DIR:-.}/data:/app/data"]
    );
    assert_eq!(
        service(&document, "local_ai_server", &["env_file"])
            .as_sequence()
            .unwrap()[0]
            .as_mapping_get("path")
            .unwrap()
            .as_str(),
        Some("${AVA_DIR:-.}/.env")
    );
}

#[test]
fn the_steps_are_scripts_of_the_project() {
    let text = read(DOCKERFILE);
    let scripts: BTreeSet<&str> = text
        .split(|letter: char| letter.is_whitespace())
        .filter(|word| word.starts_with("scripts/") && word.ends_with(".sh"))
        .collect();
    assert!(scripts.len() >= 5, "{scripts:?}");
    for script in scripts {
        let metadata = fs::metadata(path(script)).unwrap_or_else(|error| panic!("{script}: {error}"));
        // packages.sh is read by others, not run.
        assert!(
            script.ends_with("/packages.sh") || metadata.permissions().mode() & 0o111 == 0o111,
            "{script} can't be run"
        );
    }
    let ignored = read(".dockerignore");
    assert!(ignored.lines().any(|line| line == ".env"), "secrets get into the build");
}

/// The variables of `.env.example`: name, value, whether it is in force, and the line above.
fn example() -> Vec<(String, String, bool, String)> {
    let text = read(".env.example");
    let mut above = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let (rest, in_force) = line.strip_prefix('#').map_or((line, true), |rest| (rest, false));
        match rest.split_once('=') {
            Some((name, value))
                if name
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_') =>
            {
                found.push((name.to_owned(), value.to_owned(), in_force, above.clone()));
            }
            _ => assert!(
                line.is_empty() || line == "#" || line.starts_with("# "),
                ".env.example: {line}"
            ),
        }
        line.clone_into(&mut above);
    }
    found
}

#[test]
fn the_example_of_an_environment_is_whole() {
    let example = example();
    let names: Vec<&str> = example.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(
        names.iter().collect::<BTreeSet<_>>().len(),
        names.len(),
        "a variable is there twice"
    );
    for (name, value, in_force, above) in &example {
        assert!(
            above.starts_with("# ") && !above.starts_with("# ---"),
            "{name} has no line that says what it is"
        );
        let is_secret = ["TOKEN", "KEY", "SECRET", "PASSWORD"]
            .iter()
            .any(|word| name.ends_with(word));
        assert_eq!(*in_force, is_secret, "{name}: only secrets are in force, and empty");
        assert!(!is_secret || value.is_empty(), "{name} has a value");
    }

    let mut missing = Vec::new();
    for key in KEYS {
        let variable = key.variable();
        let line = example
            .iter()
            .find(|(name, ..)| *name == variable || key.aliases.contains(&name.as_str()));
        match line {
            // AVA's own defaults stand under AVA's names, and may be others than ours.
            Some((name, value, ..)) if name.starts_with("REPARTEE_") => assert_eq!(value, key.default, "{name}"),
            Some(_) => {}
            None => missing.push(format!("# {}\n#{variable}={}", key.help, key.default)),
        }
    }
    missing.extend(
        AVA_VARIABLES
            .split_whitespace()
            .filter(|name| !names.contains(name))
            .map(str::to_owned),
    );
    missing.extend(
        dockerfile_arguments()
            .into_keys()
            .filter(|name| !names.contains(&name.as_str())),
    );
    assert!(missing.is_empty(), ".env.example lacks:\n{}", missing.join("\n"));
    let defaults = dockerfile_arguments();
    for (name, value, ..) in example {
        assert_eq!(defaults.get(&name).unwrap_or(&value), &value, "{name}");
    }
}
