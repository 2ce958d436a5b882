//! Machine-readable results of an evaluation.

use std::collections::BTreeMap;

use matformer_core::{Costs, Measurement, Resource, Space, Submodel};
use serde::{Deserialize, Serialize};

use crate::{DocumentLoss, Estimate, Evaluation, Hits, Result, evaluate::name, stats};

/// The JSON that `matformer eval --json` prints.
///
/// This form is stable: fields are added, none is removed, renamed or given another meaning.
///
/// ```json
/// {
///   "model": "runs/demo",
///   "data": { "hash": "9f2c…", "tokens": 33012, "documents": 120, "context": 256 },
///   "results": [
///     {
///       "submodel": "S",
///       "widths": [64, 64, 64, 64, 64],
///       "params": { "total": 632192, "non_embedding": 370048, "ffn": 122880 },
///       "loss": 3.1, "stderr": 0.02, "perplexity": 22.2, "bits_per_byte": 1.9,
///       "paired": { "to": "XL", "diff": 0.31, "stderr": 0.004 }
///     }
///   ]
/// }
/// ```
///
/// Losses are comparable at equal `data` only; of the data that `data.hash` names, `data.tokens` tokens
/// in `data.documents` documents were read, each predicted from at most `data.context` tokens before it. Where some of these are not independent, `data.clusters`
/// says how many clusters they are of. Standard errors count clusters, or documents where each stands
/// for itself, and are `null` with fewer than two.
///
/// Of images, each is a document of one token: `bits_per_byte` is `null`, and `top1` and `top5` are
/// added (`{"value": 0.9, "stderr": 0.003}`), also to `paired`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalResults {
    /// What was evaluated: a path or a name.
    pub model: String,
    /// What it was evaluated on.
    pub data: DataFacts,
    /// One entry per submodel, in the order in which they were asked for.
    pub results: Vec<SubmodelResult>,
}

/// Held-out data that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFacts {
    /// Hash of the whole data set.
    pub hash: String,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Documents that they are from.
    pub documents: usize,
    /// Clusters that the documents are of, such as crates or books; left out where each document
    /// stands for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<usize>,
    /// The most tokens that a prediction was made from, of text: the length of the windows that
    /// documents were cut into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
}

impl DataFacts {
    /// Names what was measured on, as [`Evaluation::data`] does; `whole` where that is all of the data.
    pub fn name(&self, whole: bool) -> String {
        name(&self.hash, (!whole).then_some(self.tokens), self.context)
    }

    /// What standard errors count: clusters, or documents where each stands for itself.
    pub fn independent(&self) -> usize {
        self.clusters.unwrap_or(self.documents)
    }
}

/// What was found of one submodel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubmodelResult {
    /// Its label: `S`, `64x1+128x4`.
    pub submodel: String,
    /// Its FFN widths, one per layer.
    pub widths: Vec<usize>,
    /// What it costs.
    pub params: ParamCounts,
    /// Held-out loss in nats per token.
    pub loss: f64,
    /// Standard error of the loss.
    pub stderr: Option<f64>,
    /// e to the power of the loss.
    pub perplexity: f64,
    /// Bits per byte of text; `null` for images.
    pub bits_per_byte: Option<f64>,
    /// Share of the images whose class was found the likeliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top1: Option<Estimate>,
    /// Share of the images whose class was among the five likeliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5: Option<Estimate>,
    /// Of each source that has held-out documents, where the data has several with weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceResult>,
    /// Difference to the reference; `null` for the reference itself, or without one.
    pub paired: Option<Paired>,
}

/// What was found of one submodel on the held-out documents of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceResult {
    /// Its number in `data.sources`, from 1.
    pub source: usize,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Documents that they are from.
    pub documents: usize,
    /// Held-out loss in nats per token.
    pub loss: f64,
    /// Standard error of the loss.
    pub stderr: Option<f64>,
    /// Bits per byte of text.
    pub bits_per_byte: f64,
}

impl SourceResult {
    /// Those of all sources, in their order.
    ///
    /// # Errors
    /// [`Error::Nothing`](crate::Error::Nothing) if the documents of one hold no text.
    fn all(documents: &[DocumentLoss]) -> Result<Vec<Self>> {
        let mut of: BTreeMap<usize, Vec<DocumentLoss>> = BTreeMap::new();
        for document in documents {
            if let Some(source) = document.source {
                of.entry(source).or_default().push(*document);
            }
        }
        let result = |(source, documents): (usize, Vec<DocumentLoss>)| {
            let Estimate { value, stderr } = stats::loss(&documents)?;
            Ok(Self {
                source: source + 1,
                tokens: documents.iter().map(|document| document.tokens).sum(),
                documents: documents.len(),
                loss: value,
                stderr,
                bits_per_byte: stats::bits_per_byte(&documents)?.value,
            })
        };
        of.into_iter().map(result).collect()
    }
}

/// Parameters of a submodel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamCounts {
    /// All parameters, a tied embedding once.
    pub total: u64,
    /// All but the embeddings.
    pub non_embedding: u64,
    /// Those of the FFN matrices.
    pub ffn: u64,
}

/// Difference of two submodels on the same documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Label of the reference.
    pub to: String,
    /// Loss minus the reference's loss, in nats per token: positive is worse.
    pub diff: f64,
    /// Standard error of the difference, paired by document.
    pub stderr: Option<f64>,
    /// Accuracy minus the reference's, of images: positive is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top1: Option<Estimate>,
}

impl EvalResults {
    /// Results of all submodels of `evaluation`, with differences to `reference` if there is one.
    ///
    /// # Errors
    /// [`Error::NotEvaluated`](crate::Error::NotEvaluated) if the reference is not among them,
    /// [`Error::Core`](crate::Error::Core) if `costs` lack parameters or do not fit.
    pub fn new(
        model: &str,
        data_hash: &str,
        evaluation: &Evaluation,
        space: &Space,
        costs: &Costs,
        reference: Option<&Submodel>,
    ) -> Result<Self> {
        let to = reference
            .map(|reference| Ok::<_, crate::Error>((reference, evaluation.losses(reference)?)))
            .transpose()?;
        let mut results = Vec::with_capacity(evaluation.submodels.len());
        for losses in &evaluation.submodels {
            let (submodel, documents) = (&losses.submodel, &losses.documents);
            let Estimate { value, stderr } = stats::loss(documents)?;
            let paired = match to {
                Some((reference, theirs)) if reference != submodel => {
                    let difference = stats::difference(documents, theirs)?;
                    Some(Paired {
                        to: space.label(reference),
                        diff: difference.value,
                        stderr: difference.stderr,
                        top1: stats::accuracy_difference(documents, theirs, TOP1)?,
                    })
                }
                _ => None,
            };
            results.push(SubmodelResult {
                submodel: space.label(submodel),
                widths: submodel.widths().to_vec(),
                params: ParamCounts::of(submodel, costs)?,
                loss: value,
                stderr,
                perplexity: stats::perplexity(documents)?.value,
                bits_per_byte: bits_per_byte(documents)?.map(|bits| bits.value),
                top1: stats::accuracy(documents, TOP1)?,
                top5: stats::accuracy(documents, TOP5)?,
                sources: SourceResult::all(documents)?,
                paired,
            });
        }
        Ok(Self {
            model: model.to_owned(),
            data: DataFacts {
                hash: data_hash.to_owned(),
                tokens: evaluation.tokens(),
                documents: evaluation.n_documents(),
                clusters: evaluation.n_clusters(),
                context: evaluation.context,
            },
            results,
        })
    }
}

impl ParamCounts {
    /// Parameters of a submodel by its cost tables.
    ///
    /// # Errors
    /// [`Error::Core`](crate::Error::Core) if `costs` lack parameters or do not fit.
    pub fn of(submodel: &Submodel, costs: &Costs) -> Result<Self> {
        // Parameter tables hold whole numbers.
        let count = |resource| -> Result<u64> { Ok(costs.get(resource)?.cost(submodel)? as u64) };
        Ok(Self {
            total: count(Resource::Params)?,
            non_embedding: count(Resource::NonEmbedding)?,
            ffn: count(Resource::Ffn)?,
        })
    }
}

const TOP1: fn(Hits) -> usize = |hits| hits.top1;
const TOP5: fn(Hits) -> usize = |hits| hits.top5;

/// Bits per byte, where the documents have bytes.
fn bits_per_byte(documents: &[DocumentLoss]) -> Result<Option<Estimate>> {
    match documents.iter().all(|document| document.hits.is_some()) {
        true => Ok(None),
        false => stats::bits_per_byte(documents).map(Some),
    }
}

/// The evaluation as lines of `measurements.jsonl`: of each submodel `loss` and `bits_per_byte`, or
/// `top1` and `top5` of images.
///
/// `data` names what was measured on ([`Evaluation::data`]): numbers of a part are never taken for those
/// of the whole.
///
/// # Errors
/// [`Error::Nothing`](crate::Error::Nothing) if the documents hold no text.
pub fn measurements(
    evaluation: &Evaluation,
    space: &Space,
    weights: &str,
    data: &str,
) -> Result<Vec<Measurement>> {
    let tokens = evaluation.tokens();
    let mut all = Vec::with_capacity(2 * evaluation.submodels.len());
    for losses in &evaluation.submodels {
        let documents = &losses.documents;
        let metrics = [
            ("loss", Some(stats::loss(documents)?)),
            ("bits_per_byte", bits_per_byte(documents)?),
            ("top1", stats::accuracy(documents, TOP1)?),
            ("top5", stats::accuracy(documents, TOP5)?),
        ];
        let metrics = metrics.into_iter().filter_map(|(metric, found)| Some((metric, found?)));
        all.extend(metrics.map(|(metric, Estimate { value, stderr })| Measurement {
            weights: weights.to_owned(),
            data: data.to_owned(),
            submodel: space.label(&losses.submodel),
            widths: losses.submodel.widths().to_vec(),
            metric: metric.to_owned(),
            value,
            n: tokens as u64,
            stderr,
            seed: 0,
        }));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::LN_2;

    use matformer_core::{CostTable, Granularities};

    use super::*;
    use crate::{DocumentLoss, Error, SubmodelLosses};

    fn space() -> Space {
        Space::new(2, 64, 8, Granularities::default_for(64).unwrap()).unwrap()
    }

    fn costs() -> Costs {
        let table = |resource, constant, fixed| {
            CostTable::affine(resource, constant, &[(fixed, 3.0); 2], 64)
        };
        Costs::new(vec![
            table(Resource::Params, 1000.0, 10.0),
            table(Resource::NonEmbedding, 4.0, 10.0),
            table(Resource::Ffn, 0.0, 0.0),
        ])
    }

    /// XL, and a submodel that is worse by 1 and 2 nats on documents of 2 tokens.
    fn evaluation(n_documents: usize) -> Evaluation {
        let losses = |submodel, nats: [f64; 2]| SubmodelLosses {
            submodel,
            documents: nats
                .map(|nats| DocumentLoss { nats, tokens: 2, bytes: 8, ..DocumentLoss::default() })
                .into_iter()
                .take(n_documents)
                .collect(),
        };
        Evaluation {
            submodels: vec![
                losses(Submodel::new(vec![8, 16]), [5.0, 4.0]),
                losses(space().largest(), [4.0, 2.0]),
            ],
            whole: true,
            context: Some(256),
        }
    }

    fn results(evaluation: &Evaluation, reference: Option<&Submodel>) -> Result<EvalResults> {
        EvalResults::new("runs/x", "abc", evaluation, &space(), &costs(), reference)
    }

    #[test]
    fn json_has_the_promised_form() {
        let found = results(&evaluation(2), Some(&space().largest())).unwrap();
        let json = serde_json::to_value(&found).unwrap();
        let expected = serde_json::json!({
            "model": "runs/x",
            "data": {"hash": "abc", "tokens": 4, "documents": 2, "context": 256},
            "results": [
                {
                    "submodel": "8x1+16x1",
                    "widths": [8, 16],
                    "params": {"total": 1092, "non_embedding": 96, "ffn": 72},
                    "loss": 2.25,
                    "stderr": 0.25,
                    "perplexity": 2.25_f64.exp(),
                    "bits_per_byte": (5.0 / LN_2 + 4.0 / LN_2) / 16.0,
                    "paired": {"to": "XL", "diff": 0.75, "stderr": 0.25},
                },
                {
                    "submodel": "XL",
                    "widths": [64, 64],
                    "params": {"total": 1404, "non_embedding": 408, "ffn": 384},
                    "loss": 1.5,
                    "stderr": 0.5,
                    "perplexity": 1.5_f64.exp(),
                    "bits_per_byte": (4.0 / LN_2 + 2.0 / LN_2) / 16.0,
                    "paired": null,
                },
            ],
        });
        assert_eq!(json, expected);
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<EvalResults>(&text).unwrap(), found);
    }

    #[test]
    fn sources_have_losses_of_their_own() {
        let mut evaluation = evaluation(2);
        assert_eq!(results(&evaluation, None).unwrap().results[0].sources, []);
        for losses in &mut evaluation.submodels {
            for (source, document) in losses.documents.iter_mut().enumerate() {
                document.source = Some(source);
            }
        }
        let found = results(&evaluation, None).unwrap();
        let of = |i: usize| {
            let sources = found.results[i].sources.iter();
            sources.map(|of| (of.source, of.tokens, of.documents, of.loss)).collect::<Vec<_>>()
        };
        assert_eq!(of(0), [(1, 2, 1, 2.5), (2, 2, 1, 2.0)]);
        assert_eq!(of(1), [(1, 2, 1, 2.0), (2, 2, 1, 1.0)]);
        let [first, _] = &found.results[0].sources[..] else { panic!("{found:?}") };
        assert_eq!((first.stderr, first.bits_per_byte), (None, 5.0 / LN_2 / 8.0));
    }

    #[test]
    fn references_must_be_there_and_one_document_has_no_error() {
        let error = results(&evaluation(2), Some(&space().smallest())).unwrap_err();
        assert!(matches!(error, Error::NotEvaluated { .. }));
        assert!(error.hint().unwrap().contains("list of submodels"));
        let one = results(&evaluation(1), None).unwrap();
        assert_eq!((one.results[0].stderr, &one.results[0].paired), (None, &None));
        let none = EvalResults::new("", "", &evaluation(2), &space(), &Costs::default(), None);
        assert!(matches!(none, Err(Error::Core(_))));
    }

    #[test]
    fn measurements_name_metric_data_and_submodel() {
        let mut evaluation = evaluation(2);
        let all = measurements(&evaluation, &space(), "w", "abc").unwrap();
        let found: Vec<_> =
            all.iter().map(|m| (m.submodel.as_str(), m.metric.as_str(), m.value, m.n)).collect();
        assert_eq!(
            found,
            [
                ("8x1+16x1", "loss", 2.25, 4),
                ("8x1+16x1", "bits_per_byte", (5.0 / LN_2 + 4.0 / LN_2) / 16.0, 4),
                ("XL", "loss", 1.5, 4),
                ("XL", "bits_per_byte", (4.0 / LN_2 + 2.0 / LN_2) / 16.0, 4),
            ]
        );
        assert_eq!((all[0].data.as_str(), all[0].stderr), ("abc", Some(0.25)));
        assert_eq!(evaluation.data("abc"), "abc@256");
        evaluation.whole = false;
        assert_eq!(evaluation.data("abc"), "abc:4@256");
        let facts = results(&evaluation, None).unwrap().data;
        assert_eq!((facts.name(true), facts.name(false)), ("abc@256".into(), "abc:4@256".into()));
        evaluation.context = None;
        assert_eq!(evaluation.data("abc"), "abc:4", "an image has no windows");
    }
}
