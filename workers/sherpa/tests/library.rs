//! That the library goes with the crate: nobody else compares their versions.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use repartee_worker_shell::protocol::{Job, code};
use repartee_worker_shell::testing::Client;

const LIBRARY: &str = "libsherpa-onnx-c-api.so";

#[test]
fn a_library_of_another_version_loads_nothing_and_says_so() {
    let folder = Path::new(env!("SHERPA_ONNX_FOLDER"));
    let place = tempfile::tempdir().expect("a folder");
    let binary = place.path().join("repartee-worker-sherpa");
    fs::copy(env!("CARGO_BIN_EXE_repartee-worker-sherpa"), &binary).expect("a copy");
    symlink(folder.join("libonnxruntime.so"), place.path().join("libonnxruntime.so")).expect("a link");
    // The same library with another version in it, beside the binary, where it's looked for first.
    let version = format!("\0{}\0", env!("SHERPA_ONNX_CRATE_VERSION"));
    let mut bytes = fs::read(folder.join(LIBRARY)).expect("the library");
    let at = bytes
        .windows(version.len())
        .position(|window| window == version.as_bytes())
        .expect("its version");
    bytes[at + version.len() - 2] = b'x';
    fs::write(place.path().join(LIBRARY), bytes).expect("a library");

    let (mut client, hello) = Client::start(&binary).expect("it starts, to say what is wrong");
    let other = format!("{}x", &version[1..version.len() - 2]);
    assert!(hello.library.contains(&other), "{}", hello.library);
    for job in [Job::Stt, Job::Tts] {
        let failed = client
            .load(job, "any", &[])
            .expect("a link")
            .expect_err("the versions differ");
        assert_eq!(failed.code, code::UNSUPPORTED);
        for word in [LIBRARY, &other, env!("SHERPA_ONNX_CRATE_VERSION"), "setup.sh"] {
            assert!(failed.reason.contains(word), "{word:?} is not in {failed:?}");
        }
    }
}
