//! A damaged or hostile feature file is read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vae_workshop::features::FeatureFile;

fuzz_target!(|content: &[u8]| {
    vae_workshop_fuzz::with_file("feat.npz", content, |path| {
        if let Ok(features) = FeatureFile::read(path) {
            assert!(features.logmel.iter().chain(&features.logspec).all(|value| value.is_finite()));
            assert_eq!(features.logmel.nrows() as u64, features.meta.frames);
        }
    });
});
