//! What a person sees: burn-train's dashboard on a terminal, plain lines elsewhere.

use std::{sync::Arc, time::Instant};

use burn::data::dataloader::{DataLoader, DataLoaderIterator};
use burn::{
    module::{Module, Param},
    optim::{
        GradientsParams, ModuleOptimizer, lr_scheduler::module_lr_scheduler::ModuleLearningRate,
    },
    tensor::{Device, Tensor, TensorReadError},
};
use burn_train::{
    InferenceStep, ItemLazy, TrainOutput, TrainStep,
    logger::{EvaluationProgressLogger, TrainingProgressLogger},
    metric::{
        Adaptor, Metric, MetricAttributes, MetricDefinition, MetricMetadata, MetricName, Numeric,
        NumericAttributes, NumericEntry, SerializedEntry,
    },
    renderer::{
        EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
        MetricsRendererTraining,
    },
};

/// Named values of one step or evaluation, on their way to the dashboard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(pub(crate) Arc<Vec<(String, f64)>>);

impl ItemLazy for Values {
    fn sync(self) -> Result<Self, burn::tensor::ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<Values> for Values {
    fn adapt(&self) -> Values {
        self.clone()
    }
}

/// One line of the dashboard: the values of one name, silent on steps that have none (a step
/// that drew S says nothing of M).
#[derive(Clone)]
pub(crate) struct Named {
    name: MetricName,
    higher_is_better: bool,
    sum: f64,
    count: usize,
    last: f64,
    fresh: bool,
}

impl Named {
    pub(crate) fn new(name: &str, higher_is_better: bool) -> Self {
        let name = Arc::new(name.to_owned());
        Self { name, higher_is_better, sum: 0.0, count: 0, last: 0.0, fresh: false }
    }

    fn mean(&self) -> f64 {
        match self.count {
            0 => self.last,
            n => self.sum / n as f64,
        }
    }

    fn entry(&self) -> SerializedEntry {
        match self.count {
            0 => SerializedEntry::not_available(None),
            n => SerializedEntry::new(
                format!("interval {} - step {}", short(self.mean()), short(self.last)),
                NumericEntry::Aggregated { aggregated_value: self.mean(), count: n }.serialize(),
            ),
        }
    }
}

fn short(v: f64) -> String {
    match v.abs() {
        a if a >= 1000.0 => format!("{v:.0}"),
        a if a >= 0.01 || a == 0.0 => format!("{v:.3}"),
        _ => format!("{v:.2e}"),
    }
}

impl Metric for Named {
    type Input = Values;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: self.higher_is_better }.into()
    }

    fn update(
        &mut self,
        item: &Values,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        let value = item.0.iter().find(|(name, _)| *name == *self.name).map(|(_, v)| *v);
        self.fresh = value.is_some();
        let Some(value) = value else {
            return Ok(SerializedEntry::not_available(None));
        };
        self.sum += value;
        self.count += 1;
        self.last = value;
        Ok(self.entry())
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.entry())
    }

    fn clear(&mut self) {
        (self.sum, self.count, self.fresh) = (0.0, 0, false);
    }
}

impl Numeric for Named {
    fn value(&self) -> Option<NumericEntry> {
        self.fresh.then_some(NumericEntry::Value(self.last))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        (self.count > 0).then(|| NumericEntry::Value(self.mean()))
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Value(self.mean())
    }
}

/// What burn-train takes for the model: our strategy owns the real one, and its optimizer.
#[derive(Module, Debug)]
pub(crate) struct Shell {
    // burn-train asks for the device of the first parameter.
    marker: Param<Tensor<1>>,
}

impl Shell {
    pub(crate) fn new(device: &Device) -> Self {
        Self { marker: Param::from_tensor(Tensor::zeros([1], device)) }
    }
}

impl TrainStep for Shell {
    type Input = ();
    type Output = Values;

    fn step(&self, (): ()) -> TrainOutput<Values> {
        TrainOutput { grads: GradientsParams::new(), item: Values::default() }
    }

    fn optimize(self, _: &mut ModuleOptimizer, _: ModuleLearningRate, _: GradientsParams) -> Self {
        self
    }
}

impl InferenceStep for Shell {
    type Input = ();
    type Output = Values;

    fn step(&self, (): ()) -> Values {
        Values::default()
    }
}

/// Batches come from our own source: burn-train's loader is empty.
pub(crate) struct NoItems;

impl DataLoader<()> for NoItems {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<()> + 'a> {
        Box::new(Empty)
    }

    fn num_items(&self) -> usize {
        0
    }

    fn to_device(&self, _: &Device) -> Arc<dyn DataLoader<()>> {
        Arc::new(Self)
    }

    fn slice(&self, _: usize, _: usize) -> Arc<dyn DataLoader<()>> {
        Arc::new(Self)
    }
}

struct Empty;

impl Iterator for Empty {
    type Item = Result<(), burn::data::dataset::DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

impl DataLoaderIterator<()> for Empty {
    fn progress(&self) -> burn::data::dataloader::Progress {
        burn::data::dataloader::Progress::new(0, 0, None)
    }
}

/// Shows nothing: plain lines come from the loop itself.
pub(crate) struct Silent;

impl MetricsRendererTraining for Silent {
    fn update_train(&mut self, _: MetricState) {}
    fn update_valid(&mut self, _: MetricState) {}
}

impl MetricsRendererEvaluation for Silent {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl MetricsRenderer for Silent {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _: MetricDefinition) {}
}

impl TrainingProgressLogger for Silent {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}
    fn update_epoch(&mut self, _: usize) {}
    fn start_split(&mut self, _: &str, _: usize) {}
    fn update_split(&mut self, _: usize) {}
    fn end_split(&mut self) {}
    fn end(&mut self) {}
    fn log_event_training(&mut self, _: String) {}
}

impl EvaluationProgressLogger for Silent {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

/// Time left of a run, from the pace of this process's own steps.
pub(crate) struct Pace {
    started: Instant,
    first: u64,
    last: u64,
}

impl Pace {
    pub(crate) fn new(first: u64, last: u64) -> Self {
        Self { started: Instant::now(), first, last }
    }

    /// `2m10s` left after `done` steps.
    pub(crate) fn left(&self, done: u64) -> String {
        let made = done.saturating_sub(self.first).max(1) as f64;
        let seconds = self.started.elapsed().as_secs_f64() / made * (self.last - done) as f64;
        duration(seconds)
    }
}

/// `45s`, `2m10s`, `3h05m`, `12d 4h`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..345_600 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Lets Ctrl-C through again on a terminal that the dashboard has put into raw mode.
pub(crate) fn keep_ctrl_c() {
    #[cfg(unix)]
    if let Ok(mut termios) = rustix::termios::tcgetattr(std::io::stdin()) {
        termios.local_modes.insert(rustix::termios::LocalModes::ISIG);
        // Without it Ctrl-C does nothing and `q` still stops the run: not worth an error.
        let _ = rustix::termios::tcsetattr(
            std::io::stdin(),
            rustix::termios::OptionalActions::Now,
            &termios,
        );
    }
}
