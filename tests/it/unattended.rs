//! Training that nobody watches: numbers that are not finite, signals, and what is noted on the way.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;
use vae_workshop::data::{Batch, Drawn, FeatureSet, PairDataset, Position, Room, SegmentDataset, Standardizer};
use vae_workshop::models::{Cbhg, CbhgConfig, ConvVaeConfig, Discriminator, Vae, VaeConfig};
use vae_workshop::run::{
    AdamConfig, BatchConfig, BetaVae, InverterRecipe, ModelConfig, Objective, RunConfig, RunDir, Schedule, parameters,
};
use vae_workshop::train::{
    Evaluation, InverterTask, Limits, Outcome, Report, SKIPS_IN_A_ROW, Session, Task, Terms, VaeTask, bin_weights, fit,
};
use vae_workshop::{Error, Result};

use crate::env::{binary, fixture, succeed, text};
use crate::events;

/// A task whose losses are spoilt at some steps, as often as they are named, and that asks to stop when an evaluation begins.
pub struct Wild<'a, T> {
    task: T,
    steps: Vec<u64>,
    spoil: fn(Terms) -> Terms,
    stops: Option<&'a AtomicUsize>,
    spoils: bool,
    /// Whether evaluations come out as infinite.
    infinite_tests: bool,
}

impl<T> Wild<'_, T> {
    pub fn new(task: T, steps: impl IntoIterator<Item = u64>, spoil: fn(Terms) -> Terms) -> Self {
        Self { task, steps: steps.into_iter().collect(), spoil, stops: None, spoils: false, infinite_tests: false }
    }
}

impl<T: Task> Task for Wild<'_, T> {
    type Model = T::Model;

    fn draw(&mut self, step: u64) -> Result<Drawn> {
        let drawn = self.task.draw(step)?;
        self.spoils =
            self.steps.iter().position(|&spoilt| spoilt == step).map(|found| self.steps.remove(found)).is_some();
        Ok(drawn)
    }

    fn loss(&self, model: &mut T::Model, rival: Option<&Discriminator>, batch: &Batch) -> Terms {
        let terms = self.task.loss(model, rival, batch);
        if self.spoils { (self.spoil)(terms) } else { terms }
    }

    fn evaluate(
        &self,
        model: &T::Model,
        rival: Option<&Discriminator>,
        stop: &AtomicUsize,
    ) -> Result<Option<Evaluation>> {
        if let Some(stops) = self.stops {
            stops.store(15, Ordering::Relaxed);
        }
        let mut evaluation = self.task.evaluate(model, rival, stop)?;
        if self.infinite_tests {
            evaluation.iter_mut().flat_map(|found| found.means.values_mut()).for_each(|mean| *mean = f64::INFINITY);
        }
        Ok(evaluation)
    }

    fn files(&self) -> BTreeSet<String> {
        self.task.files()
    }

    fn position(&self) -> Position {
        self.task.position()
    }

    fn seek(&mut self, position: Position) {
        self.task.seek(position);
    }
}

pub fn sets() -> (FeatureSet, FeatureSet, Standardizer) {
    let (train, test) = (FeatureSet::open(&fixture().train).unwrap(), FeatureSet::open(&fixture().test).unwrap());
    let standardizer = Standardizer::of(&train).unwrap();
    (train, test, standardizer)
}

pub fn config(model: ModelConfig, objective: Objective, frames: usize) -> RunConfig {
    let (train, ..) = sets();
    RunConfig {
        model,
        objective,
        optimizer: AdamConfig::default(),
        schedule: Schedule::constant(1e-3),
        batch: BatchConfig { size: 4, frames, augment: None },
        seed: 1,
        features: train.config().clone(),
        data: train.identity(),
        test_data: None,
        origin: None,
    }
}

/// A small VAE, its run as it stands on disk, and its task with these steps spoilt.
pub fn vae<'a>(run: &RunDir, spoilt: impl IntoIterator<Item = u64>) -> (Session<Vae>, Wild<'a, VaeTask>) {
    vae_in(Room::unlimited(), run, spoilt)
}

fn vae_in<'a>(
    mut room: Room,
    run: &RunDir,
    spoilt: impl IntoIterator<Item = u64>,
) -> (Session<Vae>, Wild<'a, VaeTask>) {
    let (train, test, standardizer) = sets();
    let device = Device::flex();
    let model = ConvVaeConfig { segment_frames: 20, n_mels: 80, channels: [4, 4, 4], hidden: 8, latents: 3 };
    let model = VaeConfig::Conv(model);
    let mut load = |set| SegmentDataset::load(set, &standardizer, 20, &mut room).unwrap();
    let task = VaeTask::new(load(&train), load(&test), BetaVae::new(1.0), 4, 3, standardizer.std, 1, &device).unwrap();
    let fresh = model.init(1, &device.clone().autodiff());
    let session = match run.latest().unwrap() {
        Some(checkpoint) => Session::resume(fresh, checkpoint, &device).unwrap(),
        None => Session::start(fresh, config(model.into(), Objective::BetaVae(BetaVae::new(1.0)), 20), standardizer),
    };
    let not_a_number = |terms: Terms| Terms { loss: terms.loss.mul_scalar(f32::NAN), ..terms };
    (session, Wild::new(task, spoilt, not_a_number))
}

fn inverter<'a>(spoilt: impl IntoIterator<Item = u64>) -> (Session<Cbhg>, Wild<'a, InverterTask>) {
    let (train, test, standardizer) = sets();
    let device = Device::flex();
    let model = CbhgConfig {
        n_mels: 80,
        bins: 513,
        bank_size: 2,
        channels: 4,
        highway_layers: 1,
        gru_cells: 4,
        small_output: true,
    };
    let load = |set| PairDataset::load(set, Some(&standardizer), &mut Room::unlimited()).unwrap();
    let (batch, weights) = (BatchConfig { size: 4, frames: 16, augment: None }, bin_weights(train.config(), None));
    let task = InverterTask::new(load(&train), load(&test), &batch, weights, 1, &device).unwrap();
    let objective = Objective::SpectrumL1 { recipe: InverterRecipe::Correction, knee: None };
    let fresh = model.init(1, &device.autodiff());
    let session = Session::start(fresh, config(ModelConfig::Cbhg(model), objective, 16), standardizer);
    let infinite = |terms: Terms| Terms { loss: terms.loss.mul_scalar(f32::INFINITY), ..terms };
    (session, Wild::new(task, spoilt, infinite))
}

pub const LIMITS: Limits = Limits {
    steps: 20,
    log_every: 5,
    eval_every: 10,
    save_every: 5,
    audio_every: 2,
    keep: 9,
    deadline: None,
    patience: None,
};

/// Trains and gives the outcome with what was reported of skipped steps and of going back.
fn train(run: &RunDir, session: &mut Session<Vae>, task: &mut Wild<VaeTask>) -> (Result<Outcome>, Vec<String>) {
    let stop = AtomicUsize::new(0);
    let mut told = Vec::new();
    let outcome = fit(task, session, run, &LIMITS, &stop, &mut |report| match report {
        Report::Skipped { step, files } => {
            assert!(!files.is_empty());
            told.push(format!("skipped {step}"));
        }
        Report::RolledBack { from, to, .. } => told.push(format!("back from {from} to {to}")),
        _ => {}
    });
    (outcome, told)
}

#[test]
fn a_step_that_is_not_finite_changes_nothing_and_is_counted() {
    let folder = TempDir::new().unwrap();
    let (mut session, mut task) = vae(&RunDir::at(folder.path()), [1]);
    assert!(session.advance(&mut task).unwrap().is_some());
    let (before, position) = (parameters(session.model()), task.position());
    assert!(session.advance(&mut task).unwrap().is_none());
    assert!(parameters(session.model()) == before && task.position() != position);
    assert_eq!((session.about.step, session.about.trouble.skipped, session.about.trouble.in_a_row), (2, 1, 1));
    assert!(session.advance(&mut task).unwrap().is_some());
    assert!(parameters(session.model()) != before);
    assert_eq!((session.about.trouble.skipped, session.about.trouble.in_a_row), (1, 0));
    // Nor are the running means of norms moved.
    let (mut session, mut task) = inverter([0]);
    let before = parameters(session.model());
    assert!(session.advance(&mut task).unwrap().is_none());
    assert!(parameters(session.model()) == before);
    assert!(session.advance(&mut task).unwrap().is_some() && parameters(session.model()) != before);
}

#[test]
fn a_few_bad_steps_are_skipped_and_the_run_resumes_to_the_bit() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (RunDir::at(&folder.path().join("one")), RunDir::at(&folder.path().join("other")));
    let bad = [3, 8, 9, 10, 11, 17];
    let (mut straight, mut task) = vae(&one, bad);
    let (outcome, told) = train(&one, &mut straight, &mut task);
    assert_eq!(outcome.unwrap(), Outcome::Finished);
    assert_eq!(told, ["skipped 4", "skipped 9", "skipped 10", "skipped 11", "skipped 12", "skipped 18"]);
    assert_eq!(straight.about.trouble.skipped, 6);
    // The other is killed amid the bad steps, after its checkpoint of step 10.
    let (mut killed, mut task) = vae(&other, bad);
    assert!(train(&other, &mut killed, &mut task).0.is_ok());
    for step in ["step-00000015", "step-00000020"] {
        fs::remove_dir_all(other.path().join(step)).unwrap();
    }
    let (mut resumed, mut task) = vae(&other, bad);
    assert_eq!((resumed.about.step, resumed.about.trouble.in_a_row), (10, 2));
    assert!(train(&other, &mut resumed, &mut task).0.is_ok());
    assert!(parameters(straight.model()) == parameters(resumed.model()));
    assert_eq!(straight.about, resumed.about);
}

#[test]
fn bad_steps_in_a_row_put_the_run_back_once_at_half_the_learning_rate() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    let bad = 8..8 + u64::from(SKIPS_IN_A_ROW);
    let (mut session, mut task) = vae(&run, bad.clone());
    let (outcome, told) = train(&run, &mut session, &mut task);
    assert_eq!(outcome.unwrap(), Outcome::Finished);
    // Step 10 was saved amid them, and is not gone back to.
    assert_eq!(told[5..], ["back from 13 to 5"]);
    assert_eq!(events::steps(&run.path().join("train"))["loss/total"], [5, 10, 15, 20]);
    let (resumed, _) = vae(&run, []);
    assert_eq!((resumed.about.step, resumed.about.trouble.rolled_back, resumed.about.rate()), (20, Some(13), 5e-4));
    // So is one whose data is read as it goes.
    let streamed = RunDir::at(&folder.path().join("streamed"));
    let (mut other, mut task) = vae_in(Room::of(0), &streamed, bad.clone());
    assert_eq!(train(&streamed, &mut other, &mut task).1, told);
    assert!(parameters(other.model()) == parameters(session.model()) && other.about == session.about);
    // When what spoils them is still there the second time, the run ends, and what is saved is sound.
    let run = RunDir::at(&folder.path().join("again"));
    let (mut session, mut task) = vae(&run, bad.clone().chain(bad));
    let (outcome, told) = train(&run, &mut session, &mut task);
    let Err(Error::Diverged(message)) = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("step 13") && message.contains(".feat.npz"), "{message}");
    assert_eq!(told.iter().filter(|line| line.starts_with("back")).count(), 1);
    assert_eq!(run.latest_sound(13).unwrap().unwrap().about.step, 5);
}

/// Trains until the first evaluation, amid which it is asked to stop.
fn interrupt_evaluation(run: &RunDir) {
    let stop = AtomicUsize::new(0);
    let (mut session, mut task) = vae(run, []);
    task.stops = Some(&stop);
    assert_eq!(fit(&mut task, &mut session, run, &LIMITS, &stop, &mut |_| {}).unwrap(), Outcome::Interrupted);
}

#[test]
fn an_interrupted_evaluation_is_not_recorded_and_done_when_the_run_goes_on() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    interrupt_evaluation(&run);
    let (mut resumed, mut task) = vae(&run, []);
    assert_eq!((resumed.about.step, resumed.about.tested), (10, 0));
    assert_eq!(train(&run, &mut resumed, &mut task).0.unwrap(), Outcome::Finished);
    let test = events::steps(&run.path().join("test"));
    let tags = ["loss/total", "latents/active", "pictures/reconstruction", "pictures/prior", "latents/means"];
    for tag in tags.into_iter().chain(["latents/samples", "means/latent-02", "audio/reconstruction"]) {
        assert_eq!(test[tag], [10, 20], "{tag}");
    }
    assert_eq!(test["audio/original"], [10]);
    assert_eq!(events::steps(&run.path().join("train"))["configuration"], [0]);
}

#[test]
fn a_last_evaluation_that_was_interrupted_is_all_that_the_same_command_does() {
    let (folder, data) = (TempDir::new().unwrap(), fixture());
    let run = RunDir::at(&folder.path().join("run"));
    let flags = [text(run.path()), text(&data.train), text(&data.test), "--device", "cpu", "--preset", "tiny"];
    let three = [&flags[..], &["--batch-size", "4", "--steps", "3"]].concat();
    let straight = folder.path().join("straight");
    succeed("train-vae", &[&[text(&straight)], &three[1..]].concat());
    // An interruption in the evaluation after the last step leaves what a run of which that step is not the last leaves.
    succeed("train-vae", &[&flags[..], &["--batch-size", "4", "--steps", "5", "--save-every", "3"]].concat());
    fs::remove_dir_all(run.path().join("step-00000005")).unwrap();
    assert_eq!(run.latest().unwrap().unwrap().about.tested, 0);
    let said = succeed("train-vae", &three);
    assert!(said.contains("step 3  test") && !said.contains("train  epoch"), "{said}");
    for name in ["model.safetensors", "optimizer.safetensors", "run.json", "manifest.json"] {
        let [one, other] = [&straight, run.path()].map(|run| fs::read(run.join("step-00000003").join(name)).unwrap());
        assert!(one == other, "{name}");
    }
    assert_eq!(events::steps(&run.path().join("test"))["loss/total"], [3]);
    assert!(succeed("train-vae", &three).contains("has 3 steps already"));
}

#[test]
fn a_run_that_is_killed_right_after_it_was_put_back_is_not_put_back_again() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(&folder.path().join("run"));
    let bad = || 8..8 + u64::from(SKIPS_IN_A_ROW);
    let (mut session, mut task) = vae(&run, bad());
    let killed = folder.path().join("killed");
    let stop = AtomicUsize::new(0);
    let outcome = fit(&mut task, &mut session, &run, &LIMITS, &stop, &mut |report| {
        if let Report::RolledBack { .. } = report {
            assert!(Command::new("cp").arg("-r").args([run.path(), &killed]).status().unwrap().success());
        }
    });
    assert_eq!(outcome.unwrap(), Outcome::Finished);
    // Step 10, saved amid the bad steps, is gone: the run would go on from there.
    let killed = RunDir::at(&killed);
    let (mut session, mut task) = vae(&killed, bad());
    assert_eq!((session.about.step, session.about.trouble.rolled_back, session.about.rate()), (5, Some(13), 5e-4));
    let (outcome, told) = train(&killed, &mut session, &mut task);
    assert!(matches!(outcome, Err(Error::Diverged(message)) if message.contains("put back once already")));
    assert!(told.iter().all(|line| line.starts_with("skipped")));
}

#[test]
fn one_checkpoint_that_is_kept_is_one_to_go_back_to() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    let stop = AtomicUsize::new(0);
    // Every step is saved, those amid the bad ones as well.
    let limits = Limits { keep: 1, save_every: 1, eval_every: 20, ..LIMITS };
    let (mut session, mut task) = vae(&run, 8..8 + u64::from(SKIPS_IN_A_ROW));
    let mut back = Vec::new();
    let outcome = fit(&mut task, &mut session, &run, &limits, &stop, &mut |report| {
        if let Report::RolledBack { from, to, .. } = report {
            back.push((from, to));
        }
    });
    assert_eq!((outcome.unwrap(), back), (Outcome::Finished, vec![(13, 8)]));
    let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with("step-")).collect::<Vec<_>>(), ["step-00000020"]);
}

#[test]
fn the_best_evaluation_is_saved_and_who_uses_the_run_is_told_of_it() {
    let (folder, data) = (TempDir::new().unwrap(), fixture());
    let run = folder.path().join("run");
    let flags =
        [text(&run), text(&data.train), text(&data.test), "--device", "cpu", "--preset", "tiny", "--batch-size", "4"];
    let more = ["--eval-every", "3", "--patience", "2", "--steps", "400", "--beta", "0.5", "--learning-rate", "0.02"];
    succeed("train-vae", &[&flags[..], &more].concat());
    let newest = RunDir::at(&run).latest().unwrap().unwrap();
    let best = newest.about.best.unwrap();
    assert!(best.step + 6 == newest.about.step, "{best:?} {}", newest.about.step);
    let saved = vae_workshop::run::Checkpoint::open(&run.join(format!("step-{:08}", best.step))).unwrap();
    assert_eq!(saved.about.test_loss(), Some(best.total));
    let inspect = |path: &Path| crate::env::run("synth", &["inspect", text(path)]).err;
    let (of_run, of_best) = (inspect(&run), inspect(&saved.path));
    assert!(of_run.contains(&format!("the least test loss is that of {}", saved.path.display())), "{of_run}");
    assert!(of_best.is_empty(), "{of_best}");
    // Once, however often a command opens the run.
    let page = folder.path().join("page.html");
    let said = crate::env::run("evaluate", &["report", text(&run), "-o", text(&page), "--device", "cpu"]).err;
    assert_eq!(said.matches("the newest checkpoint is used").count(), 1, "{said}");
}

#[test]
fn an_evaluation_that_is_made_up_for_and_diverges_puts_the_run_back_too() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    interrupt_evaluation(&run);
    let (mut session, mut task) = vae(&run, []);
    task.infinite_tests = true;
    let (outcome, told) = train(&run, &mut session, &mut task);
    // The checkpoint of step 10 holds what diverges.
    assert_eq!(told, ["back from 10 to 5"]);
    assert!(
        matches!(outcome, Err(Error::Diverged(message)) if message.contains("put back once already, from step 10"))
    );
    assert_eq!(run.latest().unwrap().unwrap().about.step, 5);
}

#[test]
fn a_run_ends_when_its_time_is_over_or_its_test_loss_stays_where_it_is() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    let stop = AtomicUsize::new(0);
    let (mut session, mut task) = vae(&run, []);
    let over = Limits { deadline: Some(Instant::now()), ..LIMITS };
    assert_eq!(fit(&mut task, &mut session, &run, &over, &stop, &mut |_| {}).unwrap(), Outcome::OutOfTime);
    assert_eq!(run.latest().unwrap().unwrap().about.step, 0);
    // With every step skipped the test loss is the same at each evaluation: the first is the best.
    let impatient = Limits { steps: 99, eval_every: 1, patience: Some(3), ..LIMITS };
    let (mut session, mut task) = vae(&run, 1..4);
    assert_eq!(fit(&mut task, &mut session, &run, &impatient, &stop, &mut |_| {}).unwrap(), Outcome::NoBetter);
    assert_eq!((session.about.step, session.about.best.unwrap().step), (4, 1));
    // Nor does the same command go on.
    let (mut session, mut task) = vae(&run, []);
    assert_eq!(fit(&mut task, &mut session, &run, &impatient, &stop, &mut |_| {}).unwrap(), Outcome::NoBetter);
    assert_eq!(session.about.step, 4);
}

/// The lines of a run's `metrics.jsonl`.
fn lines(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn metrics_are_a_line_for_each_logged_step_and_each_step_once_after_a_kill() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    let (mut session, mut task) = vae(&run, [2]);
    train(&run, &mut session, &mut task).0.unwrap();
    let steps = |phase: &str| -> Vec<u64> {
        let of_phase = lines(run.path()).into_iter().filter(|line| line["phase"] == phase);
        of_phase.map(|line| line["step"].as_u64().unwrap()).collect()
    };
    assert_eq!((steps("train"), steps("test")), (vec![5, 10, 15, 20], vec![10, 20]));
    // As if killed in the middle of a line, before the checkpoint of step 20.
    fs::remove_dir_all(run.path().join("step-00000020")).unwrap();
    let path = run.path().join("metrics.jsonl");
    fs::write(&path, [&fs::read(&path).unwrap(), &b"{\"step\": 3, \"pha"[..]].concat()).unwrap();
    let (mut session, mut task) = vae(&run, [2]);
    train(&run, &mut session, &mut task).0.unwrap();
    assert_eq!((steps("train"), steps("test")), (vec![5, 10, 15, 20], vec![10, 20]));
    // The same names as TensorBoard's scalars have.
    const UNSEEN: [&str; 7] =
        ["configuration", "_hparams_/", "pictures/", "audio/", "means/", "latents/means", "latents/samples"];
    let names = |line: &Value| -> BTreeSet<String> {
        line.as_object().unwrap().keys().filter(|name| name.contains('/')).cloned().collect()
    };
    for phase in ["train", "test"] {
        let shown = events::steps(&run.path().join(phase)).into_keys();
        let shown: BTreeSet<String> =
            shown.filter(|tag| !UNSEEN.iter().any(|unseen| tag.starts_with(unseen))).collect();
        let last = lines(run.path()).into_iter().rfind(|line| line["phase"] == phase).unwrap();
        assert_eq!(names(&last), shown);
        assert!(last["wall_time"].as_f64().unwrap() > 1e9 && last["loss/total"].is_number());
    }
    let last = lines(run.path()).pop().unwrap();
    let each: Vec<f64> = (0..3).map(|latent| last[format!("kl/latent-{latent:02}")].as_f64().unwrap()).collect();
    assert!((each.iter().sum::<f64>() - last["loss/kl"].as_f64().unwrap()).abs() < 1e-4);
    assert_eq!(last["latents/active"].as_f64().unwrap(), each.iter().filter(|&&kl| kl > 0.01).count() as f64);
}

fn start(logdir: &Path) -> (Child, impl Iterator<Item = String>) {
    let data = fixture();
    let flags = [text(logdir), text(&data.train), text(&data.test), "--device", "cpu", "--preset", "tiny"];
    let more = ["--steps", "1000000", "--batch-size", "8", "--log-every", "5", "--data-memory", "0"];
    let mut child = Command::new(binary("train-vae")).args(flags).args(more).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    (child, lines)
}

/// A program with its flags but the folder and the steps.
type Trainer = (&'static str, &'static [&'static str]);

const TRAINERS: [Trainer; 4] = [
    ("train-vae", &["--channels", "4,4,4", "--hidden", "8", "--latents", "3"]),
    ("train-vae", &["--arch", "lstm", "--cells", "4", "--latents", "3"]),
    ("train-inverter", &["--bank-size", "2", "--channels", "4", "--gru-cells", "4", "--crop-frames", "16"]),
    ("train-vae", &["--preset", "tiny", "--latents", "3", "--batch-size", "4", "--objective", "factor"]),
];

fn trainer((program, sizes): Trainer, logdir: &Path) -> Command {
    let data = fixture();
    let every = ["--steps", "24", "--batch-size", "2", "--log-every", "1", "--eval-every", "5", "--save-every", "2"];
    let mut command = Command::new(binary(program));
    command.args([text(logdir), text(&data.train), text(&data.test), "--device", "cpu", "--threads", "1"]);
    command.args(every).args(sizes).stdout(Stdio::piped());
    command
}

/// Kills runs of a trainer after random lines of output and at most `delay` more, so many times, and compares what they come to
/// with a run that nobody killed.
fn torture(of: Trainer, kills: u32, delay: Duration, rng: &mut ChaCha8Rng) {
    let folder = TempDir::new().unwrap();
    let straight = folder.path().join("straight");
    assert!(trainer(of, &straight).output().unwrap().status.success());
    let (mut killed, mut halves, mut runs) = (0, 0, 0);
    while killed < kills {
        runs += 1;
        let logdir = folder.path().join(format!("run-{runs}"));
        loop {
            // Read as it goes, unlike the one that nobody killed.
            let mut child = trainer(of, &logdir).args(["--data-memory", "0"]).spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            if killed < kills {
                lines.nth(rng.random_range(0..14));
                std::thread::sleep(delay.mul_f64(rng.random()));
                child.kill().unwrap();
            }
            lines.for_each(|line| drop(line.unwrap()));
            if child.wait().unwrap().success() {
                break;
            }
            killed += 1;
            let names = fs::read_dir(&logdir).into_iter().flatten().map(|entry| entry.unwrap().file_name());
            halves += u32::from(names.into_iter().any(|name| name.to_string_lossy().ends_with(".tmp")));
            RunDir::at(&logdir).latest().unwrap_or_else(|error| panic!("after kill {killed}: {error}"));
        }
        for name in ["model.safetensors", "optimizer.safetensors", "run.json", "manifest.json"] {
            let [one, other] = [&straight, &logdir].map(|run| fs::read(run.join("step-00000024").join(name)).unwrap());
            assert!(one == other, "{name} of {of:?}, run {runs}");
        }
    }
    println!("{of:?}: {killed} kills, {halves} of them with half a checkpoint left behind, {runs} runs to their end");
}

#[test]
fn killed_again_and_again_a_run_comes_to_what_it_would_have_come_to() {
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    [TRAINERS[0], TRAINERS[3]].into_iter().for_each(|of| torture(of, 6, Duration::ZERO, rng));
}

/// `make torture`; VAE_WORKSHOP_KILLS kills of each model.
#[test]
#[ignore = "takes a minute"]
fn torture_every_model() {
    let kills = std::env::var("VAE_WORKSHOP_KILLS").map_or(110, |kills| kills.parse().unwrap());
    let rng = &mut ChaCha8Rng::seed_from_u64(2);
    TRAINERS.into_iter().for_each(|of| torture(of, kills, Duration::from_millis(40), rng));
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_signal_stops_a_run_in_good_order_while_it_loads_trains_or_saves() {
    let folder = TempDir::new().unwrap();
    // Each line is the first of another phase: sets are listed, segments are loaded, the first checkpoint is written, training.
    for (number, until) in ["train: ", "segments: ", "model: ", "saved", "step 5 "].iter().enumerate() {
        for (name, status) in [("-INT", 130), ("-TERM", 143)] {
            let logdir = folder.path().join(format!("{number}{name}"));
            let (mut child, mut lines) = start(&logdir);
            assert!(lines.any(|line| line.starts_with(until)));
            signal(&child, name);
            signal(&child, name); // a second one does no damage
            lines.for_each(drop);
            assert_eq!(child.wait().unwrap().code(), Some(status), "{until} {name}");
            if let Some(found) = RunDir::at(&logdir).latest().unwrap() {
                let said = succeed("synth", &["inspect", text(&logdir)]);
                assert!(said.contains(&format!("steps          {}", found.about.step)), "{said}");
            }
        }
    }
}

#[test]
fn under_nohup_a_closed_terminal_does_not_stop_a_run() {
    let (folder, data) = (TempDir::new().unwrap(), fixture());
    let run = |name: &str, before: &[&str]| {
        let logdir = folder.path().join(name);
        let command = [before, &[binary("train-vae"), text(&logdir), text(&data.train), text(&data.test)]].concat();
        let flags = ["--device", "cpu", "--preset", "tiny", "--steps", "150", "--batch-size", "8", "--log-every", "5"];
        let mut command_line = Command::new(command[0]);
        command_line.args(&command[1..]).args(flags).stdout(Stdio::piped());
        // SAFETY: `signal` may be called between fork and exec. These tests may run under `nohup` themselves.
        unsafe { command_line.pre_exec(|| (libc::signal(libc::SIGHUP, libc::SIG_DFL), Ok(())).1) };
        let mut child = command_line.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
        assert!(lines.any(|line| line.starts_with("step 5 ")));
        signal(&child, "-HUP");
        lines.for_each(drop);
        child.wait().unwrap().code()
    };
    assert_eq!(run("closed", &[]), Some(129));
    assert_eq!(run("nohup", &["nohup"]), Some(0));
}
