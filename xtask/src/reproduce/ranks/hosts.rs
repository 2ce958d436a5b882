//! Hosts with a slow network on this machine: network namespaces, whose packets `slow_link.py` passes on.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::mpirun;

/// What the namespaces are called, with their numbers.
const NAME: &str = "mfhost";

/// Hosts that are there until this is dropped.
pub(super) struct Hosts {
    count: usize,
    agent: PathBuf,
    link: Child,
    said: BufReader<ChildStdout>,
}

impl Hosts {
    /// `count` hosts; files are written into `folder`.
    ///
    /// # Errors
    /// When this machine has no namespaces, or this process may not make them.
    pub(super) fn new(
        folder: &Path,
        python: &str,
        count: usize,
        delay_ms: f64,
        gbit: f64,
    ) -> Result<Self> {
        let agent = folder.join("agent.sh");
        // What Open MPI takes for ssh: HOST COMMAND…
        let script = format!(
            "#!/bin/sh\nn=$((${{1##*.}} - 1))\nshift\nexec {} \"hostname {NAME}$n; $*\"\n",
            inside("$n").join(" ")
        );
        fs::write(&agent, script)?;
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
        let mut link = Command::new(python)
            .args(["xtask/python/slow_link.py", "--name", NAME, "--hosts", &count.to_string()])
            .args(["--delay-ms", &delay_ms.to_string(), "--gbit", &gbit.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| python.to_owned())?;
        let said = link.stdout.take().context("no output")?;
        let mut hosts = Self { count, agent, link, said: BufReader::new(said) };
        let mut line = String::new();
        hosts.said.read_line(&mut line)?;
        ensure!(line == "ready\n", "network namespaces need root, Linux and `ip`");
        Ok(hosts)
    }

    /// The launcher of a rank on each.
    pub(super) fn mpirun(&self) -> Vec<String> {
        let hosts: Vec<String> = (1..=self.count).map(|n| format!("10.77.0.{n}:1")).collect();
        let agent = self.agent.display().to_string();
        let hosts = hosts.join(",");
        let network = "10.77.0.0/24";
        let more = [
            ["--host", &hosts, ""],
            ["--mca", "plm_rsh_agent", &agent],
            ["--mca", "btl", "tcp,self"],
            ["--mca", "btl_tcp_if_include", network],
            ["--mca", "oob_tcp_if_include", network],
        ];
        let more: Vec<&str> = more.concat().into_iter().filter(|part| !part.is_empty()).collect();
        let whole = mpirun(self.count, &more);
        let first = [format!("hostname {NAME}0; exec \"$@\""), "sh".to_owned()];
        inside("0").into_iter().chain(first).chain(whole).collect()
    }

    /// Removes the hosts; the bytes that each has sent.
    pub(super) fn end(mut self) -> Result<Value> {
        drop(self.link.stdin.take());
        let mut sent = String::new();
        self.said.read_to_string(&mut sent)?;
        self.link.wait()?;
        Ok(serde_json::from_str(&sent)?)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // It removes the hosts at the end of its input.
        drop(self.link.stdin.take());
        drop(self.link.wait());
    }
}

/// The beginning of a shell command on a host, which may give itself a name; its text is the next argument.
fn inside(number: &str) -> Vec<String> {
    let host = format!("{NAME}{number}");
    let parts = ["ip", "netns", "exec", &host, "unshare", "--uts", "sh", "-c"];
    parts.map(str::to_owned).to_vec()
}
