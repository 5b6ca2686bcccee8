use super::keys::OTHER_VARIABLES;
use super::written::{File, Flag, Sources};
use super::*;
use crate::supervisor::KNOWN_WORKERS;
use repartee_protocol::worker::Job;

/// The sources that a test gives as texts.
fn load(toml: &str, environment: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> Result<Loaded, LoadError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("repartee.toml");
    std::fs::write(&path, toml).unwrap();
    let owned = |text: &&str| (*text).to_owned();
    let sources = Sources {
        file: File::Named(path),
        environment: environment
            .iter()
            .map(|(name, text)| (owned(name), owned(text)))
            .collect(),
        flags: flags
            .iter()
            .map(|(name, key, text)| Flag {
                name: owned(name),
                key: owned(key),
                text: owned(text),
            })
            .collect(),
    };
    Config::load(&sources)
}

fn loaded(toml: &str, environment: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> Loaded {
    match load(toml, environment, flags) {
        Ok(loaded) => loaded,
        Err(error) => panic!("{error}"),
    }
}

/// The mistakes as they are printed, with only the file's last name.
fn mistakes(toml: &str, environment: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> String {
    let Err(error) = load(toml, environment, flags) else {
        return "none".to_owned();
    };
    let lines = error.to_string();
    let lines = lines.lines().map(|line| match line.find("repartee.toml") {
        Some(start) if line.starts_with('/') => &line[start..],
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn config_with(name: &str, text: &str) -> Config {
    // The token lets any address pass; it is not what is looked at.
    loaded("", &[], &[("--set", "server.token", "x"), ("--set", name, text)]).config
}

#[test]
fn the_table_is_consistent() {
    let mut names = Vec::new();
    let mut variables: Vec<String> = OTHER_VARIABLES.iter().map(|name| (*name).to_owned()).collect();
    let mut section = 0;
    for key in KEYS {
        assert!(!names.contains(&key.name), "{} is there twice", key.name);
        names.push(key.name);
        variables.push(key.variable());
        variables.extend(key.aliases.iter().map(|name| (*name).to_owned()));
        let at = SECTIONS
            .iter()
            .position(|section| section.name == key.section())
            .expect("its section exists");
        assert!(
            at >= section,
            "{} is not beside the other keys of its section",
            key.name
        );
        section = at;
        assert!(key.help.ends_with('.'), "{}: help is a sentence", key.name);
        assert!(
            key.kind.read_text(key.default).is_ok(),
            "{}: the default is not valid",
            key.name
        );
    }
    let count = variables.len();
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), count, "two keys share a variable");
}

#[test]
fn the_words_of_the_table_are_those_of_the_types() {
    let words = |name: &str| match Key::find(name).unwrap().kind {
        Kind::Choice(words) => words,
        _ => panic!("{name} is no choice"),
    };
    assert_eq!(words("mode"), Mode::WORDS);
    assert_eq!(words("vad.backend"), VadBackend::WORDS);
    assert_eq!(words("turn.backend"), TurnBackend::WORDS);
    assert_eq!(words("log.level"), LogLevel::WORDS);
    assert_eq!(words("log.format"), LogFormat::WORDS);
}

/// A backend's key names the workers of the tree that do its job, and what isn't a worker.
#[test]
fn the_backends_of_the_table_are_those_of_the_tree() {
    for (name, job, own) in [
        ("stt.backend", Job::Stt, &["auto", "none"][..]),
        ("tts.backend", Job::Tts, &["auto", "none"]),
        ("llm.backend", Job::Llm, &["auto", "openai", "parrot", "none"]),
    ] {
        let Kind::Backend(words) = Key::find(name).unwrap().kind else {
            panic!("{name} is no backend")
        };
        let workers = KNOWN_WORKERS.iter().filter(|known| known.jobs.contains(&job));
        let mut expected: Vec<&str> = workers.map(|known| known.name).chain(own.iter().copied()).collect();
        let mut words = words.to_vec();
        expected.sort_unstable();
        words.sort_unstable();
        assert_eq!(words, expected, "{name}");
    }
}

#[test]
fn a_backend_may_be_written_with_its_model() {
    let model = |flags: &[(&str, &str, &str)]| {
        let toml = "[stt]\nbackend = \"pocketsphinx\"\nmodel = \"pocketsphinx-en-us-fast\"\noptions = { lanes = 2 }\n";
        let Loaded { config, written, .. } = loaded(toml, &[], flags);
        let place = written.value("stt.model").1.to_string();
        (config.stt.backend, config.stt.model, config.stt.options.len(), place)
    };
    let whisper = || SttBackend::Worker("whisper".to_owned());
    let path = "/models/a:b.bin";
    assert_eq!(
        model(&[("--stt", "stt.backend", "whisper:/models/a:b.bin")]),
        (whisper(), Some(path.to_owned()), 0, "--stt".to_owned())
    );
    // What the file says of another backend is no model of this one.
    assert_eq!(
        model(&[("--stt", "stt.backend", "whisper")]),
        (whisper(), None, 0, "default".to_owned())
    );
    // But what stands beside it on the command line is.
    let flags = [("--set", "stt.model", "x"), ("--stt", "stt.backend", "whisper")];
    assert_eq!(model(&flags), (whisper(), Some("x".to_owned()), 0, "--set".to_owned()));
    let (backend, kept, options, _) = model(&[("--stt", "stt.backend", "pocketsphinx")]);
    assert_eq!(backend, SttBackend::Worker("pocketsphinx".to_owned()));
    assert_eq!((kept.as_deref(), options), (Some("pocketsphinx-en-us-fast"), 1));
    for wrong in ["none:x", "parrot:x", "whisper:", ":x", "Whisper", "../x", "a b"] {
        assert!(load("", &[], &[("--set", "llm.backend", wrong)]).is_err(), "{wrong}");
    }
}

#[test]
fn a_worker_that_is_built_can_be_named_without_being_known() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("repartee-worker-vosk");
    std::fs::write(&program, "").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let folders = format!("/no/such/folder:{}", folder.path().display());
    let dir = ("--set", "workers.dir", folders.as_str());
    let config = loaded("", &[], &[("--stt", "stt.backend", "vosk:x"), dir]).config;
    assert_eq!(config.stt.backend, SttBackend::Worker("vosk".to_owned()));
    let told = mistakes("", &[], &[("--stt", "stt.backend", "vosc"), dir]);
    assert!(told.contains("did you mean \"vosk\"?"), "{told}");
    let told = mistakes("", &[], &[("--stt", "stt.backend", "zzz"), dir]);
    assert!(told.contains("\"whisper\"") && told.contains("\"vosk\""), "{told}");
}

#[test]
fn options_are_read_from_a_file_and_from_texts() {
    let toml = "[llm.options]\ncontext = 4_096\ntemplate = \"chatml\"\n[stt]\noptions = { beam = true, rate = 0.5 }\n";
    let environment = [("REPARTEE_TTS_OPTIONS", "speaker=3, noise=0.6,name=eve")];
    let flags = [
        ("--set", "llm.options.context", "8192"),
        ("--set", "stt.hints", "Repartee, Asterisk"),
    ];
    let Loaded { config, written, .. } = loaded(toml, &environment, &flags);
    let json = |options: &WorkerOptions| serde_json::to_value(options).unwrap();
    assert_eq!(
        json(&config.llm.options),
        serde_json::json!({"context": 8192, "template": "chatml"})
    );
    assert_eq!(
        json(&config.stt.options),
        serde_json::json!({"beam": true, "rate": 0.5})
    );
    assert_eq!(
        json(&config.tts.options),
        serde_json::json!({"speaker": 3, "noise": 0.6, "name": "eve"})
    );
    assert_eq!(config.stt.hints, ["Repartee", "Asterisk"]);
    assert_eq!(
        loaded(&show_text(&written), &[], &[]).config,
        config,
        "shown and read again"
    );
    assert_eq!(show_json(&written)["llm.options"]["value"]["context"], 8192);
    for wrong in ["context", "=1", "a b=1"] {
        assert!(load("", &[], &[("--set", "llm.options", wrong)]).is_err(), "{wrong}");
    }
    assert!(load("[llm.options]\nx = [1]\n", &[], &[]).is_err());
}

/// Every key of the table changes the configuration: none is there for show.
#[test]
fn every_key_means_something() {
    let plain = config_with("server.token", "x");
    for key in KEYS {
        let other = match key.kind {
            Kind::Text | Kind::Path => "something".to_owned(),
            Kind::Language => "fr".to_owned(),
            Kind::Url => "http://127.0.0.1:1/v1".to_owned(),
            Kind::Address => "127.0.0.1:1".to_owned(),
            Kind::Networks => "10.0.0.0/8".to_owned(),
            Kind::List => "one, two".to_owned(),
            Kind::Table => "name=1".to_owned(),
            Kind::Choice(words) | Kind::Backend(words) => (*words.last().unwrap()).to_owned(),
            Kind::Switch => (key.default != "true").to_string(),
            Kind::Integer { .. } => (key.default.parse::<i64>().unwrap() + 1).to_string(),
            Kind::Number { .. } => (key.default.parse::<f64>().unwrap_or(0.5) + 0.1).to_string(),
        };
        let flags = [
            ("--set", "server.token", "x"),
            ("--set", "trace.dir", "traces"),
            ("--set", "asterisk.user", "x"),
            ("--set", "asterisk.password", "x"),
            ("--set", "phone.allowed_networks", "192.0.2.0/24"),
            ("--set", key.name, &other),
        ];
        let base = loaded("", &[], &flags[..5]).config;
        let changed = loaded("", &[], &flags).config;
        assert!(
            changed != base && changed != plain,
            "{} = {other} changes nothing",
            key.name
        );
    }
}

#[test]
fn both_ends_of_every_range_fit_their_types() {
    for key in KEYS {
        let (least, most) = match key.kind {
            Kind::Integer { least, most, .. } => (least.to_string(), most.to_string()),
            Kind::Number { least, most } => (least.to_string(), most.to_string()),
            _ => continue,
        };
        for end in [least, most] {
            let mut written = Written::defaults();
            let mut mistakes = Vec::new();
            let flag = Flag {
                name: "--set".to_owned(),
                key: key.name.to_owned(),
                text: end,
            };
            written.read_flags(&[flag], &mut mistakes);
            assert_eq!(mistakes, []);
            // Would panic if the number didn't fit.
            let _ = Config::from_written(&written);
        }
    }
}

#[test]
fn later_sources_win_and_places_are_remembered() {
    let toml = "[server]\n\nlisten = \"127.0.0.1:1\"\nmax_sessions = 7\n[tts]\nvoice = \"slt\"\n";
    let environment = [
        ("REPARTEE_LISTEN", "127.0.0.1:2"),
        ("REPARTEE_TTS_VOICE", "rms"),
        ("HOME", "/root"),
    ];
    let flags = [("--listen", "server.listen", "127.0.0.1:3")];
    let Loaded {
        config,
        written,
        warnings,
    } = loaded(toml, &environment, &flags);
    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.server.max_sessions, 7);
    assert_eq!(config.tts.voice.as_deref(), Some("rms"));
    assert_eq!(warnings, Vec::<String>::new());
    let place = |name: &str| written.value(name).1.to_string();
    assert_eq!(place("server.listen"), "--listen");
    assert!(
        place("server.max_sessions").ends_with("repartee.toml:4"),
        "{}",
        place("server.max_sessions")
    );
    assert_eq!(place("tts.voice"), "REPARTEE_TTS_VOICE");
    assert_eq!(place("stt.backend"), "default");
}

#[test]
fn the_full_variable_wins_over_its_short_form_and_empty_ones_are_absent() {
    let environment = [
        ("REPARTEE_SERVER_LISTEN", "127.0.0.1:5"),
        ("REPARTEE_LISTEN", "127.0.0.1:6"),
        ("REPARTEE_TOKEN", ""),
        ("LOCAL_AI_MODE", "minimal"),
    ];
    let Loaded { config, written, .. } = loaded("", &environment, &[]);
    assert_eq!(config.server.listen.port(), 5);
    assert_eq!(config.server.token, None);
    assert_eq!(config.mode, Mode::Minimal);
    assert_eq!(written.value("server.token").1, &Place::Default);
}

#[test]
fn all_mistakes_of_a_file_are_told() {
    let toml = r#"mode = "minimum"
verbose = true

[server]
lisen = "0.0.0.0:8080"
max-sessions = 3
port = 8080
max_sessions = 0

[stt]
voice = "slt"
language = "english please"

[turn]
endpointing_ms = "fast"
barge_in = "on"
duck = 3

[http]
listen = "127.0.0.1:1"

[workers]
nice = 99999999999999999999

[vda]
backend = "silero"
"#;
    insta::assert_snapshot!(mistakes(toml, &[], &[]));
}

#[test]
fn mistakes_in_the_environment_and_in_flags_name_them() {
    let environment = [("REPARTEE_LISTEN", "8080"), ("REPARTEE_TURN_ENDPOINTING_MS", "20")];
    let flags = [
        ("--llm", "llm.backend", "ollama"),
        ("--set", "turn.endpointing", "500"),
        ("--set", "nonsense", ""),
    ];
    insta::assert_snapshot!(mistakes("", &environment, &flags));
}

#[test]
fn contradictions_are_told_where_they_were_written() {
    let toml = "[vad]\nstop_threshold = 0.6\n[turn]\nendpointing_ms = 2000\neager_ms = 2001\n                [trace]\naudio = true\n";
    insta::assert_snapshot!(mistakes(toml, &[("REPARTEE_LISTEN", "0.0.0.0:8080")], &[]));
}

#[test]
fn an_open_address_needs_a_token() {
    for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
        assert!(load("", &[("REPARTEE_LISTEN", open)], &[]).is_err(), "{open}");
        assert!(
            load("", &[("REPARTEE_LISTEN", open), ("REPARTEE_TOKEN", "secret")], &[]).is_ok(),
            "{open}"
        );
    }
    for loopback in ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(load("", &[("REPARTEE_LISTEN", loopback)], &[]).is_ok(), "{loopback}");
    }
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let shown = mistakes("[server]\nlisten = 127.0.0.1:8080\nmax_sessions = 1\n", &[], &[]);
    assert!(shown.starts_with("repartee.toml:2: this is not TOML"), "{shown}");
    let shown = mistakes(
        "[server]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n",
        &[],
        &[],
    );
    assert!(shown.starts_with("repartee.toml:3: this is not TOML"), "{shown}");
}

#[test]
fn hostile_files_are_refused_without_a_panic() {
    for text in [
        "[",
        "]",
        "=",
        "[server",
        "[[server]]",
        "server = 1",
        "[server.listen]\na = 1",
        "\u{0}",
        "a.b.c = 1",
        "[server]\n\"\" = 1",
    ] {
        assert!(load(text, &[], &[]).is_err(), "{text:?}");
    }
    assert!(load(&"[".repeat(100_000), &[], &[]).is_err());
    assert!(matches!(
        load(&"#".repeat(2 << 20), &[], &[]),
        Err(LoadError::TooLarge { .. })
    ));
}

#[test]
fn variables_that_look_like_settings_are_pointed_at() {
    let environment = [
        ("REPARTEE_LISTN", "127.0.0.1:1"),
        ("REPARTEE_PORT_8080_TCP", "tcp://10.0.0.1"),
        ("REPARTEE_SPEECH", "x"),
    ];
    let warnings = loaded("", &environment, &[]).warnings;
    assert_eq!(
        warnings,
        ["REPARTEE_LISTN is no setting and is ignored; did you mean REPARTEE_LISTEN?"]
    );
}

#[test]
fn a_secret_in_an_open_file_is_pointed_at() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("repartee.toml");
    std::fs::write(&path, "[server]\ntoken = \"hunter-two\"\n").unwrap();
    let warnings = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let sources = Sources {
            file: File::Named(path.clone()),
            environment: Vec::new(),
            flags: Vec::new(),
        };
        Config::load(&sources).map(|loaded| loaded.warnings).unwrap_or_default()
    };
    assert_eq!(warnings(0o600), Vec::<String>::new());
    assert_eq!(warnings(0o640), Vec::<String>::new());
    assert!(warnings(0o644)[0].contains("holds server.token and can be read by every user"));
}

#[test]
fn secrets_are_never_shown() {
    let flags = [
        ("--set", "server.token", "hunter-two"),
        ("--set", "llm.api_key", "hunter-two"),
    ];
    let Loaded { config, written, .. } = loaded("", &[], &flags);
    assert_eq!(config.server.token.as_ref().map(Secret::expose), Some("hunter-two"));
    for shown in [
        format!("{config:?}"),
        show_text(&written),
        show_json(&written).to_string(),
    ] {
        assert!(shown.contains(Secret::WITHHELD));
        assert!(!shown.contains("hunter"), "{shown}");
    }
    assert!(!mistakes("", &[("REPARTEE_TOKEN", "hunter\0two")], &[]).contains("hunter"));
    assert!(!mistakes("", &[("REPARTEE_LLM_URL", "http://me:hunter@example.com/")], &[]).contains("hunter"));
}

#[test]
fn what_is_shown_can_be_read_again() {
    let environment = [
        ("REPARTEE_LISTEN", "127.0.0.1:2"),
        ("REPARTEE_TTS_VOICE", "a \"b\" \\ c"),
        ("REPARTEE_LLM_TEMPERATURE", "1"),
    ];
    let networks = [("--set", "server.allowed_networks", "10.0.0.0/8, 192.0.2.7")];
    let Loaded { config, written, .. } = loaded("", &environment, &networks);
    assert_eq!(loaded(&show_text(&written), &[], &[]).config, config);
}

#[test]
fn the_example_holds_exactly_the_defaults() {
    let example = example();
    let defaults = loaded("", &[], &[]).config;
    assert_eq!(loaded(&example, &[], &[]).config, defaults, "as it stands");
    let uncommented: Vec<&str> = example
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line))
        .collect();
    let text = uncommented
        .into_iter()
        .filter(|line| line.is_empty() || line.starts_with(['[', '#']) || line.contains(" = "))
        .collect::<Vec<_>>()
        .join("\n");
    let Loaded { config, written, .. } = loaded(&text, &[], &[]);
    assert_eq!(config, defaults, "with everything set");
    assert!(
        written.iter().all(|(_, _, place)| matches!(place, Place::File { .. })),
        "the example names every key"
    );
    insta::assert_snapshot!(example);
}

#[test]
fn what_is_in_force_is_shown_with_its_place() {
    let environment = [("REPARTEE_TOKEN", "hunter-two")];
    let written = loaded("", &environment, &[("--listen", "server.listen", "0.0.0.0:80")]).written;
    insta::assert_snapshot!(show_text(&written));
}
