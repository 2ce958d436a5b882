//! The terminal, which may go away before the process ends.

/// Lets the process outlive its terminal. When that hangs up, the standard streams that are on it are
/// replaced by ones that take everything and give nothing: writing to a terminal that is gone fails,
/// and the dashboard, which writes all the time, would end the process before it has saved.
#[cfg(unix)]
pub fn outlive() {
    let streams: Vec<i32> = (0..3).filter(|fd| is_terminal(*fd)).collect();
    let Some(first) = streams.first().copied() else {
        return;
    };
    let watch = move || {
        if hangs_up(first)
            && let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null")
        {
            let null = std::os::fd::AsRawFd::as_raw_fd(&null);
            for fd in streams {
                // SAFETY: both are open; the standard streams are not owned by any value.
                unsafe { libc::dup2(null, fd) };
            }
        }
    };
    // Without the thread all is as without a dashboard.
    let _ = std::thread::Builder::new().name("terminal".to_owned()).spawn(watch);
}

#[cfg(unix)]
fn is_terminal(fd: i32) -> bool {
    // SAFETY: isatty takes any number.
    unsafe { libc::isatty(fd) == 1 }
}

/// Waits until a terminal hangs up; false where that cannot be known.
#[cfg(unix)]
fn hangs_up(fd: i32) -> bool {
    // Without events to wait for, what is reported is that the terminal is gone.
    let mut poll = libc::pollfd { fd, events: 0, revents: 0 };
    loop {
        // SAFETY: one entry is given, and outlives the call.
        let found = unsafe { libc::poll(&raw mut poll, 1, -1) };
        let interrupted = std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted;
        match found {
            1.. => return poll.revents & libc::POLLHUP != 0,
            _ if interrupted => {}
            _ => return false,
        }
    }
}

#[cfg(not(unix))]
pub fn outlive() {}
