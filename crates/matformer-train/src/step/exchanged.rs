//! What the ranks exchange in a step.

use burn::{module::Module, optim::GradientsParams};
use matformer_core::StepDraw;
use matformer_exchange::Exchange;
use matformer_nn::Elastic;

use super::{Term, Trainer};
use crate::{Error, Result, optimizer::global_norm, outer::OuterRule, ranks::sum_gradients};

/// Gradients over a rank's share of the rows of a step, and what each term came to there.
pub(super) type Found = (GradientsParams, Vec<Term>);

/// What a rank makes its step with.
pub(super) struct Exchanged {
    pub grads: GradientsParams,
    /// Over the rows of all ranks.
    pub terms: Vec<Term>,
    /// The norm of `grads`.
    pub norm: f64,
    /// The norm that all ranks judge: of a rank's own steps, the mean.
    pub grad_norm: f64,
}

impl<M: Elastic + Module> Trainer<M> {
    /// The step of all ranks: the gradients over the rows of all.
    pub(super) fn exchange_gradients(
        &self,
        draw: &StepDraw,
        own: Result<Found>,
    ) -> Result<Exchanged> {
        let own = own.map(|(grads, terms)| (grads, terms, []));
        let (grads, terms, []) = agree_on_terms(&self.exchange, own, draw.terms.len())?;
        let summed = sum_gradients(&self.exchange, self.model(), grads)
            .and_then(|grads| Ok((global_norm(self.model(), &grads)?, grads)));
        // Of the first: a device may sum in another order each time.
        let mut norm = match &summed {
            Ok((norm, _)) if self.exchange.is_first() => [*norm],
            _ => [0.0],
        };
        let (_, grads) = self.exchange.agree_and_sum(summed, &mut norm, Error::whole)?;
        Ok(Exchanged { grads, terms, norm: norm[0], grad_norm: norm[0] })
    }

    /// A step of this rank's own inside of a round: the others learn of its losses only.
    pub(super) fn exchange_losses(&self, draw: &StepDraw, own: Result<Found>) -> Result<Exchanged> {
        let own = own.and_then(|(grads, terms)| {
            let norm = global_norm(self.model(), &grads)?;
            Ok(((grads, norm), terms, [norm]))
        });
        let ((grads, norm), terms, [sum]) = agree_on_terms(&self.exchange, own, draw.terms.len())?;
        let grad_norm = sum / self.exchange.world() as f64;
        Ok(Exchanged { grads, terms, norm, grad_norm })
    }

    /// Ends a round, where one ends behind this step.
    pub(super) fn outer_step(&mut self) -> Result<()> {
        let Some(rounds) = self.config.exchange.rounds() else {
            return Ok(());
        };
        if self.config.exchanges_at(self.step) {
            let means = self.optimizer.means(&self.exchange, self.model());
            let means = self.exchange.agree(means, Error::whole)?;
            let share = (self.step - self.round_from) as f64 / rounds.every as f64;
            let outer = OuterRule { rounds, share };
            self.model =
                self.model.take().map(|model| self.optimizer.outer_step(model, means, outer));
            self.round_from = self.step;
        }
        Ok(())
    }
}

/// What a rank has found in a step, with numbers that become their sums over all ranks: three of each of its `terms`,
/// those of `more`. Ends the step on all ranks where it has failed on one.
///
/// # Errors
/// What any rank has failed with.
fn agree_on_terms<T, const N: usize>(
    exchange: &Exchange,
    found: Result<(T, Vec<Term>, [f64; N])>,
    terms: usize,
) -> Result<(T, Vec<Term>, [f64; N])> {
    let mut sums = match &found {
        Ok((_, terms, more)) => terms.iter().flat_map(numbers).chain(*more).collect(),
        // The others wait for as many.
        Err(_) => vec![0.0; 3 * terms + N],
    };
    let (found, mut terms, mut more) = exchange.agree_and_sum(found, &mut sums, Error::whole)?;
    if !exchange.is_alone() {
        let (of_terms, others) = sums.split_at(3 * terms.len());
        for (term, sums) in terms.iter_mut().zip(of_terms.chunks_exact(3)) {
            (term.nats, term.count) = (sums[0], sums[1] as usize);
            term.divergence = term.divergence.map(|_| sums[2]);
        }
        more.copy_from_slice(others);
    }
    Ok((found, terms, more))
}

fn numbers(term: &Term) -> [f64; 3] {
    [term.nats, term.count as f64, term.divergence.unwrap_or_default()]
}
