//! Streams a recording to a running server over the native WebSocket, and prints what is understood.
//!
//! ```text
//! make run                                             # in another terminal
//! cargo run --release --example stream_file question.wav
//! ```
//!
//! It speaks the protocol by hand, so that it can be translated into another language: one `hello`, then binary messages
//! of 20 ms. `repartee::cli::client` has the same in a more comfortable form.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use repartee::cli::talk::recording::read_recording;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const RATE: u32 = 16_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(
        arguments
            .next()
            .ok_or("usage: stream_file RECORDING [ws://HOST:PORT/v1/session]")?,
    );
    let url = arguments
        .next()
        .unwrap_or_else(|| "ws://127.0.0.1:8080/v1/session".to_owned());
    let samples = read_recording(&path, RATE)?;

    let (socket, _) = connect_async(&url)
        .await
        .map_err(|error| format!("{url}: {error}; is `make run` running?"))?;
    let (mut sink, mut stream) = socket.split();
    let hello = json!({ "type": "hello", "version": 1, "input": { "codec": "pcm16", "rate": RATE, "framing": "raw" } });
    sink.send(Message::text(hello.to_string())).await?;

    // A microphone doesn't stop when somebody has finished speaking: two seconds of silence follow.
    let sending = async move {
        let mut ticks = interval(Duration::from_millis(20));
        let silence = vec![0; RATE as usize * 2];
        for frame in [samples, silence].concat().chunks(RATE as usize / 50) {
            ticks.tick().await;
            let bytes: Vec<u8> = frame.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            if sink.send(Message::binary(bytes)).await.is_err() {
                return;
            }
        }
        let _ = sink.send(Message::text(json!({ "type": "bye" }).to_string())).await;
        // Until the server has closed the connection.
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    let receiving = async {
        while let Ok(Some(Ok(message))) = timeout(Duration::from_secs(10), stream.next()).await {
            let Message::Text(text) = message else { continue };
            let event: Value = serde_json::from_str(&text)?;
            match event["type"].as_str() {
                Some("transcript") if event["final"] == true => {
                    println!("final:   {}", event["text"].as_str().unwrap_or(""))
                }
                Some("transcript") => println!("partial: {}", event["text"].as_str().unwrap_or("")),
                Some("error") => println!("error:   {}", event["message"].as_str().unwrap_or("")),
                Some("closed") => break,
                _ => {}
            }
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    tokio::select! {
        result = receiving => result,
        () = sending => Ok(()),
    }
}
