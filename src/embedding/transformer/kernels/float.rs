//! Rows times panels of weights in float32. One tile of outputs stays in registers while the inputs go by.

use super::{Isa, Kernels, PANEL, Rows, RowsMut};

impl Kernels {
    /// `out = x · weights + bias`, where the weights lie in panels and there are as many as `out` is wide. Without a bias
    /// it is 0.
    pub fn multiply(self, x: Rows, weights: &[f32], bias: Option<&[f32]>, out: &mut RowsMut) {
        assert!(out.width.is_multiple_of(PANEL), "outputs come in panels");
        assert!(x.count == out.count, "one row out for each row in");
        assert!(Some(weights.len()) == out.width.checked_mul(x.width), "weights for each input and output");
        assert!(bias.is_none_or(|bias| bias.len() == out.width), "a bias for each output");
        match self.0 {
            // SAFETY: the machine has the instruction set, or there would be no such value, and the shapes were checked.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni | Isa::Avx512 => unsafe { avx512::multiply(x, weights, bias, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni | Isa::Avx2 => unsafe { avx2::multiply(x, weights, bias, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => unsafe { neon::multiply(x, weights, bias, out) },
            Isa::Plain => multiply_plainly(x, weights, bias, out),
        }
    }
}

fn multiply_plainly(x: Rows, weights: &[f32], bias: Option<&[f32]>, out: &mut RowsMut) {
    for (number, panel) in weights.chunks_exact((x.width * PANEL).max(1)).enumerate() {
        let column = number * PANEL;
        for row in 0..x.count {
            let mut sums = [0f32; PANEL];
            if let Some(bias) = bias {
                sums.copy_from_slice(&bias[column..column + PANEL]);
            }
            let inputs = &x.values[row * x.stride..][..x.width];
            for (input, weights) in inputs.iter().zip(panel.chunks_exact(PANEL)) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += input * weight;
                }
            }
            out.values[row * out.stride + column..][..PANEL].copy_from_slice(&sums);
        }
    }
}

/// The kernel of an instruction set: the number of floats in a register, the registers that lie side by side in a tile
/// its rows, all the numbers of rows that it can have, a register's type, and the five instructions that it takes.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! tiles {
    (
        $features:literal, lanes: $lanes:literal, side_by_side: $registers:literal,
        rows: $most:literal, all: $($rows:literal)+,
        vector: $vector:ty, zero: $zero:expr,
        load: $load:path, store: $store:path, splat: $splat:path, add_product: $add_product:expr
    ) => {
        /// Rows of a tile that are found from its first one; the others are found from the one after them.
        const HALF: usize = $most / 2;
        /// Inputs in a turn of the inner loop.
        const STEPS: usize = 4;

        /// # Safety
        /// The machine has the features, and the shapes fit each other.
        #[target_feature(enable = $features)]
        pub unsafe fn multiply(x: Rows, weights: &[f32], bias: Option<&[f32]>, out: &mut RowsMut) {
            const WIDE: usize = $registers * $lanes;
            const NARROW: usize = PANEL / $lanes;
            let mut column = 0;
            while column < out.width {
                let wide = out.width - column >= WIDE;
                let mut row = 0;
                while row < x.count {
                    let rows = (x.count - row).min($most);
                    let (values, stride) = (x.values[row * x.stride..].as_ptr(), x.stride);
                    let panel = weights[column * x.width..].as_ptr();
                    let bias = bias.map_or(std::ptr::null(), |bias| bias[column..].as_ptr());
                    let target = out.values[row * out.stride + column..].as_mut_ptr();
                    match rows {
                        // SAFETY: the tile's rows and columns lie within the three matrices, as the caller checked.
                        $($rows if wide => unsafe {
                            tile::<$rows, $registers>(values, stride, x.width, panel, bias, target, out.stride);
                        },
                        // SAFETY: as above.
                        $rows => unsafe {
                            tile::<$rows, NARROW>(values, stride, x.width, panel, bias, target, out.stride);
                        },)+
                        _ => {}
                    }
                    row += rows;
                }
                column += if wide { WIDE } else { PANEL };
            }
        }

        /// Adds the products of one input of each row, from the places of the first row and of the one after [`HALF`] of
        /// them.
        ///
        /// # Safety
        /// `ROWS` rows have this input, and the panels.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn add_products<const ROWS: usize, const REGISTERS: usize>(
            sums: &mut [[$vector; REGISTERS]; ROWS],
            [upper, lower]: [*const f32; 2],
            stride: usize,
            panel: *const f32,
            inputs: usize,
            input: usize,
        ) {
            // SAFETY: every pointer is at a place that the caller vouches for.
            unsafe {
                let mut weights = [$zero; REGISTERS];
                for register in 0..REGISTERS {
                    let column = register * $lanes;
                    let of_panel = (column / PANEL * inputs + input) * PANEL + column % PANEL;
                    weights[register] = $load(panel.add(of_panel));
                }
                for row in 0..ROWS {
                    let value = if row < HALF { upper.add(row * stride) } else { lower.add((row - HALF) * stride) };
                    let value = $splat(*value.add(input));
                    for register in 0..REGISTERS {
                        sums[row][register] = $add_product(sums[row][register], value, weights[register]);
                    }
                }
            }
        }

        /// # Safety
        /// `ROWS` rows of `inputs` values and `ROWS` rows of the target's columns are there, and their panels.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn tile<const ROWS: usize, const REGISTERS: usize>(
            values: *const f32,
            stride: usize,
            inputs: usize,
            panel: *const f32,
            bias: *const f32,
            target: *mut f32,
            target_stride: usize,
        ) {
            // SAFETY: every pointer is at a place that the caller vouches for.
            unsafe {
                let mut sums = [[$zero; REGISTERS]; ROWS];
                if !bias.is_null() {
                    for register in 0..REGISTERS {
                        let bias = $load(bias.add(register * $lanes));
                        for row in 0..ROWS {
                            sums[row][register] = bias;
                        }
                    }
                }
                // Two places in the rows, and some inputs in a turn, leave little arithmetic on addresses between the
                // products, of which AVX2 makes no more than twelve for each input.
                let (mut upper, mut lower, mut panel) = (values, values.wrapping_add(HALF * stride), panel);
                let mut left = inputs;
                while left >= STEPS {
                    for input in 0..STEPS {
                        add_products(&mut sums, [upper, lower], stride, panel, inputs, input);
                    }
                    (upper, lower) = (upper.add(STEPS), lower.wrapping_add(STEPS));
                    panel = panel.add(STEPS * PANEL);
                    left -= STEPS;
                }
                for input in 0..left {
                    add_products(&mut sums, [upper, lower], stride, panel, inputs, input);
                }
                for row in 0..ROWS {
                    for register in 0..REGISTERS {
                        $store(target.add(row * target_stride + register * $lanes), sums[row][register]);
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{PANEL, Rows, RowsMut};

    tiles!(
        "avx512f,avx512bw,avx512dq,avx512vl", lanes: 16, side_by_side: 2,
        rows: 12, all: 1 2 3 4 5 6 7 8 9 10 11 12,
        vector: __m512, zero: _mm512_setzero_ps(),
        load: _mm512_loadu_ps, store: _mm512_storeu_ps, splat: _mm512_set1_ps,
        add_product: |sum, a, b| _mm512_fmadd_ps(a, b, sum)
    );
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    use super::{PANEL, Rows, RowsMut};

    tiles!(
        "avx2,fma", lanes: 8, side_by_side: 2,
        rows: 6, all: 1 2 3 4 5 6,
        vector: __m256, zero: _mm256_setzero_ps(),
        load: _mm256_loadu_ps, store: _mm256_storeu_ps, splat: _mm256_set1_ps,
        add_product: |sum, a, b| _mm256_fmadd_ps(a, b, sum)
    );
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_f32, vld1q_f32, vst1q_f32};

    use super::{PANEL, Rows, RowsMut};

    tiles!(
        "neon", lanes: 4, side_by_side: 4,
        rows: 6, all: 1 2 3 4 5 6,
        vector: float32x4_t, zero: vdupq_n_f32(0.0),
        load: vld1q_f32, store: vst1q_f32, splat: vdupq_n_f32,
        add_product: |sum, a, b| vfmaq_f32(sum, a, b)
    );
}
