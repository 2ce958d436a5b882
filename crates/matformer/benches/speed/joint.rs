//! A joint pass computes once what its granularities share. This checks that its time falls as its
//! FLOPs do.

use anyhow::{Result, ensure};
use clap::Args;
use matformer::{
    bench::timing,
    core::{Plan, Resource, Submodel},
    lm::{MatLm, MatLmConfig, Preset, costs},
    nn::{DeviceSpec, Elastic, State, row_losses, walk},
    run::synthetic::{OneBatch, one_batch},
};
use serde_json::json;

/// Largest ratio of measured to predicted time that passes.
const LIMIT: f64 = 1.15;

#[derive(Debug, Args)]
pub struct JointArgs {
    /// Model preset
    #[arg(long, default_value = "demo", value_name = "PRESET")]
    preset: String,
    /// Target tokens in a batch
    #[arg(long, default_value_t = 2048)]
    tokens: usize,
    /// Number of rounds; each measures everything once, and medians are printed
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Device [default: MATFORMER_DEVICE, or the fastest available]
    #[arg(long)]
    device: Option<DeviceSpec>,
}

/// A model and a batch for it.
struct Bench {
    model: MatLm,
    batch: OneBatch<MatLm>,
}

impl Bench {
    fn new(args: &JointArgs, config: &MatLmConfig) -> Result<Self> {
        let spec = args.device.map_or_else(DeviceSpec::from_env, Ok)?;
        let model = MatLm::new(config, 0, &spec.resolve()?.autodiff())?;
        let batch = one_batch(&model, (args.tokens / config.context).max(1), config.context)?;
        Ok(Self { model, batch })
    }

    /// Milliseconds of a forward and a backward pass of a plan.
    fn pass(&self, plan: &Plan) -> Result<f64> {
        let mut failed = Ok(());
        let millis = timing::millis(|| failed = self.forward_and_backward(plan));
        failed.map(|()| millis)
    }

    fn forward_and_backward(&self, plan: &Plan) -> Result<()> {
        let walked = walk(&self.model, &self.batch.input, plan, &mut State::new())?;
        let losses = row_losses(&self.model, &walked, &self.batch.target);
        let loss = losses.into_iter().map(|l| l.nats.sum()).reduce(|a, b| a + b);
        if let Some(loss) = loss {
            loss.backward();
        }
        self.model.device().sync()?;
        Ok(())
    }
}

/// A pass to time.
struct Case {
    name: String,
    plan: Plan,
    /// FLOPs of the forward pass per token, by the cost formulas.
    flops: f64,
}

pub fn run(args: &JointArgs, as_json: bool) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds 0: expected at least 1");
    let config = args.preset.parse::<Preset>()?.config();
    let bench = Bench::new(args, &config)?;
    let cases = cases(&bench.model, &config)?;
    let mut times = vec![Vec::new(); cases.len()];
    for round in 0..=args.rounds {
        for (case, times) in cases.iter().zip(&mut times) {
            let millis = bench.pass(&case.plan)?;
            // The first round is a warm-up.
            if round > 0 {
                times.push(millis);
            }
        }
    }
    let times: Vec<f64> = times.into_iter().map(timing::median).collect();
    print(args, &bench, &cases, &times, as_json)
}

/// The joint pass, followed by each granularity alone from the smallest to the largest.
fn cases(model: &MatLm, config: &MatLmConfig) -> Result<Vec<Case>> {
    let (space, costs) = (model.space(), costs(config));
    let flops = costs.get(Resource::Flops)?;
    let names = space.granularities.names();
    let submodels =
        names.iter().map(|name| space.uniform(name)).collect::<Result<Vec<Submodel>, _>>()?;
    let joint = ("joint".to_owned(), Plan::merged(&submodels)?);
    let alone = names.iter().zip(&submodels).map(|(name, s)| ((*name).to_owned(), Plan::one(s)));
    std::iter::once(joint)
        .chain(alone)
        .map(|(name, plan)| Ok(Case { name, flops: flops.plan(&plan)?, plan }))
        .collect()
}

fn print(
    args: &JointArgs,
    bench: &Bench,
    cases: &[Case],
    times: &[f64],
    as_json: bool,
) -> Result<()> {
    let (joint, separate) = (times[0], times[1..].iter().sum::<f64>());
    let separate_flops: f64 = cases[1..].iter().map(|case| case.flops).sum();
    let (measured, predicted) = (joint / separate, cases[0].flops / separate_flops);
    let (largest, largest_flops) = (times[times.len() - 1], cases[cases.len() - 1].flops);
    if as_json {
        let rows: Vec<_> = cases
            .iter()
            .zip(times)
            .map(|(case, ms)| json!({ "pass": case.name, "ms": ms, "flops_per_token": case.flops }))
            .collect();
        println!(
            "{}",
            serde_json::to_string_pretty(&json!({
                "machine": timing::describe(), "preset": args.preset, "tokens": bench.batch.targets,
                "rounds": args.rounds, "rows": rows,
                "joint_over_separate": measured, "predicted": predicted,
                "measured_over_predicted": measured / predicted, "limit": LIMIT,
                "joint_over_largest": joint / largest,
            }))?
        );
    } else {
        println!("{}", timing::describe());
        println!(
            "preset {}, {} tokens, forward and backward, median of {} rounds\n",
            args.preset, bench.batch.targets, args.rounds
        );
        for (case, ms) in cases.iter().zip(times) {
            println!("{:>8} {ms:8.1} ms  {:7.2} MFLOPs per token", case.name, case.flops / 1e6);
        }
        println!(
            "{:>8} {separate:8.1} ms  {:7.2} MFLOPs per token",
            "separate",
            separate_flops / 1e6
        );
        println!(
            "\njoint / separate: measured {measured:.3}, predicted from FLOPs {predicted:.3}; \
             measured / predicted {:.2} (at most {LIMIT})",
            measured / predicted
        );
        println!(
            "joint / {}: measured {:.2}, predicted from FLOPs {:.2}",
            cases[cases.len() - 1].name,
            joint / largest,
            cases[0].flops / largest_flops
        );
    }
    ensure!(
        measured <= LIMIT * predicted,
        "the joint pass takes more than {LIMIT} times the time that its FLOPs predict"
    );
    Ok(())
}
