//! Rows times panels of weights, both of eight bits. The sums are exact, so every instruction set has the same ones.
//!
//! An activation is stored as an unsigned byte, [`ZERO_POINT`] more than its value, because VNNI multiplies unsigned by
//! signed bytes; what that adds to a sum is taken off at the end. The others take it off each byte first.

use super::{Int8Panels, Isa, Kernels, PANEL, QUAD, QuantisedRows, RowsMut, ZERO_POINT};

impl Kernels {
    /// `out = x · weights + bias`, where the weights lie in panels and there are as many as `out` is wide.
    pub fn multiply_int8(self, x: QuantisedRows, weights: Int8Panels, bias: &[f32], out: &mut RowsMut) {
        assert!(out.width.is_multiple_of(PANEL) && x.width.is_multiple_of(QUAD), "outputs and inputs come in panels");
        assert!(x.scales.len() == out.count, "one row out for each row in");
        assert!(Some(weights.values.len()) == out.width.checked_mul(x.width), "weights for each input and output");
        let lengths = [weights.scales.len(), weights.offsets.len(), bias.len()];
        assert!(lengths == [out.width; 3], "a scale, an offset and a bias for each output");
        match self.0 {
            // SAFETY: the machine has the instruction set, or there would be no such value, and the shapes were checked.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { vnni::multiply(x, weights, bias, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => unsafe { avx_vnni::multiply(x, weights, bias, out) },
            // SAFETY: as above; AVX-512 comes with AVX2.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx2 => unsafe { avx2::multiply(x, weights, bias, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => unsafe { neon::multiply(x, weights, bias, out) },
            Isa::Plain => multiply_plainly(x, weights, bias, out),
        }
    }
}

fn multiply_plainly(x: QuantisedRows, weights: Int8Panels, bias: &[f32], out: &mut RowsMut) {
    for (number, panel) in weights.values.chunks_exact((x.width * PANEL).max(1)).enumerate() {
        for (row, inputs) in x.values.chunks_exact(x.width.max(1)).take(out.count).enumerate() {
            let mut sums = [0i32; PANEL];
            for (inputs, weights) in inputs.chunks_exact(QUAD).zip(panel.chunks_exact(PANEL * QUAD)) {
                for (sum, weights) in sums.iter_mut().zip(weights.chunks_exact(QUAD)) {
                    for (input, weight) in inputs.iter().zip(weights) {
                        *sum += (i32::from(*input) - ZERO_POINT) * i32::from(*weight);
                    }
                }
            }
            let column = number * PANEL;
            let target = &mut out.values[row * out.stride + column..][..PANEL];
            for (lane, (target, sum)) in target.iter_mut().zip(sums).enumerate() {
                let sum = sum as f32;
                *target = sum * (x.scales[row] * weights.scales[column + lane]) + bias[column + lane];
            }
        }
    }
}

/// The loops around the tiles of an instruction set: the panels that a tile has side by side, its rows, and all the
/// numbers of rows that it can have.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! tiles {
    ($features:literal, side_by_side: $panels:literal, rows: $most:literal, all: $($rows:literal)+) => {
        /// # Safety
        /// The machine has the features, and the shapes fit each other.
        #[target_feature(enable = $features)]
        pub unsafe fn multiply(x: QuantisedRows, weights: Int8Panels, bias: &[f32], out: &mut RowsMut) {
            let mut column = 0;
            while column < out.width {
                let wide = out.width - column >= $panels * PANEL;
                let mut row = 0;
                while row < out.count {
                    let rows = (out.count - row).min($most);
                    let tile = Tile {
                        values: x.values[row * x.width..].as_ptr(),
                        row_scales: x.scales[row..].as_ptr(),
                        inputs: x.width,
                        panel: weights.values[column * x.width..].as_ptr(),
                        scales: weights.scales[column..].as_ptr(),
                        #[cfg(target_arch = "x86_64")]
                        offsets: weights.offsets[column..].as_ptr(),
                        bias: bias[column..].as_ptr(),
                        target: out.values[row * out.stride + column..].as_mut_ptr(),
                        target_stride: out.stride,
                    };
                    match rows {
                        // SAFETY: the tile's rows and columns lie within the matrices, as the caller checked.
                        $($rows if wide => unsafe { multiply_tile::<$rows, $panels>(&tile) },
                        // SAFETY: as above.
                        $rows => unsafe { multiply_tile::<$rows, 1>(&tile) },)+
                        _ => {}
                    }
                    row += rows;
                }
                column += if wide { $panels * PANEL } else { PANEL };
            }
        }
    };
}

/// The beginnings of the parts of one tile.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
struct Tile {
    values: *const u8,
    row_scales: *const f32,
    inputs: usize,
    panel: *const i8,
    scales: *const f32,
    /// For the products of an unsigned by a signed byte, which only x86 has.
    #[cfg(target_arch = "x86_64")]
    offsets: *const i32,
    bias: *const f32,
    target: *mut f32,
    target_stride: usize,
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::arch::x86_64::{
        __m512i, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_storeu_ps, _mm512_sub_epi32,
    };

    use super::{Int8Panels, PANEL, QUAD, QuantisedRows, RowsMut, Tile};

    tiles!("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", side_by_side: 2, rows: 12, all: 1 2 3 4 5 6 7 8 9 10 11 12);

    /// # Safety
    /// `ROWS` rows and `PANELS` panels are there, from where the tile's pointers are.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn multiply_tile<const ROWS: usize, const PANELS: usize>(t: &Tile) {
        // SAFETY: every pointer is at a place that the caller vouches for; loads and stores need no alignment.
        unsafe {
            let mut sums: [[__m512i; PANELS]; ROWS] = [[_mm512_setzero_si512(); PANELS]; ROWS];
            let mut input = 0;
            while input < t.inputs {
                let mut weights = [_mm512_setzero_si512(); PANELS];
                for panel in 0..PANELS {
                    weights[panel] = _mm512_loadu_si512(t.panel.add((panel * t.inputs + input) * PANEL).cast());
                }
                for row in 0..ROWS {
                    let quad: *const i32 = t.values.add(row * t.inputs + input).cast();
                    let quad = _mm512_set1_epi32(quad.read_unaligned());
                    for panel in 0..PANELS {
                        sums[row][panel] = _mm512_dpbusd_epi32(sums[row][panel], quad, weights[panel]);
                    }
                }
                input += QUAD;
            }
            for panel in 0..PANELS {
                let column = panel * PANEL;
                let offset = _mm512_loadu_si512(t.offsets.add(column).cast());
                let (scale, bias) = (_mm512_loadu_ps(t.scales.add(column)), _mm512_loadu_ps(t.bias.add(column)));
                for row in 0..ROWS {
                    let sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[row][panel], offset));
                    let scale = _mm512_mul_ps(_mm512_set1_ps(*t.row_scales.add(row)), scale);
                    _mm512_storeu_ps(t.target.add(row * t.target_stride + column), _mm512_fmadd_ps(sum, scale, bias));
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx_vnni {
    use std::arch::x86_64::{
        _mm256_cvtepi32_ps, _mm256_dpbusd_avx_epi32, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
        _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_storeu_ps, _mm256_sub_epi32,
    };

    use super::{Int8Panels, PANEL, QUAD, QuantisedRows, RowsMut, Tile};

    /// Outputs in a register.
    const LANES: usize = 8;

    tiles!("avx2,fma,avxvnni", side_by_side: 1, rows: 6, all: 1 2 3 4 5 6);

    /// # Safety
    /// `ROWS` rows and one panel are there, from where the tile's pointers are.
    #[inline]
    #[target_feature(enable = "avx2,fma,avxvnni")]
    unsafe fn multiply_tile<const ROWS: usize, const PANELS: usize>(t: &Tile) {
        // SAFETY: every pointer is at a place that the caller vouches for; loads and stores need no alignment.
        unsafe {
            let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
            let mut input = 0;
            while input < t.inputs {
                let mut weights = [_mm256_setzero_si256(); 2];
                for half in 0..2 {
                    weights[half] = _mm256_loadu_si256(t.panel.add(input * PANEL + half * LANES * QUAD).cast());
                }
                for row in 0..ROWS {
                    let quad: *const i32 = t.values.add(row * t.inputs + input).cast();
                    let quad = _mm256_set1_epi32(quad.read_unaligned());
                    for half in 0..2 {
                        sums[row][half] = _mm256_dpbusd_avx_epi32(sums[row][half], quad, weights[half]);
                    }
                }
                input += QUAD;
            }
            for half in 0..2 {
                let column = half * LANES;
                let offset = _mm256_loadu_si256(t.offsets.add(column).cast());
                let (scale, bias) = (_mm256_loadu_ps(t.scales.add(column)), _mm256_loadu_ps(t.bias.add(column)));
                for row in 0..ROWS {
                    let sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(sums[row][half], offset));
                    let scale = _mm256_mul_ps(_mm256_set1_ps(*t.row_scales.add(row)), scale);
                    _mm256_storeu_ps(t.target.add(row * t.target_stride + column), _mm256_fmadd_ps(sum, scale, bias));
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        _mm256_abs_epi8, _mm256_add_epi32, _mm256_cvtepi32_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
        _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
        _mm256_set1_ps, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_storeu_ps, _mm256_xor_si256,
    };

    use super::{Int8Panels, PANEL, QUAD, QuantisedRows, RowsMut, Tile};

    /// Outputs in a register.
    const LANES: usize = 8;

    tiles!("avx2,fma", side_by_side: 1, rows: 4, all: 1 2 3 4);

    /// # Safety
    /// `ROWS` rows and one panel are there, from where the tile's pointers are.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn multiply_tile<const ROWS: usize, const PANELS: usize>(t: &Tile) {
        // SAFETY: every pointer is at a place that the caller vouches for; loads and stores need no alignment.
        unsafe {
            let (ones, zero_point) = (_mm256_set1_epi16(1), _mm256_set1_epi8(i8::MIN));
            let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
            let mut input = 0;
            while input < t.inputs {
                let mut weights = [_mm256_setzero_si256(); 2];
                for half in 0..2 {
                    weights[half] = _mm256_loadu_si256(t.panel.add(input * PANEL + half * LANES * QUAD).cast());
                }
                for row in 0..ROWS {
                    let quad: *const i32 = t.values.add(row * t.inputs + input).cast();
                    let quad = _mm256_xor_si256(_mm256_set1_epi32(quad.read_unaligned()), zero_point);
                    let size = _mm256_abs_epi8(quad);
                    for half in 0..2 {
                        // Neither goes beyond 127, so the sum of two products fits into 16 bits.
                        let pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(weights[half], quad));
                        sums[row][half] = _mm256_add_epi32(sums[row][half], _mm256_madd_epi16(pairs, ones));
                    }
                }
                input += QUAD;
            }
            for half in 0..2 {
                let column = half * LANES;
                let (scale, bias) = (_mm256_loadu_ps(t.scales.add(column)), _mm256_loadu_ps(t.bias.add(column)));
                for row in 0..ROWS {
                    let sum = _mm256_cvtepi32_ps(sums[row][half]);
                    let scale = _mm256_mul_ps(_mm256_set1_ps(*t.row_scales.add(row)), scale);
                    _mm256_storeu_ps(t.target.add(row * t.target_stride + column), _mm256_fmadd_ps(sum, scale, bias));
                }
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::{
        vaddq_s32, vcvtq_f32_s32, vdup_n_s8, vdup_n_u32, vdupq_n_s32, veor_s8, vfmaq_f32, vget_high_s8, vget_low_s8,
        vld1q_f32, vld1q_s8, vmull_s8, vmulq_n_f32, vpaddlq_s16, vpaddq_s32, vreinterpret_s8_u32, vst1q_f32,
    };

    use super::{Int8Panels, PANEL, QUAD, QuantisedRows, RowsMut, Tile};

    /// Outputs in a register.
    const LANES: usize = 4;

    tiles!("neon", side_by_side: 1, rows: 4, all: 1 2 3 4);

    /// # Safety
    /// `ROWS` rows and one panel are there, from where the tile's pointers are.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn multiply_tile<const ROWS: usize, const PANELS: usize>(t: &Tile) {
        // SAFETY: every pointer is at a place that the caller vouches for; loads and stores need no alignment.
        unsafe {
            let zero_point = vdup_n_s8(i8::MIN);
            let mut sums = [[vdupq_n_s32(0); PANEL / LANES]; ROWS];
            let mut input = 0;
            while input < t.inputs {
                for row in 0..ROWS {
                    let quad: *const u32 = t.values.add(row * t.inputs + input).cast();
                    let quad = veor_s8(vreinterpret_s8_u32(vdup_n_u32(quad.read_unaligned())), zero_point);
                    for part in 0..PANEL / LANES {
                        let weights = vld1q_s8(t.panel.add(input * PANEL + part * LANES * QUAD));
                        let low = vpaddlq_s16(vmull_s8(vget_low_s8(weights), quad));
                        let high = vpaddlq_s16(vmull_s8(vget_high_s8(weights), quad));
                        sums[row][part] = vaddq_s32(sums[row][part], vpaddq_s32(low, high));
                    }
                }
                input += QUAD;
            }
            for part in 0..PANEL / LANES {
                let column = part * LANES;
                let (scale, bias) = (vld1q_f32(t.scales.add(column)), vld1q_f32(t.bias.add(column)));
                for row in 0..ROWS {
                    let scale = vmulq_n_f32(scale, *t.row_scales.add(row));
                    let sum = vcvtq_f32_s32(sums[row][part]);
                    vst1q_f32(t.target.add(row * t.target_stride + column), vfmaq_f32(bias, sum, scale));
                }
            }
        }
    }
}
