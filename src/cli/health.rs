//! `repartee health`: asks a running server whether it is ready. Made for a container's health check.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::Failure;
use crate::config::{Config, Sources};

/// How long the server may take for each of: connection, question, answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer is longer than this only if it isn't ours.
const LONGEST_ANSWER: u64 = 65_536;

/// Arguments of `repartee health`.
#[derive(Args)]
#[command(after_help = "Prints what `/ready` answers. Exit status 0: ready. 1: not ready, or nobody answers.\n")]
pub(super) struct HealthArguments {
    /// The server. Not given: the one that `repartee serve` would be here, by the same configuration file and environment.
    #[arg(long, env = "REPARTEE_URL")]
    url: Option<String>,
}

/// Runs the command.
pub(super) fn run(arguments: &HealthArguments) -> Result<ExitCode, Failure> {
    let url = match arguments.url.as_deref().filter(|url| !url.is_empty()) {
        Some(url) => url.to_owned(),
        None => own(&Sources::of_process(None, Vec::new()))?.to_string(),
    };
    let host = host(&url).ok_or_else(|| {
        Failure(format!(
            "{url:?} is no address that this command can ask; it looks like 127.0.0.1:8080 or http://127.0.0.1:8080/"
        ))
    })?;
    let unreachable = |error: io::Error| Failure(format!("can't reach {host}: {error}; is the server running?"));
    let addresses: Vec<_> = host.to_socket_addrs().map_err(unreachable)?.collect();
    let mut answer = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        answer = ask(address, host, "/ready", PATIENCE);
        if answer.is_ok() {
            break;
        }
    }
    let answer = answer.map_err(unreachable)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if !body.starts_with("{\"ready\":") {
        return Err(Failure(format!("what answers at {host} is no Repartee")));
    }
    // A reader that went away is no reason to fail: what counts is the exit status.
    let _ = writeln!(io::stdout(), "{body}");
    let ready = head.split(' ').nth(1) == Some("200");
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a server that is configured by `sources` is reached from this machine: a server that listens everywhere, on loopback.
///
/// # Errors
/// The configuration has mistakes: such a server would not start either.
fn own(sources: &Sources) -> Result<SocketAddr, Failure> {
    let mut address = Config::load(sources)?.config.server.listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

/// `host:port` of an address as people write it; `None` for what isn't plain HTTP with a port or its default.
fn host(url: &str) -> Option<&str> {
    let rest = match url.split_once("://") {
        Some(("http" | "ws", rest)) => rest,
        Some(_) => return None,
        None => url,
    };
    let host = rest.split('/').next().unwrap_or(rest);
    let (name, port) = host.rsplit_once(':')?;
    (!name.is_empty() && port.parse::<u16>().is_ok()).then_some(host)
}

/// The whole answer to `GET path`, head and body.
///
/// # Errors
/// Nobody answers at `address`, or nobody does so within `patience`.
pub(super) fn ask(address: SocketAddr, host: &str, path: &str, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    // In one piece: a server may answer and close after the first.
    let question = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes())?;
    let mut answer = Vec::new();
    // An answer that breaks off is used as far as it goes.
    let read = stream.take(LONGEST_ANSWER).read_to_end(&mut answer);
    if answer.is_empty() {
        read?;
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::config::File;

    fn outcome_of(answer: &'static str) -> Result<ExitCode, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1_024]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let outcome = run(&HealthArguments { url: Some(url) });
        server.join().unwrap();
        outcome
    }

    #[test]
    fn the_exit_status_is_the_servers_readiness() {
        let ready = outcome_of("HTTP/1.1 200 OK\r\n\r\n{\"ready\":true}");
        assert!(matches!(ready, Ok(code) if code == ExitCode::SUCCESS));
        let loading = outcome_of("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"ready\":false}");
        assert!(matches!(loading, Ok(code) if code == ExitCode::FAILURE));
        let Err(Failure(message)) = outcome_of("HTTP/1.1 200 OK\r\n\r\n<html>") else {
            panic!("another server was taken for ours");
        };
        assert!(message.ends_with("is no Repartee"), "{message}");
    }

    #[test]
    fn without_an_address_the_configured_server_is_asked() {
        for (listen, asked) in [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8081", "[::1]:8081"),
            ("192.0.2.7:80", "192.0.2.7:80"),
        ] {
            let environment = [("REPARTEE_LISTEN", listen), ("REPARTEE_TOKEN", "x")];
            let sources = Sources {
                file: File::Absent,
                environment: environment
                    .map(|(name, text)| (name.to_owned(), text.to_owned()))
                    .to_vec(),
                flags: Vec::new(),
            };
            let Ok(address) = own(&sources) else {
                panic!("{listen} is fine")
            };
            assert_eq!(address.to_string(), asked);
        }
    }

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for (written, meant) in [
            ("127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("http://localhost:9/", Some("localhost:9")),
            ("ws://[::1]:8080/v1/session", Some("[::1]:8080")),
            ("https://voice.example", None),
            ("localhost", None),
            ("", None),
        ] {
            assert_eq!(host(written), meant, "{written}");
        }
    }
}
