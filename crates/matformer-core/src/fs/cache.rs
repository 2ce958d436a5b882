//! Folders whose contents can be made again.

use std::path::Path;

use super::{create_dir_all, read_dir, sweep, write_atomic};
use crate::Result;

/// The file that marks a folder as a cache (<https://bford.info/cachedir/>); Cargo puts it into `target`.
pub const CACHE_TAG: &str = "CACHEDIR.TAG";

const TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n\
    # Data that matformer prepared or fetched; it may be deleted.\n";

/// Creates the folder, tags it as a cache if it is empty, and removes what killed processes left in it.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io).
pub fn enter_cache(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    create_dir_all(folder)?;
    // A folder that somebody uses for other things is not tagged.
    if read_dir(folder)?.is_empty() {
        write_atomic(folder.join(CACHE_TAG), TAG)?;
    }
    sweep(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::scratch_dir;

    #[test]
    fn an_empty_folder_is_tagged_and_scratch_folders_of_nobody_are_swept() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("data");
        let make = |name: &str| std::fs::create_dir_all(folder.join(name).join("sub")).unwrap();
        make(".tmp-killed");
        make("0123456789abcdef");
        let ours = scratch_dir(folder.join("fedcba9876543210")).unwrap();
        enter_cache(&folder).unwrap();
        assert!(!folder.join(".tmp-killed").exists());
        assert!(folder.join("0123456789abcdef").exists());
        assert!(ours.path().exists(), "somebody is at work");
        assert!(!folder.join(CACHE_TAG).exists(), "it was not empty");
        let empty = cache.path().join("empty");
        enter_cache(&empty).unwrap();
        assert_eq!(read_dir(&empty).unwrap(), [empty.join(CACHE_TAG)]);
    }
}
