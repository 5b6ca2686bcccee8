//! What AVA's Admin UI serves about its local models, over HTTP and in its shapes, so that its tools find it here too.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use repartee_protocol::ava::{Frame, Reply, Request, SwitchModel};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Ava;
use super::facts::named;
use super::switching::{LLAMA, SHERPA, WHISPER};
use crate::access;
use crate::call::BackendKind;
use crate::registry::{Capability, ModelCapability};

/// Where AVA's containers have their models.
const AVA_ROOT: &str = "/app/models";

/// Who may ask, and where the models are.
#[derive(Clone, Debug, Default)]
pub struct AdminOptions {
    /// The secret of the Admin UI's tokens (JSON Web Tokens, HS256).
    pub jwt_secret: Option<Arc<str>>,
    /// The server's own access token: it opens this too.
    pub token: Option<Arc<str>>,
    /// Only this machine can connect.
    pub loopback: bool,
    /// The models root on this machine.
    pub models: Option<PathBuf>,
}

#[derive(Clone)]
struct Admin {
    ava: Ava,
    options: Arc<AdminOptions>,
}

/// The routes, for the server's main port.
pub fn routes(ava: Ava, options: AdminOptions) -> Router {
    let admin = Admin {
        ava,
        options: Arc::new(options),
    };
    Router::new()
        .route("/api/local-ai/models", get(models))
        .route("/api/local-ai/models", delete(remove))
        .route("/api/local-ai/capabilities", get(capabilities))
        .route("/api/local-ai/status", get(status))
        .route("/api/local-ai/switch", post(switch))
        .route("/api/system/health", get(health))
        .with_state(admin)
}

/// What a token must say. Others of its claims are nobody's business here.
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "sub")]
    _subject: String,
}

fn refusal(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}

impl Admin {
    /// Lets in who may ask: no page of another site, and only who has a token, where one is wanted.
    #[expect(clippy::result_large_err, reason = "a response is what the caller returns")]
    fn admit(&self, headers: &HeaderMap) -> Result<(), Response> {
        let value = |name| {
            headers
                .get(name)
                .map(|value: &header::HeaderValue| value.to_str().unwrap_or_default())
        };
        let origin = access::same_origin(value(header::ORIGIN), value(header::HOST), self.options.loopback);
        origin.map_err(|message| refusal(StatusCode::FORBIDDEN, message))?;
        let given = value(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let AdminOptions { jwt_secret, token, .. } = &*self.options;
        if jwt_secret.is_none() && token.is_none() {
            return Ok(());
        }
        let knows_token = token.is_some() && access::token_is_right(token.as_deref(), given);
        let has_jwt = jwt_secret
            .as_deref()
            .zip(given)
            .is_some_and(|(secret, given)| is_signed(secret, given));
        if knows_token || has_jwt {
            Ok(())
        } else {
            let detail = "Could not validate credentials";
            Err(refusal(StatusCode::UNAUTHORIZED, detail))
        }
    }

    /// A path as AVA's containers know it.
    fn ava_path(&self, path: &str) -> String {
        let inside = self
            .options
            .models
            .as_deref()
            .and_then(|root| Path::new(path).strip_prefix(root).ok());
        match inside.and_then(Path::to_str) {
            Some(inside) => format!("{AVA_ROOT}/{inside}"),
            None => path.to_owned(),
        }
    }

    /// The status as JSON.
    fn status(&self) -> Value {
        serde_json::from_str(&Reply::from(self.ava.status()).to_json()).unwrap_or_default()
    }
}

/// Whether a JSON Web Token is signed with this secret and still holds.
fn is_signed(secret: &str, token: &str) -> bool {
    let key = DecodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::decode::<Claims>(token, &key, &Validation::new(Algorithm::HS256)).is_ok()
}

/// Which of AVA's backends a model is one of, by its worker and its name.
fn family(capability: &Capability, model: &ModelCapability) -> Option<&'static str> {
    let name = model.path.as_deref().unwrap_or(&model.model).to_lowercase();
    let has = |part: &str| name.contains(part);
    match (capability.kind, capability.backend.as_str()) {
        (BackendKind::Stt, WHISPER) => Some("whisper_cpp"),
        (BackendKind::Stt, SHERPA) if has("t-one") || has("t_one") => Some("tone"),
        (BackendKind::Stt, SHERPA) if has("kroko") => Some("kroko"),
        (BackendKind::Stt, SHERPA) => Some("sherpa"),
        (BackendKind::Tts, SHERPA) if has("kokoro") => Some("kokoro"),
        (BackendKind::Tts, SHERPA) if has("matcha") => Some("matcha"),
        (BackendKind::Tts, SHERPA) => Some("piper"),
        (BackendKind::Llm, LLAMA) => Some("llm"),
        _ => None,
    }
}

async fn models(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Err(refused) = admin.admit(&headers) {
        return refused;
    }
    let found = admin.ava.found().await;
    let mut answer = json!({
        "stt": { "vosk": [], "sherpa": [], "kroko": [], "tone": [], "faster_whisper": [], "whisper_cpp": [] },
        "tts": { "piper": [], "kokoro": [], "melotts": [], "silero": [], "matcha": [] },
        "llm": [],
    });
    for capability in &found {
        for model in capability.models.iter().filter(|model| model.available) {
            let Some(family) = family(capability, model) else {
                continue;
            };
            let path = model.path.as_deref().map(|path| admin.ava_path(path));
            let path = path.unwrap_or_else(|| model.model.clone());
            let name = path
                .rsplit('/')
                .find(|part| !part.is_empty())
                .unwrap_or(&path)
                .to_owned();
            let job = capability.kind.to_string();
            let mut row = json!({ "id": name, "name": name, "path": path, "type": job, "backend": family });
            if let Some(bytes) = model.need_bytes {
                row["size_mb"] = (bytes / 1_000_000).into();
            }
            if family == "kokoro" {
                let voices: Map<String, Value> = model
                    .voices
                    .iter()
                    .map(|voice| (voice.clone(), format!("{voice}.pt").into()))
                    .collect();
                row["voice_files"] = voices.into();
            }
            let list = if family == "llm" {
                &mut answer["llm"]
            } else {
                &mut answer[job.as_str()][family]
            };
            if let Some(list) = list.as_array_mut() {
                list.push(row);
            }
        }
    }
    Json(answer).into_response()
}

async fn capabilities(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Err(refused) = admin.admit(&headers) {
        return refused;
    }
    let found = admin.ava.found().await;
    let able = named(&found);
    let reason_of = |kind, worker: &str| {
        let row = found.iter().find(|row| row.kind == kind && row.backend == worker);
        let parts = row.into_iter().flat_map(|row| [row.reason.clone(), row.remedy.clone()]);
        let told: Vec<String> = parts.flatten().collect();
        match told.is_empty() {
            true => format!("the worker {worker} isn't built: make worker-{worker}"),
            false => told.join("; "),
        }
    };
    let row = |available: bool, kind, worker: &str| {
        let reason = match available {
            true => format!("served by the worker {worker}"),
            false => reason_of(kind, worker),
        };
        json!({ "available": available, "reason": reason })
    };
    let never = |reason: &str| json!({ "available": false, "reason": reason });
    let (stt, tts) = (BackendKind::Stt, BackendKind::Tts);
    Json(json!({
        "stt": {
            "vosk": never("Vosk's Kaldi models can't be run here: use sherpa or whisper_cpp"),
            "sherpa": row(able.sherpa, stt, SHERPA),
            "kroko_embedded": row(able.kroko_embedded, stt, SHERPA),
            "kroko_cloud": never("audio leaves this machine to nobody"),
            "tone": row(able.tone, stt, SHERPA),
            "faster_whisper": never("CTranslate2 models can't be run here: use whisper_cpp"),
            "whisper_cpp": row(able.whisper_cpp, stt, WHISPER),
        },
        "tts": {
            "piper": row(able.piper, tts, SHERPA),
            "kokoro": row(able.kokoro, tts, SHERPA),
            "melotts": never("MeloTTS names no model file: use piper with its ONNX model"),
            "silero": never("torch packages can't be run here: use piper or kokoro"),
        },
        "llm": { "llama": row(able.llama, BackendKind::Llm, LLAMA) },
    }))
    .into_response()
}

async fn status(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Err(refused) = admin.admit(&headers) {
        return refused;
    }
    let status = admin.status();
    Json(json!({
        "connected": true,
        "status": status["status"],
        "stt_backend": status["stt_backend"],
        "tts_backend": status["tts_backend"],
        "models": status["models"],
    }))
    .into_response()
}

/// The Admin UI's view of the server, as far as its model matrix reads it.
async fn health(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Err(refused) = admin.admit(&headers) {
        return refused;
    }
    let mut details = admin.status();
    for (name, section, field) in [
        ("kroko_embedded", "kroko", "embedded"),
        ("kroko_port", "kroko", "port"),
        ("kokoro_mode", "kokoro", "mode"),
        ("kokoro_voice", "kokoro", "voice"),
        ("silero_speaker", "silero", "speaker"),
        ("silero_language", "silero", "language"),
        ("silero_model_id", "silero", "model_id"),
    ] {
        details[name] = details[section][field].clone();
    }
    Json(json!({ "local_ai_server": { "status": "connected", "details": details, "probe": { "ok": true } } }))
        .into_response()
}

/// The Admin UI's request as the `switch_model` that it sends for it.
fn as_switch(body: &Map<String, Value>) -> Result<SwitchModel, String> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let backend = text("backend");
    let mut message = json!({ "type": "switch_model" });
    let mut put = |key: &str, value: Option<&Value>| {
        if let Some(value) = value.filter(|value| !value.is_null() && **value != "") {
            message[key] = value.clone();
        }
    };
    let path = body.get("model_path");
    match (text("model_type").as_str(), backend.as_str()) {
        ("stt", "faster_whisper") => {
            put("stt_backend", body.get("backend"));
            message["stt_config"] = json!({ "model": body.get("model_path") });
        }
        ("stt", known) => {
            put("stt_backend", body.get("backend"));
            if known == "kroko" {
                put("kroko_model_path", path);
                put("kroko_language", body.get("language"));
            } else {
                put("stt_model_path", path);
            }
        }
        ("tts", known) => {
            put("tts_backend", body.get("backend"));
            match known {
                "kokoro" => {
                    put("kokoro_voice", body.get("voice"));
                    put("kokoro_model_path", path);
                }
                "matcha" => put("matcha_model_path", path),
                "melotts" => message["tts_config"] = json!({ "voice": body.get("voice") }),
                _ => put("tts_model_path", path),
            }
        }
        ("llm", _) => {
            put("llm_model_path", path);
            message["llm_config"] = json!({
                "context": body.get("llm_context"), "max_tokens": body.get("llm_max_tokens"),
            });
        }
        (other, _) => return Err(format!("model_type is {other:?}, but must be stt, tts or llm")),
    }
    for name in [
        "whisper_cpp_language",
        "whisper_cpp_model_path",
        "faster_whisper_language",
        "tone_model_path",
        "tone_decoder_type",
        "tone_kenlm_path",
        "kroko_embedded",
        "kroko_port",
        "kroko_url",
        "sherpa_model_path",
        "sherpa_model_type",
        "sherpa_vad_model_path",
        "kokoro_mode",
        "kokoro_model_path",
        "kokoro_api_base_url",
        "kokoro_api_key",
        "kokoro_api_model",
        "silero_speaker",
        "silero_language",
        "silero_model_id",
        "enable_filler_audio",
        "llm_streaming_tts_overlap",
    ] {
        if let Some(value) = body.get(name).filter(|value| !value.is_null() && **value != "") {
            message[name] = value.clone();
        }
    }
    match Frame::parse(&message.to_string()).and_then(Frame::read) {
        Ok(Request::SwitchModel(switch)) => Ok(*switch),
        Ok(_) => Err("this isn't a switch of models".to_owned()),
        Err(ignored) => Err(ignored.to_string()),
    }
}

async fn switch(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Response {
    if let Err(refused) = admin.admit(&headers) {
        return refused;
    }
    let body = match body {
        Ok(Json(body)) => body,
        Err(rejection) => return refusal(rejection.status(), &rejection.body_text()),
    };
    let switch = match as_switch(&body) {
        Ok(switch) => switch,
        Err(reason) => return refusal(StatusCode::BAD_REQUEST, &reason),
    };
    // It goes on when whoever asked has gone, as over the WebSocket.
    let ava = admin.ava.clone();
    let switched = tokio::spawn(async move { ava.switch(&switch, None).await }).await;
    let answer: Value = switched
        .ok()
        .and_then(|answer| serde_json::to_value(&answer).ok())
        .unwrap_or_default();
    let success = answer["status"] == "success" || answer["status"] == "no_change";
    let message = match success {
        true => "Model switch verified as loaded",
        false => answer["message"].as_str().unwrap_or("the switch came to no end"),
    };
    Json(json!({ "success": success, "message": message, "requires_restart": false })).into_response()
}

#[derive(Deserialize)]
struct Removal {
    model_path: String,
}

/// The model's place on this machine, if it is one below the models root.
fn place(root: &Path, path: &str) -> Result<PathBuf, (StatusCode, &'static str)> {
    let outside = (StatusCode::BAD_REQUEST, "the path is not within the models directory");
    let given = Path::new(path);
    let inside = given
        .strip_prefix(AVA_ROOT)
        .or_else(|_| given.strip_prefix(root))
        .unwrap_or(given);
    // A job's folder, and something in it.
    let is_plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_plain || inside.components().count() < 2 {
        return Err(outside);
    }
    let gone = (StatusCode::NOT_FOUND, "there is no such model");
    let root = root.canonicalize().map_err(|_| gone)?;
    let whole = root.join(inside).canonicalize().map_err(|_| gone)?;
    if whole.starts_with(&root) && whole != root {
        Ok(whole)
    } else {
        Err(outside)
    }
}

async fn remove(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Result<Json<Removal>, JsonRejection>,
) -> Response {
    if let Err(refused) = admin.admit(&headers) {
        return refused;
    }
    let path = match body {
        Ok(Json(removal)) => removal.model_path,
        Err(rejection) => return refusal(rejection.status(), &rejection.body_text()),
    };
    let Some(root) = admin.options.models.clone() else {
        return refusal(StatusCode::NOT_FOUND, "this server has no models directory");
    };
    let place = match place(&root, &path) {
        Ok(place) => place,
        Err((status, detail)) => return refusal(status, detail),
    };
    let loaded = admin.ava.control().selections().loaded;
    let used = [loaded.stt.path().to_owned(), loaded.tts.path(), loaded.llm.path];
    let is_used = used
        .iter()
        .filter_map(|used| self::place(&root, used).ok())
        .any(|used| used.starts_with(&place));
    if is_used {
        return refusal(
            StatusCode::FORBIDDEN,
            "this model is loaded: switch to another one first",
        );
    }
    let removed = match tokio::fs::metadata(&place).await {
        Ok(found) if found.is_dir() => tokio::fs::remove_dir_all(&place).await,
        Ok(_) => tokio::fs::remove_file(&place).await,
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => {
            tracing::info!("the model {} was deleted", place.display());
            Json(json!({ "success": true, "message": "Model deleted" })).into_response()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refusal(StatusCode::NOT_FOUND, "there is no such model")
        }
        Err(error) => refusal(StatusCode::FORBIDDEN, &format!("it can't be deleted: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_the_root_can_be_meant() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("stt")).unwrap();
        std::fs::write(root.path().join("stt/a.bin"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("stt/link")).unwrap();
        let meant = |path: &str| place(root.path(), path).map_err(|(status, _)| status.as_u16());
        let whole = root.path().canonicalize().unwrap().join("stt/a.bin");
        assert_eq!(meant("/app/models/stt/a.bin"), Ok(whole.clone()));
        assert_eq!(meant("stt/a.bin"), Ok(whole));
        for (path, status) in [
            ("/app/models", 400),
            ("/app/models/stt", 400),
            ("/app/models/stt/../../etc/passwd", 400),
            ("/etc/passwd", 400),
            ("/app/models/stt/link", 400),
            ("/app/models/stt/b.bin", 404),
        ] {
            assert_eq!(meant(path), Err(status), "{path}");
        }
    }

    #[test]
    fn a_token_is_signed_and_not_over() {
        let sign = |secret: &str, claims: Value| {
            let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
            jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
        };
        let later = 4_000_000_000_u64;
        assert!(is_signed("s", &sign("s", json!({ "sub": "admin", "exp": later }))));
        for token in [
            sign("other", json!({ "sub": "admin", "exp": later })),
            sign("s", json!({ "sub": "admin", "exp": 1 })),
            sign("s", json!({ "sub": "admin" })),
            sign("s", json!({ "exp": later })),
            String::new(),
        ] {
            assert!(!is_signed("s", &token));
        }
    }
}
