//! The order of training items as a function of the seed: endless epochs, each shuffled anew, batches that always fill.

use std::ops::Range;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::random;

/// A stretch of one file, in few bytes: an epoch of 100 hours has two million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Index of the file in its set.
    pub file: u32,
    /// First frame.
    pub start: u32,
    /// Number of frames.
    pub frames: u32,
}

impl Item {
    /// # Panics
    /// If a number is beyond `u32`.
    pub fn new(file: usize, start: usize, frames: usize) -> Self {
        let [file, start, frames] = [file, start, frames]
            .map(|number| number.try_into().expect("sets are checked for this when they are opened"));
        Self { file, start, frames }
    }

    /// Its frames.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.frames as usize
    }
}

/// Where a sampler stands: so many items of this epoch are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Epochs that are finished.
    pub epoch: u64,
    /// Items of this epoch that have been given out.
    pub used: usize,
}

/// Lists the items of an epoch, drawing from its generator.
type ListItems = dyn Fn(&mut ChaCha8Rng) -> Vec<Item> + Send;

/// Draws batches of items from the epochs of a seed.
pub struct Sampler {
    seed: u64,
    items: Box<ListItems>,
    position: Position,
    epoch: Vec<Item>,
}

impl Sampler {
    /// `items` lists an epoch's items, given the epoch's generator (for random offsets); the sampler shuffles them.
    ///
    /// # Panics
    /// If an epoch has no items.
    pub fn new(seed: u64, items: impl Fn(&mut ChaCha8Rng) -> Vec<Item> + Send + 'static) -> Self {
        let mut sampler = Self { seed, items: Box::new(items), position: Position::default(), epoch: Vec::new() };
        sampler.seek(Position::default());
        sampler
    }

    /// Where the next batch begins.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes to `position`, as if everything before it had been drawn.
    pub fn seek(&mut self, position: Position) {
        let rng = &mut random::stream(self.seed, "order", position.epoch);
        self.epoch = (self.items)(rng);
        assert!(!self.epoch.is_empty(), "an epoch needs at least one item");
        self.epoch.shuffle(rng);
        self.position = position;
    }

    /// The next `count` items, across epochs where one ends.
    pub fn next_batch(&mut self, count: usize) -> Vec<Item> {
        let mut batch = Vec::with_capacity(count);
        while batch.len() < count {
            if self.position.used >= self.epoch.len() {
                self.seek(Position { epoch: self.position.epoch + 1, used: 0 });
            }
            let rest = &self.epoch[self.position.used..];
            let taken = rest.len().min(count - batch.len());
            batch.extend_from_slice(&rest[..taken]);
            self.position.used += taken;
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    fn sampler() -> Sampler {
        Sampler::new(3, |rng| {
            let offset = rng.random_range(0..5);
            (0..7).map(|file| Item::new(file, offset, 4)).collect()
        })
    }

    #[test]
    fn batches_always_fill_and_an_epoch_uses_each_item_once() {
        let mut sampler = sampler();
        let mut files: Vec<u32> = (0..7).flat_map(|_| sampler.next_batch(5)).map(|item| item.file).collect();
        assert_eq!(files.len(), 35);
        for epoch in files.chunks_mut(7) {
            epoch.sort();
            assert_eq!(epoch, [0, 1, 2, 3, 4, 5, 6]);
        }
    }

    #[test]
    fn seeking_continues_exactly_where_another_sampler_stood() {
        let (mut one, mut other) = (sampler(), sampler());
        (0..9).for_each(|_| drop(one.next_batch(4)));
        other.seek(one.position());
        for _ in 0..9 {
            assert_eq!(one.next_batch(4), other.next_batch(4));
        }
    }
}
