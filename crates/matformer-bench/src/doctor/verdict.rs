//! What the findings about a device come to.

use serde::Serialize;

use super::Findings;

/// An op is right if it differs from the CPU's by less: sums run in another order, and tensor cores round the
/// factors of f32 products to TF32.
const OP_LIMIT: f64 = 2e-3;
/// The same for the losses of training.
const TRAINING_LIMIT: f64 = 1e-2;

/// What a person should do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether the device computes right, as far as it was compared.
    pub ok: bool,
    /// In a sentence or two.
    pub text: String,
}

/// The verdict on what was found.
pub fn verdict(found: &Findings) -> Verdict {
    let device = &found.device;
    if let Some(wrong) = wrong(found) {
        let text = format!(
            "{device} does not compute what the CPU does: {wrong}. Do not rely on it: update its driver, or use \
             --device flex."
        );
        return Verdict { ok: false, text };
    }
    let compared = !found.ops.is_empty();
    let mut text = match (compared, device.as_str()) {
        (true, _) => format!("{device} works, and computes what the CPU does."),
        (false, "flex") => {
            "The CPU works. Its results are what other devices are compared with.".to_owned()
        }
        (false, _) => {
            format!("{device} works. This build has no CPU backend to compare it with.")
        }
    };
    if compared && found.in_host_memory {
        text +=
            " It is a driver that computes on the CPU, and slow: use --device flex for real work.";
    }
    if let Some(problem) = found.problems.first() {
        text += &format!(
            " It failed at {}: {}. The other measurements are valid.",
            problem.part, problem.message
        );
    }
    Verdict { ok: true, text }
}

/// What is wrong with the results of a device.
fn wrong(found: &Findings) -> Option<String> {
    let limit = |error: Option<f64>| error.is_none_or(|error| error > OP_LIMIT);
    if let Some(op) = found.ops.iter().find(|op| limit(op.error)) {
        return Some(match op.error {
            Some(error) => format!("{} differs by {error:.1e}", op.op),
            None => format!("{} gives no numbers", op.op),
        });
    }
    if let Some(followed) = found.training.as_ref().filter(|found| found.error > TRAINING_LIMIT) {
        return Some(format!(
            "after {} steps of training its losses are up to {:.1e} apart",
            followed.steps, followed.error
        ));
    }
    // Speed may lack memory; these are small.
    let failed = found.problems.iter().find(|problem| problem.decides)?;
    Some(format!("{} failed: {}", failed.part, failed.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::Followed, doctor::OpError, doctor::Problem};

    fn findings(device: &str) -> Findings {
        let in_host_memory = device == "flex";
        Findings { device: device.to_owned(), in_host_memory, ..Findings::default() }
    }

    #[test]
    fn what_is_wrong_is_said_first() {
        let mut found = findings("cuda:0");
        let without = verdict(&found);
        assert!(without.ok && without.text.contains("no CPU backend"), "{without:?}");
        found.in_host_memory = true;
        assert_eq!(verdict(&found), without, "nothing was compared: nothing is praised");
        found.ops = vec![OpError { op: "linear", error: Some(1e-6) }];
        found.training = Some(Followed { steps: 20, error: 1e-5, losses: [6.0, 1.0] });
        assert!(verdict(&found).text.contains("slow"), "{:?}", verdict(&found));
        found.in_host_memory = false;
        assert_eq!(verdict(&found).text, "cuda:0 works, and computes what the CPU does.");
        let problem = |part: &str, decides| {
            let message = "out of memory".to_owned();
            Problem { part: part.to_owned(), message, decides }
        };
        found.problems = vec![problem("medium", false)];
        let found_of_speed = verdict(&found);
        assert!(found_of_speed.ok, "{found_of_speed:?}");
        assert!(
            found_of_speed.text.contains("failed at medium: out of memory."),
            "{found_of_speed:?}"
        );
        let mut bad = |change: &dyn Fn(&mut Findings), expected: &str| {
            change(&mut found);
            let said = verdict(&found);
            assert!(!said.ok && said.text.contains(expected), "{said:?}");
        };
        bad(&|f| f.problems.push(problem("op rope", true)), "op rope failed: out of memory");
        bad(&|f| f.training.as_mut().unwrap().error = f64::INFINITY, "losses are up to inf apart");
        bad(&|f| f.ops[0].error = Some(0.3), "linear differs by 3.0e-1");
        bad(&|f| f.ops[0].error = None, "linear gives no numbers");
        assert!(verdict(&findings("flex")).text.starts_with("The CPU works"));
    }
}
