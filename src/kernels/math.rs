//! Elementary functions that the compiler can run on whole vectors, and the switch to the machine's vector instructions.

pub(crate) use pulp::NullaryFnOnce as Work;

/// Runs `work`, compiled for the widest vector instructions of this machine. A closure must be small: one that the compiler
/// does not inline is compiled for the oldest machine. Larger work is a type of its own, whose `call` is always inlined.
#[inline(always)]
pub(crate) fn vectorized<W: Work>(work: W) -> W::Output {
    pulp::Arch::new().dispatch(work)
}

/// Leaky ReLU. Both values are made before one is chosen: a branch would keep the compiler from vector instructions.
#[inline(always)]
pub(super) fn leaky_relu(x: f32, slope: f32) -> f32 {
    let scaled = x * slope;
    if x > 0.0 { x } else { scaled }
}

/// The gradient before a leaky ReLU, from its output `y` and the gradient there.
#[inline(always)]
pub(super) fn leaky_relu_back(y: f32, gradient: f32, slope: f32) -> f32 {
    let scaled = gradient * slope;
    if y > 0.0 { gradient } else { scaled }
}

/// `e^x` to 2 units in the last place; beyond ±87 that of ±87.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding and subtracting it rounds to an integer
    let x = x.clamp(-87.0, 87.0);
    let count = (x * LOG2_E + ROUND) - ROUND;
    let r = (x - count * LN2_HIGH) - count * LN2_LOW;
    // Taylor's polynomial on |r| <= ln(2) / 2: the first term left out is below 6e-9.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = (p * r) * r + r + 1.0;
    let power = f32::from_bits(((count as i32 + 127) as u32) << 23);
    p * power
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent to 2e-7 absolute.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

/// `ln(1 + e^x)`.
#[inline(always)]
pub(super) fn softplus(x: f32) -> f32 {
    let e = exp(-x.abs());
    x.max(0.0) + 2.0 * atanh_series(e / (2.0 + e))
}

/// Natural logarithm of a positive normal number, to 2e-7 relative or absolute, whichever is larger.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    let bits = x.to_bits() as i32;
    // The power of two that brings x into 0.707..1.414.
    let exponent = (bits - 0x3f35_04f3) >> 23;
    let m = f32::from_bits((bits - (exponent << 23)) as u32);
    exponent as f32 * std::f32::consts::LN_2 + 2.0 * atanh_series((m - 1.0) / (m + 1.0))
}

/// `atanh(s)` for `|s| <= 1/3`.
#[inline(always)]
fn atanh_series(s: f32) -> f32 {
    let q = s * s;
    let p = 1.0 / 15.0;
    let p = p * q + 1.0 / 13.0;
    let p = p * q + 1.0 / 11.0;
    let p = p * q + 1.0 / 9.0;
    let p = p * q + 1.0 / 7.0;
    let p = p * q + 0.2;
    let p = p * q + 1.0 / 3.0;
    s + s * q * p
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(range: std::ops::Range<i32>, error: impl Fn(f32) -> f64) -> f64 {
        range.map(|i| error(i as f32 * 0.00137)).fold(0.0, f64::max)
    }

    #[test]
    fn functions_match_their_definitions_in_double_precision() {
        let relative = |found: f32, wanted: f64| (f64::from(found) - wanted).abs() / wanted.abs();
        assert!(worst(-60_000..60_000, |x| relative(exp(x), f64::from(x).exp())) < 2.5e-7);
        assert!(worst(-60_000..60_000, |x| relative(softplus(x), f64::from(x).exp().ln_1p())) < 3e-7);
        assert!(worst(-20_000..20_000, |x| (f64::from(tanh(x)) - f64::from(x).tanh()).abs()) < 2e-7);
        assert!(
            worst(-20_000..20_000, |x| (f64::from(sigmoid(x)) - 1.0 / (1.0 + (-f64::from(x)).exp())).abs()) < 1.5e-7
        );
        let wanted = |x: f32| f64::from(x).ln();
        assert!(worst(1..60_000, |x| (f64::from(ln(x)) - wanted(x)).abs() / wanted(x).abs().max(1.0)) < 2.5e-7);
    }

    #[test]
    fn extreme_arguments_stay_finite() {
        for x in [-1e30f32, -200.0, 200.0, 1e30] {
            assert!([exp(x), sigmoid(x), tanh(x), softplus(x)].iter().all(|y| y.is_finite()), "{x}");
        }
        assert!(softplus(1e30) == 1e30 && tanh(1e30) == 1.0 && sigmoid(-1e30) < 1e-37);
    }
}
