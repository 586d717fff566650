//! What a run, a feature file or a codes file is, in words.

use std::fmt::Write;
use std::path::Path;

use super::codes::Codes;
use super::named::Meanings;
use crate::Result;
use crate::features::{FeatureFile, is_features};
use crate::run::{Checkpoint, Machine};

/// A few lines about a run, a checkpoint folder, a feature file or a codes file.
///
/// # Errors
/// If `path` is none of these.
pub fn describe(path: &Path) -> Result<String> {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{name:<14} {value}").expect("writing to a string cannot fail");
    };
    if path.is_dir() {
        let (checkpoint, tensors) = Checkpoint::with_model(path)?;
        let about = &checkpoint.about;
        let parameters: usize = tensors.0.values().map(|(_, values)| values.len()).sum();
        line("run", &about.config.model.kind());
        line("checkpoint", &checkpoint.path.display());
        line("steps", &about.step);
        line("epoch", &about.position.epoch);
        for (name, value) in &about.test {
            line(&format!("test {name}"), &format!("{value:.4}"));
        }
        line("values", &parameters);
        line("trained on", &format!("{} files, {} frames", about.config.data.files, about.config.data.frames));
        if let Some(config) = about.config.model.vae() {
            match Meanings::read(&checkpoint.path, &tensors.fingerprint(), config.latents()) {
                Ok(found) => {
                    found.iter().flat_map(Meanings::lines).for_each(|found| line("latents", &found));
                }
                Err(error) => line("latents", &error),
            }
        }
        line("written by", &format!("vae-workshop {}", about.version));
        match checkpoint.run_folder().and_then(|run| Machine::until(&run, about.step)) {
            Ok(machines) => {
                Machine::not_recorded(&machines).iter().for_each(|open| line("machine", open));
                machines.iter().for_each(|machine| line("machine", machine));
            }
            Err(error) => line("machine", &error),
        }
        text.push_str(&serde_json::to_string_pretty(&about.config).expect("a configuration is plain data"));
        text.push('\n');
    } else if is_features(path) {
        let meta = FeatureFile::read_meta(path)?;
        let rate = f64::from(meta.config.sample_rate);
        line("features", &path.display());
        line("seconds", &format!("{:.2}", (meta.trim_end - meta.trim_start) as f64 / rate));
        line("frames", &meta.frames);
        line("source", &format!("{} samples at {} Hz", meta.source_samples, meta.source_rate));
        line("kept", &format!("{:.3} s to {:.3} s", meta.trim_start as f64 / rate, meta.trim_end as f64 / rate));
        line("gain", &meta.gain);
        text.push_str(&serde_json::to_string_pretty(&meta.config).expect("a configuration is plain data"));
        text.push('\n');
    } else {
        let codes = Codes::read(path)?;
        line("codes", &path.display());
        line(
            "segments",
            &format!("{} of {} frames, one every {}", codes.mean.nrows(), codes.meta.segment_frames, codes.meta.hop),
        );
        line("latents", &codes.mean.ncols());
        line("frames", &codes.meta.frames);
        line("gain", &codes.meta.gain);
        line("VAE", &codes.meta.vae);
    }
    Ok(text)
}
