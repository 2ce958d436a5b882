//! Ranks that measure together: the first leads and keeps what is found, the others help.

use matformer_core::Submodel;
use matformer_eval::Store;
use matformer_exchange::Exchange;
use matformer_run::{Error, Hinted, Kind, ModelFolder, Part, Result, Session, chain};
use serde::{Deserialize, Serialize};

/// What rank 0 asks of the others.
#[derive(Serialize, Deserialize)]
enum Request {
    /// To measure their share of what is not known of these.
    Measure(Measure),
    /// Nothing more.
    End,
}

/// What is to be measured.
#[derive(Serialize, Deserialize)]
struct Measure {
    /// Hash of the model's weights.
    weights: String,
    submodels: Vec<Submodel>,
    part: Part,
}

/// Calls `work` on rank 0: wherever it measures a model folder of a [helped](Session::helped) session, the other
/// ranks help, which meanwhile call [`help`].
///
/// # Errors
/// Those of `work`, and of ranks that help, which end all.
pub fn lead<T, E: From<matformer_exchange::Error>>(
    session: &Session,
    describe: impl Fn(&E) -> String,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let result = work();
    let exchange = &session.exchange;
    if exchange.is_alone() || exchange.ended_together() {
        return result;
    }
    send(exchange, &Request::End);
    exchange.agree(result, describe)
}

/// Measures what rank 0 asks for, until it has no more to ask; `data` gives the held-out data, once rank 0 has it.
///
/// # Errors
/// When a rank fails.
pub fn help<K: Kind>(
    folder: &ModelFolder<K>,
    data: impl Fn() -> Result<K::Prepared>,
) -> Result<()> {
    let exchange = &folder.session.exchange;
    let mut prepared = None;
    loop {
        let bytes = exchange.broadcast(Vec::new());
        let Measure { weights, submodels, part } = match serde_json::from_slice(&bytes)? {
            Request::Measure(measure) => measure,
            Request::End => return exchange.agree(Ok(()), chained),
        };
        let ready = same_weights(folder, &weights).and_then(|()| match prepared.take() {
            Some(prepared) => Ok(prepared),
            None => data(),
        });
        let prepared = &*prepared.insert(exchange.agree(ready, chained)?);
        let mut store = Store::helping(exchange.clone());
        K::evaluate(folder, prepared, &mut store, &submodels, &part, &mut |_, _| {})?;
    }
}

/// Asks the other ranks to help with a measurement that follows.
pub(crate) fn ask<K: Kind>(
    folder: &ModelFolder<K>,
    exchange: &Exchange,
    submodels: &[Submodel],
    part: &Part,
) -> Result<()> {
    let weights = folder.manifest.weights_sha256.clone();
    let measure = Measure { weights, submodels: submodels.to_vec(), part: *part };
    send(exchange, &Request::Measure(measure));
    exchange.agree(Ok(()), chained)
}

fn send(exchange: &Exchange, request: &Request) {
    let bytes = serde_json::to_vec(request)
        .unwrap_or_else(|_| unreachable!("numbers and strings have a JSON form"));
    exchange.broadcast(bytes);
}

fn same_weights<K: Kind>(folder: &ModelFolder<K>, expected: &str) -> Result<()> {
    let found = &folder.manifest.weights_sha256;
    if found == expected {
        return Ok(());
    }
    Err(Hinted {
        message: format!("{}: weights {found}; expected {expected}", folder.dir.display()),
        hint: "all ranks need the same model folder".to_owned(),
    }
    .into())
}

fn chained(error: &Error) -> String {
    chain(error)
}
