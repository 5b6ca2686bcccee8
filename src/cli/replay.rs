//! stub
use std::process::ExitCode;
/// stub
#[derive(clap::Args)]
pub(super) struct ReplayArguments {
    file: std::path::PathBuf,
}
pub(super) fn run(_: &ReplayArguments) -> Result<ExitCode, super::Failure> {
    Ok(ExitCode::SUCCESS)
}
