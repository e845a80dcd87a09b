//! The layout of a frozen tokenizer: a magic word, where each section begins and ends, then the sections, each at a
//! multiple of [`ALIGNMENT`] from the start.

/// Also the layout's version: another layout has another word.
const MAGIC: &[u8; 8] = b"CSTOKEN1";
const ALIGNMENT: usize = 64;

/// The sections of a frozen tokenizer.
#[derive(Clone, Copy)]
pub enum Section {
    /// [`super::Pipeline`] as JSON.
    Pipeline,
    /// A double array of the added tokens that are looked for in the text as it is, and one of those that are looked for
    /// in the normalised text; numbers are places in [`Section::AddedTokens`].
    RawAddedTokens,
    NormalizedAddedTokens,
    /// 8 bytes each: the id, then the flags.
    AddedTokens,
    /// The double array of sentencepiece's charsmap (4 bytes a slot), and the strings that it points into.
    Charsmap,
    CharsmapStrings,
    /// A double array of the model's pieces; numbers are ids.
    Pieces,
    /// The logarithm of each piece's probability (f64), of a Unigram model.
    Scores,
    /// The merges of a BPE model.
    Merges,
}

/// The number of sections.
pub const SECTIONS: usize = 9;
const HEADER: usize = MAGIC.len() + SECTIONS * 16;

/// Writes the sections in the order of [`Section`].
pub fn write(sections: &[Vec<u8>; SECTIONS]) -> Vec<u8> {
    let mut out = vec![0; HEADER.next_multiple_of(ALIGNMENT)];
    out[..MAGIC.len()].copy_from_slice(MAGIC);
    for (number, section) in sections.iter().enumerate() {
        let start = out.len();
        out.extend_from_slice(section);
        let range = [start as u64, out.len() as u64];
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        for (at, bound) in range.iter().enumerate() {
            let at = MAGIC.len() + number * 16 + at * 8;
            out[at..at + 8].copy_from_slice(&bound.to_le_bytes());
        }
    }
    out
}

/// The sections of a frozen tokenizer, all within its bytes.
pub struct Sections<'a>([&'a [u8]; SECTIONS]);

impl<'a> Sections<'a> {
    /// Reads the header.
    pub fn read(bytes: &'a [u8]) -> Result<Sections<'a>, String> {
        let rest = bytes.strip_prefix(MAGIC).ok_or("not a frozen tokenizer of this version")?;
        let bounds = rest.as_chunks::<8>().0;
        let bound = |at: usize| bounds.get(at).and_then(|bound| usize::try_from(u64::from_le_bytes(*bound)).ok());
        let mut sections = [&bytes[..0]; SECTIONS];
        for (number, section) in sections.iter_mut().enumerate() {
            let range = bound(number * 2).zip(bound(number * 2 + 1));
            *section = range
                .and_then(|(start, end)| bytes.get(start..end))
                .ok_or_else(|| format!("the frozen tokenizer is damaged: section {number} is not within it"))?;
        }
        Ok(Sections(sections))
    }

    /// The bytes of a section.
    pub fn get(&self, section: Section) -> &'a [u8] {
        self.0[section as usize]
    }
}
