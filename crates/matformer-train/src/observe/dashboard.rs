//! Progress as burn-train's dashboard. Nothing else here depends on that crate's training loop.

use std::{io::IsTerminal, sync::Arc};

use burn_train::{
    Interrupter,
    metric::{
        MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry, SerializedEntry,
    },
    renderer::{MetricState, MetricsRenderer, tui::TuiMetricsRendererWrapper},
};

use super::{
    About, Observer,
    lines::{Lines, say_restored},
};
use crate::{HeldOut, Outlier, TrainLine, checkpoint::Restored};

const SPEED: &str = "Targets per second";
const RATE: &str = "Learning rate";
const NORM: &str = "Gradient norm";

/// burn-train's dashboard, which takes over the terminal while the loop runs. One of its epochs is
/// the interval between two evaluations.
pub(super) struct Dashboard {
    about: About,
    interrupter: Interrupter,
    /// The log gets the lines that the terminal does not show.
    lines: Lines,
    /// `None` before the run starts and after it has ended.
    screen: Option<Screen>,
}

impl Dashboard {
    pub(super) fn new(about: About, interrupter: Interrupter) -> Self {
        Self { lines: Lines::logged(about.clone()), about, interrupter, screen: None }
    }
}

impl Observer for Dashboard {
    fn restored(&mut self, restored: &Restored) {
        // The terminal is not taken over yet.
        say_restored(true, restored);
    }

    fn run_starts(&mut self, done: u64) {
        self.lines.run_starts(done);
        let interval = (done / self.about.eval_every) as usize;
        let renderer = TuiMetricsRendererWrapper::new(self.interrupter.clone(), Some(interval));
        self.screen = Some(Screen::new(Box::new(renderer), &self.about, done));
    }

    fn step(&mut self, line: &TrainLine) {
        self.lines.step(line);
        if let Some(screen) = &mut self.screen {
            let mut values: Vec<(String, f64)> =
                line.loss.iter().map(|(label, loss)| (loss_name(label), *loss)).collect();
            values.push((SPEED.to_owned(), line.tokens_per_second));
            values.push((RATE.to_owned(), line.learning_rate));
            values.push((NORM.to_owned(), line.grad_norm));
            screen.step(line.step, &values);
            keep_ctrl_c();
        }
    }

    fn skipped(&mut self, step: u64, outlier: &Outlier) {
        self.lines.skipped(step, outlier);
        if let Some(screen) = &mut self.screen {
            screen.step(step, &[]);
            keep_ctrl_c();
        }
    }

    fn evaluation_starts(&mut self, batches: usize) {
        self.lines.evaluation_starts(batches);
        if let Some(screen) = &mut self.screen {
            screen.open(Split::Valid, batches);
        }
    }

    fn evaluation_progress(&mut self, done: usize, losses: &[(String, f64)]) {
        self.lines.evaluation_progress(done, losses);
        if let Some(screen) = &mut self.screen {
            let losses: Vec<_> = losses.iter().map(|(name, v)| (loss_name(name), *v)).collect();
            screen.update(done, &losses);
        }
    }

    fn evaluation_ends(&mut self, held_out: &HeldOut) {
        self.lines.evaluation_ends(held_out);
        if let Some(screen) = &mut self.screen {
            screen.end_interval();
        }
    }

    fn run_ends(&mut self) {
        let screen = self.screen.take();
        // The renderer gives the terminal back when it is dropped, once its thread has ended. Where the
        // terminal is gone, that thread waits for keys for ever, and nothing is to be given back.
        if !std::io::stdin().is_terminal() {
            std::mem::forget(screen);
        }
    }
}

fn loss_name(label: &str) -> String {
    format!("Loss {label}")
}

/// The two halves of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Split {
    Train,
    Valid,
}

/// The dashboard while it is shown.
struct Screen {
    renderer: Box<dyn MetricsRenderer>,
    train: Vec<Series>,
    valid: Vec<Series>,
    split: Option<Split>,
    interval: usize,
    every: u64,
    steps: u64,
}

impl Screen {
    /// Registers all series; `done` steps were made before.
    fn new(mut renderer: Box<dyn MetricsRenderer>, about: &About, done: u64) -> Self {
        let valid: Vec<Series> =
            about.names.iter().map(|name| Series::new(&loss_name(name), false)).collect();
        let others = [(SPEED, true), (RATE, false), (NORM, false)];
        let others = others.map(|(name, higher_is_better)| Series::new(name, higher_is_better));
        let train: Vec<Series> = valid.iter().cloned().chain(others).collect();
        train.iter().for_each(|series| renderer.register_metric(series.definition.clone()));
        let interval = (done / about.eval_every) as usize + 1;
        let intervals = about.steps.div_ceil(about.eval_every) as usize;
        renderer.start(intervals, interval, None, None);
        let (every, steps) = (about.eval_every, about.steps);
        Self { renderer, train, valid, split: None, interval, every, steps }
    }

    /// Shows the values of step `step` (from 1).
    fn step(&mut self, step: u64, values: &[(String, f64)]) {
        if self.split.is_none() {
            self.open(Split::Train, self.every.min(self.steps) as usize);
        }
        self.update(((step - 1) % self.every) as usize + 1, values);
    }

    /// Begins a split of `total` items, and ends the one before.
    fn open(&mut self, split: Split, total: usize) {
        self.close();
        let name = if split == Split::Train { "train" } else { "valid" };
        self.renderer.start_split(name, total);
        self.split = Some(split);
    }

    /// Shows the values of item `done` (from 1) of the split. A series without a value for it (a
    /// step that did not draw M has no loss of M) still advances by one tick.
    fn update(&mut self, done: usize, values: &[(String, f64)]) {
        self.show(|series| {
            let value = values.iter().find(|(name, _)| *name == *series.definition.name);
            series.add(value.map(|(_, value)| *value))
        });
        self.renderer.update_split(done);
        self.renderer.log_event_training("Iteration".to_owned());
    }

    fn show(&mut self, mut state: impl FnMut(&mut Series) -> MetricState) {
        match self.split {
            Some(Split::Train) => {
                self.train.iter_mut().for_each(|s| self.renderer.update_train(state(s)));
            }
            Some(Split::Valid) => {
                self.valid.iter_mut().for_each(|s| self.renderer.update_valid(state(s)));
            }
            None => {}
        }
    }

    fn close(&mut self) {
        if self.split.is_some() {
            self.show(Series::end);
            self.renderer.end_split();
            self.split = None;
        }
    }

    fn end_interval(&mut self) {
        self.close();
        self.renderer.update_epoch(self.interval);
        self.interval += 1;
    }
}

/// The values of one name over a split.
#[derive(Clone)]
struct Series {
    definition: MetricDefinition,
    sum: f64,
    count: usize,
    last: f64,
}

impl Series {
    fn new(name: &str, higher_is_better: bool) -> Self {
        let name = Arc::new(name.to_owned());
        let definition = MetricDefinition {
            metric_id: MetricId::new(name.clone()),
            name,
            description: None,
            attributes: NumericAttributes { unit: None, higher_is_better }.into(),
        };
        Self { definition, sum: 0.0, count: 0, last: 0.0 }
    }

    /// Takes the value of an item, and draws it.
    fn add(&mut self, value: Option<f64>) -> MetricState {
        if let Some(value) = value {
            self.sum += value;
            self.count += 1;
            self.last = value;
        }
        self.draw(value)
    }

    /// Plots the mean of the split and resets it.
    fn end(&mut self) -> MetricState {
        let state = self.draw((self.count > 0).then(|| self.mean()));
        (self.sum, self.count) = (0.0, 0);
        state
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// A point of the series' curve, with mean and last value as its text.
    fn draw(&self, point: Option<f64>) -> MetricState {
        let point = point.map(NumericEntry::Value);
        let text = match &point {
            None => SerializedEntry::not_available(None),
            Some(point) => SerializedEntry::new(
                format!("interval {} - step {}", short(self.mean()), short(self.last)),
                point.serialize(),
            ),
        };
        MetricState::Numeric(MetricEntry::new(self.definition.metric_id.clone(), text), point)
    }
}

fn short(v: f64) -> String {
    match v.abs() {
        a if a >= 1000.0 => format!("{v:.0}"),
        a if a >= 0.01 || a == 0.0 => format!("{v:.3}"),
        _ => format!("{v:.2e}"),
    }
}

/// Lets Ctrl-C through again on a terminal that the dashboard has put into raw mode.
fn keep_ctrl_c() {
    #[cfg(unix)]
    if let Ok(mut termios) = rustix::termios::tcgetattr(std::io::stdin()) {
        termios.local_modes.insert(rustix::termios::LocalModes::ISIG);
        // If this fails, Ctrl-C does nothing and `q` still stops the run: not worth an error.
        let _ = rustix::termios::tcsetattr(
            std::io::stdin(),
            rustix::termios::OptionalActions::Now,
            &termios,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use burn_train::{
        logger::{EvaluationProgressLogger, TrainingProgressLogger},
        renderer::{EvaluationName, MetricsRendererEvaluation, MetricsRendererTraining},
    };

    use super::*;

    /// Writes down what it is told.
    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl Recorder {
        fn push(&self, line: String) {
            self.0.lock().unwrap().push(line);
        }

        fn metric(&self, split: &str, state: &MetricState) {
            if let MetricState::Numeric(entry, point) = state {
                let point = point.as_ref().map(NumericEntry::current);
                let text = &entry.serialized_entry.formatted;
                self.push(format!("{split} {:?} {point:?} {text}", entry.metric_id));
            }
        }
    }

    impl MetricsRendererTraining for Recorder {
        fn update_train(&mut self, state: MetricState) {
            self.metric("train", &state);
        }
        fn update_valid(&mut self, state: MetricState) {
            self.metric("valid", &state);
        }
    }

    impl MetricsRendererEvaluation for Recorder {
        fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
    }

    impl MetricsRenderer for Recorder {
        fn manual_close(&mut self) {}
        fn register_metric(&mut self, definition: MetricDefinition) {
            self.push(format!("register {}", definition.name));
        }
    }

    impl TrainingProgressLogger for Recorder {
        fn start(&mut self, intervals: usize, first: usize, _: Option<usize>, _: Option<&str>) {
            self.push(format!("start {first} of {intervals}"));
        }
        fn update_epoch(&mut self, interval: usize) {
            self.push(format!("interval {interval} ends"));
        }
        fn start_split(&mut self, split: &str, total: usize) {
            self.push(format!("{split} of {total} starts"));
        }
        fn update_split(&mut self, done: usize) {
            self.push(format!("done {done}"));
        }
        fn end_split(&mut self) {
            self.push("split ends".to_owned());
        }
        fn end(&mut self) {}
        fn log_event_training(&mut self, _: String) {}
    }

    impl EvaluationProgressLogger for Recorder {
        fn start_global_progress(&mut self, _: usize) {}
        fn start_test(&mut self, _: &str, _: usize) {}
        fn update_test_progress(&mut self, _: usize) {}
        fn end_test(&mut self) {}
        fn end_global_progress(&mut self) {}
        fn log_event_evaluation(&mut self, _: String) {}
    }

    #[test]
    fn an_interval_is_an_epoch_and_a_series_skips_steps_without_a_value() {
        let about = About {
            names: vec!["S".to_owned(), "M".to_owned()],
            steps: 7,
            eval_every: 3,
            targets: "tokens",
            self_test: false,
        };
        let seen = Recorder::default();
        let mut screen = Screen::new(Box::new(seen.clone()), &about, 4);
        let take = || std::mem::take(&mut *seen.0.lock().unwrap());
        let names = ["Loss S", "Loss M", SPEED, RATE, NORM];
        let registered: Vec<String> = names.iter().map(|n| format!("register {n}")).collect();
        assert_eq!(take(), [registered, vec!["start 2 of 3".to_owned()]].concat());

        // Resumed within the second interval.
        screen.step(5, &[(loss_name("S"), 2.0)]);
        screen.step(6, &[(loss_name("S"), 1.0), (loss_name("other"), 9.0)]);
        let seen_now = take();
        assert_eq!(seen_now[0], "train of 3 starts");
        assert!(seen_now[1].ends_with("Some(2.0) interval 2.000 - step 2.000"), "{seen_now:?}");
        assert!(seen_now[2].ends_with("None epoch N/A - batch N/A"), "{seen_now:?}");
        assert_eq!(seen_now[6], "done 2");
        assert!(seen_now[7].ends_with("Some(1.0) interval 1.500 - step 1.000"), "{seen_now:?}");
        assert_eq!((seen_now[12].as_str(), seen_now.len()), ("done 3", 13));

        screen.open(Split::Valid, 8);
        screen.update(8, &[(loss_name("S"), 0.5), (loss_name("M"), 0.25)]);
        screen.end_interval();
        let seen_now = take();
        assert!(seen_now[0].ends_with("Some(1.5) interval 1.500 - step 1.000"), "{seen_now:?}");
        assert!(seen_now[1].ends_with("None epoch N/A - batch N/A"), "{seen_now:?}");
        assert_eq!(seen_now[5..7], ["split ends", "valid of 8 starts"]);
        assert!(seen_now[8].ends_with("Some(0.25) interval 0.250 - step 0.250"), "{seen_now:?}");
        assert_eq!(seen_now[12..], ["split ends", "interval 2 ends"]);

        screen.step(7, &[]);
        assert_eq!(take()[0], "train of 3 starts");
    }
}
