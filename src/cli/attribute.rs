//! `synth attribute`: what sets the sounds of one folder apart from those of another is given to a sound.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::synth::{PathFlags, SoundFlags, Studio, VaeFlag, for_each};
use super::{require_within, say};
use crate::synth::{Item, Shape, mean_code, read_features};
use crate::walk::lies_inside;
use crate::{Error, Result};

/// The difference of two folders applied.
#[derive(Args, Clone, Debug)]
pub struct AttributeFlags {
    #[command(flatten)]
    vae: VaeFlag,
    #[command(flatten)]
    sound: SoundFlags,
    /// Sounds that lack the attribute: a folder, or one file.
    #[arg(long, value_name = "A_DIR")]
    from: PathBuf,
    /// Sounds that have it.
    #[arg(long, value_name = "B_DIR")]
    to: PathBuf,
    /// How much of the difference is added; below 0 it is taken away.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", allow_hyphen_values = true)]
    amount: f64,
    #[command(flatten)]
    paths: PathFlags,
}

impl AttributeFlags {
    /// Makes the sounds.
    ///
    /// # Errors
    /// If a flag, a model, a sound of either folder or an only input cannot be used.
    pub fn run(&self) -> Result<ExitCode> {
        self.sound.validate()?;
        require_within("--amount", self.amount, -100.0..=100.0)?;
        let plan = self.paths.plan(Shape::File("wav"), self.sound.png)?;
        for (flag, sounds) in [("--from", &self.from), ("--to", &self.to)] {
            for Item { output, .. } in &plan.items {
                if lies_inside(output, sounds)? {
                    let message = format!("lies in {flag} {}, which is read; give another OUT", sounds.display());
                    return Err(Error::file(output, message));
                }
            }
        }
        let studio = Studio::open(&self.sound, &self.vae)?;
        let way = mean_code(&studio.codec, &self.to)? - mean_code(&studio.codec, &self.from)?;
        say(format_args!("the mean codes are {:.2} apart", way.dot(&way).sqrt()));
        let by = way.mapv(|by| (self.amount * by) as f32);
        for_each(&plan, |Item { input, output }| {
            let source = read_features(input, studio.codec.features(), studio.codec.path())?;
            let mut codes = studio.codec.encode(source.logmel.view(), source.meta.gain);
            codes.mean += &by;
            studio.make(&codes, &[&source.logmel], input, output)?;
            say(output.display());
            Ok(())
        })
    }
}
