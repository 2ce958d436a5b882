//! The FLOPs of a run, before it starts.

use matformer_core::{CostTable, Plan, Space, Submodel};

use crate::{Result, TrainConfig};

/// A backward pass costs twice its forward pass.
const FORWARD_AND_BACKWARD: f64 = 3.0;
/// Steps from whose draws the cost of a long run is estimated.
const SAMPLES: u64 = 512;

/// Floating point operations of step `step` (from 0), distillation included.
///
/// `forward` is the cost of one target's forward pass, with the head in its constant, for rows as
/// long as training's. Submodels that share a batch cost what their merged plan costs.
///
/// # Errors
/// When the table does not cover the draw, or the draw does not fit the space.
pub fn step_flops(
    config: &TrainConfig,
    space: &Space,
    forward: &CostTable,
    step: u64,
) -> Result<f64> {
    let mut total = 0.0;
    for submodels in passes(config, space, step) {
        total += FORWARD_AND_BACKWARD * forward.plan(&Plan::merged(&submodels)?)?;
        let Some(distill) = config.distill.as_ref().filter(|d| d.weight > 0.0) else {
            continue;
        };
        let students = distill.students(space, &submodels)?.len() as f64;
        if students > 0.0 {
            // Both heads run, the student's also backward; a teacher that was not drawn is walked. One
            // of another folder is taken to be as large as this model.
            total += students * (FORWARD_AND_BACKWARD + 1.0) * forward.constant;
            let own = distill.own_teacher(space)?;
            if !own.as_ref().is_some_and(|own| submodels.contains(own)) {
                total += forward.cost(&own.unwrap_or_else(|| space.largest()))? - forward.constant;
            }
        }
    }
    Ok(total * config.tokens_per_step as f64)
}

/// Floating point operations of the whole run: exact for a short run, estimated from evenly spaced
/// steps for a long one.
///
/// # Errors
/// As [`step_flops`].
pub fn run_flops(config: &TrainConfig, space: &Space, forward: &CostTable) -> Result<f64> {
    let samples = config.steps.clamp(1, SAMPLES);
    let step = |i: u64| (u128::from(i) * u128::from(config.steps) / u128::from(samples)) as u64;
    let costs = (0..samples).map(|i| step_flops(config, space, forward, step(i)));
    let sum: f64 = costs.sum::<Result<f64>>()?;
    Ok(sum / samples as f64 * config.steps as f64)
}

/// The submodels of each pass of step `step`: all drawn ones together, or one in each pass.
pub fn passes(config: &TrainConfig, space: &Space, step: u64) -> Vec<Vec<Submodel>> {
    let draw = config.draw.at(space, config.seed, step);
    let submodels: Vec<Submodel> = draw.terms.into_iter().map(|(submodel, _)| submodel).collect();
    if draw.separate_batches {
        submodels.into_iter().map(|submodel| vec![submodel]).collect()
    } else {
        vec![submodels]
    }
}

#[cfg(test)]
mod tests {
    use matformer_core::{Granularities, Resource};

    use super::*;
    use crate::Distill;

    fn flops(draw: &str, distill: Option<Distill>) -> f64 {
        let space = Space::new(2, 256, 32, Granularities::default_for(256).unwrap()).unwrap();
        let forward = CostTable::affine(Resource::Flops, 100.0, &[(10.0, 1.0); 2], 256);
        let config = TrainConfig {
            steps: 4000,
            tokens_per_step: 8,
            draw: draw.parse().unwrap(),
            distill,
            ..TrainConfig::default()
        };
        run_flops(&config, &space, &forward).unwrap() / (4000.0 * 8.0)
    }

    #[test]
    fn a_draw_costs_what_its_plans_cost() {
        let one = |width: f64| 3.0 * (100.0 + 2.0 * (10.0 + width));
        assert_eq!(flops("baseline:M", None), one(64.0));
        assert_eq!(flops("sampled:0/0/0/1", None), one(256.0));
        let mean = [32.0, 64.0, 128.0, 256.0].map(one).iter().sum::<f64>() / 4.0;
        assert!((flops("sampled", None) / mean - 1.0).abs() < 0.05);
        assert_eq!(flops("joint-separate", None), 4.0 * mean);
        // Layer 0 computes attention, and its widest width, once for all.
        let shared = 4.0 * mean - 3.0 * (3.0 * 10.0 + 32.0 + 64.0 + 128.0);
        assert_eq!(flops("joint", None), shared);
    }

    #[test]
    fn distillation_costs_heads_and_the_teacher_where_it_was_not_drawn() {
        let with = |draw| flops(draw, Some(Distill::default())) - flops(draw, None);
        assert_eq!(with("joint"), 3.0 * 4.0 * 100.0);
        assert_eq!(with("baseline:XL"), 0.0);
        assert_eq!(with("baseline:S"), 4.0 * 100.0 + 2.0 * (10.0 + 256.0));
        let off = Distill { weight: 0.0, ..Distill::default() };
        assert_eq!(flops("joint", Some(off)), flops("joint", None));
    }
}
