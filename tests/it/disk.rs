//! A disk that is full or cannot be written: what was saved stays, and the same command goes on when there is room.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use vae_workshop::run::RunDir;

use crate::env::{binary, fixture, succeed, text};

/// Runs a command that can write no file larger than `blocks` half kilobytes: as on a full disk, a write comes back short.
pub fn confined(blocks: u64, command: &[&str]) -> Output {
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

/// Runs a shell script with a file system of `kilobytes` in memory at `$disk`, which ends with the script. `None` where
/// the system lets nobody but its administrator have one.
fn on_small_disk(kilobytes: u32, disk: &Path, script: &str) -> Option<Output> {
    let may = Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        eprintln!("not checked: `unshare -rm` is refused here");
        return None;
    }
    let mount = format!("mount -t tmpfs -o size={kilobytes}k tmpfs \"$disk\" || exit 99\n{script}");
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &mount]).env("disk", disk);
    Some(command.output().unwrap())
}

/// Standard error between the line `== name` and the next such line, and the exit status that ends it.
fn part<'a>(said: &'a str, name: &str) -> (&'a str, i32) {
    let (_, rest) = said.split_once(&format!("== {name}\n")).unwrap_or_else(|| panic!("no {name} in {said}"));
    let (text, status) = rest.split_once("== ").unwrap();
    (text, status.lines().next().unwrap().parse().unwrap())
}

fn the_only_error(said: &str) -> &str {
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && !said.contains("panicked"), "{said}");
    errors[0]
}

#[test]
fn a_small_disk_that_fills_up_and_one_that_cannot_be_written_keep_what_was_extracted() {
    let data = fixture();
    let folder = TempDir::new().unwrap();
    let [disk, straight, kept, late] = ["disk", "straight", "kept", "late"].map(|name| folder.path().join(name));
    fs::create_dir(&disk).unwrap();
    succeed("extract-features", &[text(&data.corpus), text(&straight)]);
    let size = |path: &Path| -> u64 {
        walkdir::WalkDir::new(path).into_iter().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    // Room for about two thirds.
    let kilobytes = (size(&straight) * 2 / 3 / 1024) as u32;
    let extract = format!("'{}' '{}' \"$disk/out\" --quiet >&2", binary("extract-features"), text(&data.corpus));
    let step = |name: &str| format!("echo '== {name}' >&2; {extract}; echo \"== $?\" >&2");
    let script = [
        step("full"),
        format!("cp -r \"$disk/out\" '{}'; mount -o remount,ro \"$disk\"", text(&kept)),
        step("read-only"),
        "mount -o remount,rw,size=64m \"$disk\"".into(),
        step("room"),
        format!("cp -r \"$disk/out\" '{}'", text(&late)),
    ];
    let Some(said) = on_small_disk(kilobytes, &disk, &script.join("\n")) else { return };
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let (full, status) = part(&said, "full");
    assert_eq!(status, 1, "{said}");
    assert!(the_only_error(full).contains("No space left on device") && full.contains("/disk/out/"), "{full}");
    let (refused, status) = part(&said, "read-only");
    assert_eq!(status, 1, "{said}");
    assert!(the_only_error(refused).contains("Read-only file system") && refused.contains("/disk/out"), "{refused}");
    assert_eq!(part(&said, "room").1, 0, "{said}");

    let names = |folder: &Path| -> Vec<_> {
        let files = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "npz"));
        files.map(|entry| entry.path().strip_prefix(folder).unwrap().to_path_buf()).collect()
    };
    let (first, all) = (names(&kept), names(&straight));
    assert!(!first.is_empty() && first.len() < all.len(), "{first:?}");
    assert_eq!(names(&late), all, "and nothing else");
    for (found, which) in [(&kept, &first), (&late, &all)] {
        for name in which {
            assert!(fs::read(found.join(name)).unwrap() == fs::read(straight.join(name)).unwrap(), "{name:?}");
        }
    }
}

#[test]
fn a_small_disk_that_fills_up_and_one_that_cannot_be_written_keep_a_run() {
    let data = fixture();
    let folder = TempDir::new().unwrap();
    let [disk, straight, late] = ["disk", "straight", "late"].map(|name| folder.path().join(name));
    fs::create_dir(&disk).unwrap();
    let flags = "--channels 4,4,4 --hidden 8 --latents 3 --steps 6 --batch-size 2 --save-every 2 --eval-every 6 --keep 1 --device cpu \
                 --threads 1";
    let sets = [text(&data.train), text(&data.test)];
    let flags: Vec<&str> = flags.split_ascii_whitespace().collect();
    succeed("train-vae", &[&[text(&straight)], &sets[..], &flags[..]].concat());
    let checkpoint: u64 = fs::read_dir(straight.join("step-00000006")).unwrap().map(|f| size(&f.unwrap().path())).sum();
    // Room for one checkpoint and a half, beside events and metrics.
    let kilobytes = (checkpoint * 3 / 2 / 1024 + 300) as u32;
    let train = format!("'{}' \"$disk/run\" '{}' '{}' {}", binary("train-vae"), sets[0], sets[1], flags.join(" "));
    let step = |name: &str| format!("echo '== {name}' >&2; {train} >&2; echo \"== $?\" >&2");
    let script = [
        // The first checkpoint fits; then what else is on the disk leaves no room for another.
        format!("{train} --steps 2 && dd if=/dev/zero of=\"$disk/other\" bs=1k 2>&1"),
        step("full"),
        "mount -o remount,ro \"$disk\"".into(),
        step("read-only"),
        "mount -o remount,rw \"$disk\" && rm \"$disk/other\" && mount -o remount,size=64m \"$disk\"".into(),
        step("room"),
        format!("cp -r \"$disk/run\" '{}'", text(&late)),
    ];
    let Some(said) = on_small_disk(kilobytes, &disk, &script.join("\n")) else { return };
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let (full, status) = part(&said, "full");
    assert_eq!(status, 1, "{said}");
    assert!(the_only_error(full).contains("No space left on device") && full.contains("/disk/run/"), "{full}");
    let (refused, status) = part(&said, "read-only");
    assert_eq!(status, 1, "{said}");
    assert!(the_only_error(refused).contains("Read-only file system") && refused.contains("/disk/run"), "{refused}");
    assert_eq!(part(&said, "room").1, 0, "{said}");
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let [one, other] = [&straight, &late].map(|run| fs::read(run.join("step-00000006").join(name)).unwrap());
        assert!(one == other, "{name}");
    }
}
