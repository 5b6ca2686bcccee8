//! Copies of models with what the library wants to find in them.
//!
//! A copy is named by what it holds, so it is made once, may be shared by several workers, and is never out of date. It is written
//! beside its place and renamed. The folder is ours alone, since what lies in it is loaded as a model.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// The model in a copy's folder.
pub(crate) const MODEL: &str = "model.onnx";
/// The tokens beside it.
pub(crate) const TOKENS: &str = "tokens.txt";

/// How many copies are kept; the one that wasn't used for the longest time goes.
const COPIES: usize = 8;
/// How much they may take together, in bytes. Piper's voices have 20 to 120 MB.
const BYTES: u64 = 1 << 30;
/// When what another process has begun to write is given up.
const ABANDONED: Duration = Duration::from_secs(3600);

/// How much is copied at once.
const BLOCK: usize = 1 << 20;

/// Changes when the same files would give another copy.
const VERSION: &[u8] = b"repartee sherpa 1";

/// The folder with a copy of the model in `file`, with `appendix` at its end and `tokens` beside it.
///
/// # Errors
/// When it can't be read, or there's no place to write to.
pub(crate) fn folder_for(file: &Path, tokens: &str, appendix: &[u8]) -> io::Result<PathBuf> {
    folder_in(&root()?, file, tokens, appendix)
}

/// Where copies lie: in the home of the installation where it is named, else among temporary files.
fn root() -> io::Result<PathBuf> {
    match std::env::var_os("REPARTEE_HOME") {
        Some(home) if !home.is_empty() => {
            let cache = PathBuf::from(home).join("cache");
            fs::create_dir_all(&cache)?;
            Ok(cache.join("sherpa"))
        }
        _ => Ok(std::env::temp_dir().join(format!("repartee-sherpa-{}", user()?))),
    }
}

/// Whose process this is.
fn user() -> io::Result<u32> {
    Ok(fs::metadata("/proc/self")?.uid())
}

fn folder_in(root: &Path, file: &Path, tokens: &str, appendix: &[u8]) -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = fs::symlink_metadata(root)?;
    if !metadata.is_dir() || metadata.uid() != user()? || metadata.mode() & 0o077 != 0 {
        let problem = format!("{} isn't a folder that only this user may use", root.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    let (digest, length) = digest(file, tokens, appendix)?;
    let folder = root.join(digest);
    let expected = length + appendix.len() as u64;
    let is_whole = |folder: &Path| {
        fs::metadata(folder.join(MODEL)).is_ok_and(|model| model.len() == expected)
            && fs::metadata(folder.join(TOKENS)).is_ok_and(|file| file.len() == tokens.len() as u64)
    };
    if is_whole(&folder) {
        // Its last use decides what goes; where that can't be written, its making does.
        let _ = File::open(&folder).and_then(|folder| folder.set_modified(SystemTime::now()));
        return Ok(folder);
    }
    let _ = fs::remove_dir_all(&folder);
    make_room(root, expected);
    let beside = root.join(format!("new-{}", std::process::id()));
    let _ = fs::remove_dir_all(&beside);
    let made = write(&beside, file, tokens, appendix).and_then(|()| fs::rename(&beside, &folder));
    if let Err(error) = made {
        let _ = fs::remove_dir_all(&beside);
        // Another worker may have been quicker.
        if !is_whole(&folder) {
            return Err(error);
        }
    }
    Ok(folder)
}

/// A name for the whole content, and the model's length.
fn digest(file: &Path, tokens: &str, appendix: &[u8]) -> io::Result<(String, u64)> {
    let mut sum = Sha256::new();
    for part in [VERSION, tokens.as_bytes(), appendix] {
        sum.update((part.len() as u64).to_le_bytes());
        sum.update(part);
    }
    let mut model = File::open(file)?;
    let mut block = vec![0; BLOCK];
    let mut length = 0;
    loop {
        match model.read(&mut block)? {
            0 => break,
            read => {
                sum.update(&block[..read]);
                length += read as u64;
            }
        }
    }
    let name = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((name, length))
}

fn write(folder: &Path, file: &Path, tokens: &str, appendix: &[u8]) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)?;
    fs::write(folder.join(TOKENS), tokens)?;
    let mut copy = File::create_new(folder.join(MODEL))?;
    io::copy(&mut File::open(file)?, &mut copy)?;
    copy.write_all(appendix)
}

/// Takes away the copies that weren't used for the longest time, until one more of `bytes` fits. What a worker has loaded stays
/// with it.
fn make_room(root: &Path, bytes: u64) {
    let Ok(entries) = fs::read_dir(root) else { return };
    let mut copies: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if entry.file_name().to_string_lossy().starts_with("new-") {
            if used.elapsed().is_ok_and(|age| age > ABANDONED) {
                let _ = fs::remove_dir_all(entry.path());
            }
            continue;
        }
        let size = fs::metadata(entry.path().join(MODEL)).map_or(0, |model| model.len());
        copies.push((used, size, entry.path()));
    }
    copies.sort();
    let mut total: u64 = copies.iter().map(|(_, size, _)| size).sum();
    let mut count = copies.len();
    for (_, size, path) in copies {
        if count < COPIES && total.saturating_add(bytes) <= BYTES {
            break;
        }
        let _ = fs::remove_dir_all(path);
        total -= size;
        count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_copy_is_made_once_and_is_private() {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("voice.onnx");
        fs::write(&file, b"model").expect("a file");
        let root = home.path().join("cache");
        let copy = folder_in(&root, &file, "a 1\n", b"more").expect("a copy");
        assert_eq!(fs::read(copy.join(MODEL)).expect("the model"), b"modelmore");
        assert_eq!(fs::read(copy.join(TOKENS)).expect("the tokens"), b"a 1\n");
        assert_eq!(fs::metadata(&root).expect("the folder").mode() & 0o777, 0o700);
        let made = fs::metadata(copy.join(MODEL)).expect("the model").ino();
        assert_eq!(folder_in(&root, &file, "a 1\n", b"more").expect("the same"), copy);
        assert_eq!(fs::metadata(copy.join(MODEL)).expect("the model").ino(), made);
        // One that was cut short is made again.
        fs::write(copy.join(MODEL), b"mod").expect("a short file");
        folder_in(&root, &file, "a 1\n", b"more").expect("a copy");
        assert_eq!(fs::read(copy.join(MODEL)).expect("the model"), b"modelmore");
        assert_ne!(folder_in(&root, &file, "a 2\n", b"more").expect("another"), copy);
    }

    #[test]
    fn there_are_never_more_copies_than_may_be() {
        let home = tempfile::tempdir().expect("a folder");
        let root = home.path().join("cache");
        let file = home.path().join("voice.onnx");
        for number in 0..COPIES + 4 {
            fs::write(&file, format!("model {number}")).expect("a file");
            folder_in(&root, &file, "", b"").expect("a copy");
        }
        let left = fs::read_dir(&root).expect("the cache").count();
        assert_eq!(left, COPIES);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        let home = tempfile::tempdir().expect("a folder");
        let root = home.path().join("cache");
        fs::create_dir(&root).expect("a folder");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).expect("its mode");
        let file = home.path().join("voice.onnx");
        fs::write(&file, b"model").expect("a file");
        let error = folder_in(&root, &file, "", b"").expect_err("anyone may write there");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
