//! Finds libpocketsphinx by pkg-config.

fn main() {
    if let Err(error) = pkg_config::Config::new()
        .atleast_version("5prealpha")
        .probe("pocketsphinx")
    {
        panic!("libpocketsphinx was not found; on Debian and Ubuntu: apt install libpocketsphinx-dev ({error})");
    }
}
