//! What `--version` prints.

use std::sync::LazyLock;

/// Backends, and whether this build has them.
const BACKENDS: [(&str, bool); 3] = [
    ("flex (CPU)", cfg!(feature = "flex")),
    ("wgpu", cfg!(feature = "wgpu")),
    ("cuda", cfg!(feature = "cuda")),
];

static LONG: LazyLock<String> = LazyLock::new(|| {
    let commit = commit().map(|commit| format!("commit {commit}\n")).unwrap_or_default();
    let backends: Vec<&str> =
        BACKENDS.iter().filter(|(_, built)| *built).map(|(name, _)| *name).collect();
    format!("{}\n{commit}backends: {}", env!("CARGO_PKG_VERSION"), backends.join(", "))
});

/// The commit that this program was built from, where that is known.
pub fn commit() -> Option<&'static str> {
    option_env!("MATFORMER_COMMIT")
}

/// Version, commit where it is known, and the backends that are built in.
pub fn long() -> &'static str {
    &LONG
}
