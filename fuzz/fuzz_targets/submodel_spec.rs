//! Text to a submodel: what is parsed prints as what it is, and resolves to something runnable or
//! to an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use matformer_core::{CostTable, Costs, Granularities, Resource, Space, SubmodelSpec};

fuzz_target!(|text: &str| {
    if let Ok(specs) = SubmodelSpec::parse_list(text) {
        assert!(!specs.is_empty());
    }
    let Ok(spec) = text.parse::<SubmodelSpec>() else { return };
    let printed = spec.to_string();
    assert_eq!(printed.parse::<SubmodelSpec>().unwrap(), spec, "{printed}");

    let space = Space::new(3, 256, 32, Granularities::default_for(256).unwrap()).unwrap();
    let table = |resource, constant| {
        CostTable::affine(resource, constant, &[(1000.0, 96.0); 3], space.d_ff)
    };
    let costs = Costs::new(vec![
        table(Resource::Params, 10_000.0),
        table(Resource::NonEmbedding, 32.0),
        table(Resource::Ffn, 0.0),
        table(Resource::Flops, 20_000.0),
    ]);
    match spec.resolve(&space, &costs) {
        Ok(submodel) => {
            space.check(&submodel).unwrap();
            // What it prints as is itself again.
            let label: SubmodelSpec = space.label(&submodel).parse().unwrap();
            assert_eq!(label.resolve(&space, &costs).unwrap(), submodel);
        }
        Err(error) => {
            let _ = (error.to_string(), error.hint());
        }
    }
});
