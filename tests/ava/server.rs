//! What isn't about one call: the secret, formats, what is chosen and loaded, the Admin UI's requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use repartee::backend::fake::{Clock, Pace, ScriptedLlm, ScriptedStt};
use repartee::registry::Registry;
use repartee::transport::ava::admin::{self, AdminOptions};
use repartee::transport::ava::{Ava, AvaOptions, push_status};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::house::{Client, House, Met, audio_of, options};
use crate::support::{Fakes, eventually};

/// Before the secret everything is refused, and the connection stays. Nothing is told unasked.
#[tokio::test]
async fn the_secret_comes_first() {
    let house = House::with(Fakes::default(), &[("LOCAL_WS_AUTH_TOKEN", "open sesame")]).await;
    let mut client = Client::connect(house.address, "/").await;
    client.expect_silence(Duration::from_millis(100)).await;
    let large = json!({ "type": "audio", "data": "A".repeat(200_000) }).to_string();
    for text in [
        r#"{"type":"status"}"#,
        r#"{"type":"dance"}"#,
        r#"{"type":"audio","data":"!!!"}"#,
        &large,
    ] {
        client.raw(text).await;
        let refused = client.expect("auth_response").await;
        assert_eq!(
            (&refused["status"], &refused["message"]),
            (&json!("error"), &json!("authentication_required"))
        );
    }
    client.binary(vec![0; 640]).await;
    assert_eq!(
        client.expect("auth_response").await["message"],
        "authentication_required"
    );
    client.raw("not json").await;
    for wrong in [
        json!({ "type": "auth" }),
        json!({ "type": "auth", "auth_token": "open" }),
    ] {
        client.send(wrong).await;
        assert_eq!(client.expect("auth_response").await["message"], "invalid_auth_token");
    }
    // As the Admin UI calls it.
    client.send(json!({ "type": "auth", "token": "open sesame" })).await;
    assert_eq!(client.expect("auth_response").await["status"], "ok");
    client.expect_alive().await;
    assert_eq!(house.engine.live(), 0);

    // Without a secret every `auth` is fine.
    let house = House::with(Fakes::default(), &[]).await;
    let mut client = house.client().await;
    client.send(json!({ "type": "auth", "auth_token": "whatever" })).await;
    assert_eq!(client.expect("auth_response").await["status"], "ok");
}

/// A server that others can reach and that has no secret lets nobody in.
#[tokio::test]
async fn an_open_server_without_a_secret_serves_nobody() {
    let options = AvaOptions {
        loopback: false,
        ..options(&[])
    };
    let house = House::over(Arc::new(Registry::default()), Fakes::default(), options).await;
    let mut client = house.client().await;
    match client.next().await {
        Met::Closed(Some(1008), reason) => {
            assert_eq!(reason, "Server misconfigured: auth token required for remote access");
        }
        other => panic!("{other:?}"),
    }
}

/// Idle connections are let be, at any path; a page of another site isn't let in.
#[tokio::test]
async fn every_path_is_fine() {
    let house = House::with(Fakes::default(), &[]).await;
    for path in ["/", "/ws", "/a/b?c=d"] {
        Client::connect(house.address, path).await.expect_alive().await;
    }
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
}

#[tokio::test]
async fn formats_are_what_was_agreed_and_what_is_said() {
    let house = House::with(Fakes::default(), &[]).await;
    let mut client = house.client().await;
    for (encoding, rate, told, told_rate) in [
        (None, None, "mulaw", 8_000),
        (Some("linear16"), Some(16_000), "linear16", 16_000),
        // It stays until something else is said.
        (None, None, "linear16", 16_000),
        // Not offered: what comes instead is told.
        (Some("linear16"), Some(8_000), "mulaw", 8_000),
        (Some("opus"), Some(48_000), "mulaw", 8_000),
    ] {
        let mut request = json!({ "type": "tts_request", "text": "ten chars!" });
        if let (Some(encoding), Some(rate)) = (encoding, rate) {
            request["encoding"] = json!(encoding);
            request["sample_rate_hz"] = json!(rate);
        }
        client.send(request).await;
        let response = client.expect("tts_response").await;
        assert_eq!(
            (&response["encoding"], &response["sample_rate_hz"]),
            (&json!(told), &json!(told_rate))
        );
        let audio = audio_of(&response);
        let bytes = if told == "mulaw" { 2_400 } else { 9_600 };
        assert!(audio.len().abs_diff(bytes) <= 64, "300 ms: {} of {bytes}", audio.len());
    }
}

/// AVA's `smoke_test_ws.py`: a dry run is seen in `status`, and nothing is loaded.
#[tokio::test]
async fn a_dry_run_is_shown_and_loads_nothing() {
    let (house, loader) = House::switching(Duration::from_millis(10), &[]).await;
    let mut client = house.client().await;
    let status = client.expect_alive().await;
    assert_eq!(status["kokoro"]["voice"], "af_heart");
    client.send(json!({ "type": "capabilities" })).await;
    client.expect("capabilities_response").await;
    client
        .send(json!({ "type": "switch_model", "dry_run": true, "kokoro_voice": "af_bella" }))
        .await;
    let answer = client.expect("switch_response").await;
    assert_eq!(
        (&answer["status"], &answer["request_id"]),
        (&json!("success"), &Value::Null)
    );
    assert_eq!(answer["changed"], json!(["kokoro_voice=af_bella"]));
    assert!(answer.get("call_id").is_none());
    assert_eq!(client.expect_alive().await["kokoro"]["voice"], "af_bella");
    assert_eq!(loader.loads.load(std::sync::atomic::Ordering::Acquire), 0);
    client.send(json!({ "type": "switch_model" })).await;
    assert_eq!(client.expect("switch_response").await["status"], "no_change");
}

/// `status` is answered at once while a model is being loaded, and a call goes on.
#[tokio::test]
async fn status_waits_for_no_load() {
    let (house, _) = House::switching(Duration::from_secs(1), &[]).await;
    let (mut admin, mut watcher) = (house.client().await, house.client().await);
    admin
        .send(json!({ "type": "switch_model", "tts_backend": "piper", "tts_model_path": "/app/models/tts/slow.onnx" }))
        .await;
    let began = watcher.clock.now();
    for _ in 0..5 {
        let asked = watcher.clock.now();
        let status = watcher.expect_alive().await;
        let took = watcher.clock.now().since(asked);
        assert!(took < Duration::from_millis(100), "{took:?}");
        assert_eq!(status["models"]["tts"]["loaded"], true, "what served before serves");
        assert_eq!(
            status["models"]["tts"]["path"],
            "/app/models/tts/en_US-lessac-medium.onnx"
        );
        watcher
            .send(json!({ "type": "tts_request", "text": "meanwhile" }))
            .await;
        audio_of(&watcher.expect("tts_response").await);
    }
    // The connection that asked for it isn't blocked either.
    let asked = admin.clock.now();
    admin.expect_alive().await;
    assert!(admin.clock.now().since(asked) < Duration::from_millis(100));
    assert!(
        watcher.clock.now().since(began) < Duration::from_millis(950),
        "it was still being loaded"
    );
    let answer = admin.expect("switch_response").await;
    assert_eq!(answer["status"], "success");
    let status = admin.expect_alive().await;
    assert_eq!(
        status["models"]["tts"]["path"], "/app/models/tts/slow.onnx",
        "byte for byte"
    );
}

/// What AVA's environment chooses is loaded at the start; what can't be had is told in `status`, and the rest serves.
#[tokio::test]
async fn what_the_environment_chooses_is_loaded_at_the_start() {
    let variables = [
        ("LOCAL_STT_BACKEND", "sherpa"),
        ("SHERPA_MODEL_PATH", "/app/models/stt/zipformer"),
        ("LOCAL_TTS_MODEL_PATH", "broken.onnx"),
    ];
    let (house, loader) = House::switching(Duration::from_millis(10), &variables).await;
    let kinds = [repartee::call::BackendKind::Stt, repartee::call::BackendKind::Tts];
    let missing = house.ava.load_chosen(&kinds).await;
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].contains("broken.onnx"), "{missing:?}");
    assert_eq!(loader.loads.load(std::sync::atomic::Ordering::Acquire), 2);
    let serving = house.engine.registry().lease(repartee::call::BackendKind::Stt);
    assert_eq!(serving.unwrap().capabilities().model, "/app/models/stt/zipformer");
    let status = house.client().await.expect_alive().await;
    assert_eq!(
        (&status["stt_backend"], &status["models"]["stt"]["loaded"]),
        (&json!("sherpa"), &json!(true))
    );
    assert_eq!(status["models"]["tts"]["loaded"], false);
    assert_eq!(status["config"]["degraded"], true);
    let told = status["config"]["startup_errors"]["tts"].as_str().unwrap();
    assert!(told.contains("broken.onnx"), "{told}");
}

/// What can't be run here is refused with the remedy.
#[tokio::test]
async fn what_cant_be_run_is_told_with_the_remedy() {
    let (house, _) = House::switching(Duration::from_millis(10), &[]).await;
    let mut client = house.client().await;
    for (message, remedy) in [
        (
            json!({ "stt_backend": "faster_whisper", "stt_config": { "model": "small" } }),
            "ggml-small.bin",
        ),
        (json!({ "tts_backend": "silero" }), "piper"),
        (
            json!({ "tts_backend": "melotts", "tts_config": { "voice": "EN-US" } }),
            "piper",
        ),
        (json!({ "stt_backend": "kroko" }), "kroko_embedded"),
    ] {
        let mut message = message;
        message["type"] = json!("switch_model");
        client.send(message).await;
        let answer = client.expect("switch_response").await;
        assert_eq!(answer["status"], "error");
        let told = answer["message"].as_str().unwrap();
        assert!(told.contains(remedy), "{told}");
        assert_eq!(client.expect_alive().await["stt_backend"], "vosk");
    }
}

#[tokio::test]
async fn backends_and_their_parameters() {
    let (house, _) = House::switching(Duration::from_millis(10), &[]).await;
    let mut client = house.client().await;
    client.send(json!({ "type": "backends" })).await;
    let all = client.expect("backends_response").await;
    assert_eq!(all["stt"].as_array().unwrap().len(), 6);
    client
        .send(json!({ "type": "backend_schema", "backend_type": "stt", "backend_name": "vosk" }))
        .await;
    assert_eq!(
        client.expect("backend_schema_response").await["schema"]["model_path"]["required"],
        true
    );
    client.send(json!({ "type": "reload_models" })).await;
    let answer = client.expect("reload_response").await;
    assert_eq!(
        (&answer["status"], &answer["message"]),
        (&json!("success"), &json!("All models reloaded successfully"))
    );
}

/// Tokens come one by one only where they were asked for, and the end is an empty text.
#[tokio::test]
async fn tokens_are_streamed_on_request() {
    let pace = Pace::new(
        Clock::new(|wait| Box::pin(tokio::time::sleep(wait))),
        Duration::from_millis(10),
        Duration::from_millis(10),
    );
    let fakes = Fakes::new(
        ScriptedStt::measuring(),
        ScriptedLlm::tokens(["one ", "two ", "three"]).paced(pace),
    );
    let house = House::with(fakes, &[]).await;
    let mut client = house.client().await;
    client
        .send(json!({ "type": "llm_request", "text": "count", "request_id": "q", "stream": true }))
        .await;
    let mut told = String::new();
    loop {
        match client.next().await {
            Met::Text(value) if value["type"] == "llm_token" => told.push_str(value["token"].as_str().unwrap()),
            Met::Text(value) if value["type"] == "llm_response" => {
                assert_eq!(value["text"], "");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, "one two three");
    client.send(json!({ "type": "llm_request", "text": "count" })).await;
    assert_eq!(client.expect("llm_response").await["text"], "one two three");
}

/// The client's own question about tools is answered under its id.
#[tokio::test]
async fn a_question_about_tools() {
    let fakes = Fakes::new(ScriptedStt::measuring(), ScriptedLlm::fixed("NONE"));
    let house = House::with(fakes, &[]).await;
    let mut client = house.caller("c1", &["hangup_call", "weather"]).await;
    for (text, said, calls) in [
        ("Goodbye then.", "okay bye", json!(["hangup_call"])),
        ("It is sunny.", "thank you for what", json!([])),
        ("", "hello", json!([])),
    ] {
        client
            .send(json!({
                "type": "llm_tool_request", "mode": "llm", "protocol_version": 2, "request_id": "g1", "call_id": "c1",
                "text": text, "latest_user_text": said, "tool_choice": "auto",
            }))
            .await;
        let found = client.expect("llm_tool_response").await;
        let names: Vec<&str> = found["tool_calls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|call| call["name"].as_str().unwrap())
            .collect();
        if said == "thank you for what" {
            // A polite word may mean the end; a call of something else may not come of it.
            assert!(names.iter().all(|name| *name == "hangup_call"), "{found}");
        } else {
            assert_eq!(json!(names), calls, "{found}");
        }
        assert_eq!(found["request_id"], "g1");
        assert!(found.get("server_gated").is_none());
    }
}

/// Nothing recognises: each message of audio is told so.
#[tokio::test]
async fn without_a_recogniser_each_audio_message_is_told_so() {
    let house = House::with(Fakes::default(), &[]).await;
    let registry = house.engine.registry();
    registry.mark_missing(repartee::call::BackendKind::Stt, "no such model".to_owned());
    let mut client = house.client().await.of_call("c1");
    client
        .send(json!({ "type": "audio", "data": "AAAAAAAA", "rate": 16000, "call_id": "c1", "request_id": "a1" }))
        .await;
    let result = client.expect("stt_result").await;
    assert_eq!(
        (&result["error"], &result["request_id"]),
        (&json!("stt_unavailable"), &json!("a1"))
    );
    let status = client.expect_alive().await;
    assert_eq!(status["models"]["stt"]["loaded"], false);
    assert_eq!(status["config"]["startup_errors"]["stt"], "no such model");
    assert_eq!(status["config"]["degraded"], true);
}

/// The Admin UI's side, beside the wire.
async fn admin_server(ava: Ava, options: AdminOptions) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a port");
    let address = listener.local_addr().expect("it has an address");
    let routes: Router = admin::routes(ava, options);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

async fn http(address: SocketAddr, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let authorization = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n{authorization}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).await.expect("the server takes it");
    stream.read_to_string(&mut answer).await.expect("the server answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (
        status.expect("a status line"),
        serde_json::from_str(body).unwrap_or_default(),
    )
}

#[tokio::test]
async fn the_admin_uis_requests() {
    let (house, _) = House::switching(Duration::from_millis(20), &[]).await;
    let models = tempfile::tempdir().unwrap();
    std::fs::create_dir(models.path().join("tts")).unwrap();
    std::fs::write(models.path().join("tts/old.onnx"), "x").unwrap();
    let options = AdminOptions {
        jwt_secret: Some("secret".into()),
        loopback: true,
        models: Some(models.path().to_path_buf()),
        ..AdminOptions::default()
    };
    let address = admin_server(house.ava.clone(), options).await;
    let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
    let claims = json!({ "sub": "admin", "exp": 4_000_000_000_u64 });
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let token = Some(token.as_str());
    for path in ["models", "capabilities", "status"] {
        let path = format!("/api/local-ai/{path}");
        assert_eq!(http(address, "GET", &path, None, "").await.0, 401);
        assert_eq!(http(address, "GET", &path, token, "").await.0, 200);
    }
    let (_, found) = http(address, "GET", "/api/local-ai/models", token, "").await;
    assert!(found["stt"]["vosk"].is_array() && found["tts"]["piper"].is_array() && found["llm"].is_array());
    let (_, able) = http(address, "GET", "/api/local-ai/capabilities", token, "").await;
    assert_eq!(able["stt"]["faster_whisper"]["available"], false);
    assert!(
        able["stt"]["whisper_cpp"]["reason"]
            .as_str()
            .unwrap()
            .contains("make worker-whisper"),
        "{able}"
    );

    let switch =
        json!({ "model_type": "tts", "backend": "piper", "model_path": "/app/models/tts/old.onnx" }).to_string();
    let (status, answer) = http(address, "POST", "/api/local-ai/switch", token, &switch).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer,
        json!({ "success": true, "message": "Model switch verified as loaded", "requires_restart": false })
    );
    let (_, health) = http(address, "GET", "/api/system/health", token, "").await;
    let server = &health["local_ai_server"];
    assert_eq!(server["status"], "connected");
    assert_eq!(server["details"]["models"]["tts"]["path"], "/app/models/tts/old.onnx");
    assert_eq!(server["details"]["kokoro_voice"], "af_heart");
    let broken = switch
        .replace("old.onnx", "../../broken")
        .replace("/app/models/tts/../../", "");
    let (_, answer) = http(address, "POST", "/api/local-ai/switch", token, &broken).await;
    assert_eq!(answer["success"], false, "{answer}");
    let (status, _) = http(address, "POST", "/api/local-ai/switch", token, "{}").await;
    assert_eq!(status, 400);

    // What is loaded isn't deleted; what isn't, is.
    let removal = |path: &str| json!({ "model_path": path, "type": "tts" }).to_string();
    let delete = async |path: &str| {
        http(address, "DELETE", "/api/local-ai/models", token, &removal(path))
            .await
            .0
    };
    assert_eq!(delete("/app/models/tts/old.onnx").await, 403);
    std::fs::write(models.path().join("tts/unused.onnx"), "x").unwrap();
    assert_eq!(delete("/app/models/tts/unused.onnx").await, 200);
    assert!(!models.path().join("tts/unused.onnx").exists());
    assert_eq!(delete("/app/models/tts/unused.onnx").await, 404);
    assert_eq!(delete("/etc/passwd").await, 400);
}

/// The status is pushed where a token says so.
#[tokio::test]
async fn the_status_is_pushed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let pushed = Arc::new(std::sync::Mutex::new(Vec::<(String, Value)>::new()));
    let kept = Arc::clone(&pushed);
    let routes = Router::new().route(
        "/api/system/live-status/publish",
        axum::routing::post(async move |headers: axum::http::HeaderMap, body: axum::Json<Value>| {
            let token = headers["authorization"].to_str().unwrap().to_owned();
            kept.lock().unwrap().push((token, body.0));
        }),
    );
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let variables = [
        ("LIVE_STATUS_ADMIN_URL", url.as_str()),
        ("LIVE_STATUS_PUSH_TOKEN", "t0ken"),
    ];
    let (house, _) = House::switching(Duration::from_millis(10), &variables).await;
    let pushing = tokio::spawn(push_status(house.ava.clone()));
    let count = || pushed.lock().unwrap().len();
    eventually("it is pushed at once", Duration::from_secs(5), || count() == 1).await;
    // A switch is news before the next ten seconds are over.
    let mut client = house.client().await;
    client
        .send(json!({ "type": "switch_model", "tts_model_path": "/app/models/tts/x.onnx" }))
        .await;
    client.expect("switch_response").await;
    eventually("it is pushed again", Duration::from_secs(5), || count() == 2).await;
    pushing.abort();
    let (token, body) = pushed.lock().unwrap()[1].clone();
    assert_eq!(token, "Bearer t0ken");
    assert_eq!(body["source"], "local_ai_server");
    let component = &body["components"]["local_ai_server"];
    assert_eq!(
        (&component["state"], &component["metrics"]["models_loaded"]),
        (&json!("ready"), &json!(3))
    );
    assert_eq!(component["details"]["models"]["tts"]["path"], "/app/models/tts/x.onnx");
}

/// A message over the bound ends the connection, with the code for that.
#[tokio::test]
async fn a_message_over_the_bound_ends_the_connection() {
    let house = House::with(Fakes::default(), &[]).await;
    let mut client = house.client().await;
    // The server may close before all of it is sent.
    let text = "x".repeat(16 * 1024 * 1024 + 1);
    let _ = futures_util::SinkExt::send(&mut client.socket, tokio_tungstenite::tungstenite::Message::text(text)).await;
    assert!(matches!(client.next().await, Met::Closed(..)));
}
