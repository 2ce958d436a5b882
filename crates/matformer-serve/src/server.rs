//! From a model to a server that listens, and to its end.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use axum::Router;
use matformer_engine::EngineOptions;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Semaphore, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    Error, Limits, Result, ServeOptions, ServedModel, api,
    connection::{self, Held},
    metrics::Metrics,
    state::{Phase, State, now},
    worker::Worker,
};

/// Threads that read and write; another one computes.
const THREADS: usize = 2;
/// Time for the last bytes to leave once all answers have ended.
const FLUSH: Duration = Duration::from_secs(2);

/// A server that listens.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    state: Arc<State>,
    phase: watch::Sender<Phase>,
    grace: Duration,
    address: SocketAddr,
}

/// Stops a server, from any thread.
#[derive(Clone)]
pub struct Stopper(watch::Sender<Phase>);

impl Stopper {
    /// Requests that run go on; new ones are refused. The server ends after the last, or at the end of its grace.
    pub fn stop(&self) {
        self.0.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Draining;
            }
            serving
        });
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every request had its whole answer.
    Whole,
    /// Some were cut off at the end of the grace.
    Cut,
}

impl Server {
    /// Listens, starts the engine and measures how fast each listed size is. Connections wait until [`run`](Self::run).
    ///
    /// # Errors
    /// [`Error::Listen`] if the address is taken, [`Error::Engine`] if the engine cannot be made.
    pub fn start(model: ServedModel, options: ServeOptions) -> Result<Self> {
        let ServeOptions { address, slots, context, threads, limits, grace, .. } = options;
        let in_use = |error| Error::Listen { address, error };
        let listener = TcpListener::bind(address).map_err(in_use)?;
        listener.set_nonblocking(true).map_err(in_use)?;
        let address = listener.local_addr().map_err(in_use)?;
        let engine =
            EngineOptions { slots, capacity: context, threads, ..EngineOptions::default() };
        let own = model.engine.config().context;
        let vocab_size = model.engine.config().vocab_size;
        let sizes = model.sizes.iter().map(|size| size.submodel.clone()).collect();
        let admitted = slots + limits.queue;
        let worker = Worker::start(model.engine.clone(), engine, sizes, admitted)?;
        let (phase, of_state) = watch::channel(Phase::Serving);
        let state = State {
            tokenizer: Arc::new(model.tokenizer.clone()),
            space: model.engine.space().clone(),
            context: context.map_or(own, |context| context.min(own)),
            vocab_size,
            worker,
            slots,
            admission: Arc::new(Semaphore::new(admitted)),
            limits,
            api_keys: options.api_keys,
            narrow_when_busy: options.narrow_when_busy,
            log: options.log,
            metrics: Metrics::default(),
            alive: watch::channel(()).0,
            phase: of_state,
            started: now(),
            counter: AtomicU64::new(0),
            model,
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(|error| Error::System { what: "start threads", error })?;
        Ok(Self { runtime, listener, state: Arc::new(state), phase, grace, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tokens per second of each listed size, as they were measured.
    pub fn speeds(&self) -> &[f64] {
        &self.state.worker.speeds
    }

    /// What stops it.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.phase.clone())
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// When the system takes the listener away.
    pub fn run(self) -> Result<Ended> {
        let Self { runtime, listener, state, phase, grace, .. } = self;
        let ended = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(|error| Error::System { what: "listen", error })?;
            let mut accepting = Accepting::new(listener, &state);
            let mut phases = phase.subscribe();
            tokio::select! {
                () = accepting.forever() => {}
                _ = phases.wait_for(|phase| *phase != Phase::Serving) => {}
            }
            // New connections are told that it is over.
            let ended = tokio::select! {
                () = accepting.forever() => Ended::Cut,
                () = state.alive.closed() => Ended::Whole,
                () = sleep_until(Instant::now() + grace) => Ended::Cut,
            };
            phase.send_replace(Phase::Cut);
            accepting.close().await;
            Ok(ended)
        });
        // A thread that encodes a text may be left; nobody waits for it.
        runtime.shutdown_timeout(FLUSH);
        ended
    }
}

/// Takes connections.
struct Accepting {
    listener: tokio::net::TcpListener,
    router: Router,
    limits: Arc<Limits>,
    room: Arc<Semaphore>,
    open: watch::Sender<()>,
    closing: watch::Sender<bool>,
}

impl Accepting {
    fn new(listener: tokio::net::TcpListener, state: &Arc<State>) -> Self {
        let limits = Arc::new(state.limits.clone());
        Self {
            listener,
            router: api::router(Arc::clone(state)),
            room: Arc::new(Semaphore::new(limits.connections)),
            limits,
            open: watch::channel(()).0,
            closing: watch::channel(false).0,
        }
    }

    async fn forever(&mut self) {
        loop {
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Such as too many open files: they may be fewer soon.
                    tracing::debug!("a connection could not be taken: {error}");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let held = Held {
                _permit: permit,
                _open: self.open.subscribe(),
                closing: self.closing.subscribe(),
            };
            let (router, limits) = (self.router.clone(), Arc::clone(&self.limits));
            tokio::spawn(connection::serve(stream, router, limits, held));
        }
    }

    /// Lets connections end after what they are writing.
    async fn close(self) {
        drop(self.listener);
        self.closing.send_replace(true);
        let _ = timeout(FLUSH, self.open.closed()).await;
    }
}
