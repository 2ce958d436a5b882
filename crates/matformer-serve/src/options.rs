//! Where a server listens, and what it allows.

use std::{net::SocketAddr, sync::Arc, time::Duration};

/// What is called with one line for each request that has ended.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// Options of a [`Server`](crate::Server).
#[derive(Clone)]
pub struct ServeOptions {
    /// Where it listens; with port 0 the system chooses a free one.
    pub address: SocketAddr,
    /// Requests that are worked on at the same time.
    pub slots: usize,
    /// Tokens of a request at most, prompt and answer; the model's context if absent.
    pub context: Option<usize>,
    /// Threads of the CPU that compute; all if absent.
    pub threads: Option<usize>,
    /// What a request may take.
    pub limits: Limits,
    /// Keys of which a request must have one; none are needed where there are none.
    pub api_keys: Vec<String>,
    /// Requests that name no size get a narrower one while others wait.
    pub narrow_when_busy: bool,
    /// How long running requests may take once the server is asked to stop.
    pub grace: Duration,
    /// Where the lines about requests go.
    pub log: Log,
}

impl ServeOptions {
    /// Options with which little is held at the same time.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            slots: 8,
            context: None,
            threads: None,
            limits: Limits::default(),
            api_keys: Vec::new(),
            narrow_when_busy: false,
            grace: Duration::from_secs(30),
            log: Arc::new(|_| {}),
        }
    }
}

/// What a request may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that may wait for a slot; more are refused.
    pub queue: usize,
    /// New tokens of an answer; the context if absent.
    pub max_tokens: Option<usize>,
    /// Texts of a request: prompts times answers.
    pub texts: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of its head: the first line and the headers.
    pub head: usize,
    /// Time for its head, and again for its body, to arrive.
    pub read: Duration,
    /// Time that a client may leave a part of its response unread.
    pub write: Duration,
    /// Time of a request, from its arrival to the end of its answer.
    pub request: Duration,
    /// Connections at the same time.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 64,
            max_tokens: None,
            texts: 128,
            body: 2 << 20,
            head: 16 << 10,
            read: Duration::from_secs(30),
            write: Duration::from_secs(30),
            request: Duration::from_secs(600),
            connections: 512,
        }
    }
}
