//! The microphone, by way of cpal. Only in builds with the feature `mic`.

use std::thread;

use cpal::traits::{DeviceTrait as _, HostTrait as _, StreamTrait as _};
use tokio::sync::mpsc;

use crate::cli::Failure;

/// Frames of 20 ms that may wait for the wire.
const WAITING: usize = 50;

/// Opens the default microphone at `rate` Hz, mono; frames of 20 ms until the receiver is dropped.
pub(super) fn open(rate: u32) -> Result<mpsc::Receiver<Vec<i16>>, Failure> {
    let (frames, receiver) = mpsc::channel(WAITING);
    let (opened, outcome) = std::sync::mpsc::sync_channel(1);
    // A stream of cpal's stays on the thread that opened it.
    thread::spawn(move || match start(rate, frames.clone()) {
        Ok(stream) => {
            let _ = opened.send(Ok(()));
            while !frames.is_closed() {
                thread::park_timeout(std::time::Duration::from_millis(100));
            }
            drop(stream);
        }
        Err(error) => {
            let _ = opened.send(Err(error));
        }
    });
    outcome
        .recv()
        .map_err(|_| Failure("the microphone's thread is gone".to_owned()))?
        .map_err(Failure)?;
    Ok(receiver)
}

fn start(rate: u32, frames: mpsc::Sender<Vec<i16>>) -> Result<cpal::Stream, String> {
    let device = cpal::default_host()
        .default_input_device()
        .ok_or("there is no microphone")?;
    let config = cpal::StreamConfig {
        channels: 1,
        sample_rate: rate,
        buffer_size: cpal::BufferSize::Default,
    };
    let length = (rate / 50) as usize;
    let mut pending = Vec::with_capacity(length * 4);
    let stream = device
        .build_input_stream(
            config,
            move |pcm: &[i16], _: &cpal::InputCallbackInfo| {
                pending.extend_from_slice(pcm);
                while pending.len() >= length {
                    // A wire that lags behind loses sound rather than gathering delay.
                    let _ = frames.try_send(pending.drain(..length).collect());
                }
            },
            |error| eprintln!("repartee: microphone: {error}"),
            None,
        )
        .map_err(|error| format!("the microphone gives no {rate} Hz mono ({error}); try another --rate"))?;
    stream.play().map_err(|error| error.to_string())?;
    Ok(stream)
}
