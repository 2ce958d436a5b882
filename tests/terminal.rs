//! Runs on a terminal, with the dashboard.

#![cfg(target_os = "linux")]

use std::{
    fs::File,
    io::Read,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::Place;

/// Starts a command on a terminal of its own, and gives the other end of that.
fn on_a_terminal(command: &mut Command) -> (Child, File) {
    let (mut master, mut slave) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: both numbers are written to, nothing else is asked for; each is owned once from here on.
    let (master, slave) = unsafe {
        assert_eq!(
            libc::openpty(&raw mut master, &raw mut slave, null, null.cast(), null.cast()),
            0
        );
        // Or the command would hold the other end of its terminal, too.
        libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(slave, libc::F_SETFD, libc::FD_CLOEXEC);
        (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    };
    let stream = || Stdio::from(slave.try_clone().unwrap());
    command.env("TERM", "xterm").stdin(stream()).stdout(stream()).stderr(stream());
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    (command.spawn().unwrap(), master)
}

#[test]
fn a_run_whose_terminal_is_closed_saves_first() {
    let place = Place::trained();
    let sets = ["train.steps=3000", "train.checkpoint_every=3000"];
    let sets = sets.into_iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> =
        ["train", "run.toml", "--out", "long"].into_iter().chain(sets).collect();
    let (mut child, mut terminal) = on_a_terminal(&mut place.command(&arguments));
    let began = Instant::now();
    let log = || std::fs::read_to_string(place.path("long/train.log")).unwrap_or_default();
    while !log().contains(" step 50/3000 ") {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", log());
        let _ = terminal.read(&mut [0; 4096]);
    }
    drop(terminal);
    assert_eq!(child.wait().unwrap().code(), Some(130), "{}", log());
    let log = log();
    assert!(log.contains(" SIGHUP: interrupted after step "), "{log}");
    assert!(place.list("long/checkpoints").contains("train/state.json"));
}

#[test]
fn baselines_end_when_their_terminal_is_closed() {
    let place = Place::trained();
    let arguments = ["baselines", "run", "--budget", "total"];
    // At several moments: whether keys are being waited for is a matter of chance.
    for wait in [250, 350, 450] {
        let (mut child, terminal) = on_a_terminal(&mut place.command(&arguments));
        std::thread::sleep(Duration::from_millis(wait));
        drop(terminal);
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(60), "{wait} ms");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    place.matformer(&["baselines", "run", "--budget", "total"]).ok();
}
