//! As much of a client of Asterisk's REST interface as the tests need to look into it, and to act as an operator.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio_tungstenite::tungstenite::{WebSocket, client};

const ADDRESS: &str = "127.0.0.1:8088";
/// Name and password as the example has them.
const USER: &str = "repartee:change-this-password";

/// Asks, and answers the status with the body; `null` where that is none.
pub(crate) fn ari(method: &str, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(ADDRESS).expect("Asterisk's HTTP server listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a socket takes it");
    write!(
        stream,
        "{method} /ari/{path} HTTP/1.1\r\nHost: {ADDRESS}\r\nAuthorization: Basic {}\r\nConnection: close\r\n\
         Content-Length: 0\r\n\r\n",
        STANDARD.encode(USER)
    )
    .expect("it takes the request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (
        status.expect("a status line"),
        serde_json::from_str(body).unwrap_or(Value::Null),
    )
}

/// `text` as a part of a query.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// An application of ARI, in Repartee's place: it hears of what happens to its channels.
pub(crate) struct Application {
    socket: WebSocket<TcpStream>,
}

impl Application {
    pub(crate) fn connect(name: &str) -> Self {
        let stream = TcpStream::connect(ADDRESS).expect("Asterisk's HTTP server listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a socket takes it");
        let url = format!("ws://{ADDRESS}/ari/events?app={name}&api_key={USER}");
        let (socket, _) = client(url, stream).expect("Asterisk takes an application");
        Self { socket }
    }

    /// The next event of this type; others are passed over.
    pub(crate) fn wait(&mut self, wanted: &str) -> Value {
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let Ok(text) = message.to_text() else { continue };
            if let Ok(event) = serde_json::from_str::<Value>(text)
                && event["type"] == wanted
            {
                return event;
            }
        }
    }
}
