//! A real Asterisk of one test, with the example files as its configuration.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::until;

/// Where the person's phone is; the examples have an address of the documentation's network in its place (RFC 5737).
pub(crate) const AGENT: &str = "127.0.0.1:5070";
const EXAMPLE_AGENT: &str = "192.0.2.20:5060";

/// Files that are read as they are.
const WHOLE: [&str; 5] = [
    "ari.conf",
    "chan_websocket.conf",
    "http.conf",
    "queues.conf",
    "websocket_client.conf",
];
/// Files that the tests' own files of the same names include.
const INCLUDED: [&str; 2] = ["extensions.conf", "pjsip.conf"];

/// A start takes 0.2 s on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Lines of its log that a failed test shows.
const LOG_LINES: usize = 60;

/// Each test has the ports and the machine for itself.
static ALONE: Mutex<()> = Mutex::new(());
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// The Asterisk; it is killed and its files are removed when it is dropped.
pub(crate) struct Asterisk {
    root: PathBuf,
    /// Its folder within `root`.
    folder: PathBuf,
    child: Child,
    _alone: MutexGuard<'static, ()>,
}

impl Asterisk {
    /// Starts it. None, with the reason printed, where there is none.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// With these lines behind the tests' own extensions, in the context `tests`.
    pub(crate) fn start_with(extensions: &str) -> Option<Self> {
        let Some(root) = std::env::var_os("REPARTEE_ASTERISK").map(PathBuf::from) else {
            println!("skipped: no Asterisk here; `make test-asterisk` sets one up");
            return None;
        };
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!(
            "tmp/repartee-test-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let folder = root.join(&name);
        configure(&root, &folder, &format!("/{name}"), extensions);
        let log = fs::File::create(folder.join("out")).expect("its folder can be written");
        let child = Command::new("chroot")
            .arg(&root)
            .args(["asterisk", "-f", "-C", &format!("/{name}/etc/asterisk.conf")])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a file"))
            .stdout(log)
            .spawn()
            .expect("chroot is there");
        let mut asterisk = Self {
            root,
            folder,
            child,
            _alone: alone,
        };
        until("Asterisk starts", START_LIMIT, || {
            if let Ok(Some(status)) = asterisk.child.try_wait() {
                panic!("Asterisk ended with {status}: {}", asterisk.log());
            }
            asterisk.output().contains("Asterisk Ready.")
        });
        // What was refused at the start is missed only much later, and hard to find then.
        let refused = asterisk.output();
        let refused: Vec<&str> = refused
            .lines()
            .filter(|line| line.contains("Error loading module") || line.contains("declined to load"))
            .collect();
        assert!(refused.is_empty(), "modules that Asterisk does not load: {refused:#?}");
        Some(asterisk)
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("out")).unwrap_or_default()).into_owned()
    }

    /// What it has logged: every step of the dialplan, and whatever it complains about.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log/full")).unwrap_or_default()).into_owned()
    }

    /// Waits until it has logged this.
    pub(crate) fn wait_logged(&self, text: &str, limit: Duration) {
        until(&format!("Asterisk logs \"{text}\""), limit, || {
            self.log().contains(text)
        });
    }

    /// Runs a command of its console, and answers what that prints.
    pub(crate) fn console(&self, command: &str) -> String {
        let inside = Path::new("/").join(self.folder.strip_prefix(&self.root).expect("it lies within"));
        let output = Command::new("chroot")
            .arg(&self.root)
            .args(["asterisk", "-C"])
            .arg(inside.join("etc/asterisk.conf"))
            .args(["-rx", command])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .expect("chroot is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The names of its channels.
    pub(crate) fn channels(&self) -> Vec<String> {
        self.console("core show channels concise")
            .lines()
            .filter(|line| line.contains('!'))
            .filter_map(|line| line.split('!').next())
            .map(str::to_owned)
            .collect()
    }

    /// The names of its bridges.
    pub(crate) fn bridges(&self) -> Vec<String> {
        // A line of headings, then a line for each.
        self.console("bridge show all")
            .lines()
            .filter(|line| {
                !line.starts_with("Bridge-ID") && !line.starts_with("No ethernet") && !line.trim().is_empty()
            })
            .map(str::to_owned)
            .collect()
    }

    /// Waits until no channel and no bridge is left.
    pub(crate) fn wait_empty(&self, limit: Duration) {
        let mut left = Vec::new();
        let end = crate::now() + limit;
        loop {
            left.clear();
            left.extend(self.channels());
            left.extend(self.bridges());
            if left.is_empty() {
                return;
            }
            assert!(crate::now() < end, "left over in Asterisk: {left:?}");
            crate::pause(Duration::from_millis(50));
        }
    }
}

/// Writes its configuration: the tests' own files, and the examples as they are but for the address of the person's phone.
fn configure(root: &Path, folder: &Path, inside: &str, extensions: &str) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = here.join("examples/asterisk");
    for name in ["etc/repartee", "lib/keys", "spool", "run", "log"] {
        fs::create_dir_all(folder.join(name)).expect("the folder can be written");
    }
    let modules = fs::read_dir(root.join("usr/lib"))
        .expect("a Debian has /usr/lib")
        .filter_map(|entry| {
            Some(
                Path::new("usr/lib")
                    .join(entry.ok()?.file_name())
                    .join("asterisk/modules"),
            )
        })
        .find(|path| root.join(path).is_dir())
        .expect("Asterisk's modules are installed");
    for entry in fs::read_dir(here.join("tests/asterisk/config")).expect("the tests' configuration") {
        let path = entry.expect("a folder can be read").path();
        let mut text = read(&path)
            .replace("FOLDER", inside)
            .replace("MODULES", &format!("/{}", modules.display()));
        if path.ends_with("extensions.conf") && !extensions.is_empty() {
            let _ = write!(text, "\n[tests](+)\n{extensions}\n");
        }
        let name = path.file_name().expect("a file has a name");
        fs::write(folder.join("etc").join(name), text).expect("the folder can be written");
    }
    for name in WHOLE {
        fs::write(folder.join("etc").join(name), read(&examples.join(name))).expect("the folder can be written");
    }
    for name in INCLUDED {
        let text = read(&examples.join(name)).replace(EXAMPLE_AGENT, AGENT);
        fs::write(folder.join("etc/repartee").join(name), text).expect("the folder can be written");
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Drop for Asterisk {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES);
            println!("the end of Asterisk's log:\n{}", lines[from..].join("\n"));
        }
        // It has nothing to put in order: its files go with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
