//! A disk that is full: what was saved stays, and the run goes on when there is room.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use vae_workshop::run::RunDir;

use crate::env::{binary, fixture, succeed, text};

/// Runs a command that can write no file larger than `blocks` half kilobytes: as on a full disk, a write comes back short.
fn confined(blocks: u64, command: &[&str]) -> Output {
    let script = "trap '' XFSZ; ulimit -f \"$0\" && exec \"$@\"";
    Command::new("sh").args(["-c", script, &blocks.to_string()]).args(command).output().unwrap()
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[test]
fn a_full_disk_ends_training_with_the_files_name_and_the_same_command_goes_on() {
    let data = fixture();
    let models: [(&str, &[&str]); 2] = [
        ("train-vae", &["--channels", "4,4,4", "--hidden", "8", "--latents", "3"]),
        ("train-inverter", &["--bank-size", "2", "--channels", "4", "--gru-cells", "8", "--crop-frames", "16"]),
    ];
    for (program, sizes) in models {
        let folder = TempDir::new().unwrap();
        let [straight, full] = ["straight", "full"].map(|name| folder.path().join(name));
        let sets = [text(&data.train), text(&data.test), "--device", "cpu", "--threads", "1"];
        let every = ["--steps", "4", "--batch-size", "2", "--save-every", "2", "--eval-every", "4"];
        let of = |logdir| [&[text(logdir)], &sets[..], &every[..], sizes].concat();
        succeed(program, &of(&straight));
        // There is room for the model, not for the optimizer's moments, which are twice as large once there are any.
        let last = straight.join("step-00000004");
        let (model, moments) = (size(&last.join("model.safetensors")), size(&last.join("optimizer.safetensors")));
        let blocks = (model + moments) / 2 / 512;
        let said = confined(blocks, &[&[binary(program)], &of(&full)[..]].concat());
        let message = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(1), "{program}: {message}");
        let errors: Vec<&str> = message.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(
            errors.len() == 1 && errors[0].contains("optimizer.safetensors: ") && errors[0].contains("too large"),
            "{message}"
        );
        assert!(!full.join("step-00000002.tmp").exists(), "the room is given back");
        assert_eq!(RunDir::at(&full).latest().unwrap().unwrap().about.step, 0);
        succeed(program, &of(&full));
        for name in ["model.safetensors", "optimizer.safetensors", "run.json", "manifest.json"] {
            let [one, other] = [&straight, &full].map(|run| fs::read(run.join("step-00000004").join(name)).unwrap());
            assert!(one == other, "{program}: {name}");
        }
    }
}
