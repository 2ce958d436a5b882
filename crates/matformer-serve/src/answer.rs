//! A request that is being answered.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use matformer_engine::Drafted;
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        mpsc::{UnboundedReceiver, unbounded_channel},
        oneshot, watch,
    },
    time::timeout_at,
};

use crate::{
    ask::{Ask, Form},
    choice::{Choice, Piece},
    error::ApiError,
    metrics::Answered,
    state::{Phase, State},
    worker::{News, Refused, Work},
};

/// A piece of one of the texts.
pub(crate) struct Part {
    pub(crate) text: usize,
    pub(crate) piece: Piece,
}

/// What keeps a request's place, from its arrival on.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _alive: watch::Receiver<()>,
    started: Instant,
}

impl Place {
    /// A place among those that run and wait.
    pub(crate) fn take(state: &State) -> Result<Self, ApiError> {
        // In this order: one that is not refused is waited for.
        let alive = state.alive.subscribe();
        if state.is_stopping() {
            return Err(ApiError::stopping());
        }
        match Arc::clone(&state.admission).try_acquire_owned() {
            Ok(permit) => Ok(Self { _permit: permit, _alive: alive, started: Instant::now() }),
            Err(_) => Err(ApiError::busy(state.limits.queue)),
        }
    }
}

/// A request that is being answered. Dropped before its end, it is cancelled.
pub(crate) struct Answer {
    news: UnboundedReceiver<(usize, News)>,
    ended: Arc<[AtomicBool]>,
    choices: Vec<Choice>,
    ready: VecDeque<Part>,
    phase: watch::Receiver<Phase>,
    record: Record,
}

impl Answer {
    /// Hands a request to the engine.
    pub(crate) async fn start(
        state: &Arc<State>,
        ask: &Ask,
        place: Place,
    ) -> Result<Self, ApiError> {
        let mut choices = Vec::new();
        let mut ready = VecDeque::new();
        for prompt in &ask.prompts {
            for _ in 0..ask.n {
                let typed = prompt.typed.as_deref();
                let (choice, piece) =
                    Choice::new(&state.tokenizer, &prompt.tokens, typed, &ask.shown)?;
                if !piece.is_empty() {
                    ready.push_back(Part { text: choices.len(), piece });
                }
                choices.push(choice);
            }
        }
        let record = Record::new(state, ask, place);
        let ended: Arc<[AtomicBool]> = choices.iter().map(|_| AtomicBool::new(false)).collect();
        let (sender, news) = unbounded_channel();
        let (accepted, answer) = oneshot::channel();
        let requests = ask.requests();
        let work = Work { requests, news: sender, ended: Arc::clone(&ended), accepted };
        let stopped = || ApiError::internal("the engine has stopped");
        if !state.worker.send(work) {
            return Err(stopped());
        }
        match answer.await {
            Ok(Ok(())) => {}
            Ok(Err(Refused { text, error })) => {
                let error = ApiError::engine(&error);
                let many = ask.prompts.len() > 1 && error.param.as_deref() == Some("prompt");
                return Err(if many {
                    error.about(&format!("prompt[{}]", text / ask.n))
                } else {
                    error
                });
            }
            Err(_) => return Err(stopped()),
        }
        let phase = state.phase.clone();
        Ok(Self { news, ended, choices, ready, phase, record })
    }

    /// The next piece of any of the texts; `None` when all have ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Part>, ApiError> {
        let next = self.wait().await;
        match &next {
            Ok(Some(_)) => self.record.heard(),
            Ok(None) => self.finish("whole"),
            Err(error) => self.finish(if error.status == 504 { "timeout" } else { "failed" }),
        }
        next
    }

    async fn wait(&mut self) -> Result<Option<Part>, ApiError> {
        let deadline = self.record.deadline();
        loop {
            if let Some(part) = self.ready.pop_front() {
                return Ok(Some(part));
            }
            if self.choices.iter().all(|choice| choice.done) {
                return Ok(None);
            }
            let news = tokio::select! {
                biased;
                _ = self.phase.wait_for(|phase| *phase == Phase::Cut) => return Err(ApiError::stopping()),
                news = timeout_at(deadline.into(), self.news.recv()) => news,
            };
            match news {
                Ok(Some((text, news))) => self.hear(text, news)?,
                Ok(None) => return Err(ApiError::internal("the engine has stopped")),
                Err(_) => return Err(ApiError::too_long(self.record.state.limits.request)),
            }
        }
    }

    fn hear(&mut self, text: usize, news: News) -> Result<(), ApiError> {
        let choice = &mut self.choices[text];
        if choice.done {
            return Ok(());
        }
        let piece = choice.hear(news)?;
        if choice.is_ended() {
            self.ended[text].store(true, Ordering::Relaxed);
        }
        if !piece.is_empty() {
            self.ready.push_back(Part { text, piece });
        }
        Ok(())
    }

    /// New tokens of all texts.
    pub(crate) fn tokens(&self) -> usize {
        self.choices.iter().map(|choice| choice.tokens).sum()
    }

    /// What drafting came to.
    pub(crate) fn drafted(&self) -> Drafted {
        let mut all = Drafted::default();
        self.choices.iter().for_each(|choice| all.join(&choice.drafted));
        all
    }

    fn finish(&mut self, outcome: &'static str) {
        self.record.outcome = outcome;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let drafted = self.drafted();
        self.record.write(self.tokens(), &drafted);
    }
}

/// What is counted and logged of a request.
struct Record {
    state: Arc<State>,
    _place: Place,
    started: Instant,
    first: Option<Duration>,
    last: Instant,
    what: &'static str,
    size: String,
    texts: usize,
    prompt_tokens: usize,
    outcome: &'static str,
}

impl Record {
    fn new(state: &Arc<State>, ask: &Ask, place: Place) -> Self {
        Self {
            state: Arc::clone(state),
            started: place.started,
            last: place.started,
            _place: place,
            first: None,
            what: if ask.form == Form::Chat { "chat" } else { "completion" },
            size: ask.size.clone(),
            texts: ask.prompts.len() * ask.n,
            prompt_tokens: ask.prompts.iter().map(|prompt| prompt.tokens.len()).sum(),
            outcome: "dropped by the client",
        }
    }

    fn deadline(&self) -> Instant {
        self.started + self.state.limits.request
    }

    fn heard(&mut self) {
        let metrics = &self.state.metrics;
        let now = Instant::now();
        if self.first.is_none() {
            self.first = Some(now - self.started);
            metrics.first_token(now - self.started);
        } else {
            metrics.next_token(now - self.last);
        }
        self.last = now;
    }

    fn write(&self, new_tokens: usize, drafted: &Drafted) {
        let Self { state, size, outcome, prompt_tokens, .. } = self;
        state.metrics.answer(&Answered {
            size,
            outcome,
            prompt_tokens: *prompt_tokens,
            new_tokens,
            drafted: drafted.proposed,
            kept: drafted.kept,
        });
        let texts =
            if self.texts > 1 { format!(" of {} texts", self.texts) } else { String::new() };
        let first =
            self.first.map_or(String::new(), |t| format!(", first after {:.3} s", t.as_secs_f64()));
        let drafts = if drafted.proposed > 0 {
            format!(", {} of {} drafts kept", drafted.kept, drafted.proposed)
        } else {
            String::new()
        };
        (state.log)(&format!(
            "{} at {size}: {prompt_tokens} + {new_tokens} tokens{texts}{drafts} in {:.3} s{first}, {outcome}",
            self.what,
            self.started.elapsed().as_secs_f64(),
        ));
    }
}
