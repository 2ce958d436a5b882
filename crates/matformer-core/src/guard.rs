//! Panics of other people's code, which are errors of what it reads.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `f` returns, or nothing if it panics: for libraries that panic on damaged files. What `f` has changed by then
/// must not be used.
pub fn guarded<T>(f: impl FnOnce() -> T) -> Option<T> {
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    GUARDED.set(before);
    result.ok()
}

/// From here on, panics inside [`guarded`] print nothing. Call it once, in a program.
pub fn quiet_guarded() {
    let print = take_hook();
    set_hook(Box::new(move |panic| {
        if !GUARDED.get() {
            print(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_nothing_and_the_next_call_is_guarded_anew() {
        assert_eq!(guarded(|| 3), Some(3));
        assert_eq!(guarded(|| guarded(|| panic!("inner")).unwrap_or(4)), Some(4));
        assert_eq!(guarded(|| -> u8 { panic!("outer") }), None);
        assert!(!GUARDED.get());
    }
}
