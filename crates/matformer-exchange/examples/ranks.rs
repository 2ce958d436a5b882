//! Says who the ranks of a world are, in their order:
//! `mpirun -n 2 cargo run -p matformer-exchange --features mpi --example ranks`.

use matformer_exchange::{Error, Exchange, Launch};

fn main() -> Result<(), Error> {
    let launch = Launch::from_env()?;
    let exchange = Exchange::open(launch.as_ref())?;
    let by = launch.map_or_else(|| "itself".to_owned(), |launch| launch.launcher.to_string());
    // One after the other: the sums of all ranks in front are there when a rank speaks.
    for rank in 0..exchange.world() {
        if rank == exchange.rank() {
            println!("{exchange:?}: process {}, started by {by}", std::process::id());
        }
        exchange.any(false);
    }
    let mut sum = [exchange.rank() as f64];
    exchange.sum_f64(&mut sum);
    if exchange.is_first() {
        println!("sum of the ranks: {}", sum[0]);
    }
    Ok(())
}
