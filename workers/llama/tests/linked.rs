//! What the worker is linked from: llama.cpp with its own ggml, and nobody else's. whisper.cpp brings another ggml under the same names; in
//! one process one of them would run on the other's code.

use std::path::Path;
use std::process::Command;

fn has(bytes: &[u8], name: &str) -> bool {
    bytes.windows(name.len()).any(|window| window == name.as_bytes())
}

#[test]
fn one_ggml_is_linked_and_it_is_llamas() {
    let binary = Path::new(env!("CARGO_BIN_EXE_repartee-worker-llama"));
    let bytes = std::fs::read(binary).unwrap();
    // Names of functions in the symbol table.
    for name in ["llama_decode", "ggml_init", "ggml_backend_cpu_init", "mtmd_tokenize"] {
        assert!(has(&bytes, name), "{name} is missing, so this test proves nothing");
    }
    for name in ["whisper_full_with_state", "whisper_init_from_file", "SherpaOnnxCreate"] {
        assert!(!has(&bytes, name), "{name} is linked");
    }
    // ggml is within the binary, and no shared one is loaded beside it.
    let linked = Command::new("ldd").arg(binary).output().unwrap();
    let linked = String::from_utf8_lossy(&linked.stdout);
    println!("{linked}");
    assert!(linked.contains("libc.so"), "{linked}");
    for library in ["libggml", "libllama", "libwhisper"] {
        assert!(!linked.contains(library), "{linked}");
    }
}

#[test]
fn a_probe_tells_what_was_built() {
    let probe = Command::new(env!("CARGO_BIN_EXE_repartee-worker-llama"))
        .arg("--probe")
        .output()
        .unwrap();
    let probe: serde_json::Value = serde_json::from_slice(&probe.stdout).unwrap();
    println!("{probe:#}");
    assert_eq!(probe["hello"]["name"], "llama");
    assert_eq!(probe["hello"]["jobs"], serde_json::json!(["llm"]));
    assert_eq!(probe["hello"]["formats"], serde_json::json!(["gguf"]));
    assert_eq!(probe["hello"]["devices"][0]["id"], "cpu");
}
