//! The life of what is loaded, with workers that are really there.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::call::Scope;
use crate::registry::{Manner, Slot, Switchboard, Update};
use crate::supervisor::{find_worker, worker_folders};

const PATIENCE: Duration = Duration::from_secs(30);

/// A worker that notes its process's number, does `first`, and is another one then.
fn note_and_become(setting: &Setting, name: &str, first: &str, program: &Path) {
    let pids = setting.home.path().join("pids");
    let script = format!(
        "[ \"$1\" = --probe ] || echo $$ >>{}\n{first}\nexec {} \"$@\"",
        pids.display(),
        program.display()
    );
    worker_script(setting.workers.path(), name, &script);
}

/// The processes that were started, the living ones only.
fn living(setting: &Setting) -> Vec<String> {
    let pids = fs::read_to_string(setting.home.path().join("pids")).unwrap_or_default();
    let lives = |pid: &&str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"));
    pids.lines().filter(lives).map(str::to_owned).collect()
}

fn flite() -> Option<PathBuf> {
    let found = find_worker("flite", &worker_folders()).ok();
    if found.is_none() {
        println!("skipped: the worker flite isn't built");
    }
    found
}

async fn switch(board: &Arc<Switchboard>, registry: &Registry, request: SwitchRequest) -> Update {
    let serving = registry
        .lease(request.kind)
        .map(|serving| serving.capabilities().clone());
    let mut switching = board.begin(request, serving);
    loop {
        match timeout(PATIENCE, switching.update()).await.expect("in time") {
            Some(Update::Started { .. }) => {}
            Some(end) => return end,
            None => panic!("it has an end"),
        }
    }
}

fn to_server(model: &str) -> SwitchRequest {
    SwitchRequest {
        scope: Scope::Server,
        ..request(BackendKind::Tts, "", model)
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let waited = async {
        while !is_so() {
            ticks.tick().await;
        }
    };
    assert!(timeout(PATIENCE, waited).await.is_ok(), "{what}");
}

#[tokio::test]
async fn a_worker_lives_while_it_is_needed_and_no_longer_than_the_server() {
    let Some(program) = flite() else { return };
    let setting = Setting::new();
    note_and_become(&setting, "flite", "", &program);
    let house = setting.house();
    let board = Switchboard::new(Arc::clone(&setting.registry), Arc::new(house.clone()));
    let registry = &setting.registry;
    let first = switch(&board, registry, to_server("flite")).await;
    assert!(
        matches!(&first, Update::Loaded { new, .. } if new.backend == "flite"),
        "{first:?}"
    );
    assert_eq!(living(&setting).len(), 1);
    // Somebody speaks with it while the server goes on to another.
    let lease = registry.lease(BackendKind::Tts).expect("it serves");
    let second = switch(&board, registry, to_server("flite-cmu-us-slt")).await;
    assert!(matches!(second, Update::Loaded { .. }), "{second:?}");
    assert_eq!(living(&setting).len(), 2, "the first is still held");
    drop(lease);
    until("the first ends", || living(&setting).len() == 1).await;
    let rows = house.capabilities().await;
    let row = rows.iter().find(|row| row.backend == "flite").expect("a row");
    let serving: Vec<&str> = row
        .models
        .iter()
        .filter(|model| model.serving)
        .map(|model| model.model.as_str())
        .collect();
    assert_eq!(serving, ["flite-cmu-us-slt"]);
    // What is not there leaves what serves.
    let failed = switch(&board, registry, to_server("flite-none")).await;
    assert!(
        matches!(&failed, Update::Failed(failure) if failure.stage == SwitchStage::Resolve),
        "{failed:?}"
    );
    assert!(registry.serves(&[BackendKind::Tts]));
    timeout(PATIENCE, house.stop()).await.expect("in time");
    assert_eq!(living(&setting), [""; 0], "none outlives the server");
    // What is begun afterwards ends at once.
    let late = switch(&board, registry, to_server("flite")).await;
    assert!(
        matches!(&late, Update::Failed(failure) if failure.reason.contains("ending")),
        "{late:?}"
    );
    assert_eq!(living(&setting), [""; 0]);
}

#[tokio::test]
async fn what_crashes_on_its_device_is_loaded_on_the_processor() {
    let Some(program) = flite() else { return };
    let setting = Setting::new();
    let hello = json!({
        "protocol": 1, "name": "flite", "version": "1", "jobs": ["tts"], "devices": [{ "id": "cpu" }, { "id": "cuda:0" }],
    });
    let answer = json!({ "hello": hello, "models": [{ "id": "flite" }] });
    let tried = setting.home.path().join("tried");
    let first = format!(
        "[ \"$1\" = --probe ] && {{ echo '{answer}'; exit; }}\n[ -e {0} ] || {{ touch {0}; echo no memory on the device >&2; kill -SEGV $$; }}",
        tried.display()
    );
    note_and_become(&setting, "flite", &first, &program);
    for (fallback, comes) in [("true", true), ("false", false)] {
        let _ = fs::remove_file(&tried);
        // Where the crash isn't evaded, the supervisor's own second try would succeed here: only the device tells who did.
        let house = setting.house_with(&[("workers.cpu_fallback", fallback)]);
        let plan = plan(&house, request(BackendKind::Tts, "flite", "flite"), None)
            .await
            .unwrap();
        let seat = (plan.load)();
        let mut changes = seat.changes();
        let ready = changes.wait_for(|slot| matches!(slot, Slot::Ready(_) | Slot::Missing { .. }));
        let slot = timeout(PATIENCE, ready)
            .await
            .expect("in time")
            .expect("an end")
            .clone();
        let Slot::Ready(serving) = slot else { panic!("{slot:?}") };
        let told = serving.capabilities().fallback.clone();
        assert_eq!(told.is_some(), comes, "{told:?}");
        if let Some(told) = told {
            assert!(
                told.contains("could not be loaded on") && told.contains("no memory on the device"),
                "{told}"
            );
        }
        house.stop().await;
    }
}

#[tokio::test]
async fn what_can_not_be_loaded_says_why_with_its_last_words() {
    let setting = Setting::new();
    let hello = json!({ "protocol": 1, "name": "x", "version": "1", "jobs": ["stt"], "devices": [{ "id": "cpu" }] });
    let script = format!(
        "[ \"$1\" = --probe ] && {{ echo '{{\"hello\":{hello}}}'; exit; }}\necho the file is broken >&2; exit 3"
    );
    worker_script(setting.workers.path(), "x", &script);
    let house = setting.house();
    let plan = plan(&house, request(BackendKind::Stt, "x", "any"), None).await.unwrap();
    let seat = (plan.load)();
    setting.registry.seat_in(seat.clone(), Manner::default());
    let mut changes = seat.changes();
    let missing = changes.wait_for(|slot| matches!(slot, Slot::Missing { .. }));
    let slot = timeout(PATIENCE, missing)
        .await
        .expect("in time")
        .expect("an end")
        .clone();
    assert!(
        matches!(&slot, Slot::Missing { reason, .. } if reason.contains("the file is broken")),
        "{slot:?}"
    );
}

#[tokio::test]
async fn what_runs_here_is_ready_and_ends_too() {
    let setting = Setting::new();
    let house = setting.house();
    let board = Switchboard::new(Arc::clone(&setting.registry), Arc::new(house.clone()));
    for (kind, backend) in [(BackendKind::Llm, "parrot"), (BackendKind::Vad, "webrtc")] {
        let request = SwitchRequest {
            scope: Scope::Server,
            ..request(kind, backend, "")
        };
        let loaded = switch(&board, &setting.registry, request).await;
        assert!(matches!(loaded, Update::Loaded { .. }), "{loaded:?}");
    }
    let seat = setting.registry.seat(BackendKind::Vad).expect("it serves");
    // A file that isn't there is told, and what serves serves on.
    let silero = SwitchRequest {
        scope: Scope::Server,
        ..request(BackendKind::Vad, "silero", "")
    };
    let failed = switch(&board, &setting.registry, silero).await;
    assert!(
        matches!(&failed, Update::Failed(failure) if failure.stage == SwitchStage::Check),
        "{failed:?}"
    );
    assert!(setting.registry.serves(&[BackendKind::Vad, BackendKind::Llm]));
    house.stop().await;
    assert!(matches!(seat.state(), Slot::Missing { .. }));
}
