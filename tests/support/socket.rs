//! A bare WebSocket, for what a well-behaved client never sends, and bare HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use repartee_protocol::native::{ErrorCode, ErrorEvent, Event, parse_event};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// A server on this machine answers in this time, however busy it is.
const LIMIT: Duration = Duration::from_secs(15);

/// The shortest `hello`.
pub(crate) const HELLO: &str = r#"{"type":"hello","version":1}"#;

/// What came over the socket.
#[derive(Debug)]
pub(crate) enum Met {
    Event(Event),
    Audio(Bytes),
    /// The connection was closed, with this code where there was one.
    Closed(Option<u16>),
}

pub(crate) struct Socket {
    pub(crate) inner: WebSocketStream<TcpStream>,
}

impl Socket {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.expect("the server listens");
        Self::over(tcp, address).await
    }

    /// With so small a buffer for what is received that not reading is noticed soon.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("IPv4 is there");
        socket.set_recv_buffer_size(4_096).expect("the system takes it");
        Self::over(socket.connect(address).await.expect("the server listens"), address).await
    }

    async fn over(tcp: TcpStream, address: SocketAddr) -> Self {
        tcp.set_nodelay(true).expect("a socket takes it");
        let (inner, _) = client_async(format!("ws://{address}/v1/session"), tcp)
            .await
            .expect("the server speaks WebSocket");
        Self { inner }
    }

    /// Connects, says `hello`, and has `ready`.
    pub(crate) async fn open(address: SocketAddr, hello: &str) -> Self {
        let mut socket = Self::connect(address).await;
        socket.text(hello).await;
        match socket.event().await {
            Event::Ready(_) => socket,
            other => panic!("`ready` was expected, {other:?} came"),
        }
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.inner.send(Message::text(text)).await.expect("the server takes it");
    }

    pub(crate) async fn binary(&mut self, payload: impl Into<Bytes>) {
        self.inner
            .send(Message::Binary(payload.into()))
            .await
            .expect("the server takes it");
    }

    pub(crate) async fn next(&mut self) -> Met {
        loop {
            let message = timeout(LIMIT, self.inner.next()).await.expect("the server answers");
            return match message {
                Some(Ok(Message::Text(text))) => match parse_event(&text) {
                    Ok(Some(event)) => Met::Event(event),
                    other => panic!("no event: {other:?}"),
                },
                Some(Ok(Message::Binary(payload))) => Met::Audio(payload),
                Some(Ok(Message::Close(frame))) => Met::Closed(frame.map(|frame| frame.code.into())),
                None
                | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_) | Error::Io(_))) => {
                    Met::Closed(None)
                }
                Some(Err(error)) => panic!("{error}"),
                Some(Ok(_)) => continue,
            };
        }
    }

    /// The next event; audio in between is passed over.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            match self.next().await {
                Met::Event(event) => return event,
                Met::Audio(_) => {}
                Met::Closed(code) => panic!("closed with {code:?} where an event was expected"),
            }
        }
    }

    /// The next error; other events in between are passed over.
    pub(crate) async fn error(&mut self) -> ErrorEvent {
        loop {
            if let Event::Error(error) = self.event().await {
                return error;
            }
        }
    }

    /// The next error has this code.
    pub(crate) async fn expect_error(&mut self, code: ErrorCode) -> ErrorEvent {
        let error = self.error().await;
        assert_eq!(error.code, code, "{error:?}");
        error
    }

    /// An error with this code comes, and then the connection is closed with the code that the error announced.
    pub(crate) async fn expect_end(&mut self, code: ErrorCode, close: u16) -> ErrorEvent {
        let error = self.expect_error(code).await;
        assert_eq!(error.close_code, Some(close), "{error:?}");
        loop {
            match self.next().await {
                Met::Closed(found) => {
                    assert_eq!(found, Some(close), "after {error:?}");
                    return error;
                }
                Met::Audio(_) | Met::Event(_) => {}
            }
        }
    }

    /// The session still answers: `ping` gets its `pong`.
    pub(crate) async fn expect_alive(&mut self) {
        self.text(r#"{"type":"ping","id":"still there?"}"#).await;
        loop {
            match self.event().await {
                Event::Pong(pong) if pong.reply_to.as_deref() == Some("still there?") => return,
                Event::Error(error) => panic!("{error:?}"),
                _ => {}
            }
        }
    }

    /// Breaks the connection off with a reset, as a machine does that lost its mind.
    pub(crate) fn reset(self) {
        self.inner.get_ref().set_zero_linger().expect("a socket takes it");
    }
}

/// Tries to open a WebSocket with further headers, and answers the HTTP status that it got instead of one.
pub(crate) async fn upgrade_status(address: SocketAddr, headers: &[(&'static str, String)]) -> u16 {
    let mut request = format!("ws://{address}/v1/session")
        .into_client_request()
        .expect("an address makes a request");
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(*name, value.parse().expect("a header's value"));
    }
    let tcp = TcpStream::connect(address).await.expect("the server listens");
    match client_async(request, tcp).await {
        Ok((_, response)) => response.status().as_u16(),
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

/// `GET path`: the status and the body.
pub(crate) async fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(LIMIT, asking)
        .await
        .expect("the server answers")
        .expect("the connection holds");
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status line");
    (status, body.to_owned())
}
