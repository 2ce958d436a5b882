//! burn-train lends events, metrics, dashboard and interrupter.

use std::sync::{Arc, Mutex, PoisonError};

use burn::{optim::SgdConfig, tensor::Device};
use burn_train::{
    Learner, SupervisedLearningStrategy, SupervisedTraining, SupervisedTrainingEventProcessor,
    TrainLoader, TrainingComponents, TrainingStrategy, ValidLoader,
    logger::InMemoryMetricLogger,
    renderer::{MetricsRenderer, tui::TuiMetricsRendererWrapper},
};
use matformer_nn::{Elastic, Folder};

use super::{Loop, Progress};
use crate::{
    Error, Result,
    dashboard::{Named, NoItems, Shell, Silent},
};

/// Our loop in burn-train's clothes.
struct Strategy<M: Elastic> {
    // The loop goes in, and comes out with its result.
    slot: Mutex<Option<(Loop<M>, Result<()>)>>,
}

impl<M: Folder + 'static> Loop<M> {
    pub(super) fn with_burn_train(self, device: &Device) -> Result<Self> {
        let config = &self.options.config;
        let space = self.trainer.model().space().clone();
        let (progress, interrupter) = (self.options.progress, self.options.interrupter.clone());
        let intervals = config.steps.div_ceil(config.eval_every) as usize;
        let start = (self.trainer.steps_done() / config.eval_every) as usize;
        let dir = self.options.dir.clone();
        let renderer: Box<dyn MetricsRenderer> = match progress {
            Progress::Dashboard => {
                Box::new(TuiMetricsRendererWrapper::new(interrupter.clone(), Some(start)))
            }
            _ => Box::new(Silent),
        };
        let strategy = Arc::new(Strategy { slot: Mutex::new(Some((self, Ok(())))) });
        let mut training =
            SupervisedTraining::<Shell>::new(dir, Arc::new(NoItems), Arc::new(NoItems))
                .num_epochs(intervals)
                .with_application_logger(None)
                .with_metric_logger(InMemoryMetricLogger::default())
                .with_interrupter(interrupter)
                .renderer(renderer)
                .with_training_strategy(TrainingStrategy::Custom(strategy.clone()));
        for name in space.granularities.names() {
            let metric = Named::new(&loss_name(name), false);
            training = training.metric_train_numeric(metric.clone()).metric_valid_numeric(metric);
        }
        for (name, higher_is_better) in [(SPEED, true), (RATE, false), (NORM, false)] {
            training = training.metric_train_numeric(Named::new(name, higher_is_better));
        }
        if start > 0 {
            training = training.checkpoint(start);
        }
        let learner = Learner::new(
            Shell::new(device),
            SgdConfig::new().init(),
            burn::optim::lr_scheduler::constant::ConstantLr::new(0.0),
        );
        let result = training.launch(learner);
        // The dashboard closes, and gives the terminal back, when its renderer goes.
        drop(result.renderer);
        let taken = strategy.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        match taken {
            Some((the_loop, Ok(()))) => Ok(the_loop),
            Some((_, Err(e))) => Err(e),
            None => Err(Error::Stopped(match result.error {
                Some(e) => e.to_string(),
                None => "the loop did not come back".to_owned(),
            })),
        }
    }
}

impl<M: Folder + 'static> SupervisedLearningStrategy<Shell> for Strategy<M> {
    fn fit(
        &self,
        components: TrainingComponents<Shell>,
        learner: Learner<Shell>,
        _: TrainLoader<Shell>,
        _: ValidLoader<Shell>,
        _: usize,
    ) -> (Shell, SupervisedTrainingEventProcessor<Shell>) {
        let mut events = components.event_processor;
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((the_loop, result)) = slot.as_mut() {
            *result = the_loop.run(&mut events, &components.interrupter);
        }
        (learner.model(), events)
    }
}

pub(super) const SPEED: &str = "Targets per second";
pub(super) const RATE: &str = "Learning rate";
pub(super) const NORM: &str = "Gradient norm";

pub(super) fn loss_name(label: &str) -> String {
    format!("Loss {label}")
}
