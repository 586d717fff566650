//! A checkpoint's model as PyTorch's own modules have it: their names, their layouts.

use std::io::Write;
use std::path::Path;

use ndarray::{ArrayD, ArrayViewD, Axis};

use super::{Checkpoint, ModelConfig, NamedTensors};
use crate::beside::{create_parent, write_beside};
use crate::{Error, Result};

/// The metadata's key of a run's description, which is as `run.json` has it: configuration, features, standardizer, steps.
pub const METADATA: &str = "run";

impl Checkpoint {
    /// Writes the model to use as a safetensors file that `load_state_dict` of plain PyTorch modules takes, with the run's
    /// description as metadata: `examples/torch_models.py` has the modules. A file at `path` is replaced.
    ///
    /// # Errors
    /// [`Error::Config`] if `path` lies in a checkpoint, [`Error::Io`] if it cannot be written, or as [`model`](Self::model).
    pub fn export(&self, path: &Path) -> Result<()> {
        if path.with_file_name("manifest.json").exists() {
            return Err(Error::file(path, "lies in a checkpoint, where nothing is written; give another folder"));
        }
        let tensors = to_torch(&self.about.config.model, &self.model()?);
        let about = serde_json::to_string(&self.about).expect("a description is plain data");
        let bytes = tensors.to_bytes_with([(METADATA.to_string(), about)].into());
        create_parent(path)?;
        write_beside(path, |file| file.write_all(&bytes).map_err(Error::io(path)))
    }
}

/// The tensors of a model of this configuration under PyTorch's names: linear layers `[outputs, inputs]`, convolutions
/// `[outputs, inputs, taps]`, recurrent layers with packed gates `[gates * cells, inputs]` and two biases, norms with `weight`,
/// `bias`, `running_mean` and `running_var`.
///
/// # Panics
/// If the tensors are not such a model's.
pub fn to_torch(config: &ModelConfig, tensors: &NamedTensors) -> NamedTensors {
    let recurrent = |layer: &str| tensors.0.contains_key(&format!("{layer}.weight_hidden"));
    let mut found = NamedTensors::default();
    for (name, (shape, values)) in &tensors.0 {
        let whole = ArrayViewD::from_shape(shape.clone(), values).expect("as many values as the shape says");
        let (layer, part) = name.rsplit_once('.').expect("every parameter is part of a layer");
        let mut add = |name: String, of: ArrayViewD<f32>| {
            found.0.insert(name, (of.shape().to_vec(), of.iter().copied().collect()));
        };
        let plain = |part: &str| format!("{layer}.{part}");
        match (part, whole.ndim()) {
            ("gamma", _) => add(plain("weight"), whole),
            ("beta", _) => add(plain("bias"), whole),
            ("running_variance", _) => add(plain("running_var"), whole),
            ("bias", _) if recurrent(layer) => {
                add(plain("bias_hh_l0"), ArrayD::zeros(whole.raw_dim()).view());
                add(plain("bias_ih_l0"), whole);
            }
            ("weight_input" | "weight_hidden" | "bias_input" | "bias_hidden", dimensions) => {
                let name = match part {
                    "weight_input" => plain("weight_ih_l0"),
                    "weight_hidden" => plain("weight_hh_l0"),
                    "bias_input" => plain("bias_ih_l0"),
                    _ => plain("bias_hh_l0"),
                };
                if dimensions == 2 {
                    add(name, whole.t());
                    continue;
                }
                for (of, direction) in whole.outer_iter().zip(["", "_reverse"]) {
                    // [inputs, gates] of weights, [1, gates] of biases
                    let of = if part.starts_with("bias") { of.index_axis_move(Axis(0), 0) } else { of.reversed_axes() };
                    add(format!("{name}{direction}"), of);
                }
            }
            (index, 2) if layer == "bank.weights" => {
                let width = index.parse::<usize>().expect("the bank's filters are numbered") + 1;
                let (inputs, outputs) = (shape[0] / width, shape[1]);
                let taps = whole.into_shape_with_order(vec![width, inputs, outputs]).expect("taps one after the other");
                add(format!("bank.{index}.weight"), taps.permuted_axes(vec![2, 1, 0]));
            }
            ("weight", 2) if layer.starts_with("project_") => {
                let ModelConfig::Cbhg(config) = config else { panic!("{name} is part of a CBHG") };
                let outputs = if layer == "project_down" { config.channels } else { config.n_mels };
                let taps = whole.into_shape_with_order(vec![shape[0], shape[1] / outputs, outputs]);
                add(plain("weight"), taps.expect("taps side by side").permuted_axes(vec![2, 0, 1]));
            }
            ("weight", 2) => add(plain("weight"), whole.t()),
            _ => add(name.clone(), whole),
        }
    }
    found
}
