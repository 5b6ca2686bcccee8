//! Links the shared libraries of sherpa-onnx that workers/sherpa/setup.sh fetched, makes the worker find them at run time, and checks
//! that they are of the crate's version.
//!
//! The crate's own build script would download them, so .cargo/config.toml puts a line in its place that says what to link, and
//! this one says where. Nobody else compares the versions: the crate's structures would be read by a library that lays them out
//! differently, and memory be corrupted without a word.

use std::path::PathBuf;

/// The library that the crate binds; `libonnxruntime.so` lies beside it.
const LIBRARY: &str = "libsherpa-onnx-c-api.so";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.toml");
    println!("cargo:rerun-if-env-changed=SHERPA_ONNX_LIB_DIR");
    println!("cargo:rerun-if-env-changed=REPARTEE_HOME");
    let version = crate_version();
    println!("cargo:rustc-env=SHERPA_ONNX_CRATE_VERSION={version}");
    let folder = folder();
    let library = folder.join(LIBRARY);
    println!("cargo:rerun-if-changed={}", library.display());
    let bytes = match std::fs::read(&library) {
        Ok(bytes) => bytes,
        Err(error) => panic!(
            "{} can't be read ({error}); run workers/sherpa/setup.sh first, or: make worker-sherpa",
            library.display()
        ),
    };
    // The library holds its version as a string of C; that is all there is to see without running it.
    let needle = format!("\0{version}\0");
    if !bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
        panic!(
            "{} is not version {version}, which is the crate's (Cargo.toml); run workers/sherpa/setup.sh",
            library.display()
        );
    }
    println!("cargo:rustc-link-search=native={}", folder.display());
    // For the tests.
    println!("cargo:rustc-env=SHERPA_ONNX_FOLDER={}", folder.display());
    // Beside the binary, where an installation has the set-up's folder (the Dockerfile: /usr/local/bin and
    // /usr/local/lib/repartee), and where the set-up put them here.
    for place in ["$ORIGIN", "$ORIGIN/../lib/repartee/sherpa", &folder.to_string_lossy()] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{place}");
    }
}

/// The pinned version in our manifest, which is the only place where it stands for the crate.
fn crate_version() -> String {
    let manifest = std::fs::read_to_string("Cargo.toml").expect("cargo runs this beside Cargo.toml");
    let pinned = manifest
        .lines()
        .find_map(|line| line.strip_prefix("sherpa-onnx = { version = \"="));
    let version = pinned.and_then(|rest| rest.split('"').next());
    version
        .expect("Cargo.toml pins sherpa-onnx with a = and an exact version")
        .to_owned()
}

/// Where the libraries are: where the environment says, else where the set-up puts them.
fn folder() -> PathBuf {
    let set_up = || {
        let home = std::env::var_os("REPARTEE_HOME").map_or_else(|| PathBuf::from(".repartee"), PathBuf::from);
        // A relative one is meant from the top of the repository.
        PathBuf::from("../..").join(home).join("sherpa")
    };
    let folder = std::env::var_os("SHERPA_ONNX_LIB_DIR").map_or_else(set_up, PathBuf::from);
    folder.canonicalize().unwrap_or(folder)
}
