//! Tables and linear layers, as they lie in the frozen file.

use super::kernels::{Int8Panels, Kernels, PANEL, QuantisedRows, Rows, RowsMut};
use crate::error::local_model::{Problem, Result};

/// Outputs that are computed between two looks at whether to stop: at most a few milliseconds' worth.
const STRIP: usize = 2 * PANEL;

/// Numbers as they were published.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// IEEE single precision.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [u16]),
    /// The upper half of a single precision number.
    Bf16(&'a [u16]),
}

impl<'a> Numbers<'a> {
    /// Returns the number of numbers.
    pub fn count(self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::F16(numbers) | Self::Bf16(numbers) => numbers.len(),
        }
    }

    /// Numbers from a place on, in single precision: the numbers themselves, or widened into the scratch.
    fn read<'s>(self, kernels: Kernels, from: usize, count: usize, scratch: &'s mut [f32]) -> &'s [f32]
    where
        'a: 's,
    {
        match self {
            Self::F32(numbers) => &numbers[from..from + count],
            Self::F16(numbers) => {
                kernels.widen_f16(&numbers[from..from + count], &mut scratch[..count]);
                &scratch[..count]
            }
            Self::Bf16(numbers) => {
                kernels.widen_bf16(&numbers[from..from + count], &mut scratch[..count]);
                &scratch[..count]
            }
        }
    }
}

/// A table of vectors.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// One after another.
    pub numbers: Numbers<'a>,
    /// Numbers of a vector.
    pub width: usize,
}

impl Table<'_> {
    /// Returns the number of vectors.
    pub fn rows(&self) -> usize {
        self.numbers.count() / self.width.max(1)
    }

    /// One of them, which is there. The scratch has room for it.
    pub fn row<'s>(&'s self, kernels: Kernels, row: usize, scratch: &'s mut [f32]) -> &'s [f32] {
        self.numbers.read(kernels, row * self.width, self.width, scratch)
    }
}

/// The weights of a linear layer, in panels.
#[derive(Debug, Clone, Copy)]
pub enum Panels<'a> {
    /// The weights as they were published.
    Float(Numbers<'a>),
    /// Rounded to eight bits when the model was imported.
    Int8(Int8Panels<'a>),
}

/// A linear layer.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// A number for each pair of an output and an input.
    pub weights: Panels<'a>,
    /// A number for each output.
    pub bias: &'a [f32],
    /// Numbers that come in.
    pub inputs: usize,
}

/// Room that a linear layer works in.
pub struct LinearScratch<'a> {
    /// Panels in single precision.
    pub panel: &'a mut [f32],
    /// Room for the rows of an input, quantised to bytes.
    pub bytes: &'a mut [u8],
    /// Room for the scale of each quantised row.
    pub scales: &'a mut [f32],
}

impl Linear<'_> {
    /// Numbers that its scratch needs room for in a panel.
    pub fn panel_numbers(inputs: usize) -> usize {
        STRIP * inputs
    }

    /// Numbers that come out.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// `out = x · weights + bias` for rows that lie one after another.
    pub fn apply(
        &self,
        kernels: Kernels,
        x: &[f32],
        out: &mut [f32],
        scratch: &mut LinearScratch,
        stop: &dyn Fn() -> bool,
    ) -> Result<()> {
        let (inputs, outputs) = (self.inputs, self.outputs());
        let count = x.len() / inputs;
        if let Panels::Int8(_) = self.weights {
            let rows =
                x.chunks_exact(inputs).zip(scratch.bytes.chunks_exact_mut(inputs)).zip(scratch.scales.iter_mut());
            for ((row, bytes), scale) in rows {
                kernels.quantise(row, bytes, scale);
            }
        }
        let mut column = 0;
        while column < outputs {
            if stop() {
                return Err(Problem::Stopped);
            }
            let width = (outputs - column).min(STRIP);
            let columns = column..column + width;
            let mut target = RowsMut::new(&mut out[column..], count, width, outputs);
            match self.weights {
                Panels::Float(numbers) => {
                    let weights = numbers.read(kernels, column * inputs, width * inputs, scratch.panel);
                    let x = Rows::new(x, count, inputs, inputs);
                    kernels.multiply(x, weights, Some(&self.bias[columns]), &mut target);
                }
                Panels::Int8(Int8Panels { values, scales, offsets }) => {
                    let x = QuantisedRows::new(scratch.bytes, &scratch.scales[..count], inputs);
                    let panels = Int8Panels {
                        values: &values[column * inputs..(column + width) * inputs],
                        scales: &scales[columns.clone()],
                        offsets: &offsets[columns.clone()],
                    };
                    kernels.multiply_int8(x, panels, &self.bias[columns], &mut target);
                }
            }
            column += width;
        }
        Ok(())
    }
}
