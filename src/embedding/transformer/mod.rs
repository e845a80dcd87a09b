//! Sentence transformers that are published as a folder of files. A folder is imported once, into one file that all
//! processes map; a forward pass of our own reads the weights where they lie. From the ground up:
//! - [`kernels`]: arithmetic for each instruction set
//! - [`memory`]: mapped files and working memory
//! - [`folder`], [`description`], [`safetensors`]: what is published
//! - [`weights`], [`encoder`], [`static_model`]: the forward pass
//! - [`frozen`], [`import`], `part_writer`: the file that a folder becomes, and how it does
//! - [`threads`]: many texts on some threads
//! - [`store`]: the directory of imported files

pub mod description;
pub mod encoder;
pub mod folder;
pub mod frozen;
pub mod import;
#[allow(unsafe_code)]
pub mod kernels;
#[allow(unsafe_code)]
pub mod memory;
mod part_writer;
pub mod safetensors;
pub mod static_model;
pub mod store;
pub mod threads;
pub mod weights;

#[cfg(test)]
pub(crate) mod tests;

use crate::error::local_model::{Problem, Result};
use frozen::{Frozen, Model};
use kernels::Kernels;
use threads::Caller;

use super::tokenizer::FrozenTokenizer;

/// The vector of each text, prefixes put before them already.
pub fn embed(
    frozen: &Frozen,
    kernels: Kernels,
    texts: &[String],
    threads: usize,
    caller: &dyn Caller,
) -> Result<Vec<Vec<f32>>> {
    let description = &frozen.header.description;
    let tokenizer = FrozenTokenizer::open(frozen.tokenizer).map_err(Problem::Damaged)?;
    let mut vectors = match &frozen.model {
        Model::Transformer(encoder) => {
            let mut tokens = Vec::with_capacity(texts.len());
            for text in texts {
                if caller.stops() {
                    return Err(Problem::Stopped);
                }
                tokens.push(tokenizer.encode(text, description.max_tokens));
            }
            threads::encode(encoder, kernels, &tokens, threads, caller)?
        }
        Model::Static(model) => {
            let mut vectors = Vec::with_capacity(texts.len());
            for text in texts {
                if caller.stops() {
                    return Err(Problem::Stopped);
                }
                vectors.push(model.encode(kernels, &tokenizer.encode(text, usize::MAX), description.max_tokens)?);
            }
            vectors
        }
    };
    if description.normalise {
        vectors.iter_mut().for_each(|vector| normalise(vector));
    }
    Ok(vectors)
}

/// Makes a vector of length 1; one of length 0 stays as it is.
fn normalise(vector: &mut [f32]) {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x /= norm);
    }
}
