//! `--preview`: pictures of some of the feature files, so that a glance tells whether an extraction went well.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::beside::create_parent;
use crate::features::FeatureFile;
use crate::picture::{PictureConfig, write_comparison_png};

/// Draws the log-mel spectra of `count` of `files`, or of all if there are fewer, evenly spread over them, into
/// `target_dir/preview`; a picture is named as its file is below `target_dir`.
///
/// # Errors
/// As [`FeatureFile::read_logmel`] and [`write_comparison_png`].
pub fn draw(files: &[PathBuf], count: usize, target_dir: &Path) -> Result<()> {
    for file in spread(files, count) {
        let (logmel, _) = FeatureFile::read_logmel(file)?;
        let name = file.strip_prefix(target_dir).unwrap_or(file);
        // `X.feat.npz` has two endings.
        let path = target_dir.join("preview").join(name.with_extension("").with_extension("png"));
        create_parent(&path)?;
        write_comparison_png(&path, &[logmel.view()], &PictureConfig::default())?;
    }
    Ok(())
}

/// The middles of `count` equal parts.
fn spread<T>(all: &[T], count: usize) -> impl Iterator<Item = &T> {
    let count = count.min(all.len());
    (0..count).map(move |part| &all[(2 * part + 1) * all.len() / (2 * count)])
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn what_is_chosen_is_spread_evenly() {
        let all: Vec<usize> = (0..100).collect();
        let of = |len, count| spread(&all[..len], count).copied().collect::<Vec<_>>();
        assert_eq!(of(100, 4), [12, 37, 62, 87]);
        assert_eq!((of(3, 9), of(1, 1), of(0, 5), of(5, 0)), (vec![0, 1, 2], vec![0], vec![], vec![]));
    }
}
