//! Operations on one row at a time. Each is written once as a plain loop, which the compiler vectorises for each instruction
//! set; where it has fused multiply-adds, they are used.

use super::{Isa, Kernels, ZERO_POINT};

/// Numbers whose sums or maxima are kept apart, so that the compiler may use whole registers.
const LANES: usize = 16;
/// Adding it to a small float rounds that to a whole number, which is then in its low bits.
const ROUND: f32 = 12_582_912.0;

/// A public function for each loop, which runs it with the instructions of the kernels' set.
macro_rules! dispatch {
    ($($(#[$doc:meta])* $name:ident => $inner:ident($($argument:ident: $type:ty),*);)*) => {
        impl Kernels {
            $($(#[$doc])*
            pub fn $name(self, $($argument: $type),*) {
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
                fn with_avx512($($argument: $type),*) {
                    $inner::<true>($($argument),*);
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma,f16c")]
                fn with_avx2($($argument: $type),*) {
                    $inner::<true>($($argument),*);
                }
                match self.0 {
                    // SAFETY: the machine has the instruction set, or there would be no such value.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512Vnni | Isa::Avx512 => unsafe { with_avx512($($argument),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Isa::AvxVnni | Isa::Avx2 => unsafe { with_avx2($($argument),*) },
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon => $inner::<true>($($argument),*),
                    Isa::Plain => $inner::<false>($($argument),*),
                }
            })*
        }
    };
}

dispatch! {
    /// GELU in its exact form, `x · Φ(x)`, in place.
    gelu => gelu_loop(row: &mut [f32]);
    /// Softmax of `scale · row`, in place.
    softmax => softmax_loop(row: &mut [f32], scale: f32);
    /// Layer normalisation in place: `(row - mean) / sqrt(variance + epsilon) · gain + bias`.
    layer_norm => layer_norm_loop(row: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32);
    /// Adds a row to another.
    add => add_loop(row: &mut [f32], other: &[f32]);
    /// Adds `scale` times a row of signed bytes. Each instruction set has the same sums, to the last bit.
    add_bytes => add_bytes_loop(row: &mut [f32], bytes: &[u8], scale: f32);
    /// Takes the larger one of each pair.
    max => max_loop(row: &mut [f32], other: &[f32]);
    /// Rounds a row to bytes of at most ±127, stored with the zero point added; `scale` times such a byte is the number.
    quantise => quantise_loop(row: &[f32], bytes: &mut [u8], scale: &mut f32);
    /// IEEE half precision to float32.
    widen_f16 => widen_f16_loop(from: &[u16], to: &mut [f32]);
    /// bfloat16 to float32.
    widen_bf16 => widen_bf16_loop(from: &[u16], to: &mut [f32]);
}

#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// A polynomial by Horner's rule, the highest coefficient first.
#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    for coefficient in &coefficients[1..] {
        sum = multiply_add::<FUSED>(sum, x, *coefficient);
    }
    sum
}

/// A number from the low bits of a float to which [`ROUND`] was added.
#[inline(always)]
fn rounded(float: f32) -> i32 {
    float.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed()
}

/// e to the power of x, to about 1e-7 of itself, by the method of Cephes: `2^n · e^r` with a small r.
#[inline(always)]
#[allow(clippy::excessive_precision)]
fn exp<const FUSED: bool>(x: f32) -> f32 {
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let (n, power) = (shifted - ROUND, rounded(shifted));
    // ln 2 in two parts, so that nothing is lost when n times it is taken off.
    let r = multiply_add::<FUSED>(n, -0.693_359_375, x);
    let r = multiply_add::<FUSED>(n, 2.121_944_40e-4, r);
    let p = polynomial::<FUSED, 6>(
        r,
        [1.987_569_15e-4, 1.398_199_95e-3, 8.333_451_9e-3, 4.166_579_6e-2, 1.666_666_55e-1, 5.000_000_1e-1],
    );
    let p = multiply_add::<FUSED>(p * r, r, r) + 1.0;
    p * f32::from_bits((power.wrapping_add(127) << 23).cast_unsigned())
}

/// The error function, by the rational approximation that Eigen has.
#[inline(always)]
#[allow(clippy::excessive_precision)]
fn erf<const FUSED: bool>(x: f32) -> f32 {
    let x = if x > 4.0 { 4.0 } else { x };
    let x = if x < -4.0 { -4.0 } else { x };
    let square = x * x;
    let above = polynomial::<FUSED, 7>(
        square,
        [
            -2.726_142_258e-10,
            2.770_681_425e-8,
            -2.101_024_021e-6,
            -5.692_506_395e-5,
            -7.349_906_303e-4,
            -2.954_599_809e-3,
            -1.609_603_333e-2,
        ],
    );
    let below = polynomial::<FUSED, 5>(
        square,
        [-1.456_607_185e-5, -2.133_740_553e-4, -1.682_827_077e-3, -7.373_329_167e-3, -1.426_473_905e-2],
    );
    x * above / below
}

#[inline(always)]
fn gelu_loop<const FUSED: bool>(row: &mut [f32]) {
    for x in row {
        *x = 0.5 * *x * (1.0 + erf::<FUSED>(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// Folds whole groups of [`LANES`] side by side, then the lanes and the rest.
#[inline(always)]
fn fold(row: &[f32], start: f32, step: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let groups = row.chunks_exact(LANES);
    let rest = groups.remainder();
    for group in groups {
        for (lane, x) in lanes.iter_mut().zip(group) {
            *lane = step(*lane, *x);
        }
    }
    let of_lanes = lanes.into_iter().reduce(&join).unwrap_or(start);
    join(of_lanes, rest.iter().fold(start, |sum, x| step(sum, *x)))
}

/// `if`, not `f32::max`, which would also have to look for NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    fold(row, 0.0, |sum, x| sum + x, |a, b| a + b)
}

#[inline(always)]
fn softmax_loop<const FUSED: bool>(row: &mut [f32], scale: f32) {
    let most = fold(row, f32::MIN, larger, larger);
    for x in row.iter_mut() {
        *x = exp::<FUSED>((*x - most) * scale);
    }
    let inverse = 1.0 / sum(row);
    for x in row {
        *x *= inverse;
    }
}

#[inline(always)]
fn layer_norm_loop<const FUSED: bool>(row: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32) {
    let count = row.len() as f32;
    let mean = sum(row) / count;
    let squares = |sum, x: f32| multiply_add::<FUSED>(x - mean, x - mean, sum);
    let variance = fold(row, 0.0, squares, |a, b| a + b) / count;
    let inverse = 1.0 / (variance + epsilon).sqrt();
    for ((x, gain), bias) in row.iter_mut().zip(gain).zip(bias) {
        *x = (*x - mean) * inverse * gain + bias;
    }
}

#[inline(always)]
fn add_loop<const FUSED: bool>(row: &mut [f32], other: &[f32]) {
    for (x, y) in row.iter_mut().zip(other) {
        *x += y;
    }
}

#[inline(always)]
fn add_bytes_loop<const FUSED: bool>(row: &mut [f32], bytes: &[u8], scale: f32) {
    for (x, byte) in row.iter_mut().zip(bytes) {
        *x += scale * f32::from(byte.cast_signed());
    }
}

#[inline(always)]
fn max_loop<const FUSED: bool>(row: &mut [f32], other: &[f32]) {
    for (x, y) in row.iter_mut().zip(other) {
        *x = larger(*x, *y);
    }
}

#[inline(always)]
fn quantise_loop<const FUSED: bool>(row: &[f32], bytes: &mut [u8], scale: &mut f32) {
    // A row of zeros is given some scale that can be divided by.
    let most = fold(row, 1e-9, |most, x| larger(most, x.abs()), larger);
    *scale = most / 127.0;
    let inverse = 127.0 / most;
    for (x, byte) in row.iter().zip(bytes) {
        let value = rounded(*x * inverse + ROUND) + ZERO_POINT;
        *byte = value as u8;
    }
}

#[inline(always)]
fn widen_f16_loop<const FUSED: bool>(from: &[u16], to: &mut [f32]) {
    for (half, float) in from.iter().zip(to) {
        *float = widen_half(*half);
    }
}

/// Without a branch, so that it can be vectorised: the bits of the exponent and fraction are moved, and a multiplication
/// puts the exponent right, for numbers below the normal ones too.
#[inline(always)]
fn widen_half(half: u16) -> f32 {
    let (sign, rest) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff) << 13);
    let small = f32::from_bits(rest) * f32::from_bits(0x7780_0000);
    // Infinity and NaN.
    let special = if rest >= 0x0f80_0000 { 0x7f80_0000 } else { 0 };
    f32::from_bits(small.to_bits() | special | sign)
}

#[inline(always)]
fn widen_bf16_loop<const FUSED: bool>(from: &[u16], to: &mut [f32]) {
    for (half, float) in from.iter().zip(to) {
        *float = f32::from_bits(u32::from(*half) << 16);
    }
}
