//! The forward pass of BERT and its relatives, over texts that lie one after another without padding.
//!
//! Post-layer-norm encoder of Devlin et al. 2018: `x = norm(x + attention(x))`, `x = norm(x + gelu(x·A)·B)`, with
//! `softmax(Q·Kᵀ / √d)·V` for each head.

use super::description::{Pooling, TransformerShape};
use super::kernels::{Kernels, PANEL, Rows, RowsMut};
use super::memory::Buffer;
use super::weights::{Linear, LinearScratch, Table};
use crate::error::local_model::{Problem, Result, malformed};

/// Rows of a text whose attention is computed together: as many as keep their scores in a core's own cache.
const ATTENTION_ROWS: usize = 48;
/// Rows that GELU is applied to between two looks at whether to stop.
const GELU_ROWS: usize = 64;

/// Layer normalisation's parameters.
pub struct Norm<'a> {
    /// The factor of each normalised element.
    pub gain: &'a [f32],
    /// The number that is added to each element after that.
    pub bias: &'a [f32],
}

/// One layer of the encoder.
pub struct AttentionLayer<'a> {
    /// Queries, keys and values of all heads, side by side.
    pub query_key_value: Linear<'a>,
    /// The layer that the heads' results go through.
    pub attention: Linear<'a>,
    /// The normalisation of the attention's sum with its input.
    pub attention_norm: Norm<'a>,
    /// The feed-forward part's first half.
    pub intermediate: Linear<'a>,
    /// Its second half.
    pub output: Linear<'a>,
    /// The normalisation of the feed-forward part's sum with its input.
    pub output_norm: Norm<'a>,
}

/// A transformer whose numbers are in a mapped file.
pub struct Encoder<'a> {
    /// Widths and numbers of layers, heads and tokens.
    pub shape: TransformerShape,
    /// The way in which the vectors of tokens become that of a text.
    pub pooling: Pooling,
    /// A vector for each token.
    pub words: Table<'a>,
    /// A vector for each position.
    pub positions: Table<'a>,
    /// The vector of the only token type that is used.
    pub token_type: &'a [f32],
    /// After the embeddings.
    pub norm: Norm<'a>,
    /// One after another.
    pub layers: Vec<AttentionLayer<'a>>,
}

/// Room for the forward passes of one thread, made once for all of them.
pub struct Workspace {
    tokens: usize,
    /// The tokens' vectors.
    x: Buffer<f32>,
    /// Queries, keys and values, then what is between the halves of the feed-forward part.
    wide: Buffer<f32>,
    /// The results of heads and layers.
    result: Buffer<f32>,
    scores: Buffer<f32>,
    keys: Buffer<f32>,
    values: Buffer<f32>,
    panel: Buffer<f32>,
    bytes: Buffer<u8>,
    scales: Buffer<f32>,
}

impl Workspace {
    /// Bytes of the room for packs of so many tokens.
    pub fn bytes(shape: &TransformerShape, tokens: usize) -> usize {
        let (width, intermediate) = (shape.width, shape.intermediate.max(3 * shape.width));
        let (head, padded) = (width / shape.heads, tokens.next_multiple_of(PANEL));
        let panel = Linear::panel_numbers(shape.intermediate.max(width));
        let floats = tokens * (2 * width + intermediate + head + 1) + padded * (ATTENTION_ROWS + head) + panel;
        floats * size_of::<f32>() + tokens * shape.intermediate.max(width)
    }

    /// Room for packs of at most so many tokens.
    pub fn new(shape: &TransformerShape, tokens: usize) -> Result<Self> {
        let numbers = |count: usize| Buffer::new(count).map_err(|error| Problem::of_memory(&error));
        let (width, intermediate) = (shape.width, shape.intermediate);
        let (head, padded) = (width / shape.heads, tokens.next_multiple_of(PANEL));
        Ok(Self {
            tokens,
            x: numbers(tokens * width)?,
            wide: numbers(tokens * intermediate.max(3 * width))?,
            result: numbers(tokens * width)?,
            scores: numbers(ATTENTION_ROWS * padded)?,
            keys: numbers(padded * head)?,
            values: numbers(tokens * head)?,
            panel: numbers(Linear::panel_numbers(intermediate.max(width)))?,
            bytes: Buffer::new(tokens * intermediate.max(width)).map_err(|error| Problem::of_memory(&error))?,
            scales: numbers(tokens)?,
        })
    }
}

impl Encoder<'_> {
    /// The vectors of some texts, which are not empty and have together no more tokens than the workspace has room for.
    pub fn encode(
        &self,
        kernels: Kernels,
        texts: &[&[u32]],
        workspace: &mut Workspace,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<f32>>> {
        let tokens: usize = texts.iter().map(|text| text.len()).sum();
        if tokens > workspace.tokens || texts.iter().any(|text| text.is_empty()) {
            return malformed(format!(
                "{} texts have {tokens} tokens, and there is room for {}",
                texts.len(),
                workspace.tokens
            ));
        }
        self.embed(kernels, texts, workspace)?;
        let width = self.shape.width;
        for layer in &self.layers {
            let Workspace { x, wide, result, scores, keys, values, panel, bytes, scales, .. } = workspace;
            let (x, result) = (&mut x[..tokens * width], &mut result[..tokens * width]);
            let mut scratch = LinearScratch { panel, bytes, scales };

            let query_key_value = &mut wide[..tokens * 3 * width];
            layer.query_key_value.apply(kernels, x, query_key_value, &mut scratch, stop)?;
            let mut heads = Heads { kernels, shape: &self.shape, scores, keys, values };
            heads.attend(texts, query_key_value, result, stop)?;
            // Queries, keys and values are done with: their place is the result's.
            let attended = &mut query_key_value[..tokens * width];
            layer.attention.apply(kernels, result, attended, &mut scratch, stop)?;
            self.add_and_norm(kernels, x, attended, &layer.attention_norm);

            let between = &mut wide[..tokens * self.shape.intermediate];
            layer.intermediate.apply(kernels, x, between, &mut scratch, stop)?;
            for rows in between.chunks_mut(GELU_ROWS * self.shape.intermediate) {
                if stop() {
                    return Err(Problem::Stopped);
                }
                kernels.gelu(rows);
            }
            layer.output.apply(kernels, between, result, &mut scratch, stop)?;
            self.add_and_norm(kernels, x, result, &layer.output_norm);
        }
        Ok(self.pool(kernels, texts, &workspace.x))
    }

    fn add_and_norm(&self, kernels: Kernels, x: &mut [f32], added: &[f32], norm: &Norm) {
        for (row, added) in x.chunks_exact_mut(self.shape.width).zip(added.chunks_exact(self.shape.width)) {
            kernels.add(row, added);
            kernels.layer_norm(row, norm.gain, norm.bias, self.shape.epsilon);
        }
    }

    /// The tokens' vectors before the first layer.
    fn embed(&self, kernels: Kernels, texts: &[&[u32]], workspace: &mut Workspace) -> Result<()> {
        let Workspace { x, panel, .. } = workspace;
        let mut rows = x.chunks_exact_mut(self.shape.width);
        for text in texts {
            for ((at, token), row) in text.iter().enumerate().zip(&mut rows) {
                let (token, position) = (*token as usize, self.shape.first_position + at);
                if token >= self.words.rows() || position >= self.positions.rows() {
                    return malformed(format!(
                        "token {token} at position {position} has no embedding: there are {} and {}",
                        self.words.rows(),
                        self.positions.rows()
                    ));
                }
                row.copy_from_slice(self.words.row(kernels, token, panel));
                kernels.add(row, self.positions.row(kernels, position, panel));
                kernels.add(row, self.token_type);
                kernels.layer_norm(row, self.norm.gain, self.norm.bias, self.shape.epsilon);
            }
        }
        Ok(())
    }

    fn pool(&self, kernels: Kernels, texts: &[&[u32]], x: &[f32]) -> Vec<Vec<f32>> {
        let width = self.shape.width;
        let mut rest = x;
        let mut vectors = Vec::with_capacity(texts.len());
        for text in texts {
            let (tokens, after) = rest.split_at(text.len() * width);
            rest = after;
            let mut vector = tokens[..width].to_vec();
            let others = tokens.chunks_exact(width).skip(1);
            match self.pooling {
                Pooling::Cls => {}
                Pooling::Max => others.for_each(|token| kernels.max(&mut vector, token)),
                Pooling::Mean => {
                    others.for_each(|token| kernels.add(&mut vector, token));
                    let count = text.len() as f32;
                    vector.iter_mut().for_each(|x| *x /= count);
                }
            }
            vectors.push(vector);
        }
        vectors
    }
}

/// The attention of all heads, one after another.
struct Heads<'a> {
    kernels: Kernels,
    shape: &'a TransformerShape,
    scores: &'a mut [f32],
    keys: &'a mut [f32],
    values: &'a mut [f32],
}

impl Heads<'_> {
    /// Computes the attention of the tokens of each text to each other.
    fn attend(
        &mut self,
        texts: &[&[u32]],
        query_key_value: &[f32],
        result: &mut [f32],
        stop: &dyn Fn() -> bool,
    ) -> Result<()> {
        let width = self.shape.width;
        let mut first = 0;
        for text in texts {
            let rows = first..first + text.len();
            for head in 0..self.shape.heads {
                let of_text = &query_key_value[rows.start * 3 * width..rows.end * 3 * width];
                self.attend_to_text(of_text, head, &mut result[rows.start * width..rows.end * width], stop)?;
            }
            first = rows.end;
        }
        Ok(())
    }

    fn attend_to_text(
        &mut self,
        query_key_value: &[f32],
        head: usize,
        result: &mut [f32],
        stop: &dyn Fn() -> bool,
    ) -> Result<()> {
        let (width, size) = (self.shape.width, self.shape.width / self.shape.heads);
        let stride = 3 * width;
        let tokens = query_key_value.len() / stride;
        let padded = tokens.next_multiple_of(PANEL);
        self.lay_panels(query_key_value, head, tokens);
        let scale = (size as f32).sqrt().recip();
        let (keys, values) = (&self.keys[..padded * size], &self.values[..tokens * size]);
        for from in (0..tokens).step_by(ATTENTION_ROWS) {
            if stop() {
                return Err(Problem::Stopped);
            }
            let count = (tokens - from).min(ATTENTION_ROWS);
            let queries = Rows::new(&query_key_value[from * stride + head * size..], count, size, stride);
            let mut scores = RowsMut::new(self.scores, count, padded, padded);
            self.kernels.multiply(queries, keys, None, &mut scores);
            for row in self.scores[..count * padded].chunks_exact_mut(padded) {
                self.kernels.softmax(&mut row[..tokens], scale);
            }
            // What stands after the text's tokens in a row of scores is not read.
            let scores = Rows::new(self.scores, count, tokens, padded);
            let mut target = RowsMut::new(&mut result[from * width + head * size..], count, size, width);
            self.kernels.multiply(scores, values, None, &mut target);
        }
        Ok(())
    }

    /// Lays the keys and values of a head into panels, as if they were weights.
    fn lay_panels(&mut self, query_key_value: &[f32], head: usize, tokens: usize) {
        let (width, size) = (self.shape.width, self.shape.width / self.shape.heads);
        let rows = query_key_value.chunks_exact(3 * width);
        for (token, row) in rows.enumerate() {
            let (key, value) = (&row[width + head * size..][..size], &row[2 * width + head * size..][..size]);
            let panel = &mut self.keys[token / PANEL * size * PANEL..][..size * PANEL];
            for (place, number) in panel[token % PANEL..].iter_mut().step_by(PANEL).zip(key) {
                *place = *number;
            }
            for (panel, numbers) in value.chunks_exact(PANEL).enumerate() {
                self.values[(panel * tokens + token) * PANEL..][..PANEL].copy_from_slice(numbers);
            }
        }
    }
}
