//! Speech to text.

use repartee_worker_shell::protocol::{Load, LoadFailed, code};
use repartee_worker_shell::{Loaded, Models};

/// Loads a recogniser.
///
/// # Errors
/// With the file and the cause.
pub(crate) fn load(_request: &Load, _root: &Models) -> Result<Loaded, LoadFailed> {
    Err(LoadFailed::new(code::UNSUPPORTED, "not yet"))
}
