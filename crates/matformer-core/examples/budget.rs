//! Prints which submodel of the paper's 850M model (arXiv 2310.07707 table 4) fits a budget. It needs
//! no weights: `cargo run -p matformer-core --example budget -- 60%`

use matformer_core::{
    CostTable, Costs, Granularities, Resource, Result, Space, Submodel, SubmodelSpec, mix,
};

fn main() -> Result<()> {
    let (d_model, d_ff, n_layers, vocabulary) = (1536.0, 6144, 16, 256_000.0);
    let space = Space::new(n_layers, d_ff, 32, Granularities::default_for(d_ff)?)?;

    // Attention has 4·d² parameters, an FFN of two matrices 2·d per neuron. The embedding is tied.
    let layers = [(4.0 * d_model * d_model, 2.0 * d_model); 16];
    let table = |resource, constant| CostTable::affine(resource, constant, &layers, d_ff);
    let costs = Costs::new(vec![
        table(Resource::NonEmbedding, 0.0),
        table(Resource::Params, vocabulary * d_model),
    ]);

    let typed = std::env::args().nth(1).unwrap_or_else(|| "60%".into());
    let spec: SubmodelSpec = match typed.parse() {
        Ok(spec) => spec,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(2);
        }
    };
    match spec.resolve(&space, &costs) {
        Ok(submodel) => print(&typed, &submodel, &space, &costs)?,
        Err(error) => {
            eprintln!("error: {error}");
            error.hint().into_iter().for_each(|hint| eprintln!("hint: {hint}"));
            std::process::exit(1);
        }
    }

    println!("\nthe granularities, and {} submodels between them:", mix::in_between(&space).len());
    for submodel in space.uniforms() {
        print(&space.label(&submodel), &submodel, &space, &costs)?;
    }
    Ok(())
}

fn print(name: &str, submodel: &Submodel, space: &Space, costs: &Costs) -> Result<()> {
    let describe = |resource: Resource| -> Result<String> {
        Ok(resource.describe(costs.get(resource)?.cost(submodel)?))
    };
    println!(
        "{name:>6}  {:<18} {}, {}",
        space.label(submodel),
        describe(Resource::Params)?,
        describe(Resource::NonEmbedding)?
    );
    Ok(())
}
