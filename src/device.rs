//! `--device`, `--precision` and `--threads`: the only place that opens a device.

use std::fmt::{self, Display, Formatter};
#[cfg(any(test, feature = "cuda"))]
use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;

use burn::backend::DispatchDevice;
use burn::tensor::{Device, FloatDType};

use crate::{Error, Result};

/// What the user asked to compute on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device if this build and machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU, through Burn's `flex` backend.
    Cpu,
    /// The CUDA device of this index.
    Cuda(usize),
    /// The GPU of this index, in the order of its driver, through Vulkan, Metal or DirectX 12: whichever the system has.
    Wgpu(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (kind, index) = text.split_once(':').map_or((text, None), |(kind, index)| (kind, Some(index)));
        let number = |kind: &str| match index {
            None => Ok(0),
            Some(index) => index.parse().map_err(|_| format!("`{index}` is not the number of a {kind} device")),
        };
        match (kind, index) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", _) => number("CUDA").map(Self::Cuda),
            ("wgpu", _) => number("wgpu").map(Self::Wgpu),
            _ => Err(format!("`{text}` is not one of auto, cpu, cuda, cuda:N, wgpu, wgpu:N")),
        }
    }
}

/// How exactly matrices are multiplied. All else, parameters and sums included, is f32 whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// In f32: 24 bits of each factor.
    F32,
    /// On tensor cores, where they are faster: 11 bits of each factor.
    Tf32,
    /// Factors and products in bf16: 8 bits.
    Bf16,
}

impl Display for Precision {
    fn fmt(&self, formatter: &mut Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}

/// That of the process.
static PRECISION: OnceLock<Precision> = OnceLock::new();

/// The process's precision: what [`open`] was told first, f32 if nothing was opened.
#[cfg(feature = "cube")]
pub(crate) fn precision() -> Precision {
    PRECISION.get().copied().unwrap_or(Precision::F32)
}

/// An opened device and its name for people.
#[derive(Clone, Debug)]
pub struct OpenDevice {
    /// Carries no autodiff.
    pub device: Device,
    /// For people, as in "CPU, 8 threads".
    pub name: String,
}

/// Opens the device asked for; the result carries no autodiff. `auto` that falls back to
/// the CPU says why at log level info. The first call's precision is the whole process's; `None` is TF32 on CUDA, f32 elsewhere.
///
/// # Errors
/// [`Error::Device`] if a GPU was asked for by name and this build, the driver or the GPU is missing; of CUDA also NVRTC or the
/// headers. If the device cannot multiply in that precision.
pub fn open(choice: DeviceChoice, precision: Option<Precision>) -> Result<OpenDevice> {
    let (OpenDevice { device, name }, cuda) = find(choice)?;
    let precision = precision.unwrap_or(if cuda { Precision::Tf32 } else { Precision::F32 });
    let unknown = precision == Precision::Bf16 && cuda && !device.supports_dtype(FloatDType::BF16);
    if unknown || precision != Precision::F32 && !cuda {
        return Err(Error::Device(format!("--precision {precision}: not on {name}; --precision f32 works everywhere")));
    }
    let precision = PRECISION.get_or_init(|| precision); // the first call's counts
    Ok(OpenDevice { device, name: if cuda { format!("{name}, {precision}") } else { name } })
}

/// The device, and whether it is CUDA's.
fn find(choice: DeviceChoice) -> Result<(OpenDevice, bool)> {
    let missing = |kind: &'static str, index: usize| {
        move |what: String| Error::Device(format!("--device {kind}:{index}: {what}; --device cpu works everywhere"))
    };
    let cpu = || OpenDevice { device: Device::flex(), name: format!("CPU, {} threads", rayon::current_num_threads()) };
    match choice {
        DeviceChoice::Cpu => Ok((cpu(), false)),
        DeviceChoice::Cuda(index) => Ok((cuda::open(index).map_err(missing("cuda", index))?, true)),
        DeviceChoice::Wgpu(index) => Ok((wgpu::open(index).map_err(missing("wgpu", index))?, false)),
        // Where CUDA is not built in there is nothing to fall back from, and nothing to say.
        DeviceChoice::Auto if !cfg!(feature = "cuda") => Ok((cpu(), false)),
        DeviceChoice::Auto => Ok(cuda::open(0).map_or_else(
            |missing| {
                tracing::info!("computing on the CPU: {missing}");
                (cpu(), false)
            },
            |device| (device, true),
        )),
    }
}

/// Whether `device`, with autodiff or without, computes on the CPU.
pub(crate) fn is_cpu(device: &Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Flex(_))
}

/// Limits the CPU threads of the whole process; `None` leaves one per core. Call once, before any computation.
///
/// # Errors
/// [`Error::Config`] for zero threads, or if the thread pool exists already.
pub fn limit_threads(threads: Option<usize>) -> Result<()> {
    match threads {
        None => Ok(()),
        Some(count) if !(1..=1024).contains(&count) => {
            Err(Error::Config(format!("--threads {count}: must be 1 to 1024")))
        }
        Some(count) => rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .build_global()
            .map_err(|error| Error::Config(format!("--threads {count}: {error}"))),
    }
}

/// Looks for the CUDA headers where the backend's compiler will be told to: in one folder, never in a second.
///
/// `variable` is the value of `CUDA_PATH`; `exists` says what is on the disk.
///
/// # Reference
/// `install::cuda_path` of cubecl-cuda 0.11.3.
#[cfg(any(test, feature = "cuda"))]
fn cuda_headers(variable: Option<String>, exists: impl Fn(&Path) -> bool) -> std::result::Result<(), String> {
    let usual = [("/usr/local/cuda", "/usr/local/cuda"), ("/opt/cuda", "/opt/cuda"), ("/usr/bin/nvcc", "/usr")];
    let found = || usual.iter().find(|(sign, _)| exists(Path::new(sign))).map(|(_, root)| root.to_string());
    let why = if variable.is_some() { "CUDA_PATH" } else { "the first CUDA toolkit found" };
    let Some(root) = variable.or_else(found) else {
        return Err(
            "no CUDA toolkit was found in /usr/local/cuda, /opt/cuda or /usr: install one or set CUDA_PATH".into()
        );
    };
    let header = Path::new(&root).join("include/cuda_fp16.h");
    if exists(&header) {
        return Ok(());
    }
    Err(format!("{} is missing ({why} is {root:?}): set CUDA_PATH to a toolkit with headers", header.display()))
}

/// Has compiled kernels, and which of them were found to be the fastest, kept for the next start: in the user's cache folder
/// (`~/.cache/cubecl`), unless a `cubecl.toml` names another. Compiling them all takes minutes.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn keep_kernels() {
    use cubecl::config::cache::CacheConfig;
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.compilation.cache = true;
    if matches!(config.environment.path, CacheConfig::Target) {
        config.environment.path = CacheConfig::Global; // the default is for programs that run in their sources' folder
    }
    CubeClRuntimeConfig::try_set(config); // what was set before is the same
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use super::OpenDevice;

    pub fn open(_index: usize) -> Result<OpenDevice, String> {
        Err("this build has no CUDA support (build with `--features cuda`)".into())
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use burn::tensor::{Device, DeviceType};

    use super::OpenDevice;

    /// Asks for every part before opening: the backend's own start ends the process where one is missing.
    pub fn open(index: usize) -> Result<OpenDevice, String> {
        let count = Device::enumerate(DeviceType::Cuda).into_vec().len(); // 0 without a driver
        if count == 0 {
            return Err("no NVIDIA driver or no GPU was found".into());
        }
        if index >= count {
            return Err(super::too_few(count, "CUDA"));
        }
        // SAFETY: only tries to load each of the library's usual names.
        if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
            return Err("libnvrtc (part of the CUDA toolkit) was not found on the library path".into());
        }
        super::cuda_headers(std::env::var("CUDA_PATH").ok(), |path| path.exists())?;
        super::keep_kernels();
        Ok(OpenDevice { device: Device::cuda(index), name: format!("CUDA device {index}") })
    }
}

#[cfg(not(feature = "wgpu-untuned"))]
mod wgpu {
    use super::OpenDevice;

    pub fn open(_index: usize) -> Result<OpenDevice, String> {
        Err("this build has no wgpu support (build with `--features wgpu`)".into())
    }
}

#[cfg(feature = "wgpu-untuned")]
mod wgpu {
    use burn::tensor::{Device, DeviceType};

    use super::OpenDevice;

    pub fn open(index: usize) -> Result<OpenDevice, String> {
        let mut devices = Device::enumerate(DeviceType::Wgpu).into_vec(); // empty without a driver
        if devices.is_empty() {
            return Err("no GPU with a driver for Vulkan, Metal or DirectX 12 was found".into());
        }
        if index >= devices.len() {
            return Err(super::too_few(devices.len(), "wgpu"));
        }
        #[cfg(feature = "wgpu")]
        super::keep_kernels();
        let device = devices.swap_remove(index);
        let name = device.identity().map_or(String::new(), |identity| format!(" ({})", identity.name));
        Ok(OpenDevice { device, name: format!("wgpu device {index}{name}") })
    }
}

#[cfg(any(feature = "cuda", feature = "wgpu-untuned"))]
fn too_few(count: usize, kind: &str) -> String {
    format!("this machine has {count} {kind} device(s), numbered from 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_parse_and_others_are_named_in_the_error() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("wgpu".parse(), Ok(DeviceChoice::Wgpu(0)));
        assert_eq!("wgpu:1".parse(), Ok(DeviceChoice::Wgpu(1)));
        assert!("cuda:x".parse::<DeviceChoice>().unwrap_err().contains("`x`"));
        assert!("wgpu:-1".parse::<DeviceChoice>().unwrap_err().contains("`-1`"));
        assert!("cpu:1".parse::<DeviceChoice>().unwrap_err().contains("`cpu:1`"));
        assert!("tpu".parse::<DeviceChoice>().unwrap_err().contains("`tpu`"));
    }

    #[test]
    fn the_cpu_computes_in_f32_and_says_so_where_it_is_asked_for_less() {
        assert!(open(DeviceChoice::Cpu, None).is_ok() && open(DeviceChoice::Cpu, Some(Precision::F32)).is_ok());
        for precision in [Precision::Tf32, Precision::Bf16] {
            let said = open(DeviceChoice::Cpu, Some(precision)).unwrap_err().to_string();
            assert!(said.contains(&format!("--precision {precision}")) && said.contains("--precision f32"), "{said}");
        }
    }

    #[test]
    fn cuda_headers_are_looked_for_in_the_one_folder_that_will_be_used() {
        let headers = |variable: Option<&str>, there: &[&str]| {
            cuda_headers(variable.map(String::from), |path| there.iter().any(|name| path == Path::new(name)))
        };
        let (local, opt, usr) = ("/usr/local/cuda", "/opt/cuda", "/usr/bin/nvcc");
        let header = |root: &str| format!("{root}/include/cuda_fp16.h");
        let (in_local, in_opt, in_usr) = (header(local), header(opt), header("/usr"));
        assert_eq!(headers(Some("/my cuda"), &["/my cuda/include/cuda_fp16.h"]), Ok(()));
        assert_eq!(headers(None, &[local, &in_local]), Ok(()));
        assert_eq!(headers(None, &[opt, &in_opt]), Ok(()));
        assert_eq!(headers(None, &[usr, &in_usr]), Ok(()));
        // What comes first decides, with headers or without.
        let refused = headers(Some("/other"), &[local, &in_local]).unwrap_err();
        assert!(refused.contains("/other/include") && refused.contains("CUDA_PATH"), "{refused}");
        let refused = headers(None, &[local, opt, &in_opt]).unwrap_err();
        assert!(refused.contains(&in_local) && refused.contains("set CUDA_PATH"), "{refused}");
        let refused = headers(None, &[&in_usr]).unwrap_err(); // headers without nvcc are not used
        assert!(refused.contains("set CUDA_PATH"), "{refused}");
    }
}
