//! Policies and drafts as a user types them.

use std::str::FromStr;

use matformer_core::{Submodel, SubmodelSpec};

use crate::Policy;

/// What drafts, as typed: a submodel, or `auto`, whichever is fastest.
#[derive(Clone, Debug, PartialEq)]
pub enum DraftSpec {
    /// Whichever trained size is fastest.
    Auto,
    /// A submodel.
    Of(SubmodelSpec),
}

impl DraftSpec {
    /// The submodels that it means for a verifier; `trained` are those to choose from. None where no trained one is
    /// narrower.
    ///
    /// # Errors
    /// As `resolve`.
    pub fn resolve<E>(
        &self,
        trained: impl IntoIterator<Item = Submodel>,
        verifier: &Submodel,
        resolve: impl Fn(&SubmodelSpec) -> Result<Submodel, E>,
    ) -> Result<Vec<Submodel>, E> {
        let narrower = |narrow: &Submodel| {
            let mut pairs = narrow.widths().iter().zip(verifier.widths());
            narrow != verifier && pairs.all(|(narrow, wide)| narrow <= wide)
        };
        match self {
            Self::Of(spec) => Ok(vec![resolve(spec)?]),
            Self::Auto => Ok(trained.into_iter().filter(narrower).collect()),
        }
    }
}

impl FromStr for DraftSpec {
    type Err = matformer_core::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Of) }
    }
}

/// Which size takes each token, as typed: `fixed`, `escalate=XL,2`, `phases=S`.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicySpec {
    /// The request's submodel takes all.
    Fixed,
    /// A wider one decides where the next token is unsure.
    Escalate {
        /// The wider submodel.
        wide: SubmodelSpec,
        /// Nats of entropy above which it decides.
        entropy: f64,
    },
    /// Another one reads the prompt.
    Phases {
        /// The submodel of the prompt.
        prompt: SubmodelSpec,
    },
}

impl PolicySpec {
    /// The policy that it means for a model.
    ///
    /// # Errors
    /// As `resolve`.
    pub fn resolve<E>(
        &self,
        resolve: impl Fn(&SubmodelSpec) -> Result<Submodel, E>,
    ) -> Result<Policy, E> {
        Ok(match self {
            Self::Fixed => Policy::Fixed,
            Self::Escalate { wide, entropy } => {
                Policy::Escalate { wide: resolve(wide)?, entropy: *entropy }
            }
            Self::Phases { prompt } => Policy::Phases { prompt: resolve(prompt)? },
        })
    }
}

impl FromStr for PolicySpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        /// Nats above which a wider submodel decides.
        const UNSURE: f64 = 2.0;
        let spec = |text: &str| text.parse::<SubmodelSpec>().map_err(|error| error.to_string());
        match text.split_once('=') {
            None if text == "fixed" => Ok(Self::Fixed),
            Some(("phases", prompt)) => Ok(Self::Phases { prompt: spec(prompt)? }),
            Some(("escalate", of)) => {
                let (wide, entropy) = match of.split_once(',') {
                    None => (of, UNSURE),
                    Some((wide, nats)) => {
                        let nats = nats.parse().ok().filter(|n: &f64| *n >= 0.0);
                        (wide, nats.ok_or("expected a number of nats behind the comma, 0 or more")?)
                    }
                };
                Ok(Self::Escalate { wide: spec(wide)?, entropy })
            }
            _ => {
                Err("expected `fixed`, `escalate=SUBMODEL[,NATS]` or `phases=SUBMODEL`".to_owned())
            }
        }
    }
}
