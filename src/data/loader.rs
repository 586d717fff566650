//! Batches, made ahead of training by threads of their own.
//!
//! The order is drawn where training runs; the threads only fill in what was drawn. So a batch is a function of the seed and its
//! place in the order alone, however many threads there are and wherever the data lies.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::{Item, Position, Sampler};
use crate::device::is_cpu;
use crate::{Error, Result};

/// What items are cut from.
pub trait Dataset: Send + Sync + 'static {
    /// What becomes of them, in the memory of the CPU.
    type Batch: Send + 'static;

    /// The items as a batch; what is drawn for it is a function of its place in the order.
    ///
    /// # Errors
    /// If one of their files cannot be read, is no longer what it was, or holds values that are not finite there.
    fn batch(&self, items: &[Item], at: Position) -> Result<Self::Batch>;
}

/// Gives the batches of a sampler in their order, the next ones being under way.
pub struct Loader<D: Dataset> {
    data: Arc<D>,
    sampler: Sampler,
    size: usize,
    /// Where the sampler stood after the last batch that was given out.
    position: Position,
    ahead: VecDeque<Order<D>>,
    threads: ThreadPool,
    waited: Duration,
}

/// A batch under way.
struct Order<D: Dataset> {
    items: Vec<Item>,
    after: Position,
    made: Receiver<Result<D::Batch>>,
}

/// Threads that load as fast as `device` trains: on the CPU they read and copy where the process's own multiply, elsewhere
/// all but one are free for it.
pub fn loader_threads(device: &Device) -> usize {
    let threads = rayon::current_num_threads();
    if is_cpu(device) { threads.div_ceil(4).min(8) } else { (threads - 1).clamp(1, 16) }
}

impl<D: Dataset> Loader<D> {
    /// Batches of `size` items of `data`. They are begun when the first is asked for.
    ///
    /// # Errors
    /// [`Error::Config`] if the system gives no threads.
    pub fn new(data: D, sampler: Sampler, size: usize, threads: usize) -> Result<Self> {
        let threads = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("loader-{index}"))
            .panic_handler(|_| {}) // the one who waits for the batch panics in its place
            .build()
            .map_err(|error| Error::Config(format!("cannot start {threads} threads that load data: {error}")))?;
        let (data, position) = (Arc::new(data), sampler.position());
        Ok(Self { data, sampler, size, position, ahead: VecDeque::new(), threads, waited: Duration::ZERO })
    }

    /// What the batches are of.
    pub fn data(&self) -> &D {
        &self.data
    }

    /// Where the next batch begins, whatever is made ahead.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Makes the next batch begin at `position`.
    pub fn seek(&mut self, position: Position) {
        self.ahead.clear();
        self.sampler.seek(position);
        self.position = position;
    }

    /// The next batch and its items.
    ///
    /// # Errors
    /// As [`Dataset::batch`]; the position stays before that batch.
    pub fn next_batch(&mut self) -> Result<(Vec<Item>, D::Batch)> {
        while self.ahead.len() <= self.threads.current_num_threads() {
            let at = self.sampler.position();
            let items = self.sampler.next_batch(self.size);
            let order = order(&self.threads, &self.data, items, at, self.sampler.position());
            self.ahead.push_back(order);
        }
        let Order { items, after, made } = self.ahead.pop_front().expect("it was filled");
        let begun = Instant::now();
        let batch = made.recv().expect("a batch is made or the reason given");
        self.waited += begun.elapsed();
        match batch {
            Ok(batch) => {
                self.position = after;
                Ok((items, batch))
            }
            Err(error) => {
                self.seek(self.position);
                Err(error)
            }
        }
    }

    /// What `data` makes of the items, so many at a time, one after the other, by the same threads.
    pub fn each<'a>(
        &'a self,
        data: &'a Arc<D>,
        items: &'a [Item],
        size: usize,
    ) -> impl Iterator<Item = Result<D::Batch>> + 'a {
        let mut chunks = items.chunks(size);
        let mut ahead = VecDeque::new();
        std::iter::from_fn(move || {
            while ahead.len() <= self.threads.current_num_threads() {
                let Some(chunk) = chunks.next() else { break };
                ahead.push_back(order(&self.threads, data, chunk.to_vec(), Position::default(), Position::default()));
            }
            let Order { made, .. } = ahead.pop_front()?;
            Some(made.recv().expect("a batch is made or the reason given"))
        })
    }
}

impl<D: Dataset> Drop for Loader<D> {
    fn drop(&mut self) {
        tracing::debug!("training waited {:.3} s for batches", self.waited.as_secs_f64());
    }
}

/// Has `threads` make the batch between two places.
fn order<D: Dataset>(threads: &ThreadPool, data: &Arc<D>, items: Vec<Item>, at: Position, after: Position) -> Order<D> {
    let (give, made) = sync_channel(1);
    let (data, wanted) = (data.clone(), items.clone());
    // Nobody waits for it any more after a seek or at the end.
    threads.spawn_fifo(move || drop(give.send(data.batch(&wanted, at))));
    Order { items, after, made }
}
