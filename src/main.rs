//! The `repartee` program: see `repartee --help`.

fn main() -> std::process::ExitCode {
    repartee::cli::main()
}
