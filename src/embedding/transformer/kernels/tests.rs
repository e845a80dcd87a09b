use super::{Int8Panels, Isa, Kernels, PANEL, QUAD, QuantisedRows, Rows, RowsMut, ZERO_POINT};

const PLAIN: Kernels = Kernels(Isa::Plain);

/// Numbers between -1 and 1, the same ones for the same seed.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn assert_close(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len());
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let allowed = 2e-5 * (1.0 + expected.abs());
        assert!((got - expected).abs() <= allowed, "{what}: {got} is not {expected}, at {at}");
    }
}

/// Every number of rows that a tile can have and more, with one panel and an odd number of them.
fn shapes() -> impl Iterator<Item = (usize, usize, usize)> {
    (0..=27).flat_map(|rows| [(rows, 4, 16), (rows, 32, 48), (rows, 100, 64)])
}

#[test]
fn every_instruction_set_multiplies_as_the_plain_loop_does() {
    for (rows, inputs, outputs) in shapes() {
        let (x, weights) = (noise(1, rows * (inputs + 3)), noise(2, inputs * outputs));
        let bias = noise(3, outputs);
        for bias in [None, Some(&bias[..])] {
            let multiply = |kernels: Kernels| {
                let mut out = vec![7.0; rows * (outputs + 1)];
                let mut target = RowsMut::new(&mut out, rows, outputs, outputs + 1);
                kernels.multiply(Rows::new(&x, rows, inputs, inputs + 3), &weights, bias, &mut target);
                out
            };
            for kernels in Kernels::all() {
                assert_close(&multiply(kernels), &multiply(PLAIN), kernels.name());
            }
        }
    }
}

#[test]
fn the_plain_loop_multiplies_matrices() {
    let (rows, inputs, outputs) = (3, 20, 32);
    let (x, weights, bias) = (noise(4, rows * inputs), noise(5, outputs * inputs), noise(6, outputs));
    let mut panels = vec![0.0; outputs * inputs];
    for output in 0..outputs {
        for input in 0..inputs {
            panels[(output / PANEL * inputs + input) * PANEL + output % PANEL] = weights[output * inputs + input];
        }
    }
    let mut expected = Vec::new();
    for row in x.chunks(inputs) {
        for (weights, bias) in weights.chunks(inputs).zip(&bias) {
            expected.push(row.iter().zip(weights).map(|(x, w)| x * w).sum::<f32>() + bias);
        }
    }

    let mut out = vec![0.0; rows * outputs];
    let mut target = RowsMut::new(&mut out, rows, outputs, outputs);
    PLAIN.multiply(Rows::dense(&x, inputs), &panels, Some(&bias), &mut target);

    assert_close(&out, &expected, "plain");
}

#[test]
fn every_instruction_set_multiplies_bytes_as_the_plain_loop_does() {
    for (rows, inputs, outputs) in shapes() {
        // The extremes too: -127 times -127 is the largest product.
        let byte = |x: &f32| (x * 300.0).clamp(-127.0, 127.0) as i8;
        let x: Vec<u8> = noise(7, rows * inputs).iter().map(|x| (i32::from(byte(x)) + ZERO_POINT) as u8).collect();
        let weights: Vec<i8> = noise(8, inputs * outputs).iter().map(byte).collect();
        let (row_scales, scales, bias) = (noise(9, rows), noise(10, outputs), noise(11, outputs));
        let mut offsets = vec![0; outputs];
        for (at, weight) in weights.iter().enumerate() {
            let panel = at / (inputs * PANEL);
            offsets[panel * PANEL + at / QUAD % PANEL] += ZERO_POINT * i32::from(*weight);
        }
        let panels = Int8Panels { values: &weights, scales: &scales, offsets: &offsets };
        let multiply = |kernels: Kernels| {
            let mut out = vec![7.0; rows * (outputs + 1)];
            let mut target = RowsMut::new(&mut out, rows, outputs, outputs + 1);
            kernels.multiply_int8(QuantisedRows::new(&x, &row_scales, inputs), panels, &bias, &mut target);
            out
        };
        for kernels in Kernels::all() {
            assert_close(&multiply(kernels), &multiply(PLAIN), kernels.name());
        }
    }
}

#[test]
fn every_instruction_set_works_on_rows_as_the_plain_loop_does() {
    for length in [0, 1, 15, 16, 33, 384] {
        let row: Vec<f32> = noise(12, length).iter().map(|x| x * 6.0).collect();
        let (gain, bias) = (noise(13, length), noise(14, length));
        let results = |kernels: Kernels| {
            let changed = |change: &dyn Fn(&mut [f32])| {
                let mut row = row.clone();
                change(&mut row);
                row
            };
            [
                changed(&|row| kernels.gelu(row)),
                changed(&|row| kernels.softmax(row, 0.3)),
                changed(&|row| kernels.layer_norm(row, &gain, &bias, 1e-12)),
                changed(&|row| kernels.add(row, &bias)),
                changed(&|row| kernels.max(row, &bias)),
            ]
        };
        for kernels in Kernels::all() {
            for (got, expected) in results(kernels).iter().zip(results(PLAIN)) {
                assert_close(got, &expected, kernels.name());
            }
        }
    }
}

#[test]
fn every_instruction_set_adds_bytes_to_the_last_bit() {
    let bytes: Vec<u8> = (0..=u8::MAX).chain(0..=20).collect();
    let expected: Vec<f32> =
        noise(16, bytes.len()).iter().zip(&bytes).map(|(x, byte)| x + 0.37 * f32::from(byte.cast_signed())).collect();
    for kernels in Kernels::all() {
        let mut row = noise(16, bytes.len());
        kernels.add_bytes(&mut row, &bytes, 0.37);
        assert_eq!(row, expected, "{}", kernels.name());
    }
}

#[test]
fn gelu_and_softmax_equal_their_definitions() {
    // From the error function of Python's math module.
    let known = [(-3.0, -0.004_049_694), (-1.0, -0.158_655_25), (0.0, 0.0), (0.5, 0.345_731_23), (2.0, 1.954_499_7)];
    let mut row: Vec<f32> = known.iter().map(|(x, _)| *x).collect();
    PLAIN.gelu(&mut row);
    assert_close(&row, &known.map(|(_, y)| y), "gelu");

    let mut row: Vec<f32> = vec![-200.0, 0.0, 1.0, 3.0];
    let exact: Vec<f64> = row.iter().map(|x| f64::from(*x).exp()).collect();
    let expected: Vec<f32> = exact.iter().map(|x| (x / exact.iter().sum::<f64>()) as f32).collect();
    PLAIN.softmax(&mut row, 1.0);
    assert_close(&row, &expected, "softmax");
}

#[test]
fn quantised_numbers_are_within_half_a_step() {
    for kernels in Kernels::all() {
        let row = noise(15, 100);
        let (mut bytes, mut scale) = (vec![0; 100], 0.0);
        kernels.quantise(&row, &mut bytes, &mut scale);
        for (x, byte) in row.iter().zip(&bytes) {
            let back = (i32::from(*byte) - ZERO_POINT) as f32 * scale;
            assert!((back - x).abs() <= 0.5001 * scale, "{back} is not {x}");
        }
        assert!(bytes.iter().all(|byte| *byte > 0), "no byte is below -127");
        kernels.quantise(&[0.0; 8], &mut bytes[..8], &mut scale);
        assert_eq!(bytes[..8], [128; 8]);
    }
}

#[test]
fn half_precision_is_widened_exactly() {
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    let mut floats = vec![0.0; halves.len()];
    for kernels in Kernels::all() {
        kernels.widen_f16(&halves, &mut floats);
        for (half, float) in halves.iter().zip(&floats) {
            let (exponent, fraction) = (i32::from(half >> 10 & 31), f32::from(half & 1023));
            let size = match exponent {
                0 => fraction * 2f32.powi(-24),
                31 if fraction == 0.0 => f32::INFINITY,
                31 => f32::NAN,
                _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
            };
            let expected = if *half & 0x8000 == 0 { size } else { -size };
            assert!(
                *float == expected || (float.is_nan() && expected.is_nan()),
                "{half:#x}: {float} is not {expected}"
            );
        }
        kernels.widen_bf16(&halves, &mut floats);
        assert!(halves.iter().zip(&floats).all(|(half, float)| float.to_bits() == u32::from(*half) << 16));
    }
}
