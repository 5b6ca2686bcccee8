//! Recordings as a source of speech: WAV, FLAC, MP3 and Ogg Vorbis files of any rate and any number of channels.

use std::fs::File;
use std::path::{Path, PathBuf};

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _};
use symphonia::core::audio::sample::Sample as _;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error as DecodeError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

/// The longest recording that is read: an hour. It is held in memory.
const LONGEST_SECONDS: u64 = 3_600;

/// Why a recording can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It can't be opened.
    #[error("can't open {path}: {source}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// It isn't audio that we know.
    #[error("{path} isn't audio that can be read ({reason}): WAV, FLAC, MP3 and Ogg Vorbis files can")]
    Format {
        /// Which file.
        path: PathBuf,
        /// The decoder's word.
        reason: String,
    },
    /// It has no samples.
    #[error("{0} holds no sound")]
    Empty(PathBuf),
    /// It is longer than an hour.
    #[error("{0} is longer than an hour")]
    TooLong(PathBuf),
}

/// Reads the recording at `path` as mono samples at `rate` Hz; channels are averaged.
///
/// # Errors
/// See [`RecordingError`].
pub fn read_recording(path: &Path, rate: u32) -> Result<Vec<i16>, RecordingError> {
    let format_error = |reason: String| RecordingError::Format {
        path: path.to_owned(),
        reason,
    };
    let file = File::open(path).map_err(|source| RecordingError::Open {
        path: path.to_owned(),
        source,
    })?;
    let stream = MediaSourceStream::new(Box::new(file), Default::default());
    let mut hint = Hint::new();
    if let Some(extension) = path.extension().and_then(|extension| extension.to_str()) {
        hint.with_extension(extension);
    }
    let mut format = symphonia::default::get_probe()
        .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|error| format_error(error.to_string()))?;
    let track = format
        .default_track(TrackType::Audio)
        .ok_or_else(|| format_error("no audio track".to_owned()))?;
    let track_id = track.id;
    let parameters = track
        .codec_params
        .as_ref()
        .and_then(|parameters| parameters.audio())
        .ok_or_else(|| format_error("no audio parameters".to_owned()))?;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|error| format_error(error.to_string()))?;

    let (mut mono, mut interleaved, mut file_rate) = (Vec::<f32>::new(), Vec::<f32>::new(), 0);
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            // A file that was cut short is used as far as it goes.
            Ok(None) | Err(DecodeError::IoError(_)) => break,
            Err(error) => return Err(format_error(error.to_string())),
        };
        if packet.track_id != track_id {
            continue;
        }
        let buffer = match decoder.decode(&packet) {
            Ok(buffer) => buffer,
            Err(DecodeError::DecodeError(_)) => continue,
            Err(error) => return Err(format_error(error.to_string())),
        };
        file_rate = buffer.spec().rate();
        let channels = buffer.spec().channels().count().max(1);
        interleaved.resize(buffer.samples_interleaved(), f32::MID);
        buffer.copy_to_slice_interleaved(&mut interleaved);
        #[expect(clippy::cast_precision_loss, reason = "a handful of channels")]
        mono.extend(
            interleaved
                .chunks_exact(channels)
                .map(|frame| frame.iter().sum::<f32>() / channels as f32),
        );
        if mono.len() as u64 > LONGEST_SECONDS * u64::from(file_rate) {
            return Err(RecordingError::TooLong(path.to_owned()));
        }
    }
    if mono.is_empty() || file_rate == 0 {
        return Err(RecordingError::Empty(path.to_owned()));
    }
    let resampled = if file_rate == rate {
        mono
    } else {
        resample(&mono, file_rate, rate).map_err(format_error)?
    };
    Ok(resampled.into_iter().map(to_pcm16).collect())
}

/// The whole of `samples` at another rate. Delay doesn't matter for a file, so the fast FFT method does it.
fn resample(samples: &[f32], from: u32, to: u32) -> Result<Vec<f32>, String> {
    let mut resampler = Fft::<f32>::new(from as usize, to as usize, 1024, 1, FixedSync::Both)
        .map_err(|error| format!("{from} Hz can't be converted to {to} Hz: {error}"))?;
    let input = SequentialSlice::new(samples, 1, samples.len()).map_err(|error| error.to_string())?;
    let mut output = vec![0.0; resampler.process_all_needed_output_len(samples.len())];
    let frames = output.len();
    let mut adapter = SequentialSlice::new_mut(&mut output, 1, frames).map_err(|error| error.to_string())?;
    let (_, written) = resampler
        .process_all_into_buffer(&input, &mut adapter, samples.len(), None)
        .map_err(|error| error.to_string())?;
    output.truncate(written);
    Ok(output)
}

#[expect(clippy::cast_possible_truncation, reason = "clamped to the range of 16 bits")]
fn to_pcm16(sample: f32) -> i16 {
    (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_wav(path: &Path, rate: u32, channels: u16, seconds: f32) {
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for index in 0..(rate as f32 * seconds) as usize {
            let sample = (index as f32 * 440.0 * std::f32::consts::TAU / rate as f32).sin() * 10_000.0;
            for _ in 0..channels {
                writer.write_sample(sample as i16).unwrap();
            }
        }
        writer.finalize().unwrap();
    }

    #[test]
    fn any_rate_and_channels_become_mono_at_the_wanted_rate() {
        let folder = tempfile::tempdir().unwrap();
        for (rate, channels) in [(8_000, 1), (16_000, 1), (22_050, 1), (44_100, 2), (48_000, 2)] {
            let path = folder.path().join(format!("{rate}.wav"));
            write_wav(&path, rate, channels, 1.0);
            let samples = read_recording(&path, 16_000).unwrap();
            assert!(samples.len().abs_diff(16_000) <= 2, "{rate}: {}", samples.len());
            let peak = samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
            assert!((9_000..11_000).contains(&peak), "{rate}: {peak}");
        }
    }

    #[test]
    fn what_is_no_recording_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.wav");
        assert!(
            read_recording(&missing, 16_000)
                .unwrap_err()
                .to_string()
                .starts_with("can't open")
        );
        let text = folder.path().join("text.wav");
        std::fs::write(&text, "this is no sound at all, only some words in a file").unwrap();
        assert!(
            read_recording(&text, 16_000)
                .unwrap_err()
                .to_string()
                .contains("isn't audio")
        );
        let empty = folder.path().join("empty.wav");
        write_wav(&empty, 16_000, 1, 0.0);
        assert!(matches!(read_recording(&empty, 16_000), Err(RecordingError::Empty(_))));
    }
}
