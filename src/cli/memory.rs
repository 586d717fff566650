//! What happens when a GPU's memory is too small.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use crate::{Error, Result};

/// What the backend calls it, in an error or, where the tensor that did not fit is looked at, in a panic.
const SIGNS: [&str; 6] = [
    "out of memory",
    "out of device memory",
    "out-of-memory",
    "OutOfMemory",
    "BufferTooBig",
    "can't allocate buffer of size",
];

/// Runs `body`, which trains with batches of `size`.
///
/// # Errors
/// [`Error::Device`] with the size to try if the device runs out of memory, else as `body`. Any other panic goes on.
pub fn watch<T>(size: usize, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !of_memory(info.payload()) {
            before(info);
        }
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    drop(panic::take_hook());
    match outcome {
        Ok(Err(Error::Device(text))) if tells_of_memory(&text) => Err(too_small(size)),
        Ok(outcome) => outcome,
        Err(panic) if of_memory(&*panic) => Err(too_small(size)),
        Err(panic) => panic::resume_unwind(panic),
    }
}

fn too_small(size: usize) -> Error {
    Error::Device(match size {
        0..=1 => "the device's memory does not hold a batch of one: a smaller network or --device cpu is needed".into(),
        _ => {
            let half = size / 2;
            format!("the device's memory does not hold a batch of {size}: try --batch-size {half} in a new LOGDIR")
        }
    })
}

fn of_memory(panic: &dyn Any) -> bool {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.is_some_and(tells_of_memory)
}

fn tells_of_memory(text: &str) -> bool {
    SIGNS.iter().any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_is_an_error_with_the_batch_size_to_try_and_other_panics_go_on() {
        let full =
            |size| watch::<()>(size, || panic!("Error while reading: out of device memory allocating 512 bytes"));
        let said = full(128).unwrap_err().to_string();
        assert!(said.contains("a batch of 128") && said.contains("--batch-size 64"), "{said}");
        assert!(full(1).unwrap_err().to_string().contains("a batch of one"));
        let read =
            || panic!("this crate computes in f32: skipped `AddSquares`\ncan't allocate buffer of size: 10485760");
        assert!(watch::<()>(128, read).unwrap_err().to_string().contains("--batch-size 64"));
        let told = watch::<()>(64, || Err(Error::Device("out of device memory allocating 512 bytes".into())));
        assert!(told.unwrap_err().to_string().contains("--batch-size 32"));
        let other = watch::<()>(64, || Err(Error::Device("no NVIDIA driver".into())));
        assert_eq!(other.unwrap_err().to_string(), Error::Device("no NVIDIA driver".into()).to_string());
        assert_eq!(watch(1, || Ok(7)).unwrap(), 7);
        let other = panic::catch_unwind(|| watch::<()>(2, || panic!("index out of bounds")));
        assert_eq!(other.unwrap_err().downcast_ref::<&str>(), Some(&"index out of bounds"));
    }
}
