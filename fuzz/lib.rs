//! What the targets share: a file whose content the fuzzer chooses.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// Calls `read` with a file of this ending and content.
pub fn with_file(ending: &str, content: &[u8], read: impl FnOnce(&Path)) {
    thread_local!(static PATH: OnceCell<PathBuf> = const { OnceCell::new() });
    PATH.with(|path| {
        let path = path.get_or_init(|| {
            // The fuzzer's own hook ends the process at every panic, also at those of a decoder that a reader catches and tells as an error.
            std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
            let memory = Path::new("/dev/shm");
            let folder = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
            folder.join(format!("fuzz-{}.{ending}", std::process::id()))
        });
        std::fs::write(path, content).expect("the temporary folder can be written");
        read(path);
    });
}
