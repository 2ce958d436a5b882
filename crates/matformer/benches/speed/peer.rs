//! PyTorch or faiss in a separate process, which times one piece of work per request.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use matformer::nn::device::in_host_memory;
use serde_json::Value;

/// PyTorch's name for the kind of a device.
pub fn device(device: &Device) -> &'static str {
    if in_host_memory(device) { "cpu" } else { "cuda" }
}

/// A running script of `xtask/python`.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Name and version of the library that it times: `torch 2.15`.
    pub version: String,
}

impl Peer {
    /// Starts `bench_train.py`; `python` is an interpreter with torch.
    pub fn start(python: &str) -> Result<Self> {
        Self::of(python, include_str!("../../../../xtask/python/bench_train.py"), "torch")
    }

    /// Starts a script, of which the text is given: the benchmark may run where the repository is not.
    /// `python` is an interpreter with `module`, whose version the script reports.
    pub fn of(python: &str, script: &str, module: &str) -> Result<Self> {
        let threads = std::thread::available_parallelism()?.to_string();
        let mut child = Command::new(python)
            .args(["-c", script])
            .arg(threads)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("--python {python}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("--python {python}: found no pipes to the process");
        };
        let mut peer =
            Self { child, input, output: BufReader::new(output), version: String::new() };
        let hello = peer
            .answer()
            .with_context(|| format!("--python {python}: expected an interpreter with {module}"))?;
        peer.version = format!("{module} {}", hello[module].as_str().unwrap_or_default());
        Ok(peer)
    }

    /// Sends a request and returns the answer; an answer with an `error` becomes an error.
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
