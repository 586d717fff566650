//! `evaluate report`: a page for whatever a run's folder holds, from which nothing gets out and into which no text gets as markup.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::env::{binary, fail, fixture, seal, succeed, text};
use crate::pipeline::{files, runs};

/// The page of these runs.
fn page(runs: &[&Path], flags: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("page.html");
    let runs: Vec<&str> = runs.iter().map(|run| text(run)).collect();
    succeed("evaluate", &[&["report", "--device", "cpu", "-o", text(&out)], flags, &runs[..]].concat());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the page is one file");
    fs::read_to_string(&out).unwrap()
}

/// What `evaluate report` makes of a VAE's run, what its explorer sounds through, and what was said on the way.
fn through(run: &str, folder: &Path, flags: &[&str]) -> (String, Value, String) {
    let out = folder.join("page.html");
    let mut command = Command::new(binary("evaluate"));
    command.current_dir(folder).args(["report", "--device", "cpu", "-o", "page.html", run]).args(flags);
    let said = command.output().unwrap();
    let err = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(0), "{err}");
    let html = fs::read_to_string(out).unwrap();
    assert_self_contained(&html);
    let data: Value = serde_json::from_str(between(&html, "id=\"explorer-data\">", "</script>")[0]).unwrap();
    (html, data["inverter"]["run"].clone(), err)
}

/// A copy of a run, under another name, without its optimizer, events and flags.
fn copy(run: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(run).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == "metrics.jsonl" {
            fs::copy(&from, &to).unwrap();
        } else if from.join("manifest.json").exists() {
            fs::create_dir(&to).unwrap();
            for name in ["run.json", "model.safetensors", "manifest.json"] {
                fs::copy(from.join(name), to.join(name)).unwrap();
            }
        }
    }
}

/// What stands between `before` and `after`, everywhere.
fn between<'a>(html: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    html.split(before).skip(1).map(|rest| rest.split(after).next().unwrap()).collect()
}

/// A page refers to nothing outside, closes what it opens, and fits in a mail.
fn assert_self_contained(html: &str) {
    assert!(html.len() < 15_000_000, "{} bytes", html.len());
    for address in between(html, "src=\"", "\"").into_iter().chain(between(html, "href=\"", "\"")) {
        assert!(address.starts_with("data:") || address.starts_with('#'), "{address:.60}");
    }
    for target in between(html, "href=\"#", "\"") {
        assert_eq!(html.matches(&format!(" id=\"{target}\"")).count(), 1, "{target}");
    }
    assert!(!html.contains(" style=\"") && !html.contains(" onclick="));
    for tag in ["section", "figure", "table", "tr", "svg", "details", "nav", "ul", "div", "p", "button"] {
        let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn the_page_of_a_vae_has_curves_latents_and_sounds() {
    let (_, vae, inverter) = runs();
    let html = page(&[vae], &["--inverter", text(inverter)]);
    assert_self_contained(&html);
    let (run, explorer) = html.split_once("<section class=\"explorer\"").unwrap();
    assert!(explorer.contains("id=\"explorer-data\"") && run.contains("<a href=\"#explorer-heading\">Explorer</a>"));
    let headings = between(run, "<h3>", "</h3>");
    let wanted = [
        "How it learned",
        "What the loss is made of",
        "Latents",
        "Reconstructions",
        "Traversals",
        "Samples of the prior",
        "The run",
    ];
    assert_eq!(headings, wanted);
    // Two test recordings of three clips, six latents at five values, four samples.
    assert_eq!(html.matches("<audio ").count(), 2 * 3 + 6 * 5 + 4);
    assert_eq!(run.matches("<button ").count(), html.matches("<audio ").count());
    assert_eq!(html.matches("<img alt=\"Spectrogram: ").count(), html.matches("<audio ").count());
    let lines = fs::read_to_string(vae.join("metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let total = last["loss/total"].as_f64().unwrap();
    assert!(html.contains(&format!("test ends at {total:.4}")), "the curves are those of metrics.jsonl");
    let data: serde_json::Value =
        serde_json::from_str(between(&html, "id=\"explorer-data\">", "</script>")[0]).unwrap();
    assert_eq!(data["inverter"]["run"], text(inverter), "the explorer sounds through it too");
    for latent in data["latents"].as_array().unwrap() {
        let tag = format!("kl/latent-{:02}", latent["latent"].as_u64().unwrap());
        assert_eq!(latent["kl"], last[&tag], "{tag} is the test set's");
    }
    let bars = between(&html, "<figure class=\"card bars\">", "</figure>");
    assert_eq!((bars.len(), bars[0].matches("class=\"bar s0\"").count()), (1, 16));
}

#[test]
fn a_vae_sounds_through_the_inverter_beside_it_and_of_several_through_the_one_called_inverter() {
    let (_, vae, inverter) = runs();
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    let test = ["--features", text(&fixture().test)];
    let made = |run: &str, flags: &[&str]| through(run, folder.path(), &[&test[..], flags].concat());
    copy(vae, &place("vae"));
    // What is not an inverter of these features is nobody's business: files, empty folders, other VAEs, what is damaged.
    copy(vae, &place("another vae"));
    fs::write(place("notes.txt"), "notes").unwrap();
    fs::create_dir_all(place("broken/step-00000001")).unwrap();
    fs::write(place("broken/step-00000001/manifest.json"), "{").unwrap();
    copy(inverter, &place("other features"));
    for step in files(&place("other features"), "safetensors").iter().map(|model| model.parent().unwrap()) {
        let mut about: Value = serde_json::from_slice(&fs::read(step.join("run.json")).unwrap()).unwrap();
        about["config"]["features"]["preemphasis"] = json!(0.5);
        fs::write(step.join("run.json"), about.to_string()).unwrap();
        fs::write(step.join("optimizer.safetensors"), "").unwrap();
        seal(step);
    }
    let (html, run, said) = made("vae", &[]);
    assert_eq!((run, said.as_str()), (Value::Null, ""));
    assert!(html.contains("<p>Here and below, sounds are made without an inverter.</p>"));

    copy(inverter, &place("b"));
    let (html, run, said) = made("vae", &[]);
    assert_eq!((&run, said.lines().count()), (&json!("b"), 1), "{said}");
    assert!(said.contains("vae: sounds are made through the inverter b, which lies beside the run"), "{said}");
    assert!(html.contains("<p>Here and below, sounds are made through the inverter b, which lies beside the run.</p>"));
    let whole = place("vae");
    assert_eq!(made(text(&whole), &[]).1, json!(text(&place("b"))), "as the run was written");
    let model = files(&whole, "safetensors").pop().unwrap();
    assert_eq!(made(text(model.parent().unwrap()), &[]).1, json!(text(&place("b"))), "beside the run of a checkpoint");
    let (html, run, said) = made("vae", &["--inverter", "none"]);
    assert_eq!((run, said.as_str()), (Value::Null, ""));
    assert!(html.contains("sounds are made without an inverter."));

    copy(inverter, &place("a"));
    let (html, run, said) = made("vae", &[]);
    assert_eq!((&run, said.lines().count()), (&Value::Null, 1), "{said}");
    let line = "sounds are made without an inverter: a and b lie beside the run, and --inverter RUN names one";
    assert!(said.contains(line) && html.contains(line), "{said}");
    assert_eq!(made("vae", &["--inverter", "a"]).1, json!("a"));
    fs::rename(place("a"), place("inverter")).unwrap();
    assert_eq!(made("vae", &[]).1, json!("inverter"));

    // Of one in training the newest checkpoint that can be read; of one that has none, nothing.
    for model in files(&place("inverter"), "safetensors").iter().rev() {
        assert_eq!(made("vae", &[]).1, json!("inverter"), "{}", model.display());
        fs::write(model, "").unwrap();
    }
    assert_eq!(made("vae", &[]).1, json!("b"));
}

#[test]
fn the_page_of_an_inverter_has_true_and_predicted_spectra() {
    let (_, vae, inverter) = runs();
    let html = page(&[inverter], &[]);
    assert_self_contained(&html);
    assert_eq!(between(&html, "<h3>", "</h3>"), ["How it learned", "Results", "Predictions", "The run"]);
    assert_eq!(html.matches("<audio ").count(), 2 * 3);
    // With another run's inverter of other features it says so.
    let said = fail("evaluate", &["report", text(vae), "--inverter", text(vae), "-o", "x.html"]);
    assert!(said.contains("is a run of the VAE, where one of the inverter is needed"), "{said}");
}

#[test]
fn several_runs_share_plots_and_a_table_of_what_differs() {
    let (_, vae, inverter) = runs();
    let folder = TempDir::new().unwrap();
    let other = folder.path().join("other");
    copy(vae, &other);
    for entry in fs::read_dir(&other).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let about = fs::read_to_string(entry.join("run.json")).unwrap();
        assert!(about.contains("\"seed\": 0"));
        fs::write(entry.join("run.json"), about.replace("\"seed\": 0", "\"seed\": 77")).unwrap();
        fs::write(entry.join("optimizer.safetensors"), "").unwrap();
        seal(&entry);
    }
    let html = page(&[vae, &other, inverter], &[]);
    assert_self_contained(&html);
    assert_eq!(between(&html, "<h2>", "</h2>"), ["3 runs", "vae", "other", "inverter"]);
    let differ = between(&html, "<section id=\"differences-VAE\">", "</section>");
    assert_eq!(between(differ[0], "<th scope=\"row\">", "</th>"), ["seed"]);
    assert!(differ[0].contains("<td>0</td><td>77</td>"), "{}", differ[0]);
    let curves = between(&html, "<section id=\"curves-VAE\">", "</section>");
    assert!(curves[0].contains("class=\"test s0\"") && curves[0].contains("class=\"test s1\""));
    assert!(!html.contains("differences-inverter"), "one run differs from nothing");
}

#[test]
fn a_run_says_where_it_was_trained_on_its_page_and_when_inspected_and_an_old_one_that_it_does_not() {
    let data = fixture();
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    for (steps, threads) in [("2", "1"), ("4", "1"), ("6", "2")] {
        let sets = [text(&run), text(&data.train), text(&data.test), "--device", "cpu", "--threads", threads];
        let sizes = ["--channels", "4,4,4", "--hidden", "8", "--latents", "3", "--batch-size", "2"];
        succeed("train-vae", &[&sets[..], &sizes, &["--steps", steps]].concat());
    }
    let cores = std::thread::available_parallelism().unwrap();
    let version = concat!("vae-workshop ", env!("CARGO_PKG_VERSION"));
    let inspected = |path: &Path| -> Vec<String> {
        let said = succeed("synth", &["inspect", text(path)]);
        said.lines().filter_map(|line| line.strip_prefix("machine")).map(|line| line.trim().to_string()).collect()
    };
    let lines = inspected(&run);
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, begin) in lines.iter().zip(["from step 0: CPU, 1 threads; ", "from step 4: CPU, 2 threads; "]) {
        assert!(line.starts_with(begin) && line.ends_with(version), "{line}");
        assert!(line.contains(&format!(", {cores} cores; ")), "{line}");
    }
    assert_eq!(inspected(&run.join("step-00000006")), lines);
    assert_eq!(inspected(&run.join("step-00000004")), lines[..1], "of a checkpoint what led to it");
    let trained = |html: &str| between(html, "<caption>Trained on</caption>", "</table>").join("");
    let rows = trained(&page(&[&run], &[]));
    assert_eq!(between(&rows, "<th scope=\"row\">", "</th>"), ["0", "4"]);
    assert!(rows.contains("<td>CPU, 1 threads</td>") && rows.contains("<td>CPU, 2 threads</td>"), "{rows}");
    let rows = trained(&page(&[&run.join("step-00000002")], &[]));
    assert_eq!(between(&rows, "<th scope=\"row\">", "</th>"), ["0"], "of a checkpoint what led to it");

    let both = page(&[&run, runs().1.as_path()], &[]);
    let results = between(&both, "<section id=\"results-VAE\">", "</section>")[0];
    assert!(results.contains("<th scope=\"row\">on</th><td>CPU, 2 threads; "), "{results}");
    fs::remove_file(run.join("machines.json")).unwrap();
    assert_eq!(inspected(&run), ["not recorded"]);
    assert!(page(&[&run], &[]).contains("<p>The machine it was trained on is not recorded.</p>"));
    fs::write(run.join("machines.json"), "<b>no JSON</b>").unwrap();
    assert!(inspected(&run)[0].contains("does not say what the run was trained on"));
    assert!(page(&[&run], &[]).contains("machines.json: does not say what the run was trained on"));
}

#[test]
fn a_page_has_how_its_run_sounds_where_that_was_measured() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    copy(&runs().2, &run);
    let sounds = files(&fixture().corpus.join("test"), "wav");
    let both = [text(&sounds[0]), text(&sounds[1])];
    let said = succeed("evaluate", &[&["audio", "--json", "-", "--run", text(&run)], &both[..]].concat());
    let mean = serde_json::from_str::<serde_json::Value>(&said).unwrap()["mean"].clone();
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(run.join("audio.json")).unwrap()).unwrap();
    assert_eq!(kept["mean"], mean);
    assert_eq!((&kept["files"], &kept["reference"], &kept["output"]), (&1.into(), &both[0].into(), &both[1].into()));
    let html = page(&[&run], &[]);
    assert_self_contained(&html);
    let measures = between(&html, "<h3>Measures</h3>", "</section>")[0];
    let value = |name: &str| -> f64 {
        let cell = between(measures, &format!("<th scope=\"row\">{name}</th><td>"), "</td>")[0];
        cell.replace('\u{2212}', "-").replace('\u{202f}', "").parse().unwrap()
    };
    for (name, key) in [("LSD dB", "lsd_db"), ("MCD dB", "mcd_db"), ("level dB", "level_db")] {
        let wanted = mean[key].as_f64().unwrap();
        assert!((value(name) - wanted).abs() <= 1e-3 * wanted.abs(), "{name}: {} {wanted}", value(name));
    }

    // Another step of the run is another model, whose figures these are not.
    let first = run.join("step-00000000");
    assert!(first.exists(), "both trainers save where they begin");
    let other = page(&[&first], &["--features", text(&fixture().test)]);
    assert!(other.contains("audio.json: is of another model (step 20 of its run) than that of "), "{other:.3000}");
    assert!(other.contains("--run RUN` writes it anew") && !other.contains("LSD dB"), "no figure of it is shown");
    let damaged = serde_json::to_string(&kept).unwrap().replace("\"step\":", "\"steps\":");
    fs::write(run.join("audio.json"), damaged).unwrap();
    let html = page(&[&run, &runs().2], &[]);
    assert!(html.contains("audio.json: does not say how the run sounds") && html.contains("--run RUN` writes it anew"));
    let row = between(&html, "<th scope=\"row\">sounds compared</th>", "</tr>")[0];
    assert!(row.ends_with("<td>none yet</td>"), "{row}");

    let said = fail("evaluate", &[&["audio", "--run", text(folder.path())], &both[..]].concat());
    assert!(said.contains("holds no checkpoint") && said.lines().count() == 1, "{said}");
}

#[test]
fn names_are_text_whatever_they_are() {
    let (_, _, inverter) = runs();
    let folder = TempDir::new().unwrap();
    let names: [&[u8]; 4] =
        [b"<script>alert(1)<\x1b>", b"\"' onload=alert(1) x='", b"a\nb --> &amp;", b"caf\xe9 \xff]]>"];
    for name in names {
        let run = folder.path().join(OsStr::from_bytes(name));
        copy(inverter, &run);
        // Of features too: what their folder is called is the only thing said of it.
        let config =
            format!("test_dir = {}\n", serde_json::to_string("</td><img src=x onerror=alert(1)>\u{7}").unwrap());
        fs::write(run.join("config.toml"), config).unwrap();
        let out = folder.path().join("page.html");
        let mut command = Command::new(binary("evaluate"));
        let said = command.args(["report", "--device", "cpu", "-o"]).arg(&out).arg(&run).output().unwrap();
        assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
        let html = fs::read_to_string(&out).unwrap();
        assert!(!html.contains("<script>alert") && !html.contains("<img src=x") && !html.contains('\u{1b}'));
        let heading = between(&html, "<h2>", "</h2>")[0].to_string();
        assert!(!heading.contains(['<', '>', '"', '\'', '\n']), "{heading}");
        assert!(html.contains("&lt;/td&gt;&lt;img src=x onerror=alert(1)&gt;"), "the folder is named, as text");
        assert_eq!(html.matches("<script>").count(), 1, "the page's own");
    }
}

#[test]
fn a_run_that_has_only_just_begun_has_a_page() {
    let (_, vae, inverter) = runs();
    let data = fixture();
    for run in [vae, inverter] {
        let folder = TempDir::new().unwrap();
        let young = folder.path().join("young");
        copy(run, &young);
        let steps: Vec<PathBuf> = fs::read_dir(&young).unwrap().map(|entry| entry.unwrap().path()).collect();
        for step in steps.iter().filter(|path| path.is_dir() && !path.ends_with("step-00000000")) {
            fs::remove_dir_all(step).unwrap();
        }
        let metrics = young.join("metrics.jsonl");
        let whole = fs::read(&metrics).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap();
        for lines in [Some(&whole[..whole.len() - 40]), Some(&whole[..first / 2]), None] {
            match lines {
                Some(lines) => fs::write(&metrics, lines).unwrap(),
                None => fs::remove_file(&metrics).unwrap(),
            }
            let html = page(&[&young], &["--features", text(&data.test)]);
            assert_self_contained(&html);
            assert!(html.contains("There is no evaluation on the test set yet."));
            assert!(html.contains("<audio "));
            let empty = html.contains("There are no losses yet");
            assert_eq!(empty, lines.is_none_or(|lines| lines.len() < first));
        }
    }
}

#[test]
fn recordings_that_are_gone_or_others_leave_a_sentence() {
    let (_, vae, _) = runs();
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    copy(vae, &run);
    let html = page(&[&run], &[]);
    assert!(html.contains("The run does not say where the recordings of its test are."));
    assert_eq!(html.matches("<audio ").count(), 6 * 5 + 4, "what needs no recordings is there");
    for (place, is_there) in [(text(&fixture().train), false), ("/nowhere/test", false), (text(&fixture().test), true)]
    {
        fs::write(run.join("config.toml"), format!("test_dir = {place:?}")).unwrap();
        let html = page(&[&run], &[]);
        assert_self_contained(&html);
        assert_eq!(html.contains("or are others by now. Name a folder of them with --features DIR."), !is_there);
        assert_eq!(html.contains("alt=\"Spectrogram: reconstruction of "), is_there);
    }
    let empty = TempDir::new().unwrap();
    let kept = folder.path().join("kept.html");
    fs::write(&kept, "a good page").unwrap();
    let said = fail("evaluate", &["report", text(&run), "-o", text(&kept), "--features", text(empty.path())]);
    assert!(said.contains("holds no *.feat.npz files"), "{said}");
    assert_eq!(fs::read_to_string(&kept).unwrap(), "a good page");
}

#[test]
fn what_is_no_run_or_no_page_is_refused_in_a_line() {
    let (folder, vae, _) = runs();
    let out = TempDir::new().unwrap();
    let page = out.path().join("page.html");
    let said = fail("evaluate", &["report", text(&fixture().test), "-o", text(&page)]);
    assert!(said.contains("holds no checkpoint (step-N folders)") && said.trim_end().lines().count() == 1, "{said}");
    let said = fail("evaluate", &["report", text(vae), text(&folder.path().join("none")), "-o", text(&page)]);
    assert!(said.contains("none") && said.trim_end().lines().count() == 1, "{said}");
    let said = fail("evaluate", &["report", text(vae), "-o", text(&out.path().join("page.txt"))]);
    assert!(said.contains(".html"), "{said}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_trainer_keeps_the_page_of_its_run_and_trains_to_the_same_bytes() {
    let data = fixture();
    let folder = TempDir::new().unwrap();
    let train = |name: &str, more: &[&str]| {
        let run = folder.path().join(name);
        let sets = [text(&run), text(&data.train), text(&data.test), "--device", "cpu"];
        let sizes = ["--channels", "4,4,4", "--hidden", "8", "--latents", "3", "--batch-size", "2"];
        let every = ["--steps", "4", "--save-every", "2", "--eval-every", "2"];
        succeed("train-vae", &[&sets[..], &sizes, &every, more].concat());
        run
    };
    let plain = train("plain", &[]);
    copy(&runs().2, &folder.path().join("inverter"));
    fs::create_dir_all(folder.path().join("broken/step-00000004")).unwrap();
    let shown = train("shown", &["--report"]);
    let html = fs::read_to_string(shown.join("report.html")).unwrap();
    let inverter = folder.path().join("inverter");
    assert!(html.contains(&format!("through the inverter {}, which lies beside the run", inverter.display())));
    assert_self_contained(&html);
    assert!(html.contains("alt=\"Spectrogram: reconstruction of ") && !plain.join("report.html").exists());
    assert!(!html.contains("location.reload"), "the run is over");
    let bytes = |run: &Path| fs::read(run.join("step-00000004/model.safetensors")).unwrap();
    assert!(bytes(&plain) == bytes(&shown));
}
