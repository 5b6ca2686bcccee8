//! The library as a whole: its version, and where it computes.

use repartee_worker_shell::protocol::{Load, LoadFailed, code};

/// The version of the crate that the library is called through.
const CRATE_VERSION: &str = env!("SHERPA_ONNX_CRATE_VERSION");

/// The library and what it runs on, as they say themselves.
pub(crate) fn name() -> String {
    format!(
        "sherpa-onnx {}, onnxruntime {}",
        sherpa_onnx::version(),
        sherpa_onnx::onnxruntime_version()
    )
}

/// That the library which was found at run time is the one that the crate was made for.
///
/// # Errors
/// With both versions.
pub(crate) fn require_version() -> Result<(), LoadFailed> {
    let found = sherpa_onnx::version();
    if found == CRATE_VERSION {
        return Ok(());
    }
    let reason = format!(
        "the libsherpa-onnx-c-api.so that was found is version {found}, this worker was built for {CRATE_VERSION}; \
         run workers/sherpa/setup.sh and build the worker again"
    );
    Err(LoadFailed::new(code::UNSUPPORTED, reason).about("libsherpa-onnx-c-api.so"))
}

/// That the load asks for no device but the CPU: the library of the set-up knows no other.
///
/// # Errors
/// With what was asked for.
pub(crate) fn require_device(request: &Load) -> Result<(), LoadFailed> {
    match request.device.as_deref() {
        None | Some("cpu") => Ok(()),
        Some(other) => Err(LoadFailed::new(
            code::UNSUPPORTED,
            format!("this sherpa-onnx computes on cpu, not on {other:?}"),
        )),
    }
}
