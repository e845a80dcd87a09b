//! Tensors of a `model.safetensors`: a length, a JSON header, then the tensors' bytes. The header is believed only as far
//! as it agrees with the file; nothing is allocated for what it promises.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Result as IoResult;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::error::local_model::{Problem, Result, malformed, unsupported};

/// Longest header that is read; one of a thousand layers has less than a tenth of it.
const MAX_HEADER: u64 = 16 << 20;
/// Bytes before the header: its length.
const LENGTH: u64 = 8;

/// Bytes that can be read from anywhere.
pub trait ReadAt {
    /// Returns the number of bytes.
    fn length(&self) -> IoResult<u64>;
    /// Fills the bytes, from a place on.
    fn read_exact_at(&self, bytes: &mut [u8], from: u64) -> IoResult<()>;
}

impl ReadAt for File {
    fn length(&self) -> IoResult<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, bytes: &mut [u8], from: u64) -> IoResult<()> {
        FileExt::read_exact_at(self, bytes, from)
    }
}

/// The type of stored numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single precision number.
    Bf16,
}

impl Dtype {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Bits of a number of any type that the format knows; none for one that it does not.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "C64" | "F64" | "I64" | "U64" => 64,
        _ => return None,
    })
}

/// The place, the shape and the type of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    bytes: Range<u64>,
}

impl Tensor {
    /// The type of its numbers.
    pub fn dtype(&self) -> Result<Dtype> {
        match self.dtype.as_str() {
            "F32" => Ok(Dtype::F32),
            "F16" => Ok(Dtype::F16),
            "BF16" => Ok(Dtype::Bf16),
            other => {
                unsupported(format!("tensor {} has numbers of type {other}, expected F32, F16 or BF16", self.name))
            }
        }
    }

    /// The type of its numbers, as the file names it.
    pub fn dtype_name(&self) -> &str {
        &self.dtype
    }

    /// The length of the tensor in each dimension.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Refuses other lengths.
    pub fn expect_shape(&self, expected: &[usize]) -> Result<()> {
        if self.shape.iter().copied().eq(expected.iter().map(|n| *n as u64)) {
            return Ok(());
        }
        malformed(format!("tensor {} has the shape {:?}, expected {expected:?}", self.name, self.shape))
    }

    /// Returns the number of its bytes.
    pub fn byte_count(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }
}

/// The tensors of a file.
#[derive(Debug)]
pub struct Tensors<S> {
    source: S,
    tensors: BTreeMap<String, Tensor>,
}

impl<S: ReadAt> Tensors<S> {
    /// Reads the header.
    pub fn open(source: S) -> Result<Self> {
        let failed = |error| Problem::of_file("model.safetensors", &error);
        let length = source.length().map_err(failed)?;
        if length < LENGTH {
            return malformed(format!("model.safetensors has {length} bytes, expected a header"));
        }
        let mut prefix = [0; 8];
        source.read_exact_at(&mut prefix, 0).map_err(failed)?;
        let header = u64::from_le_bytes(prefix);
        if header > length - LENGTH {
            return malformed(format!("the header of model.safetensors has {header} bytes, and the file {length}"));
        }
        if header > MAX_HEADER {
            return malformed(format!(
                "the header of model.safetensors has {header} bytes, expected {MAX_HEADER} at most"
            ));
        }
        let mut json = vec![0; usize::try_from(header).unwrap_or(0)];
        source.read_exact_at(&mut json, LENGTH).map_err(failed)?;
        let data = LENGTH + header..length;
        Ok(Self { source, tensors: read_header(&json, &data)? })
    }

    /// The tensor of the first of the names that there is.
    pub fn find(&self, names: &[String]) -> Result<&Tensor> {
        match names.iter().find_map(|name| self.tensors.get(name)) {
            Some(tensor) => Ok(tensor),
            None => malformed(format!("model.safetensors has no tensor {}", names.first().map_or("", String::as_str))),
        }
    }

    /// The tensor of this name, where there is one.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Bytes of a tensor, from a place in it on.
    pub fn read(&self, tensor: &Tensor, from: u64, bytes: &mut [u8]) -> Result<()> {
        if from.checked_add(bytes.len() as u64).is_none_or(|end| end > tensor.byte_count()) {
            return malformed(format!("tensor {} has {} bytes only", tensor.name, tensor.byte_count()));
        }
        let start = tensor.bytes.start + from;
        self.source.read_exact_at(bytes, start).map_err(|error| Problem::of_file("model.safetensors", &error))
    }

    /// All bytes of a tensor whose lengths were checked.
    pub fn read_all(&self, tensor: &Tensor) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(tensor.byte_count()).unwrap_or(usize::MAX)];
        self.read(tensor, 0, &mut bytes)?;
        Ok(bytes)
    }
}

/// Checks that each tensor is as long as its shape says, and that together they are the file: without a hole,
/// without an overlap.
fn read_header(json: &[u8], data: &Range<u64>) -> Result<BTreeMap<String, Tensor>> {
    let header: BTreeMap<String, Value> = match serde_json::from_slice(json) {
        Ok(header) => header,
        Err(error) => return malformed(format!("the header of model.safetensors is no JSON object: {error}")),
    };
    let mut tensors = BTreeMap::new();
    for (name, entry) in header {
        if name != "__metadata__" {
            let tensor = read_entry(&name, &entry, data)?;
            tensors.insert(name, tensor);
        }
    }
    let mut in_order: Vec<&Tensor> = tensors.values().collect();
    in_order.sort_by_key(|tensor| (tensor.bytes.start, tensor.bytes.end));
    let mut end = data.start;
    for tensor in in_order {
        if tensor.bytes.start != end {
            return malformed(format!("tensor {} does not begin where the one before it ends", tensor.name));
        }
        end = tensor.bytes.end;
    }
    if end != data.end {
        return malformed(format!("model.safetensors has {} bytes that belong to no tensor", data.end - end));
    }
    Ok(tensors)
}

fn read_entry(name: &str, entry: &Value, data: &Range<u64>) -> Result<Tensor> {
    let numbers = |key: &str| -> Option<Vec<u64>> { entry.get(key)?.as_array()?.iter().map(Value::as_u64).collect() };
    let (Some(dtype), Some(shape), Some(offsets)) =
        (entry.get("dtype").and_then(Value::as_str), numbers("shape"), numbers("data_offsets"))
    else {
        return malformed(format!("tensor {name} has no dtype, shape and data_offsets"));
    };
    let [from, to] = offsets[..] else {
        return malformed(format!("tensor {name} has {} data_offsets, expected 2", offsets.len()));
    };
    let room = data.end - data.start;
    if from > to || to > room {
        return malformed(format!("tensor {name} has the bytes {from} to {to}, and the file has {room} for tensors"));
    }
    let Some(bits) = bits(dtype) else {
        return unsupported(format!("tensor {name} has numbers of type {dtype}"));
    };
    let size = shape.iter().try_fold(bits, |size, n| size.checked_mul(*n));
    if size != (to - from).checked_mul(8) {
        return malformed(format!(
            "tensor {name} has {} bytes, not what its shape {shape:?} of {dtype} takes",
            to - from
        ));
    }
    let bytes = data.start + from..data.start + to;
    Ok(Tensor { name: name.to_owned(), dtype: dtype.to_owned(), shape, bytes })
}

#[cfg(test)]
impl ReadAt for &[u8] {
    fn length(&self) -> IoResult<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, bytes: &mut [u8], from: u64) -> IoResult<()> {
        let from = usize::try_from(from).unwrap();
        let part = self.get(from..).and_then(|rest| rest.get(..bytes.len()));
        part.map(|part| bytes.copy_from_slice(part)).ok_or(std::io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend((0..data).map(|n| n as u8));
        file
    }

    fn refusal(file: &[u8]) -> String {
        Tensors::open(file).unwrap_err().to_string()
    }

    const TWO: &str = r#"{"__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
        "b": {"dtype": "BF16", "shape": [3], "data_offsets": [8, 14]}}"#;

    #[test]
    fn tensors_are_read_from_their_places() {
        let file = file(TWO, 14);
        let tensors = Tensors::open(&file[..]).unwrap();
        let (a, b) = (tensors.get("a").unwrap(), tensors.find(&["x".to_owned(), "b".to_owned()]).unwrap());
        assert_eq!(tensors.read_all(a).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(tensors.read_all(b).unwrap(), [8, 9, 10, 11, 12, 13]);
        assert_eq!((a.dtype(), b.dtype()), (Ok(Dtype::F32), Ok(Dtype::Bf16)));
        assert!(a.expect_shape(&[2, 1]).is_ok());
        assert_eq!(a.expect_shape(&[2]).unwrap_err().to_string(), "tensor a has the shape [2, 1], expected [2]");
        let mut byte = [0];
        assert!(tensors.read(a, 8, &mut byte).is_err());
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let one = |entry: &str| refusal(&file(&format!(r#"{{"a": {entry}}}"#), 8));
        assert_eq!(
            one(r#"{"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}"#),
            "tensor a has 8 bytes, not what its shape [3] of F32 takes"
        );
        assert_eq!(
            one(r#"{"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}"#),
            "tensor a has the bytes 0 to 4000000000000, and the file has 8 for tensors"
        );
        assert!(
            one(r#"{"dtype": "F32", "shape": [4294967296, 4294967296, 2], "data_offsets": [0, 8]}"#).contains("shape")
        );
        assert!(one(r#"{"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}"#).contains("8 to 0"));
        assert!(one(r#"{"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}"#).contains("does not begin"));
        assert!(one(r#"{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}"#).contains("belong to no tensor"));
        assert!(one(r#"{"dtype": "F99", "shape": [1], "data_offsets": [0, 8]}"#).contains("F99"));
        assert!(one(r#"{"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}"#).contains("no dtype, shape"));
        assert!(one("7").contains("no dtype, shape"));
    }

    #[test]
    fn a_header_of_a_terabyte_is_refused() {
        let mut file = file(TWO, 14);
        file[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
        assert!(refusal(&file).contains("has 1099511627776 bytes, and the file"));
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let whole = file(TWO, 14);
        for length in 0..whole.len() {
            assert!(Tensors::open(&whole[..length]).is_err(), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Tensors::open(&bytes[..]);
        }

        #[test]
        fn no_changed_byte_makes_it_read_beyond_the_file(at in 0usize..200, byte: u8) {
            let mut file = file(TWO, 14);
            let at = at % file.len();
            file[at] = byte;
            if let Ok(tensors) = Tensors::open(&file[..]) {
                for name in ["a", "b"] {
                    if let Some(tensor) = tensors.get(name) {
                        prop_assert!(tensors.read_all(tensor).is_ok());
                    }
                }
            }
        }
    }
}
