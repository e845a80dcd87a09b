//! Post-processors: which special tokens stand before and after those of a text.

use std::collections::HashMap;

use serde::Deserialize;

/// A post-processor of a `tokenizer.json`.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum PostProcessor {
    BertProcessing {
        sep: (String, u32),
        cls: (String, u32),
    },
    RobertaProcessing {
        sep: (String, u32),
        cls: (String, u32),
        /// Concerns offsets, which are not computed here; it is read so that a file with it is not refused.
        #[serde(rename = "trim_offsets")]
        _trim_offsets: bool,
        #[serde(rename = "add_prefix_space")]
        _add_prefix_space: bool,
    },
    ByteLevel {
        #[serde(rename = "add_prefix_space")]
        _add_prefix_space: bool,
        #[serde(rename = "trim_offsets")]
        _trim_offsets: bool,
        #[serde(rename = "use_regex", default)]
        _use_regex: bool,
    },
    TemplateProcessing {
        single: Vec<TemplatePart>,
        /// The template for two texts, which is not used.
        #[serde(rename = "pair")]
        _pair: Vec<TemplatePart>,
        special_tokens: HashMap<String, SpecialToken>,
    },
    Sequence {
        processors: Vec<PostProcessor>,
    },
}

#[derive(Deserialize)]
pub enum TemplatePart {
    Sequence {
        id: char,
        #[serde(rename = "type_id")]
        _type_id: u32,
    },
    SpecialToken {
        id: String,
        #[serde(rename = "type_id")]
        _type_id: u32,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialToken {
    #[serde(rename = "id")]
    _id: String,
    ids: Vec<u32>,
    #[serde(rename = "tokens")]
    _tokens: Vec<String>,
}

/// The special tokens around a text.
#[derive(Debug, Default, PartialEq)]
pub struct Around {
    pub before: Vec<u32>,
    pub after: Vec<u32>,
}

impl PostProcessor {
    /// Names what is not supported.
    pub fn around(&self) -> Result<Around, String> {
        match self {
            PostProcessor::BertProcessing { sep, cls } | PostProcessor::RobertaProcessing { sep, cls, .. } => {
                Ok(Around { before: vec![cls.1], after: vec![sep.1] })
            }
            PostProcessor::ByteLevel { .. } => Ok(Around::default()),
            PostProcessor::TemplateProcessing { single, special_tokens, .. } => around_template(single, special_tokens),
            PostProcessor::Sequence { processors } => {
                let mut all = processors.iter().map(PostProcessor::around).collect::<Result<Vec<_>, _>>()?;
                all.retain(|around| *around != Around::default());
                if all.len() > 1 {
                    return Err("a Sequence of more than one post-processor that adds tokens is not supported".into());
                }
                Ok(all.pop().unwrap_or_default())
            }
        }
    }
}

fn around_template(single: &[TemplatePart], special_tokens: &HashMap<String, SpecialToken>) -> Result<Around, String> {
    let mut around = Around::default();
    let mut has_text = false;
    for part in single {
        match part {
            TemplatePart::Sequence { id: 'A', .. } if !has_text => has_text = true,
            TemplatePart::Sequence { .. } => {
                return Err(
                    "TemplateProcessing whose single template has more than one sequence is not supported".into()
                );
            }
            TemplatePart::SpecialToken { id, .. } => {
                let token = special_tokens.get(id).ok_or_else(|| format!("TemplateProcessing has no token {id:?}"))?;
                let side = if has_text { &mut around.after } else { &mut around.before };
                side.extend_from_slice(&token.ids);
            }
        }
    }
    if has_text { Ok(around) } else { Err("TemplateProcessing without the text is not supported".into()) }
}
