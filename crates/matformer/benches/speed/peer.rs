//! PyTorch in a process of its own, asked for one timed step at a time.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A running `xtask/python/bench_train.py`.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// `torch` and its version.
    pub version: String,
}

impl Peer {
    /// Starts the script with a Python that has torch.
    pub fn start(python: &str) -> Result<Self> {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/python/bench_train.py");
        let threads = std::thread::available_parallelism()?.to_string();
        let mut child = Command::new(python)
            .arg(script)
            .arg(threads)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("--python {python}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("--python {python}: no pipes");
        };
        let mut peer =
            Self { child, input, output: BufReader::new(output), version: String::new() };
        let hello = peer.answer().with_context(|| format!("--python {python}: has it torch?"))?;
        peer.version = format!("torch {}", hello["torch"].as_str().unwrap_or_default());
        Ok(peer)
    }

    /// What the script answers to a request; an `error` in it is an error.
    pub fn ask(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.input, "{request}")?;
        self.input.flush()?;
        let answer = self.answer()?;
        match answer["error"].as_str() {
            Some(error) => bail!("{error}"),
            None => Ok(answer),
        }
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the script ended");
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
