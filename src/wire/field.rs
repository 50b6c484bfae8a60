//! The top-level fields of request bodies that the gateway reads.

/// Declares the fields once: variant, bit, name in the body.
macro_rules! fields {
    ($($variant:ident = $bit:literal $name:literal,)*) => {
        /// A top-level field of a request body.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Field {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Field {
            /// Every field.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The field with this name.
            pub fn of(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its name in the body, and `param` in an error.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            const fn bit(self) -> u32 {
                match self {
                    $(Self::$variant => 1 << $bit,)*
                }
            }
        }
    };
}

fields! {
    Model = 0 "model",
    Stream = 1 "stream",
    StreamOptions = 2 "stream_options",
    N = 3 "n",
    BestOf = 4 "best_of",
    MaxTokens = 5 "max_tokens",
    MaxCompletionTokens = 6 "max_completion_tokens",
    MaxOutputTokens = 7 "max_output_tokens",
    Messages = 8 "messages",
    Prompt = 9 "prompt",
    Suffix = 10 "suffix",
    Input = 11 "input",
    Instructions = 12 "instructions",
    System = 13 "system",
    Query = 14 "query",
    Queries = 15 "queries",
    Documents = 16 "documents",
    Items = 17 "items",
    Text1 = 18 "text_1",
    Text2 = 19 "text_2",
    Data1 = 20 "data_1",
    Data2 = 21 "data_2",
    Tools = 22 "tools",
    Functions = 23 "functions",
}

/// A set of fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(u32);

impl FieldSet {
    /// The set of the given fields.
    pub const fn of(fields: &[Field]) -> Self {
        let mut bits = 0;
        let mut rest = fields;
        while let [field, tail @ ..] = rest {
            bits |= field.bit();
            rest = tail;
        }
        Self(bits)
    }

    /// The fields of both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `field` is in the set.
    pub const fn has(self, field: Field) -> bool {
        self.0 & field.bit() != 0
    }

    /// Adds `field`; false when it was there.
    pub const fn insert(&mut self, field: Field) -> bool {
        let fresh = !self.has(field);
        self.0 |= field.bit();
        fresh
    }
}
