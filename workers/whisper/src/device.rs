//! Where the library can compute, as ggml finds it: asked, not assumed.

use std::ffi::CStr;

use repartee_worker_shell::protocol::Device;
use whisper_rs::whisper_rs_sys as sys;

/// A graphics device.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gpu {
    /// Its number, as the library counts graphics devices.
    pub(crate) number: i32,
    /// As a load names it.
    pub(crate) device: Device,
}

/// What this build was made for beside the CPU.
pub(crate) fn features() -> Vec<String> {
    [
        (cfg!(feature = "cuda"), "cuda"),
        (cfg!(feature = "vulkan"), "vulkan"),
        (cfg!(feature = "metal"), "metal"),
    ]
    .into_iter()
    .filter(|(built, _)| *built)
    .map(|(_, name)| name.to_owned())
    .collect()
}

/// Instructions that this build uses and this processor hasn't. It would end with an illegal instruction.
#[cfg(target_arch = "x86_64")]
pub(crate) fn missing_instructions() -> Vec<&'static str> {
    let built = whisper_rs::SystemInfo::default();
    [
        (built.avx, is_x86_feature_detected!("avx"), "AVX"),
        (built.avx2, is_x86_feature_detected!("avx2"), "AVX2"),
        (built.fma, is_x86_feature_detected!("fma"), "FMA"),
        (built.f16c, is_x86_feature_detected!("f16c"), "F16C"),
    ]
    .into_iter()
    .filter(|(built, there, _)| *built && !there)
    .map(|(.., name)| name)
    .collect()
}

/// Elsewhere what is built is what every processor of the kind has.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn missing_instructions() -> Vec<&'static str> {
    Vec::new()
}

/// The graphics devices of this machine that this build can use.
pub(crate) fn gpus() -> Vec<Gpu> {
    if features().is_empty() {
        return Vec::new();
    }
    // A driver that complains does so here; without one there are simply no devices.
    crate::log::take_over();
    let mut found = Vec::new();
    // SAFETY: the registry is filled by its first use and is only read here, from one thread at a time (`hello` and `load` are called
    // by one thread each, and ggml guards its static registry's construction).
    let count = unsafe { sys::ggml_backend_dev_count() };
    for index in 0..count {
        // SAFETY: `index` is below the count; devices live as long as the process.
        let device = unsafe { sys::ggml_backend_dev_get(index) };
        // SAFETY: `device` came from the registry.
        let kind = unsafe { sys::ggml_backend_dev_type(device) };
        if kind != sys::ggml_backend_dev_type_GGML_BACKEND_DEVICE_TYPE_GPU
            && kind != sys::ggml_backend_dev_type_GGML_BACKEND_DEVICE_TYPE_IGPU
        {
            continue;
        }
        let (mut free, mut total) = (0, 0);
        // SAFETY: as above, and both places are ours.
        unsafe { sys::ggml_backend_dev_memory(device, &raw mut free, &raw mut total) };
        // SAFETY: as above; the name is a C string that lives as long as the device.
        let name = unsafe { text(sys::ggml_backend_dev_name(device)) };
        // SAFETY: as above.
        let description = unsafe { text(sys::ggml_backend_dev_description(device)) };
        found.push(Gpu {
            number: i32::try_from(found.len()).unwrap_or(i32::MAX),
            device: Device {
                id: id(&name),
                name: description,
                memory_bytes: total as u64,
                free_bytes: free as u64,
            },
        });
    }
    found
}

/// # Safety
/// `text` is null or a C string.
unsafe fn text(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: see above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// `cuda:0` of ggml's `CUDA0`; `metal:0` of its `Metal`.
fn id(name: &str) -> String {
    let kind = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let number = &name[kind.len()..];
    format!(
        "{}:{}",
        kind.to_lowercase(),
        if number.is_empty() { "0" } else { number }
    )
}

/// Where to load, and why not where it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    /// A graphics device, or the CPU.
    pub(crate) gpu: Option<Gpu>,
    /// Why it isn't the one that was asked for, or the one that would have been taken.
    pub(crate) fallback: Option<String>,
}

/// Chooses among what is there: what was asked for, else the first graphics device with enough free memory, else the CPU.
pub(crate) fn choose(asked: Option<&str>, gpus: &[Gpu], needed: u64) -> Choice {
    let cpu = |fallback| Choice { gpu: None, fallback };
    let gpu = match asked {
        Some("cpu") => return cpu(None),
        Some(id) => match gpus.iter().find(|gpu| gpu.device.id == id) {
            Some(gpu) => gpu,
            None => {
                let built = features();
                let reason = if built.is_empty() {
                    "this build computes on the CPU only; REPARTEE_WORKER_FEATURES=cuda (vulkan, metal) builds it for more".into()
                } else {
                    let there: Vec<&str> = gpus.iter().map(|gpu| gpu.device.id.as_str()).collect();
                    format!(
                        "built for {}, it finds {} here",
                        built.join(", "),
                        if there.is_empty() {
                            "none".into()
                        } else {
                            there.join(", ")
                        }
                    )
                };
                return cpu(Some(format!("no device {id:?}: {reason}")));
            }
        },
        None => match gpus.first() {
            Some(gpu) => gpu,
            None => return cpu(None),
        },
    };
    // Where memory runs out while the weights are placed, the library crashes instead of saying so.
    if gpu.device.free_bytes > 0 && gpu.device.free_bytes < needed {
        let reason = format!(
            "{} has {} MiB free, {} are needed",
            gpu.device.id,
            gpu.device.free_bytes >> 20,
            needed >> 20
        );
        return cpu(Some(reason));
    }
    Choice {
        gpu: Some(gpu.clone()),
        fallback: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(number: i32, id: &str, free: u64) -> Gpu {
        Gpu {
            number,
            device: Device {
                id: id.into(),
                name: String::new(),
                memory_bytes: 8 << 30,
                free_bytes: free,
            },
        }
    }

    #[test]
    fn ids_are_made_of_ggmls_names() {
        assert_eq!(
            (id("CUDA0"), id("Vulkan12"), id("Metal")),
            ("cuda:0".into(), "vulkan:12".into(), "metal:0".into())
        );
    }

    #[test]
    fn what_was_asked_for_is_taken_or_the_reason_told() {
        let gpus = [gpu(0, "cuda:0", 100 << 20), gpu(1, "cuda:1", 4 << 30)];
        let needed = 1 << 30;
        let first = choose(None, &gpus, needed);
        assert_eq!(first.gpu, None);
        assert!(
            first
                .fallback
                .is_some_and(|reason| reason.contains("100 MiB free, 1024 are needed"))
        );
        assert_eq!(choose(Some("cuda:1"), &gpus, needed).gpu, Some(gpus[1].clone()));
        assert_eq!(
            choose(Some("cpu"), &gpus, needed),
            Choice {
                gpu: None,
                fallback: None
            }
        );
        assert_eq!(
            choose(None, &[], needed),
            Choice {
                gpu: None,
                fallback: None
            }
        );
        let absent = choose(Some("vulkan:0"), &gpus, needed);
        assert!(absent.gpu.is_none() && absent.fallback.is_some_and(|reason| reason.contains("\"vulkan:0\"")));
    }
}
