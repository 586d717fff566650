//! Pitch and voicing of speech: pYIN, that is YIN's candidates under all thresholds and the likeliest path through them.
//!
//! # References
//! de Cheveigné and Kawahara, "YIN, a fundamental frequency estimator for speech and music", 2002 (the difference function).
//! Mauch and Dixon, "pYIN: a fundamental frequency estimator using probabilistic threshold distributions", 2014; with the
//! prior over troughs and the numbers of its authors' program, which are librosa's too.

use ndarray::Array2;

/// Lowest pitch that is looked for, in hertz: below a low man's voice.
pub const LOWEST_HZ: f64 = 60.0;
/// Highest pitch that is looked for, in hertz: above a child's.
pub const HIGHEST_HZ: f64 = 600.0;
/// States per semitone: 10 cents each.
const STATES_PER_SEMITONE: f64 = 10.0;
/// Thresholds that YIN is tried with: 0.01, 0.02, … 1.
const THRESHOLDS: usize = 100;
/// How much likelier than the next one the trough of the shortest period is, as a logarithm.
const SHORTEST_FIRST: f64 = 2.0;
/// Share of a threshold's probability that the deepest trough has if none lies below the threshold.
const NO_TROUGH: f64 = 0.01;
/// Probability that a voice sets in or out from one frame to the next.
const SWITCH: f64 = 0.01;
/// How fast pitch moves at most, in octaves a second.
const OCTAVES_PER_SECOND: f64 = 35.92;

/// A tracker for one sample rate and hop.
#[derive(Clone, Debug)]
pub struct PitchTracker {
    sample_rate: f64,
    hop: usize,
    /// Samples that are compared with those a period later; frames are twice as long.
    window: usize,
    /// Shortest and longest period, in samples.
    periods: (usize, usize),
    /// Probability of each threshold: Beta(2, 18), whose mean is YIN's 0.1.
    thresholds: Vec<f64>,
    states: usize,
    /// Logarithms of the weights of moving by 0, 1, 2, … states in a frame.
    moves: Vec<f64>,
}

/// One trough of the difference function.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    hz: f64,
    state: usize,
    probability: f64,
}

impl PitchTracker {
    /// Frames every `hop` samples, of 64 ms, which holds two periods of the lowest pitch wherever they begin.
    ///
    /// # Panics
    /// If `hop` is 0 or `sample_rate` below 4 kHz, where the highest pitch is too few samples long.
    pub fn new(sample_rate: u32, hop: usize) -> Self {
        assert!(hop > 0 && sample_rate >= 4000, "no pitch can be tracked every {hop} samples at {sample_rate} Hz");
        let rate = f64::from(sample_rate);
        let cumulative = |x: f64| 1.0 - (1.0 - x).powi(19) - 19.0 * x * (1.0 - x).powi(18);
        let step = |index: usize| cumulative(index as f64 / THRESHOLDS as f64);
        let semitones = (12.0 * OCTAVES_PER_SECOND * hop as f64 / rate).round();
        let reach = (semitones * STATES_PER_SEMITONE / 2.0) as usize;
        Self {
            sample_rate: rate,
            hop,
            window: (0.032 * rate) as usize,
            periods: ((rate / HIGHEST_HZ).floor() as usize, (rate / LOWEST_HZ).ceil() as usize),
            thresholds: (0..THRESHOLDS).map(|index| step(index + 1) - step(index)).collect(),
            states: (12.0 * STATES_PER_SEMITONE * (HIGHEST_HZ / LOWEST_HZ).log2()).floor() as usize + 1,
            moves: (0..=reach).map(|by| (1.0 - by as f64 / (reach + 1) as f64).ln()).collect(),
        }
    }

    /// The pitch in hertz every hop, `None` where there is no voice. Frame `t` is centred on sample `t * hop`; beyond the
    /// ends there are zeros. Level does not matter.
    ///
    /// # Shapes
    /// `[len]` -> `[1 + len / hop]`
    pub fn track(&self, samples: &[f64]) -> Vec<Option<f64>> {
        let frames: Vec<_> = (0..=samples.len() / self.hop).map(|t| self.candidates(samples, t)).collect();
        let mut observed = Array2::zeros((frames.len(), self.states + 1)); // the last column: no voice, any pitch
        for (candidates, mut row) in frames.iter().zip(observed.rows_mut()) {
            candidates.iter().for_each(|candidate| row[candidate.state] = candidate.probability);
            let voiced = row.sum().min(1.0);
            row[self.states] = (1.0 - voiced) / self.states as f64;
        }
        let found = self.likeliest(observed).into_iter().zip(frames);
        // A candidate knows the pitch better than the state that it fell into. The longest of several periods counts,
        // whose probability the state has.
        found
            .map(|(state, candidates)| {
                let state = state?;
                let candidate = candidates.iter().rev().find(|candidate| candidate.state == state);
                Some(candidate.map_or(self.hz(state), |candidate| candidate.hz))
            })
            .collect()
    }

    /// The pitch of a state.
    fn hz(&self, state: usize) -> f64 {
        LOWEST_HZ * (state as f64 / (12.0 * STATES_PER_SEMITONE)).exp2()
    }

    /// YIN's difference function over the range of periods, normalised by its cumulative mean (equations 6 and 8). Both
    /// windows lie around the frame's centre, whatever the period: speech would otherwise be seen some 10 ms too early.
    fn differences(&self, samples: &[f64], t: usize) -> Vec<f64> {
        let (shortest, longest) = self.periods;
        let start = (t * self.hop) as isize - self.window as isize;
        let at =
            |index: isize| usize::try_from(index).ok().and_then(|index| samples.get(index)).copied().unwrap_or(0.0);
        let frame: Vec<f64> = (start..start + 2 * self.window as isize).map(at).collect();
        let mut sum = 0.0;
        let mut normalised = Vec::with_capacity(longest - shortest + 1);
        for period in 1..=longest {
            // Lanes, because a sum in strict order would not be computed by vector instructions.
            let mut lanes = [0.0; 8];
            let first = (self.window - period) / 2;
            let (now, later) = (&frame[first..first + self.window], &frame[first + period..]);
            for (now, later) in now.chunks_exact(8).zip(later.chunks_exact(8)) {
                (0..8).for_each(|lane| lanes[lane] += (now[lane] - later[lane]).powi(2));
            }
            let difference: f64 = lanes.iter().sum();
            sum += difference;
            if period >= shortest {
                normalised.push(difference / (sum / period as f64 + f64::MIN_POSITIVE));
            }
        }
        normalised
    }

    /// The troughs of frame `t` that have a probability, from the shortest period to the longest.
    fn candidates(&self, samples: &[f64], t: usize) -> Vec<Candidate> {
        let curve = self.differences(samples, t);
        let last = curve.len() - 1;
        let is_trough = |i: usize| match i {
            0 => curve[0] < curve[1],
            i if i == last => curve[i] < curve[i - 1],
            i => curve[i] < curve[i - 1] && curve[i] <= curve[i + 1],
        };
        let troughs: Vec<usize> = (0..=last).filter(|&i| is_trough(i)).collect();
        let Some(deepest) = (0..troughs.len()).min_by(|&a, &b| curve[troughs[a]].total_cmp(&curve[troughs[b]])) else {
            return Vec::new();
        };
        let mut probability = vec![0.0; troughs.len()];
        for (index, weight) in self.thresholds.iter().enumerate() {
            let threshold = (index + 1) as f64 / THRESHOLDS as f64;
            let below: Vec<usize> = (0..troughs.len()).filter(|&i| curve[troughs[i]] < threshold).collect();
            if below.is_empty() {
                probability[deepest] += NO_TROUGH * weight;
            }
            let scale = (1.0 - (-SHORTEST_FIRST).exp()) / (1.0 - (-SHORTEST_FIRST * below.len() as f64).exp());
            for (place, &trough) in below.iter().enumerate() {
                probability[trough] += weight * scale * (-SHORTEST_FIRST * place as f64).exp();
            }
        }
        let candidate = |(&trough, probability): (&usize, f64)| {
            let period = (self.periods.0 + trough) as f64 + vertex(&curve, trough);
            let hz = self.sample_rate / period;
            let state = (12.0 * STATES_PER_SEMITONE * (hz / LOWEST_HZ).log2()).round().max(0.0) as usize;
            (probability > 0.0 && state < self.states).then_some(Candidate { hz, state, probability })
        };
        troughs.iter().zip(probability).filter_map(candidate).collect()
    }

    /// The likeliest path: each frame's state, `None` without voice. Also where there is no voice a pitch moves on unseen.
    ///
    /// # Shapes
    /// Probabilities `[frames, states + 1]`, of each state and of any one without voice -> `[frames]`
    fn likeliest(&self, observed: Array2<f64>) -> Vec<Option<usize>> {
        let (frames, states) = (observed.nrows(), self.states);
        let log = |probability: f64| (probability + f64::MIN_POSITIVE).ln();
        let (stay, switch) = ((1.0 - SWITCH).ln(), SWITCH.ln());
        let exits: Vec<f64> = (0..states).map(|state| self.exits(state).ln()).collect();
        // First all states with voice, then all without; `from` holds the index of the state before.
        let mut from = Array2::<u16>::zeros((frames, 2 * states));
        let mut value = vec![0.0; 2 * states];
        for t in 0..frames {
            let mut next = vec![0.0; 2 * states];
            if t > 0 {
                let [voiced, voiceless] = [0, states].map(|half| self.arrivals(&value[half..half + states], &exits));
                for state in 0..states {
                    for (half, [to_voiced, to_voiceless]) in [(0, [stay, switch]), (states, [switch, stay])] {
                        let (a, b) = (voiced[state].0 + to_voiced, voiceless[state].0 + to_voiceless);
                        let best = if a >= b { (a, voiced[state].1) } else { (b, states + voiceless[state].1) };
                        next[half + state] = best.0;
                        from[[t, half + state]] = best.1 as u16;
                    }
                }
            }
            let row = observed.row(t);
            let without = log(row[states]);
            next[..states].iter_mut().zip(row).for_each(|(next, &probability)| *next += log(probability));
            next[states..].iter_mut().for_each(|next| *next += without);
            value = next;
        }
        let best = (0..2 * states).reduce(|best, state| if value[state] > value[best] { state } else { best });
        trace(from, best.expect("there are states"))
            .into_iter()
            .map(|state| (state < states).then_some(state))
            .collect()
    }

    /// Sum of the weights of all moves out of a state: at the ends of the range there are fewer.
    fn exits(&self, state: usize) -> f64 {
        let weight = |to: usize| self.moves.get(to.abs_diff(state)).map_or(0.0, |log| log.exp());
        (0..self.states).map(weight).sum()
    }

    /// For each state the best value with which it is reached and from where, voicing aside.
    fn arrivals(&self, value: &[f64], exits: &[f64]) -> Vec<(f64, usize)> {
        let leaving: Vec<f64> = value.iter().zip(exits).map(|(value, exits)| value - exits).collect();
        let reach = self.moves.len() - 1;
        let best = |state: usize| {
            let near = state.saturating_sub(reach)..(state + reach + 1).min(leaving.len());
            near.map(|other| (leaving[other] + self.moves[other.abs_diff(state)], other))
                .fold((f64::NEG_INFINITY, state), |best, this| if this.0 > best.0 { this } else { best })
        };
        (0..leaving.len()).map(best).collect()
    }
}

/// Walks back from the last frame's best state.
fn trace(from: Array2<u16>, last: usize) -> Vec<usize> {
    let mut path = vec![last; from.nrows()];
    for t in (1..path.len()).rev() {
        path[t - 1] = usize::from(from[[t, path[t]]]);
    }
    path
}

/// Where between its neighbours the parabola through a trough has its vertex; 0 at the ends and beyond one step.
fn vertex(curve: &[f64], at: usize) -> f64 {
    if at == 0 || at + 1 == curve.len() {
        return 0.0;
    }
    let (before, here, after) = (curve[at - 1], curve[at], curve[at + 1]);
    let (bend, slope) = (after + before - 2.0 * here, 0.5 * (after - before));
    if slope.abs() >= bend.abs() { 0.0 } else { -slope / bend }
}
