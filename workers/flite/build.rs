//! Links flite and the voices that Debian's `flite1-dev` brings. It has no pkg-config file.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if !std::path::Path::new("/usr/include/flite/flite.h").exists() && std::env::var_os("FLITE_LIB_DIR").is_none() {
        panic!("flite was not found; on Debian and Ubuntu: apt install flite1-dev (elsewhere: set FLITE_LIB_DIR)");
    }
    println!("cargo:rerun-if-env-changed=FLITE_LIB_DIR");
    if let Some(folder) = std::env::var_os("FLITE_LIB_DIR") {
        println!("cargo:rustc-link-search=native={}", folder.to_string_lossy());
    }
    // Voices first: each needs the language, the language the lexicon, and all of them flite itself.
    for library in [
        "flite_cmu_us_rms",
        "flite_cmu_us_slt",
        "flite_cmu_us_awb",
        "flite_cmu_us_kal16",
        "flite_cmu_us_kal",
        "flite_usenglish",
        "flite_cmulex",
        "flite",
    ] {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
}
