//! Scores, and what they are made of.

use serde::Serialize;

/// What a task asks a model for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputType {
    /// Log-likelihoods of several choices.
    MultipleChoice,
    /// The log-likelihood of one continuation, and whether it is the most likely one.
    Loglikelihood,
    /// The log-likelihood of a whole text.
    LoglikelihoodRolling,
    /// The most likely text after a context.
    GenerateUntil,
}

impl OutputType {
    pub(crate) const ALL: [Self; 4] = [
        Self::MultipleChoice,
        Self::Loglikelihood,
        Self::LoglikelihoodRolling,
        Self::GenerateUntil,
    ];

    /// As task files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultipleChoice => "multiple_choice",
            Self::Loglikelihood => "loglikelihood",
            Self::LoglikelihoodRolling => "loglikelihood_rolling",
            Self::GenerateUntil => "generate_until",
        }
    }

    /// The scores that tasks of this type may have.
    pub(crate) fn metrics(self) -> &'static [Metric] {
        use Metric::*;
        match self {
            Self::MultipleChoice => &[Acc, AccNorm, AccBytes, ExactMatch, MacroF1],
            Self::Loglikelihood => &[Perplexity, Acc],
            Self::LoglikelihoodRolling => &[WordPerplexity, BytePerplexity, BitsPerByte],
            Self::GenerateUntil => &[ExactMatch],
        }
    }

    /// The scores of a task that names none.
    pub(crate) fn default_metrics(self) -> &'static [Metric] {
        match self {
            Self::MultipleChoice => &self.metrics()[..2],
            _ => self.metrics(),
        }
    }
}

/// A score of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of examples whose correct choice has the highest log-likelihood, or whose continuation is the most
    /// likely one token by token.
    Acc,
    /// The same, with log-likelihoods divided by the number of characters.
    AccNorm,
    /// The same, with log-likelihoods divided by the number of bytes.
    AccBytes,
    /// Share of examples whose generated text is one of the answers; of choices: where a correct one is what greedy
    /// decoding gives.
    ExactMatch,
    /// Mean over the classes 0, 1 and 2 of the F1 of choosing each, as SuperGLUE has it for CommitmentBank.
    #[serde(rename = "f1")]
    MacroF1,
    /// Mean F1 of the words of the chosen answer and those of the most similar correct one.
    F1,
    /// Share of examples whose chosen answer has the words of a correct one.
    Em,
    /// e to the power of the mean negative log-likelihood of the continuations.
    Perplexity,
    /// The same of whole texts, per word.
    WordPerplexity,
    /// The same of whole texts, per byte.
    BytePerplexity,
    /// Negative log-likelihood of whole texts per byte, in bits.
    BitsPerByte,
}

/// How the parts of examples become a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// Their mean.
    Mean,
    /// The mean F1 of three classes; parts are the chosen and the correct class.
    MacroF1,
    /// e to the power of the negative mean.
    Perplexity,
    /// e to the power of the negative ratio of sums.
    WeightedPerplexity,
    /// The negative ratio of sums, divided by ln 2.
    BitsPerByte,
}

impl Aggregation {
    fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::MacroF1 => "!function cb.cb_multi_fi",
            Self::Perplexity => "perplexity",
            Self::WeightedPerplexity => "weighted_perplexity",
            Self::BitsPerByte => "bits_per_byte",
        }
    }
}

impl Metric {
    /// As task files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::AccBytes => "acc_bytes",
            Self::ExactMatch => "exact_match",
            Self::MacroF1 | Self::F1 => "f1",
            Self::Em => "em",
            Self::Perplexity => "perplexity",
            Self::WordPerplexity => "word_perplexity",
            Self::BytePerplexity => "byte_perplexity",
            Self::BitsPerByte => "bits_per_byte",
        }
    }

    /// How the parts of examples become this score.
    pub fn aggregation(self) -> Aggregation {
        match self {
            Self::Acc | Self::AccNorm | Self::AccBytes => Aggregation::Mean,
            Self::ExactMatch | Self::F1 | Self::Em => Aggregation::Mean,
            Self::MacroF1 => Aggregation::MacroF1,
            Self::Perplexity => Aggregation::Perplexity,
            Self::WordPerplexity | Self::BytePerplexity => Aggregation::WeightedPerplexity,
            Self::BitsPerByte => Aggregation::BitsPerByte,
        }
    }

    /// As task files spell how it is aggregated.
    pub(crate) fn aggregation_name(self) -> &'static str {
        self.aggregation().name()
    }
}
