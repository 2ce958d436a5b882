//! The one thread that owns the engine.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
};

use matformer_core::Submodel;
use matformer_engine::{
    Drafted, Engine, EngineModel, EngineOptions, Event, Finish, Logprobs, Request, RequestId,
};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use crate::{Error, Result};

/// What the engine did for one text of a piece of work.
#[derive(Debug)]
pub(crate) enum News {
    /// A new token.
    Token { token: u32, drafted: bool, logprobs: Option<Logprobs> },
    /// Log-probabilities of the next tokens of its prompt.
    Prompt(Vec<Logprobs>),
    /// It has ended.
    Finished { reason: Finish, drafted: Drafted },
    /// The device has failed.
    Failed(String),
}

/// A text of a piece of work that the engine refuses.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) text: usize,
    pub(crate) error: matformer_engine::Error,
}

/// The texts of one HTTP request.
pub(crate) struct Work {
    pub(crate) requests: Vec<Request>,
    /// Where news of each text go. It is not bounded, as the tokens of an answer are; where nobody listens any more,
    /// all is cancelled.
    pub(crate) news: UnboundedSender<(usize, News)>,
    /// Texts of which no more is wanted.
    pub(crate) ended: Arc<[AtomicBool]>,
    /// Whether the engine takes it.
    pub(crate) accepted: oneshot::Sender<Result<(), Refused>>,
}

/// How much there is to do.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Texts in a slot.
    pub(crate) running: AtomicUsize,
    /// Texts that wait for one.
    pub(crate) waiting: AtomicUsize,
}

/// The thread, and the way to it.
pub(crate) struct Worker {
    queue: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
    pub(crate) load: Arc<Load>,
    /// Tokens per second of each size that was asked for.
    pub(crate) speeds: Vec<f64>,
}

impl Worker {
    /// Starts the thread and measures `sizes` one by one. `queue` is the number of pieces of work that are sent to it at
    /// the same time.
    pub(crate) fn start(
        model: EngineModel,
        options: EngineOptions,
        sizes: Vec<Submodel>,
        queue: usize,
    ) -> Result<Self> {
        let (sender, receiver) = sync_channel(queue);
        let (ready, started) = sync_channel(1);
        let load = Arc::new(Load::default());
        let of_thread = Arc::clone(&load);
        let run = move || {
            let engine = Engine::new(&model, &options).and_then(|mut engine| {
                let context = options.capacity.unwrap_or(usize::MAX).min(model.config().context);
                let speeds = speeds(&mut engine, &sizes, context)?;
                Ok((engine, speeds))
            });
            match engine {
                Ok((engine, speeds)) => {
                    drop(ready.send(Ok(speeds)));
                    Running { engine, live: HashMap::new(), load: of_thread }.run(&receiver);
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        let thread = Builder::new().name("engine".to_owned()).spawn(run);
        let thread = thread.map_err(|error| Error::System { what: "start a thread", error })?;
        let speeds = started.recv().map_err(|_| Error::Stopped)??;
        Ok(Self { queue: Some(sender), thread: Some(thread), load, speeds })
    }

    /// Sends work, which the queue has room for; `false` if the thread has ended.
    pub(crate) fn send(&self, work: Work) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.try_send(work).is_ok())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // It has said why on standard error, if it ended otherwise.
            let _ = thread.join();
        }
    }
}

/// Tokens per second of each size, decoding alone behind a short text.
fn speeds(
    engine: &mut Engine,
    sizes: &[Submodel],
    context: usize,
) -> matformer_engine::Result<Vec<f64>> {
    const PAST: usize = 64;
    let passes: Vec<Vec<(&Submodel, usize)>> = sizes.iter().map(|size| vec![(size, 1)]).collect();
    let seconds = engine.seconds(&passes, PAST.min(context / 2))?;
    Ok(seconds.into_iter().map(|seconds| 1.0 / seconds).collect())
}

/// A text that is not finished.
struct Live {
    text: usize,
    news: UnboundedSender<(usize, News)>,
    ended: Arc<[AtomicBool]>,
}

impl Live {
    fn is_unwanted(&self) -> bool {
        self.news.is_closed() || self.ended[self.text].load(Ordering::Relaxed)
    }

    /// Tells the news; where nobody listens, the text is cancelled before the next step.
    fn tell(&self, news: News) {
        drop(self.news.send((self.text, news)));
    }
}

struct Running {
    engine: Engine,
    live: HashMap<RequestId, Live>,
    load: Arc<Load>,
}

impl Running {
    /// Works until the queue is closed and all is done.
    fn run(mut self, queue: &Receiver<Work>) {
        loop {
            if !self.engine.is_busy() {
                let Ok(work) = queue.recv() else { return };
                self.take_in(work);
            }
            while let Ok(work) = queue.try_recv() {
                self.take_in(work);
            }
            self.cancel(Live::is_unwanted);
            self.step();
            self.count();
        }
    }

    fn take_in(&mut self, work: Work) {
        let Work { requests, news, ended, accepted } = work;
        let refused = self.submit(requests, &news, &ended).err();
        // Where nobody waits for the answer any more, nobody listens to the news.
        drop(accepted.send(refused.map_or(Ok(()), Err)));
        self.count();
    }

    /// All texts or none.
    fn submit(
        &mut self,
        requests: Vec<Request>,
        news: &UnboundedSender<(usize, News)>,
        ended: &Arc<[AtomicBool]>,
    ) -> Result<(), Refused> {
        for (text, request) in requests.iter().enumerate() {
            self.engine.check(request).map_err(|error| Refused { text, error })?;
        }
        for (text, request) in requests.into_iter().enumerate() {
            let id = self.engine.submit(request).map_err(|error| Refused { text, error })?;
            let live = Live { text, news: news.clone(), ended: Arc::clone(ended) };
            self.live.insert(id, live);
        }
        Ok(())
    }

    fn cancel(&mut self, which: impl Fn(&Live) -> bool) {
        let ids: Vec<RequestId> =
            self.live.iter().filter(|(_, live)| which(live)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(event) = self.engine.cancel(id) {
                self.tell(event);
            }
        }
    }

    fn step(&mut self) {
        match self.engine.step() {
            Ok(events) => {
                // Who hears of a token may ask for the load at once.
                self.count();
                events.into_iter().for_each(|event| self.tell(event));
            }
            Err(error) => {
                for live in self.live.values() {
                    live.tell(News::Failed(error.to_string()));
                }
                self.cancel(|_| true);
            }
        }
    }

    fn tell(&mut self, event: Event) {
        let (id, news) = match event {
            Event::Token { id, token, drafted, logprobs } => {
                (id, News::Token { token, drafted, logprobs })
            }
            Event::Prompt { id, logprobs } => (id, News::Prompt(logprobs)),
            Event::Finished { id, reason, drafted } => {
                if let Some(live) = self.live.remove(&id) {
                    live.tell(News::Finished { reason, drafted });
                }
                return;
            }
        };
        if let Some(live) = self.live.get(&id) {
            live.tell(news);
        }
    }

    fn count(&self) {
        let waiting = self.engine.waiting();
        self.load.waiting.store(waiting, Ordering::Relaxed);
        self.load.running.store(self.live.len().saturating_sub(waiting), Ordering::Relaxed);
    }
}
