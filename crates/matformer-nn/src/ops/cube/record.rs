//! Which kernels were launched: for the test that no composed body runs in their place.

/// Notes a launch, in tests.
#[cfg(test)]
pub(super) fn ran(kernel: &'static str) {
    tests::LAUNCHED.lock().unwrap().insert(kernel);
}

/// Does nothing.
#[cfg(not(test))]
#[inline(always)]
pub(super) fn ran(_kernel: &'static str) {}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Mutex};

    use crate::{DeviceSpec, agreement::Op};

    pub(super) static LAUNCHED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

    const KERNELS: [&str; 15] = [
        "adamw",
        "glu",
        "glu_backward",
        "layer_forward",
        "logit_divergence",
        "logit_divergence_backward",
        "logit_nats",
        "logit_nats_backward",
        "masked_softmax",
        "masked_softmax_backward",
        "norm_backward",
        "norm_columns",
        "rms_forward",
        "rope",
        "sum_of_squares",
    ];

    #[test]
    fn kernels_run_through_the_lazy_graph() {
        let spec = DeviceSpec::from_env().unwrap();
        if !matches!(spec, DeviceSpec::Wgpu(_) | DeviceSpec::Cuda(_)) {
            return; // of the tests on flex
        }
        let device = spec.resolve().unwrap();
        for op in Op::ALL {
            op.compare(&device, &device).unwrap();
        }
        let launched = LAUNCHED.lock().unwrap();
        assert_eq!(launched.iter().copied().collect::<Vec<_>>(), KERNELS);
    }
}
