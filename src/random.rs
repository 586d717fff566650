//! Random numbers as a function of (seed, purpose, index): a resumed run draws what an uninterrupted one would have drawn.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The generator of one purpose ("noise", "order") at one index (a step, an epoch). Streams do not overlap.
pub fn stream(seed: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    let mut key = Sha256::new();
    key.update(seed.to_le_bytes());
    key.update(index.to_le_bytes());
    key.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(key.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn a_stream_repeats_itself_and_differs_from_its_neighbours() {
        let first = |seed, purpose, index| stream(seed, purpose, index).random::<u64>();
        assert_eq!(first(1, "noise", 2), first(1, "noise", 2));
        let others = [first(2, "noise", 2), first(1, "order", 2), first(1, "noise", 3)];
        assert!(others.iter().all(|&other| other != first(1, "noise", 2)));
    }
}
