//! Builds `src/chat.cpp` against the very sources that llama-cpp-sys-2 was built from.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=src/chat.cpp");
    // Whether ggml was built for machines without AVX2 is asked at run time (src/machine.rs).
    println!("cargo:rerun-if-env-changed=GGML_AVX2");
    let sources = sources();
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("src/chat.cpp")
        .include(sources.join("common"))
        .include(sources.join("include"))
        .include(sources.join("ggml/include"))
        .include(sources.join("vendor"))
        // Its headers aren't ours to mend.
        .warnings(false)
        .compile("repartee_chat");
}

/// Where llama.cpp's sources are. llama-cpp-sys-2 doesn't say, but its build folder, which it does tell, knows.
fn sources() -> PathBuf {
    let cmake =
        env::var("DEP_LLAMA_GGML_CMAKE_DIR").expect("llama-cpp-sys-2 tells where it installed ggml's cmake files");
    let cache = Path::new(&cmake)
        .ancestors()
        .map(|folder| folder.join("build/CMakeCache.txt"))
        .find(|cache| cache.is_file())
        .unwrap_or_else(|| panic!("there's no build/CMakeCache.txt above {cmake}"));
    let text = fs::read_to_string(&cache).unwrap_or_else(|error| panic!("{}: {error}", cache.display()));
    let home = text
        .lines()
        .find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="))
        .unwrap_or_else(|| panic!("{} has no CMAKE_HOME_DIRECTORY", cache.display()));
    PathBuf::from(home)
}
