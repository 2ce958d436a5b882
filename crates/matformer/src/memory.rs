//! How the process keeps its memory.

/// Keeps freed memory instead of handing it back to the system: a training step frees what the next
/// one allocates again, and every page that comes back costs a fault. Call it first in `main`.
///
/// The process then holds what it needed at its peak until it ends. Does something where glibc
/// allocates; other allocators have rules of their own.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Larger buffers are still the system's own, one by one.
        const LARGEST: libc::c_int = 1 << 30;
        // SAFETY: mallopt only sets parameters of the allocator.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        }
    }
}
