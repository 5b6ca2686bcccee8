//! `repartee ari`: the engine as an application of Asterisk's REST interface.

use std::process::ExitCode;

use clap::Args;

use super::serve::phone::ari_options;
use super::{Failure, config, serve};
use crate::config::Config;
use crate::transport::ari;

/// Arguments of `repartee ari`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    repartee ari --url http://127.0.0.1:8088 --user repartee --password-file ari.password\n  \
    repartee ari --config repartee.toml --check\n  \
    repartee ari --config repartee.toml --set asterisk.media=chan_websocket\n\n\
    It is `repartee serve` with an ARI application: the dialplan says Stasis(repartee). The sound comes by AudioSocket unless \
    asterisk.media says otherwise. ari.conf, http.conf and extensions.conf for it are in examples/asterisk.\n")]
pub(super) struct AriArguments {
    /// Base address of Asterisk's HTTP server (asterisk.url).
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// User of ari.conf (asterisk.user).
    #[arg(long)]
    user: Option<String>,
    /// A file with its password; or set REPARTEE_ASTERISK_PASSWORD.
    #[arg(long, value_name = "FILE")]
    password_file: Option<std::path::PathBuf>,
    /// Only ask whether Asterisk is there and what it can do.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    options: Box<config::Options>,
}

/// Runs the command.
pub(super) fn run(arguments: &AriArguments) -> Result<ExitCode, Failure> {
    let mut sources = arguments.options.sources();
    let mut set = |key: &'static str, value: String| {
        sources.flags.push(crate::config::Flag {
            name: format!("--{}", key.trim_start_matches("asterisk.")),
            key: key.to_owned(),
            text: value,
        });
    };
    if let Some(url) = &arguments.url {
        set("asterisk.url", url.clone());
    }
    if let Some(user) = &arguments.user {
        set("asterisk.user", user.clone());
    }
    if let Some(file) = &arguments.password_file {
        let password = std::fs::read_to_string(file)
            .map_err(|error| Failure(format!("the password can't be read from {}: {error}", file.display())))?;
        set("asterisk.password", password.trim_end().to_owned());
    }
    let loaded = Config::load(&sources)?;
    let Some(options) = ari_options(&loaded.config.telephone) else {
        return Err(Failure(
            "which Asterisk? Give --url, --user and --password-file, or [asterisk] url, user and password in the configuration".to_owned(),
        ));
    };
    if !arguments.check {
        return serve::serve(loaded);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let version = runtime
        .block_on(ari::version(&options))
        .map_err(|reason| Failure(format!("no Asterisk at {}: {reason}", options.url)))?;
    println!("{version}");
    Ok(ExitCode::SUCCESS)
}
