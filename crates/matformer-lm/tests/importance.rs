//! Importance of feed-forward neurons: the tap against the definition, and orders that keep the model.

use burn::{
    module::Module,
    tensor::{Tensor, TensorData, activation::silu},
};
use matformer_core::{Plan, Submodel};
use matformer_lm::MatLm;
use matformer_nn::{
    Activations, DeviceSpec, Elastic, Importance, State, Tap, importance, params, walk,
};

use super::{
    compare::values,
    support::{ids, model, one},
};

fn tapped(model: &MatLm, rows: usize, ids: &[u32]) -> Vec<Activations> {
    let plan = Plan::one(&model.space().largest());
    let mut state = State::with_tap(Tap::new());
    walk(model, &model.tokens(rows, ids).unwrap(), &plan, &mut state).unwrap();
    state.into_tap().unwrap().read(model.space().n_layers).unwrap()
}

/// A parameter of a model as a matrix.
fn matrix(model: &MatLm, path: &str) -> Tensor<2> {
    let mut found = None;
    params::read(model, |at, data| {
        if at == path {
            found = Some(data);
        }
        Ok(())
    })
    .unwrap();
    Tensor::from_data(found.unwrap(), &Elastic::device(model))
}

#[test]
fn the_tap_sums_what_neurons_output() {
    let model = model(&DeviceSpec::Auto.resolve().unwrap());
    let ids = ids(2 * 9, 50, 3);
    let found = tapped(&model, 2, &ids);
    assert_eq!(found.iter().map(|layer| layer.tokens).collect::<Vec<_>>(), [18; 3]);
    // The first layer's by hand.
    let (gate, up) = (matrix(&model, "layers.0.ffn.gate"), matrix(&model, "layers.0.ffn.up"));
    let x = input_of_first_block(&model, &ids);
    let expected = silu(x.clone().matmul(gate.transpose())) * x.matmul(up.transpose());
    let expected = values(expected);
    for neuron in 0..64 {
        let column = expected.iter().skip(neuron).step_by(64).map(|v| f64::from(*v));
        let (absolute, squared) =
            column.fold((0.0, 0.0), |(a, s), v: f64| (a + v.abs(), s + v * v));
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-4 * (1.0 + expected);
        assert!(close(found[0].absolute[neuron], absolute), "{neuron}");
        assert!(close(found[0].squared[neuron], squared), "{neuron}");
    }
}

#[test]
fn a_tap_changes_no_output_whatever_the_widths_of_the_rows() {
    let model = model(&DeviceSpec::Auto.resolve().unwrap());
    let ids = ids(3 * 9, 50, 5);
    let submodels = [16, 64, 32].map(|width| Submodel::uniform(width, 3));
    let largest = Plan::one(&model.space().largest());
    for plan in [largest, Plan::rows(&submodels).unwrap(), Plan::merged(&submodels).unwrap()] {
        let of = |mut state: State| {
            let walked = walk(&model, &model.tokens(3, &ids).unwrap(), &plan, &mut state).unwrap();
            let outputs = (0..plan.submodels().len()).map(|i| model.head(&walked.of(i)));
            outputs.flat_map(values).collect::<Vec<_>>()
        };
        let (plain, tapped) = (of(State::new()), of(State::with_tap(Tap::new())));
        assert_eq!(plain.len(), tapped.len());
        let worst = plain.iter().zip(&tapped).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < 1e-4, "{worst}");
    }
}

/// What the norm in front of the first feed-forward block gives, `[tokens, d_model]`, by a forward pass that
/// ends there.
fn input_of_first_block(model: &MatLm, ids: &[u32]) -> Tensor<2> {
    let input = model.tokens(2, ids).unwrap();
    let (hidden, context) = model.stem(&input, &State::new()).unwrap();
    let plan = Plan::one(&model.space().largest());
    let blocks = plan.hidden_blocks(0, &hidden.spans);
    let mut state = State::new();
    let pass = &mut matformer_nn::Pass {
        layer: 0,
        blocks: &blocks,
        spans: &hidden.spans,
        context: &context,
        state: &mut state,
    };
    let x = model.mix(hidden.x, pass);
    let [_, d] = x.dims();
    let rms = (x.clone().powf_scalar(2.0).sum_dim(1) / d as f64 + 1e-5).sqrt();
    let gamma = params::all(model).into_iter().find(|p| p.path == "layers.0.ffn_norm.gamma");
    let gamma = gamma.unwrap().read().unwrap();
    let gamma: Tensor<1> = Tensor::from_data(gamma, &x.device());
    x / rms * gamma.unsqueeze()
}

#[test]
fn an_order_keeps_the_widest_submodel_and_chooses_what_narrower_ones_have() {
    let model = model(&DeviceSpec::Auto.resolve().unwrap());
    let ids = ids(2 * 9, 50, 4);
    let activations = tapped(&model, 2, &ids);
    for score in Importance::ALL {
        let orders = importance::order(&model, &activations, score).unwrap();
        let ordered = importance::reordered(&model, &orders).unwrap();
        let largest = model.space().largest();
        let (before, after) = (one(&model, &largest, 2, &ids), one(&ordered, &largest, 2, &ids));
        let worst = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < 1e-4, "{score}: {worst}");
        // A narrow submodel is the model without the other neurons.
        let narrow = Submodel::uniform(16, 3);
        let without = without(&model, &orders, 16);
        let (cut, zeroed) = (one(&ordered, &narrow, 2, &ids), one(&without, &largest, 2, &ids));
        let worst = cut.iter().zip(&zeroed).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < 1e-4, "{score}: {worst}");
    }
    let by = |score: Importance| importance::order(&model, &activations, score).unwrap();
    let first = by(Importance::Activation)[1].clone();
    let sums = &activations[1].absolute;
    assert!(first.windows(2).all(|pair| sums[pair[0]] >= sums[pair[1]]), "the largest first");
    assert_ne!(first, by(Importance::Weights)[1]);
}

/// The model with the columns of `down` of all but the first `kept` neurons of each order at zero.
fn without(model: &MatLm, orders: &[Vec<usize>], kept: usize) -> MatLm {
    params::fill(model.clone(), |path, shape| {
        let mut found = None;
        params::read(model, |at, data| {
            if at == path {
                found = Some(data);
            }
            Ok(())
        })?;
        let mut values: Vec<f32> = found.unwrap().try_into_vec().unwrap();
        if path.ends_with("ffn.down") {
            let layer = matformer_nn::nested_layer(path).unwrap();
            for row in values.chunks_mut(shape[1]) {
                orders[layer][kept..].iter().for_each(|neuron| row[*neuron] = 0.0);
            }
        }
        Ok::<_, matformer_nn::Error>(TensorData::new(values, shape.to_vec()))
    })
    .unwrap()
}

#[test]
fn what_is_no_order_is_refused() {
    let model = model(&DeviceSpec::Auto.resolve().unwrap()).no_grad();
    let whole: Vec<usize> = (0..64).collect();
    for wrong in [vec![], vec![0; 64], (1..65).collect(), (0..63).collect::<Vec<_>>()] {
        let orders = [whole.clone(), wrong, whole.clone()];
        let error = importance::reordered(&model, &orders).unwrap_err().to_string();
        assert!(error.contains("layers.1.ffn"), "{error}");
    }
    assert!(importance::reordered(&model, &[whole.clone(), whole]).is_err(), "a layer is missing");
}
