//! Whoever has real models (`whisper/ggml-*.bin` below `REPARTEE_MODELS`) learns here how well they hear.

#[expect(dead_code, reason = "this uses a part of it")]
mod common;

use std::collections::BTreeMap;
use std::time::Instant;

use common::{RATE, started, stt, transcribe};
use repartee_worker_shell::protocol::{Job, SttParams};
use repartee_worker_shell::testing::{models_folder, recordings, samples, speech_folder, word_errors};

#[test]
fn recordings_are_written_down_by_real_models() {
    let (Some(models), Some(speech)) = (models_folder(), speech_folder()) else {
        return println!("skipped: no models or no recordings");
    };
    let entries = std::fs::read_dir(models.join("whisper"))
        .into_iter()
        .flatten()
        .flatten();
    let mut files: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    files.retain(|name| name.starts_with("ggml-") && name.ends_with(".bin"));
    files.sort();
    if files.is_empty() {
        return println!("skipped: no whisper/ggml-*.bin below the models folder; REPARTEE_MODELS names another");
    }
    for file in files {
        let mut client = started(&models);
        let ready = match client.load(Job::Stt, &format!("whisper/{file}"), &[]).expect("a link") {
            Ok(ready) => ready,
            Err(failed) => {
                println!("skipped: {}", failed.reason);
                continue;
            }
        };
        println!(
            "{file}: loaded in {} ms, {} MiB",
            ready.load_ms,
            ready.memory_bytes >> 20
        );
        let mut groups: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let (mut seconds, mut took) = (0.0, 0.0);
        let (mut promised, mut broken) = (0, 0);
        for recording in recordings(&speech) {
            if recording.rate as usize != RATE {
                continue;
            }
            let audio = samples(&recording.path);
            let params = SttParams {
                language: Some("en".into()),
                ..stt()
            };
            let began = Instant::now();
            let heard = transcribe(&mut client, params, &audio, 320, ready.stream_credit);
            took += began.elapsed().as_secs_f64();
            seconds += audio.len() as f64 / RATE as f64;
            heard.assert_stable();
            for partial in &heard.partials {
                let stable: String = partial.text.chars().take(partial.stable_chars as usize).collect();
                promised += usize::from(!stable.is_empty());
                broken += usize::from(!heard.text().starts_with(&stable));
            }
            let (errors, words) = word_errors(&recording.reference, heard.text());
            let group = groups.entry(recording.group).or_default();
            *group = (group.0 + errors, group.1 + words);
        }
        println!(
            "{file}: real-time factor {:.2}; {promised} partials with stable words, of which the final changed {broken}",
            took / seconds
        );
        let (mut errors, mut words) = (0, 0);
        for (group, (e, w)) in groups {
            println!(
                "{file}: {group}: {:.1} % of {w} words wrong",
                100.0 * e as f64 / w as f64
            );
            (errors, words) = (errors + e, words + w);
        }
        println!(
            "{file}: {:.1} % of {words} words wrong in all",
            100.0 * errors as f64 / words as f64
        );
        // Only to tell a broken worker from a weak model: the smallest Whisper stays far below on these recordings.
        assert!(errors * 2 < words, "{errors} of {words} words are wrong");
    }
}
