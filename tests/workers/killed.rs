//! Workers that are killed while they work for somebody.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recogniser_killed_in_an_utterance_loses_none_of_it() {
    let _alone = ALONE.lock().await;
    let Some(question) = question() else { return };
    let question = samples(question);
    for (stt, process) in recognisers() {
        // Both turns end by the same silence, so that they are of the same length.
        let by_silence = ["--set", "turn.backend=none"];
        let arguments = [
            &["--stt", &stt, "--llm", "none", "--tts", "none"],
            by_silence.as_slice(),
        ]
        .concat();
        let server = serve(&arguments).await;
        let mut client = Client::open_with(server.address, stages(true, false, false)).await;
        let heard = async |client: &mut Client| {
            let text = client
                .until_within("a final transcript", PATIENCE, |event| match event {
                    Event::Transcript(transcript) if transcript.is_final => Some(transcript.text.expose().to_owned()),
                    _ => None,
                })
                .await;
            words(&text)
        };
        client.speak(question.clone()).await;
        let undisturbed = heard(&mut client).await;
        client.speak(question.clone()).await;
        client
            .until_within("a partial transcript", PATIENCE, |event| {
                matches!(event, Event::Transcript(transcript) if !transcript.is_final).then_some(())
            })
            .await;
        let workers = server.workers(&process);
        assert_eq!(workers.len(), 1, "{stt}: {workers:?}");
        signal(workers[0], "KILL");
        let BackendState::Lost { reason, .. } = backend(&mut client, BackendKind::Stt, is_lost).await else {
            unreachable!("that is what was waited for")
        };
        assert!(reason.contains("signal 9 (SIGKILL)"), "{stt}: {reason}");
        backend(&mut client, BackendKind::Stt, is_ready).await;
        let replayed = heard(&mut client).await;
        println!(
            "{stt}: {} words undisturbed, {} after the loss",
            undisturbed.len(),
            replayed.len()
        );
        assert!(!undisturbed.is_empty(), "{stt}");
        if process == "repartee-worker-fake" {
            // "heard 35000 samples": where the turn begins and ends may differ by some frames.
            let count = |words: &[String]| words[1].parse::<f64>().expect("a number");
            let share = count(&replayed) / count(&undisturbed);
            assert!((0.9..1.1).contains(&share), "{share} of the samples");
        } else {
            let missing = undisturbed.len().saturating_sub(replayed.len());
            assert!(
                missing * 4 <= undisturbed.len(),
                "{stt}: {missing} of {} words",
                undisturbed.len()
            );
        }
        assert!(server.ready().await.is_ok(), "{stt}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voice_killed_in_a_reply_goes_on() {
    let _alone = ALONE.lock().await;
    for (tts, process) in voices() {
        let server = serve(&["--stt", "none", "--llm", "none", "--tts", &tts]).await;
        let mut client = Client::open_with(server.address, stages(false, false, true)).await;
        client.request(Request::Say(Say::new(LONG))).await;
        client.until_frames(20).await;
        let workers = server.workers(&process);
        assert_eq!(workers.len(), 1, "{tts}: {workers:?}");
        signal(workers[0], "KILL");
        backend(&mut client, BackendKind::Tts, is_lost).await;
        backend(&mut client, BackendKind::Tts, is_ready).await;
        let done = client
            .until_within("the end of the reply", PATIENCE * 2, |event| match event {
                Event::ResponseDone(done) => Some(done.clone()),
                _ => None,
            })
            .await;
        assert_eq!(done.status, ResponseStatus::Completed, "{tts}: {}", client.story());
        assert_eq!(done.heard, done.text, "{tts}");
        println!(
            "{tts}: {:.1} s of reply were heard",
            client.heard().len() as f64 / 16_000.0
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_language_model_killed_in_a_reply_loses_no_turn() {
    let _alone = ALONE.lock().await;
    for llm in language_models() {
        // The smallest model has room for some 500 tokens, which three turns have to share.
        let short = ["--set", "llm.max_tokens=120", "--set", "llm.instructions=Tell stories."];
        let server = serve(&[&["--stt", "none", "--llm", &llm, "--tts", "none"][..], &short].concat()).await;
        language_model_serves(&server).await;
        let mut client = Client::open_with(server.address, stages(false, true, false)).await;
        let ask = async |client: &mut Client, text: &str| {
            client.request(Request::Text(Text { text: text.into() })).await;
        };
        let answered = async |client: &mut Client| {
            client
                .until_within("the end of a reply", PATIENCE, |event| match event {
                    Event::ResponseDone(done) => Some(done.clone()),
                    _ => None,
                })
                .await
        };
        ask(&mut client, "Tell me a story.").await;
        let first = answered(&mut client).await;
        assert_eq!(first.status, ResponseStatus::Completed, "{llm}: {}", client.story());
        // Killed before it can say all: the turn is asked again, or its reply ends with what was said of it.
        ask(&mut client, "Tell me a story.").await;
        let workers = server.workers("repartee-worker-llama");
        assert_eq!(workers.len(), 1, "{llm}: {workers:?}");
        signal(workers[0], "KILL");
        let second = answered(&mut client).await;
        println!("{llm}: {:?} after the loss", second.status);
        assert!(
            second.status == ResponseStatus::Completed || !second.text.expose().is_empty(),
            "{llm}: {}",
            client.story()
        );
        language_model_serves(&server).await;
        // Nothing is forgotten: both questions are there, and the next one is answered.
        let items = client.status().await.history_items;
        assert!(items >= 3, "{llm}: {items} items");
        ask(&mut client, "Tell me a story.").await;
        assert_eq!(
            answered(&mut client).await.status,
            ResponseStatus::Completed,
            "{llm}: {}",
            client.story()
        );
        let (_, metrics) = http_get(server.address, "/metrics").await;
        assert!(
            metrics.contains("repartee_llm_tokens_total{kind=\"completion\"}"),
            "{llm}: tokens are counted"
        );
    }
}
