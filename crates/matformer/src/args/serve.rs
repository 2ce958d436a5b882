//! Arguments of `serve`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::Args as ClapArgs;
use matformer::{core::SubmodelSpec, engine};

use super::values::{at_least_one, byte_size, seconds, up_to_4096, whole};

#[derive(Debug, ClapArgs)]
pub struct ServeArgs {
    /// Model folder
    pub model: PathBuf,
    /// Address to listen on; `0.0.0.0` lets other machines connect, preferably with --api-key-file
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: IpAddr,
    /// Port to listen on; 0: any free port
    #[arg(long, default_value_t = 8080, value_name = "N")]
    pub port: u16,
    /// Name of the model in requests; `NAME@SIZE` is one of its sizes [default: name of the folder]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Size that answers requests without one: `S`, `60%`, `64x1+128x4`, … [default: the largest]
    #[arg(long, value_name = "SUBMODEL")]
    pub submodel: Option<SubmodelSpec>,
    /// Weight format in memory: `f32`; on the CPU also `bf16` and `q8_0`, which are faster and nearly as
    /// accurate [default: bf16 on the CPU, else f32]
    #[arg(long, value_name = "FORMAT")]
    pub dtype: Option<engine::Format>,
    /// Number of texts that are generated at the same time
    #[arg(long, default_value_t = 8, value_name = "N")]
    #[arg(value_parser = up_to_4096, allow_negative_numbers = true)]
    pub slots: usize,
    /// Maximum tokens of prompt and answer together [default: the model's context]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub context: Option<usize>,
    /// Number of compute threads [default: all]
    #[arg(long, value_name = "N", value_parser = up_to_4096, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// While requests wait, answer requests without a size at a narrower trained size; each response names the
    /// size that answered
    #[arg(long)]
    pub narrow_when_busy: bool,
    /// File with API keys, one per line: requests need one as `Authorization: Bearer KEY`
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Maximum seconds for running requests to end after Ctrl-C or SIGTERM
    #[arg(long, default_value = "30", value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub grace: Duration,
    /// Number of requests that may wait; more are refused with status 429
    #[arg(long, default_value_t = 64, value_name = "N", help_heading = "Limits of a request")]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub queue: usize,
    /// Maximum number of new tokens of an answer [default: the context]
    #[arg(long, value_name = "N", help_heading = "Limits of a request")]
    #[arg(value_parser = at_least_one, allow_negative_numbers = true)]
    pub max_tokens: Option<usize>,
    /// Maximum size of a request's body
    #[arg(long, default_value = "2MB", value_name = "SIZE", help_heading = "Limits of a request")]
    #[arg(value_parser = byte_size)]
    pub max_body: u64,
    /// Maximum seconds for the headers of a request to arrive, and again for its body
    #[arg(long, default_value = "30", value_name = "S", help_heading = "Limits of a request")]
    #[arg(value_parser = seconds, allow_negative_numbers = true)]
    pub read_timeout: Duration,
    /// Maximum seconds from the arrival of a request to the end of its answer
    #[arg(long, default_value = "600", value_name = "S", help_heading = "Limits of a request")]
    #[arg(value_parser = seconds, allow_negative_numbers = true)]
    pub timeout: Duration,
}
