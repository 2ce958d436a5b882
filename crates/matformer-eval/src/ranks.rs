//! Walks of a measurement that several ranks share.

use matformer_exchange::Exchange;

use crate::{Beside, DocumentLoss, Error, Hits, Result};

/// Of one batch: the document of each row, and of each submodel what was found of each row.
pub(crate) struct Found {
    pub(crate) documents: Vec<usize>,
    pub(crate) rows: Vec<Vec<DocumentLoss>>,
}

/// Whether a rank makes the forward pass of a batch through a plan. One rank makes a forward pass that is the same
/// among many ranks as on one, so that its losses have the same bits. Plans take unequal times: they are dealt out anew
/// for every batch.
pub(crate) fn takes(ranks: &Exchange, batch: usize, plan: usize) -> bool {
    (batch + plan) % ranks.world() == ranks.rank()
}

/// Gives all ranks what each has found. Rows of forward passes that others have made are as by default.
///
/// # Errors
/// When a rank has failed.
pub(crate) fn share(ranks: &Exchange, found: Result<Vec<Found>>) -> Result<Vec<Found>> {
    let mut found = ranks.agree(found, Error::to_string)?;
    if ranks.is_alone() {
        return Ok(found);
    }
    let losses = || found.iter().flat_map(|of| of.rows.iter().flatten());
    // Numbers of others are zeros here: their sum is exact.
    let mut numbers: Vec<f64> = losses().flat_map(to_numbers).collect();
    ranks.sum_f64(&mut numbers);
    let all = found.iter_mut().flat_map(|of| of.rows.iter_mut().flatten());
    for (loss, numbers) in all.zip(numbers.as_chunks::<NUMBERS>().0) {
        *loss = of_numbers(numbers);
    }
    Ok(found)
}

/// Numbers of a row.
const NUMBERS: usize = 8;

fn to_numbers(loss: &DocumentLoss) -> [f64; NUMBERS] {
    let count = |is: bool| f64::from(u8::from(is));
    let hits = loss.hits.unwrap_or_default();
    let beside = loss.beside.unwrap_or_default();
    [
        loss.nats,
        loss.tokens as f64,
        count(loss.hits.is_some()),
        hits.top1 as f64,
        hits.top5 as f64,
        count(loss.beside.is_some()),
        beside.equal as f64,
        beside.reverse_nats,
    ]
}

fn of_numbers(numbers: &[f64; NUMBERS]) -> DocumentLoss {
    let [nats, tokens, has_hits, top1, top5, is_beside, equal, reverse_nats] = *numbers;
    let hits = Hits { top1: top1 as usize, top5: top5 as usize };
    let beside = Beside { equal: equal as usize, reverse_nats, own: None };
    DocumentLoss {
        nats,
        tokens: tokens as usize,
        hits: (has_hits > 0.0).then_some(hits),
        beside: (is_beside > 0.0).then_some(beside),
        ..DocumentLoss::default()
    }
}

#[cfg(test)]
mod tests {
    use matformer_exchange::threads;

    use super::*;

    #[test]
    fn every_walk_is_of_one_rank_and_all_know_what_it_found() {
        let loss = |walk: usize| DocumentLoss {
            nats: 0.1 * walk as f64,
            tokens: walk,
            hits: walk.is_multiple_of(2).then_some(Hits { top1: 0, top5: walk }),
            beside: walk.is_multiple_of(3).then_some(Beside {
                equal: 2,
                reverse_nats: 0.3,
                own: None,
            }),
            ..DocumentLoss::default()
        };
        let (batches, plans) = (3, 5);
        let of_rank = |ranks: Exchange| {
            let of = |batch: usize| Found {
                documents: vec![batch],
                rows: (0..plans)
                    .map(|plan| {
                        let own = takes(&ranks, batch, plan).then(|| loss(batch * plans + plan));
                        vec![own.unwrap_or_default()]
                    })
                    .collect(),
            };
            share(&ranks, Ok((0..batches).map(of).collect())).unwrap()
        };
        let all: Vec<Vec<Found>> = std::thread::scope(|scope| {
            let ranks: Vec<_> =
                threads(2).into_iter().map(|rank| scope.spawn(|| of_rank(rank))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        for found in all {
            let found: Vec<DocumentLoss> =
                found.into_iter().flat_map(|f| f.rows.concat()).collect();
            assert_eq!(found, (0..batches * plans).map(loss).collect::<Vec<_>>());
        }
    }
}
