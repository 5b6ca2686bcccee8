//! What a request may name: what lies below the models root, links followed, and nothing else. What a configuration names is trusted;
//! what comes over a wire isn't.

use std::path::{Component, Path, PathBuf};

/// Where AVA keeps its models: its clients name them so, wherever they lie.
const AVA_ROOT: &str = "/app/models";

/// A file or a folder below the models root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// As the link to a worker names it: below the root, with `/` between.
    pub(super) inside: String,
    /// On this machine.
    pub(super) path: PathBuf,
}

/// Why a path isn't taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It leads where a request may not.
    Outside(String),
    /// It would be right, and nothing is there.
    Missing,
}

/// What `written` names below `root`.
///
/// # Errors
/// See [`Refusal`]. Nothing outside of the root is looked at, so that nobody learns what is there.
pub(super) fn below(root: Option<&Path>, written: &str) -> Result<Placed, Refusal> {
    let Some(root) = root else {
        let reason = "there is no models root: set paths.models";
        return Err(Refusal::Outside(reason.to_owned()));
    };
    let outside = || {
        Refusal::Outside(format!(
            "{written} leads out of the models root {}: a switch may name only what lies below it",
            root.display()
        ))
    };
    let path = Path::new(written);
    let inside = if path.is_absolute() {
        let roots = [
            Some(root.to_path_buf()),
            std::path::absolute(root).ok(),
            root.canonicalize().ok(),
        ];
        let below = roots.iter().flatten().find_map(|root| path.strip_prefix(root).ok());
        below.or_else(|| path.strip_prefix(AVA_ROOT).ok()).ok_or_else(outside)?
    } else {
        path
    };
    let mut names = Vec::new();
    for part in inside.components() {
        match part {
            Component::Normal(name) => names.push(name.to_str().ok_or_else(outside)?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    if names.is_empty() || written.contains('\0') {
        return Err(outside());
    }
    let inside = names.join("/");
    let path = root.join(&inside);
    let Ok(real_root) = root.canonicalize() else {
        return Err(Refusal::Missing);
    };
    // Of what isn't there, what leads to it: a link may lead out before that.
    let mut there = path
        .ancestors()
        .filter_map(|path| Some((path, path.canonicalize().ok()?)));
    match there.next() {
        Some((_, real)) if !real.starts_with(&real_root) => Err(outside()),
        Some((found, _)) if found == path => Ok(Placed { inside, path }),
        _ => Err(Refusal::Missing),
    }
}

/// Whether somebody meant a path: names of models have neither slashes nor file endings.
pub(super) fn is_path(written: &str) -> bool {
    let path = Path::new(written);
    path.components().count() > 1
        || path.is_absolute()
        || path.extension().is_some_and(|ending| {
            ["bin", "gguf", "onnx", "data", "ggml", "pt", "ort"]
                .iter()
                .any(|known| ending.eq_ignore_ascii_case(known))
        })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_lies_below_the_root_is_taken() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(root.path().join("stt/real")).unwrap();
        fs::write(root.path().join("stt/a.bin"), "").unwrap();
        fs::write(elsewhere.path().join("secret.bin"), "").unwrap();
        symlink(elsewhere.path(), root.path().join("way-out")).unwrap();
        symlink(elsewhere.path().join("secret.bin"), root.path().join("stt/b.bin")).unwrap();
        symlink(root.path().join("stt/a.bin"), root.path().join("stt/c.bin")).unwrap();
        symlink("loop", root.path().join("loop")).unwrap();
        let inside = |written: &str| below(Some(root.path()), written).map(|placed| placed.inside);
        let taken = [
            ("stt/a.bin", "stt/a.bin"),
            ("./stt/./a.bin", "stt/a.bin"),
            ("stt//a.bin", "stt/a.bin"),
            ("stt/real/", "stt/real"),
            ("/app/models/stt/a.bin", "stt/a.bin"),
            // A link stays one: what lies beside it belongs to the model.
            ("stt/c.bin", "stt/c.bin"),
        ];
        for (written, found) in taken {
            assert_eq!(inside(written), Ok(found.to_owned()), "{written}");
        }
        let absolute = root.path().join("stt/a.bin");
        assert_eq!(inside(absolute.to_str().unwrap()), Ok("stt/a.bin".to_owned()));
        let secret = elsewhere.path().join("secret.bin");
        let climbing = format!(
            "{}/../{}/secret.bin",
            root.path().display(),
            elsewhere.path().file_name().unwrap().to_str().unwrap()
        );
        let outside = [
            "../x",
            "stt/../../x",
            "stt/../stt/a.bin",
            "/etc/passwd",
            "/app/models/../../etc/passwd",
            "/app/modelsx/a.bin",
            "/app/models",
            "/",
            "",
            ".",
            "stt/b.bin",
            "way-out",
            "way-out/secret.bin",
            "way-out/none",
            "stt/a.bin\0",
            secret.to_str().unwrap(),
            climbing.as_str(),
        ];
        for written in outside {
            assert!(
                matches!(inside(written), Err(Refusal::Outside(_))),
                "{written:?}: {:?}",
                inside(written)
            );
        }
        for written in ["stt/none.bin", "loop", "stt/a.bin/x"] {
            assert_eq!(inside(written), Err(Refusal::Missing), "{written}");
        }
        assert!(matches!(below(None, "stt/a.bin"), Err(Refusal::Outside(reason)) if reason.contains("paths.models")));
    }

    #[test]
    fn the_root_itself_may_be_a_link() {
        let (real, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(real.path().join("a.bin"), "").unwrap();
        let root = folder.path().join("models");
        symlink(real.path(), &root).unwrap();
        for written in ["a.bin".to_owned(), real.path().join("a.bin").display().to_string()] {
            assert_eq!(
                below(Some(&root), &written).map(|placed| placed.path),
                Ok(root.join("a.bin")),
                "{written}"
            );
        }
    }

    #[test]
    fn names_are_told_from_paths() {
        for path in ["stt/x", "/x", "a.gguf", "ggml-base.en.bin", "voice.onnx"] {
            assert!(is_path(path), "{path}");
        }
        for name in ["pocketsphinx-en-us", "llama3.2", "qwen2.5:0.5b", "gpt-4.1"] {
            assert!(!is_path(name), "{name}");
        }
    }
}
