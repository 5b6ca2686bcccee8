use std::future::poll_fn;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::*;
use crate::call::{FinishReason, Message, Role};

#[expect(
    clippy::disallowed_methods,
    reason = "these tests measure how fast a real socket is closed"
)]
fn now() -> Instant {
    Instant::now()
}

/// A server that answers one request with `script`, on its own port.
async fn server<Script, Done>(script: Script) -> (SocketAddr, tokio::task::JoinHandle<Done::Output>)
where
    Script: FnOnce(TcpStream, String) -> Done + Send + 'static,
    Done: Future + Send + 'static,
    Done::Output: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a client");
        let request = read_request(&mut socket).await;
        script(socket, request).await
    });
    (address, task)
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = socket.read(&mut buffer).await.expect("a request");
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request);
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0_usize);
            if request.len() >= end + 4 + length {
                return text.into_owned();
            }
        }
        assert!(count > 0, "the request was cut off");
    }
}

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

fn delta(text: &str) -> String {
    let chunk = serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

fn prompt(said: &str) -> Prompt {
    Prompt {
        messages: vec![Message {
            role: Role::User,
            text: Pii::from(said),
            tool_calls: Vec::new(),
            call_id: None,
        }],
        tools: Vec::new(),
        max_tokens: 100,
        temperature_milli: None,
    }
}

fn backend(address: SocketAddr) -> OpenaiBackend {
    let mut options = OpenaiOptions::new(&format!("http://{address}/v1"), "tiny");
    options.api_key = Some(Pii::from("secret-key"));
    options.first_event_timeout = Duration::from_millis(400);
    options.next_event_timeout = Duration::from_millis(200);
    OpenaiBackend::new(options, Generation::new(1), Handle::current()).expect("a client")
}

async fn next(stream: &mut Box<dyn LlmStream>) -> LlmEvent {
    timeout(Duration::from_secs(5), poll_fn(|context| stream.poll_event(context)))
        .await
        .expect("every wait ends")
}

async fn all(address: SocketAddr) -> Vec<LlmEvent> {
    let mut stream = backend(address)
        .generate(prompt("hello there").into())
        .expect("a stream");
    let mut events = Vec::new();
    loop {
        let event = next(&mut stream).await;
        let over = matches!(event, LlmEvent::Done { .. } | LlmEvent::Failed(_));
        events.push(event);
        if over {
            return events;
        }
    }
}

async fn only_failure(address: SocketAddr) -> StageFailure {
    match all(address).await.pop() {
        Some(LlmEvent::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reply_comes_as_it_is_made_wherever_it_is_cut() {
    let (address, task) = server(|mut socket, request| async move {
        let body = format!(
            ": hello\n\n{}{}data: {{\"choices\":[{{\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n\n",
            delta("Grüß"),
            delta(" dich 😀")
        );
        socket.write_all(STREAM_HEAD.as_bytes()).await.expect("open");
        for byte in body.as_bytes() {
            socket.write_all(&[*byte]).await.expect("open");
            tokio::task::yield_now().await;
        }
        request
    })
    .await;
    let text = |text: &str| LlmEvent::Delta { text: Pii::from(text) };
    assert_eq!(
        all(address).await,
        [
            text("Grüß"),
            text(" dich 😀"),
            LlmEvent::Done {
                reason: FinishReason::Stop
            }
        ]
    );
    let request = task.await.expect("the server ends");
    assert!(
        request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request
            .to_ascii_lowercase()
            .contains("authorization: bearer secret-key")
    );
    assert!(request.contains("\"stream\":true") && request.contains("\"model\":\"tiny\""));
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let (address, task) = server(|mut socket, _| async move {
        socket.write_all(STREAM_HEAD.as_bytes()).await.expect("open");
        socket.write_all(delta("one").as_bytes()).await.expect("open");
        let closed = timeout(Duration::from_secs(5), socket.read(&mut [0; 16])).await;
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "{closed:?}");
        now()
    })
    .await;
    let mut stream = backend(address).generate(prompt("hello").into()).expect("a stream");
    assert!(matches!(next(&mut stream).await, LlmEvent::Delta { .. }));
    let dropped = now();
    drop(stream);
    let seen = task.await.expect("the server sees it");
    assert!(seen - dropped < Duration::from_millis(100), "{:?}", seen - dropped);
}

#[tokio::test]
async fn dropping_before_the_answer_closes_the_connection() {
    let (address, task) =
        server(|mut socket, _| async move { timeout(Duration::from_secs(5), socket.read(&mut [0; 16])).await }).await;
    let stream = backend(address).generate(prompt("hello").into()).expect("a stream");
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stream);
    assert!(matches!(task.await.expect("the server ends"), Ok(Ok(0) | Err(_))));
}

#[tokio::test]
async fn a_listener_that_does_not_poll_holds_the_server_back() {
    let (address, task) = server(|mut socket, _| async move {
        socket.write_all(STREAM_HEAD.as_bytes()).await.expect("open");
        let piece = delta(&"x".repeat(10_000));
        let mut sent = 0;
        while let Ok(Ok(())) = timeout(Duration::from_millis(300), socket.write_all(piece.as_bytes())).await {
            sent += piece.len();
            assert!(sent < 64 << 20, "nothing holds it back");
        }
    })
    .await;
    let stream = backend(address).generate(prompt("hello").into()).expect("a stream");
    task.await.expect("the server is held back");
    drop(stream);
}

#[tokio::test]
async fn refusals_are_told_in_the_servers_words() {
    for (status, body, retry, words) in [
        (
            "404 Not Found",
            r#"{"error":{"message":"model \"tiny\" not found"}}"#,
            false,
            "HTTP 404: model \"tiny\" not found",
        ),
        ("400 Bad Request", r#"{"error":"said hello there"}"#, false, "withheld"),
        (
            "429 Too Many Requests",
            r#"{"error":"slow down"}"#,
            true,
            "HTTP 429: slow down",
        ),
        (
            "503 Service Unavailable",
            "loading model",
            true,
            "HTTP 503: loading model",
        ),
        ("302 Found", "", false, "HTTP 302"),
    ] {
        let (address, _task) = server(move |mut socket, _| async move {
            let head = format!(
                "HTTP/1.1 {status}\r\nLocation: /elsewhere\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            socket.write_all(head.as_bytes()).await.expect("open");
            socket.write_all(body.as_bytes()).await.expect("open");
            tokio::time::sleep(Duration::from_millis(200)).await;
        })
        .await;
        let failure = only_failure(address).await;
        assert!(failure.reason.contains(words), "{}", failure.reason);
        assert_eq!(failure.retry, retry, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_may_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let failure = only_failure(address).await;
    assert!(failure.retry);
    assert!(failure.reason.starts_with("can't connect"), "{}", failure.reason);
}

#[tokio::test]
async fn silence_ends() {
    let (address, _task) = server(|socket, _| async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(socket);
    })
    .await;
    let failure = only_failure(address).await;
    assert!(failure.retry && failure.reason.contains("begin"), "{}", failure.reason);

    let (address, _task) = server(|mut socket, _| async move {
        socket.write_all(STREAM_HEAD.as_bytes()).await.expect("open");
        socket.write_all(delta("one").as_bytes()).await.expect("open");
        // Comments keep the connection open, but nobody is answered by them.
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if socket.write_all(b": still here\n\n").await.is_err() {
                break;
            }
        }
    })
    .await;
    let failure = only_failure(address).await;
    assert!(failure.retry && failure.reason.contains("silent"), "{}", failure.reason);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failure() {
    for (rest, words, retry) in [
        ("", "in the middle", true),
        (
            "data: {\"error\":{\"message\":\"CUDA out of memory\"}}\n\n",
            "CUDA out of memory",
            true,
        ),
        ("data: nonsense\n\n", "can't be read", false),
    ] {
        let (address, _task) = server(move |mut socket, _| async move {
            socket.write_all(STREAM_HEAD.as_bytes()).await.expect("open");
            socket.write_all(delta("one").as_bytes()).await.expect("open");
            socket.write_all(rest.as_bytes()).await.expect("open");
        })
        .await;
        let failure = only_failure(address).await;
        assert!(failure.reason.contains(words), "{}", failure.reason);
        assert_eq!(failure.retry, retry, "{words}");
    }
}

#[tokio::test]
async fn servers_are_found_by_their_models() {
    let models = |body: &'static str| {
        server(move |mut socket, request| async move {
            assert!(request.starts_with("GET /v1/models "), "{request}");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            socket.write_all(head.as_bytes()).await.expect("open");
            socket.write_all(body.as_bytes()).await.expect("open");
            tokio::time::sleep(Duration::from_millis(100)).await;
        })
    };
    let (empty, _first) = models(r#"{"data":[]}"#).await;
    let (good, _second) = models(r#"{"data":[{"id":"tiny"},{"id":"big"}]}"#).await;
    let (strange, _third) = models("<html>").await;
    let (silent, _fourth) = server(|socket, _| async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(socket);
    })
    .await;
    let candidate = |name: &str, address: SocketAddr| Server {
        name: name.to_owned(),
        base: format!("http://{address}/v1/"),
        api_key: None,
    };
    let candidates = [
        candidate("silent", silent),
        candidate("strange", strange),
        candidate("empty", empty),
        candidate("good", good),
    ];
    let began = now();
    let found = detect(&candidates, PROBE_TIMEOUT).await.expect("one is good");
    assert!(began.elapsed() < PROBE_TIMEOUT + Duration::from_millis(300));
    assert_eq!(found.server.name, "good");
    assert_eq!(found.models, ["tiny", "big"]);
}

#[tokio::test]
async fn addresses_are_checked_and_keys_are_not_shown() {
    for wrong in ["", "localhost:11434", "ftp://127.0.0.1/", "not an address"] {
        let options = OpenaiOptions::new(wrong, "tiny");
        let error = OpenaiBackend::new(options, Generation::new(1), Handle::current()).expect_err("it is wrong");
        assert!(matches!(error, ClientError::Address { .. }), "{error}");
    }
    let backend = backend(SocketAddr::from(([127, 0, 0, 1], 9)));
    assert!(!format!("{backend:?}").contains("secret-key"));
}
