//! What this build can compute on, asked of ggml, and whether this machine can run it at all.

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::{LlamaBackendDevice, LlamaBackendDeviceType, list_llama_ggml_backend_devices};
use repartee_worker_shell::protocol::{Device, Hello, Job, LoadFailed, code};

/// The llama.cpp of the crate.
pub(crate) const LIBRARY: &str = "llama.cpp (llama-cpp-2 0.1.160)";

/// Starts the library, once in a process.
///
/// # Errors
/// When it was started already.
pub(crate) fn backend() -> Result<LlamaBackend, LoadFailed> {
    LlamaBackend::init().map_err(|error| LoadFailed::new(code::INTERNAL, format!("llama.cpp doesn't start: {error}")))
}

/// Who this worker is.
pub(crate) fn hello() -> Hello {
    let mut hello = repartee_worker_shell::hello("llama", env!("CARGO_PKG_VERSION"), LIBRARY, &[Job::Llm]);
    hello.formats = vec!["gguf".into()];
    for (is_built, feature) in [
        (cfg!(feature = "cuda"), "cuda"),
        (cfg!(feature = "vulkan"), "vulkan"),
        (cfg!(feature = "metal"), "metal"),
        (true, "mtmd"),
    ] {
        if is_built {
            hello.features.push(feature.into());
        }
    }
    hello.devices.extend(gpus().into_iter().map(|gpu| Device {
        id: id(&gpu.name),
        name: gpu.description,
        memory_bytes: gpu.memory_total as u64,
        free_bytes: gpu.memory_free as u64,
    }));
    hello
}

/// The GPUs that ggml sees.
pub(crate) fn gpus() -> Vec<LlamaBackendDevice> {
    list_llama_ggml_backend_devices()
        .into_iter()
        .filter(|device| {
            matches!(
                device.device_type,
                LlamaBackendDeviceType::Gpu | LlamaBackendDeviceType::IntegratedGpu
            )
        })
        .collect()
}

/// The protocol's id of a device: ggml's `CUDA0` is `cuda:0`, its `Metal` is `metal`.
pub(crate) fn id(name: &str) -> String {
    let name = name.to_lowercase();
    let digits = name.len() - name.trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
    let (kind, number) = name.split_at(name.len() - digits);
    if number.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind}:{number}")
    }
}

/// Whether the processor has what ggml was compiled for. Without this, the first load would end in an illegal instruction.
///
/// # Errors
/// What is missing, and how to build for it.
pub(crate) fn check_processor() -> Result<(), LoadFailed> {
    #[cfg(target_arch = "x86_64")]
    {
        let has_all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("bmi2");
        if !has_all && option_env!("GGML_AVX2") != Some("OFF") {
            let reason = "this build needs a processor with AVX2, FMA, F16C and BMI2 (2013 or later); build it with \
                          GGML_AVX=OFF GGML_AVX2=OFF GGML_FMA=OFF GGML_F16C=OFF GGML_BMI2=OFF in the environment";
            return Err(LoadFailed::new(code::UNSUPPORTED, reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_the_ids_of_the_protocol() {
        assert_eq!(id("CUDA0"), "cuda:0");
        assert_eq!(id("Vulkan12"), "vulkan:12");
        assert_eq!(id("Metal"), "metal");
    }
}
