//! The arithmetic of a forward pass, for each instruction set that is known here. The one module that uses them:
//! - [`float`]: rows times weights in float32
//! - [`int8`]: the same with weights and activations of eight bits
//! - [`rows`]: GELU, softmax, layer normalisation, quantising, and widening of half precision
//!
//! The instruction set is chosen once, at run time ([`Kernels::best`]). Every kernel is tested against the plain loop.
//!
//! Weights lie in panels of [`PANEL`] outputs: `[outputs / 16][inputs][16]`, so that a step along the inputs reads 16
//! outputs from one cache line and no kernel ever adds up the lanes of a register.

// An index names the register in these, not the element.
#[allow(clippy::needless_range_loop)]
mod float;
#[allow(clippy::needless_range_loop)]
mod int8;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

/// Outputs that lie side by side in a panel of weights.
pub const PANEL: usize = 16;
/// Inputs that lie side by side in a panel of int8 weights.
pub const QUAD: usize = 4;
/// The number that is added to a quantised activation, so that it has no sign.
pub const ZERO_POINT: i32 = 128;

/// An instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isa {
    /// AVX-512 with its instructions for products of bytes.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2, FMA and F16C, with VNNI's instructions for their registers.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The vector instructions that every 64-bit ARM has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Loops that the compiler makes the best of.
    Plain,
}

/// The kernels of one instruction set. A value exists only where this machine has that instruction set: this is what
/// makes calling them safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernels(Isa);

/// Rows of numbers that may be part of longer rows.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    values: &'a [f32],
    count: usize,
    width: usize,
    stride: usize,
}

/// Rows of numbers that are written, and may be part of longer rows.
#[derive(Debug)]
pub struct RowsMut<'a> {
    values: &'a mut [f32],
    count: usize,
    width: usize,
    stride: usize,
}

/// Quantised rows: bytes with [`ZERO_POINT`] added, and what a row's bytes are multiplied by.
#[derive(Debug, Clone, Copy)]
pub struct QuantisedRows<'a> {
    values: &'a [u8],
    scales: &'a [f32],
    width: usize,
}

/// Panels of int8 weights: `[outputs / 16][inputs / 4][16][4]`.
#[derive(Debug, Clone, Copy)]
pub struct Int8Panels<'a> {
    /// The quantised weights, packed in panels.
    pub values: &'a [i8],
    /// The factor of each output.
    pub scales: &'a [f32],
    /// [`ZERO_POINT`] times the sum of an output's weights.
    pub offsets: &'a [i32],
}

/// Whether `count` rows of `width` numbers, `stride` apart, lie within `len` numbers.
fn fits(len: usize, count: usize, width: usize, stride: usize) -> bool {
    count == 0
        || (count - 1).checked_mul(stride).and_then(|start| start.checked_add(width)).is_some_and(|end| end <= len)
}

impl<'a> Rows<'a> {
    /// `count` rows of `width` numbers whose beginnings are `stride` apart. They have to lie within the values.
    pub fn new(values: &'a [f32], count: usize, width: usize, stride: usize) -> Self {
        assert!(fits(values.len(), count, width, stride), "rows reach beyond their values");
        Self { values, count, width, stride }
    }

    /// Rows without anything between them.
    pub fn dense(values: &'a [f32], width: usize) -> Self {
        Self::new(values, values.len() / width.max(1), width, width)
    }
}

impl<'a> RowsMut<'a> {
    /// `count` rows of `width` numbers whose beginnings are `stride` apart. They have to lie within the values.
    pub fn new(values: &'a mut [f32], count: usize, width: usize, stride: usize) -> Self {
        assert!(fits(values.len(), count, width, stride), "rows reach beyond their values");
        Self { values, count, width, stride }
    }
}

impl<'a> QuantisedRows<'a> {
    /// One row of `width` bytes for each scale.
    pub fn new(values: &'a [u8], scales: &'a [f32], width: usize) -> Self {
        assert!(fits(values.len(), scales.len(), width, width), "rows reach beyond their values");
        Self { values, scales, width }
    }
}

impl Kernels {
    /// Returns the kernels of the best instruction set that this machine has.
    pub fn best() -> Self {
        static BEST: OnceLock<Kernels> = OnceLock::new();
        *BEST.get_or_init(|| Self::all()[0])
    }

    /// Returns the kernels of every instruction set that this machine has, the best one first.
    pub fn all() -> Vec<Self> {
        let mut all = Self::vectorised();
        all.push(Self(Isa::Plain));
        all
    }

    /// Returns the kernels whose instructions are chosen here, not by the compiler.
    #[cfg(target_arch = "x86_64")]
    fn vectorised() -> Vec<Self> {
        let has_avx2 =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        let has_avx512 = has_avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        let mut found = Vec::new();
        if has_avx512 && is_x86_feature_detected!("avx512vnni") {
            found.push(Self(Isa::Avx512Vnni));
        }
        if has_avx512 {
            found.push(Self(Isa::Avx512));
        }
        if has_avx2 && is_x86_feature_detected!("avxvnni") {
            found.push(Self(Isa::AvxVnni));
        }
        if has_avx2 {
            found.push(Self(Isa::Avx2));
        }
        found
    }

    #[cfg(target_arch = "aarch64")]
    fn vectorised() -> Vec<Self> {
        vec![Self(Isa::Neon)]
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn vectorised() -> Vec<Self> {
        Vec::new()
    }

    /// The instruction set's name.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => "AVX-VNNI",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "NEON",
            Isa::Plain => "plain",
        }
    }
}
