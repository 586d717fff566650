//! A damaged or hostile .ogg file is read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vae_workshop::audio::Waveform;

fuzz_target!(|content: &[u8]| {
    vae_workshop_fuzz::with_file("ogg", content, |path| {
        if let Ok(sound) = Waveform::read(path) {
            assert!(!sound.samples.is_empty() && sound.samples.iter().all(|sample| sample.is_finite()));
        }
    });
});
